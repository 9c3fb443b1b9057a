"""A conversation is sent with whole turns only: the newest ones, as many as fit."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.engines._conversation import Fitted, exchanges, fit, most, reserve
from handlers.engines.conversational_chat import ConversationalChat
from handlers.engines.general_reasoning import GeneralReasoning
from handlers.inference.tokenizer import TextTokenizer
from handlers.wire import GenerateRequest, Message, RequestError, Sampling
from tests.demo import demo_folder
from tests.loop_steps import own_work
from tests.test_engines import ScriptedModel


def talk(*lengths: int) -> list[Message]:
    """Turns with the given numbers of words, half of them the user's, and a last question of one word."""
    turns: list[Message] = []
    for number, words in enumerate(lengths):
        turns.append(Message(role="user", content=f"u{number} " * (words // 2)))
        turns.append(Message(role="assistant", content=f"a{number} " * (words - words // 2)))
    return [*turns, Message(role="user", content="Now?")]


class Small(ScriptedModel):
    """A model whose context counts words; each message costs one more, as in a chat template."""

    def __init__(self, context: int) -> None:
        super().__init__("an answer")
        self.context = context
        self.counted = 0

    async def count_chat(self, messages: Sequence[Message]) -> int:
        self.counted += len(messages)
        return await super().count_chat(messages)


async def fitted(model: ScriptedModel, *lengths: int, free: int = 0, most: int | None = None) -> Fitted:
    return await fit(talk(*lengths), model, free, most)


async def test_a_history_that_fits_is_asked_whole() -> None:
    assert await fitted(Small(100), 8, 8) == Fitted(talk(8, 8), 3, 0)


async def test_the_oldest_turns_are_left_out_and_no_message_is_cut() -> None:
    whole = talk(30, 30, 8)
    kept = await fitted(Small(50), 30, 30, 8)
    assert kept == Fitted(whole[2:], 3, 1)
    assert (await fitted(Small(50), 30, 30, 8, free=20)).messages == whole[4:]


async def test_a_long_turn_hides_what_is_older_though_that_would_fit() -> None:
    assert await fitted(Small(30), 4, 60, 4) == Fitted(talk(4, 60, 4)[4:], 2, 2)


async def test_history_tokens_bound_the_history_alone() -> None:
    assert (await fitted(Small(1000), 8, 8, 8, most=20)).dropped == 1
    assert (await fitted(Small(1000), 8, 8, 8, most=0)).messages == talk()


async def test_a_question_that_does_not_fit_is_asked_all_the_same_for_the_model_to_refuse() -> None:
    question = [Message(role="user", content="word " * 50)]
    assert await fit([*talk(8)[:2], *question], Small(20), 5, None) == Fitted(question, 1, 1)


async def test_the_system_message_always_stays() -> None:
    system = Message(role="system", content="Be kind.")
    kept = await fit([system, *talk(30, 30)], Small(20), 0, None)
    assert kept.messages == [system, *talk()]


def test_a_turn_is_all_that_was_said_until_the_user_speaks_again() -> None:
    roles = ["assistant", "user", "user", "assistant", "tool", "assistant", "user"]
    messages = [Message(role=role, content=str(n)) for n, role in enumerate(roles)]  # type: ignore[arg-type]
    assert [[m.content for m in turn] for turn in exchanges(messages)] == [
        ["0"],
        ["1", "2", "3", "4", "5"],
        ["6"],
    ]


def test_room_for_the_answer_is_at_most_half_of_the_context() -> None:
    assert reserve(Sampling(max_tokens=100), 1000) == 100
    assert reserve(Sampling(max_tokens=900), 1000) == 500
    assert reserve(Sampling(), 1000) == 500


async def test_a_history_of_many_contexts_is_not_counted_as_a_whole() -> None:
    model = Small(100)
    kept = await fitted(model, *[8] * 4000)
    assert kept.turns == 10
    assert model.counted < 400


@given(st.integers(0, 300), st.integers(0, 300))
async def test_the_search_finds_the_highest_number_that_fits(highest: int, limit: int) -> None:
    async def fits(turns: int) -> bool:
        return turns <= limit

    assert await most(highest, fits) == min(highest, limit)


@given(
    st.lists(st.integers(2, 40), max_size=30),
    st.integers(10, 300),
    st.integers(0, 100),
    st.none() | st.integers(0, 99),
)
async def test_what_is_asked_is_the_longest_suffix_of_whole_turns_that_fits(
    lengths: list[int], context: int, free: int, bound: int | None
) -> None:
    model = ScriptedModel()
    model.context = context
    whole = exchanges(talk(*lengths))
    kept = await fit(talk(*lengths), model, free, bound)
    asked = exchanges(kept.messages)
    assert asked == whole[len(whole) - len(asked) :]
    assert (kept.turns, kept.dropped) == (len(asked), len(whole) - len(asked))

    async def tokens(turns: list[list[Message]]) -> int:
        return await model.count_chat([message for turn in turns for message in turn])

    limit = context - free
    if bound is not None:
        limit = min(limit, await tokens(whole[-1:]) + bound)
    assert len(asked) == 1 or await tokens(asked) <= limit
    assert len(asked) == len(whole) or await tokens(whole[-len(asked) - 1 :]) > limit


@pytest.mark.parametrize("engine", [ConversationalChat, GeneralReasoning])
async def test_an_engine_says_how_many_turns_it_asked_and_left_out(engine: type[ConversationalChat]) -> None:
    model, asking = Small(105), engine()
    asking.load_model(model)
    request = GenerateRequest(
        id="r", engine=asking.name, messages=talk(30, 30), sampling=Sampling(max_tokens=40)
    )
    assert await asking.generate(request) == "ananswer"
    assert asking.notes == {"turns": 2, "dropped_turns": 1}
    assert [m.role for m in model.asked[0][0]] == ["system", "user", "assistant", "user"]


async def test_history_tokens_is_an_option_with_bounds() -> None:
    request = GenerateRequest(
        id="r", engine="conversational_chat", prompt="x", options={"history_tokens": -1}
    )
    with pytest.raises(RequestError, match="history_tokens"):
        ConversationalChat().accept(request)


class Counting(ScriptedModel):
    """The real tokenizer and template of the demo model, in a small context."""

    def __init__(self) -> None:
        super().__init__("an answer")
        self.context = 400
        self.tokenizer = TextTokenizer(demo_folder("openvino"))

    async def count_chat(self, messages: Sequence[Message]) -> int:
        return len(self.tokenizer.encode_chat(messages))


async def test_the_real_tokenizer_and_template_decide_what_fits() -> None:
    with own_work("loads a tokenizer"):
        model = Counting()
    turns = [
        Message(role=role, content=f"{number}: Größe, 漢字 and <|im_end|> in {role}s' words. " * 2)
        for number in range(20)
        for role in ("user", "assistant")
    ]
    messages = [Message(role="system", content="Be kind."), *turns, Message(role="user", content="Now?")]
    kept = await fit(messages, model, 100, None)
    assert 0 < kept.dropped < 20
    assert kept.messages == [messages[0], *messages[1 + 2 * kept.dropped :]]
    assert await model.count_chat(kept.messages) <= 300
    assert await model.count_chat([messages[0], *messages[2 * kept.dropped - 1 :]]) > 300
