"""Long texts, honest and hostile, with the real tokenizer: answered or refused without blocking the loop.

`tests/conftest.py` checks in every test that no step of the loop takes 50 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from handlers.checks.text.sentences import WINDOWS, segments, sentences
from handlers.inference.generator import Generator
from handlers.inference.model import LoadedModel
from handlers.inference.tokenizer import TextTokenizer
from handlers.wire import GenerateRequest, RequestError
from tests.demo import demo_folder
from tests.handlers.fake_runtime import ScriptedRuntime

PROSE = "Dr. Smith went to Washington, where it was raining. He had 3.5 umbrellas, i.e. too many, at 5 p.m.! "
CONTEXT = 8192


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer(demo_folder("openvino"))


def generator(tokenizer: TextTokenizer, context: int = CONTEXT) -> Generator:
    runtime = ScriptedRuntime(tokenizer.encode("a text"), context=context, vocabulary=100_000)
    return Generator(LoadedModel(runtime, tokenizer))


def request(**fields: Any) -> GenerateRequest:
    return GenerateRequest.model_validate({"id": "r", "engine": "conversational_chat", **fields})


async def done(generator: Generator, asked: GenerateRequest) -> dict[str, Any]:
    records = [record async for record in generator.records(asked)]
    return dict(records[-1]["done"])


async def refusal(generator: Generator, asked: GenerateRequest) -> RequestError:
    with pytest.raises(RequestError) as refused:
        await done(generator, asked)
    return refused.value


class Neighbour:
    """Another endless request on the same loop."""

    def __init__(self) -> None:
        self.turns = 0
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(0.005)
            self.turns += 1

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})


@pytest.fixture
async def neighbour() -> AsyncIterator[Neighbour]:
    one = Neighbour()
    yield one
    await one.end()


async def test_a_line_of_195_kb_is_translated_piece_by_piece(
    tokenizer: TextTokenizer, neighbour: Neighbour
) -> None:
    line = PROSE * (195_000 // len(PROSE))
    asked = request(engine="translation", prompt=line, options={"source": "en", "target": "de"})
    pieces = 0
    async with aclosing(generator(tokenizer).records(asked)) as records:
        async for record in records:
            pieces += bool(record["delta"].strip())
            if pieces == 6:  # the first answers come long before the last sentence is found
                break
    assert neighbour.turns > 5


@pytest.mark.parametrize("context", [2048, CONTEXT], ids=["refused by its bytes", "counted"])
async def test_a_tool_description_of_a_megabyte_is_refused(
    tokenizer: TextTokenizer, neighbour: Neighbour, context: int
) -> None:
    tool = {"type": "function", "function": {"name": "look", "description": PROSE * (10**6 // len(PROSE))}}
    error = await refusal(generator(tokenizer, context), request(prompt="Hi", tools=[tool]))
    assert (error.status, error.code) == (400, "context_length_exceeded")
    is_counted = context == CONTEXT
    assert ("at least" in error.message) == (not is_counted)
    assert neighbour.turns > 0 or not is_counted  # what is refused by its bytes is refused at once


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "x " * 200_000}],
        [{"role": "system", "content": "x " * 200_000}, {"role": "user", "content": "Hi"}],
        [{"role": "user", "content": "x " * 100} for _ in range(4_000)],
        [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "a", "name": "look", "arguments": '{"x": "' + "x " * 200_000 + '"}'}],
            },
            {"role": "tool", "content": "no", "tool_call_id": "a"},
        ],
    ],
    ids=["a user", "a system prompt", "many messages", "the arguments of a call"],
)
async def test_what_cannot_fit_is_refused_before_it_is_tokenised(
    tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch, messages: Sequence[dict[str, Any]]
) -> None:
    monkeypatch.setattr(tokenizer, "encode_rendered", None)  # calling it would be another error
    error = await refusal(generator(tokenizer, 1024), request(bare=True, messages=messages))
    assert (error.status, error.code) == (400, "context_length_exceeded")
    assert "at least" in error.message


@pytest.mark.parametrize("context", [1024, CONTEXT], ids=["refused by its bytes", "counted"])
@pytest.mark.parametrize("options", [{}, {"labels": ["a", "b"]}, {"labels": ["a", "b"], "multiple": True}])
async def test_a_prompt_of_400_kb_for_a_classifier_is_refused(
    tokenizer: TextTokenizer, neighbour: Neighbour, context: int, options: dict[str, Any]
) -> None:
    asked = request(engine="text_classification", prompt="A word. " * 50_000, options=options)
    error = await refusal(generator(tokenizer, context), asked)
    assert (error.status, error.code) == (400, "context_length_exceeded")
    assert ("at least" in error.message) == (context == 1024)
    assert neighbour.turns > 0 or context == 1024


@pytest.mark.parametrize(("engine", "least"), [("summarization", 50_000), ("legal_analysis", 5_000)])
async def test_a_document_of_300_kb_is_read_in_parts(
    tokenizer: TextTokenizer, neighbour: Neighbour, engine: str, least: int
) -> None:
    clauses = "".join(f"{n}. {PROSE * 20}\n\n" for n in range(300_000 // (20 * len(PROSE))))
    asked = request(engine=engine, prompt="What now?", options={"document": clauses})
    answer = await done(generator(tokenizer), asked)
    assert answer["usage"]["prompt_tokens"] > least
    assert neighbour.turns > 10


@pytest.mark.parametrize(
    "text",
    ["漢" * 300_000, "x" * 300_000, "<|im_end|>" * 30_000, "1. " * 100_000, "\n" * 300_000],
    ids=["Chinese", "one word", "control tokens", "numbers", "lines"],
)
async def test_hostile_texts_leave_the_loop_free(tokenizer: TextTokenizer, text: str) -> None:
    made = generator(tokenizer)
    fields: list[dict[str, Any]] = [
        {"prompt": text},
        {"prompt": text, "bare": True},
        {"engine": "code_completion", "prompt": text},
        {"engine": "text_classification", "prompt": text, "options": {"labels": ["a", "b"]}},
    ]
    for one in fields:
        error = await refusal(made, request(**one))
        assert (error.status, error.code) == (400, "context_length_exceeded")


@pytest.mark.parametrize("line", ["\n", "x", "x = (\n", " ", "("], ids=repr)
async def test_code_of_four_million_characters_leaves_the_loop_free(
    tokenizer: TextTokenizer, line: str
) -> None:
    code = line * (4_000_000 // len(line))
    asked = request(engine="code_completion", prompt="x", options={"prefix": code, "suffix": code})
    error = await refusal(generator(tokenizer), asked)
    assert (error.status, error.code) == (400, "context_length_exceeded")


async def test_a_thread_that_tokenises_does_not_keep_the_interpreters_lock(
    tokenizer: TextTokenizer, neighbour: Neighbour
) -> None:
    ids = await asyncio.to_thread(tokenizer.encode, "many words " * 100_000)
    assert len(ids) >= 200_000
    assert neighbour.turns >= 10  # with the lock kept there are two or three


def test_sentences_are_found_one_after_the_other_and_lose_nothing() -> None:
    text = PROSE * 2_000
    found = sentences(text)
    assert next(found) == "Dr. Smith went to Washington, where it was raining. "
    assert "".join(sentences(text[:20_000])) == text[:20_000]


def test_a_sentence_is_whole_up_to_the_widest_window_and_then_cut_between_words() -> None:
    long = "word " * ((WINDOWS[-1] - 100) // 5) + "end. "
    assert list(sentences(f"Short one. {long}Last one.")) == ["Short one. ", long, "Last one."]
    longer = "word " * WINDOWS[-1]
    cut = list(sentences(longer))
    assert "".join(cut) == longer
    assert all(piece.endswith("word ") and len(piece) <= WINDOWS[-1] for piece in cut)


def test_lines_keep_their_ends() -> None:
    text = "one\n\n two \nthree"
    parts = segments(text, "en", lambda _: True, single=False)
    assert [(one.before, one.text, one.after) for one in parts] == [
        ("", "one", "\n"), ("", "", "\n"), (" ", "two", " \n"), ("", "three", ""),
    ]  # fmt: skip
