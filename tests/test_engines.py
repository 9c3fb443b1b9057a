"""Each engine with a scripted model: its prompt, and its findings about the answer."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from handlers.engines.base import BaseLLMEngine, ControlToken, Embeddings, Kept
from handlers.engines.registry import engine_class, engine_names
from handlers.wire import FinishReason, GenerateRequest, Message, RequestError, Sampling, Usage


class ScriptedModel:
    """Answers with the given texts in turn, and records the prompts."""

    context = 1000

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.asked: list[tuple[list[Message], Sampling]] = []
        self.usage = Usage()
        self.finish_reason: FinishReason = "stop"
        self.languages: frozenset[str] | None = None
        self.pair: tuple[str, str] | None = None
        self.controls: frozenset[str] = frozenset()
        self.completed: list[tuple[list[str | ControlToken], list[str]]] = []
        self._kept: dict[type, Any] = {}

    async def stream(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[str, None]:
        self.asked.append((list(messages), sampling))
        for word in self.texts.pop(0).split(" "):
            yield word

    async def translate(
        self, text: str, source: str, target: str, sampling: Sampling
    ) -> AsyncGenerator[str, None]:
        self.asked.append(([Message(role="user", content=text)], sampling))
        yield f"<{source or '-'}>{target or '-'}:{text}"

    async def complete(
        self, parts: Sequence[str | ControlToken], sampling: Sampling, ends: Sequence[str] = ()
    ) -> AsyncGenerator[str, None]:
        text = "".join(part if isinstance(part, str) else part.token for part in parts)
        self.asked.append(([Message(role="user", content=text)], sampling))
        self.completed.append((list(parts), list(ends)))
        for character in self.texts.pop(0):
            yield character

    def has_control(self, token: str) -> bool:
        return token in self.controls

    def per_model_cache(self, kind: type[Kept]) -> Kept:
        return self._kept.setdefault(kind, kind())  # type: ignore[no-any-return]

    async def score(self, prompt: str, continuations: Sequence[str]) -> list[float]:
        return [0.0 for _ in continuations]

    async def embed(self, inputs: Sequence[str]) -> Embeddings:
        return Embeddings([[1.0] for _ in inputs], [0], 256)

    def count(self, text: str) -> int:
        return len(text.split())

    async def count_chat(self, messages: Sequence[Message]) -> int:
        return sum(1 + self.count(message.content) for message in messages)


async def ask(name: str, **fields: object) -> tuple[str, list[Message], Sampling]:
    """The answer of an engine, and its first prompt to the model."""
    model = ScriptedModel("an answer")
    engine = engine_class(name)()
    engine.load_model(model)
    request = GenerateRequest.model_validate({"id": "r", "engine": name, "prompt": "Why?", **fields})
    text = await engine.generate(request)
    return text, *model.asked[0]


def findings(name: str, text: str, **options: object) -> dict[str, Any]:
    """An engine's findings about an answer to `Why?`."""
    request = GenerateRequest(id="r", engine=name, prompt="Why?", options=options)
    return engine_class(name)().check(request, text)


async def test_conversational_chat() -> None:
    text, plain, _ = await ask("conversational_chat")
    assert text == "ananswer"
    assert [m.role for m in plain] == ["system", "user"]
    _, persona, _ = await ask("conversational_chat", system="You are Ada.")
    assert persona[0] == Message(role="system", content="You are Ada.")
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    _, own, _ = await ask("conversational_chat", prompt=None, messages=turns, system="You are Ada.")
    assert [m.content for m in own] == ["Be brief.", "Why?"]


async def test_general_reasoning() -> None:
    engine = engine_class("general_reasoning")
    _, messages, sampling = await ask("general_reasoning", sampling={"temperature": 0.0})
    assert messages[0].content == engine.system_prompt
    assert (sampling.temperature, sampling.max_tokens) == (0.0, engine.defaults.max_tokens)
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    _, own, _ = await ask("general_reasoning", prompt=None, messages=turns, system="You are Ada.")
    assert own[0].content == f"{engine.system_prompt}\n\nBe brief."


async def test_translation() -> None:
    options = {"source": "en", "target": "French", "register": "formal"}
    text, messages, sampling = await ask("translation", options=options)
    assert text == "ananswer"
    assert [m.role for m in messages] == ["system", "user"]
    assert "from English into French" in messages[0].content
    assert sampling.temperature == 0.0
    found = findings("translation", "Pourquoi ?", target="fra_Latn")
    assert (found["translations"], found["target"], found["warnings"]) == (["Pourquoi ?"], "fra_Latn", [])


async def test_legal_analysis() -> None:
    options = {"task": "review", "document": "1. The tenant pays rent on Mondays."}
    _, messages, sampling = await ask("legal_analysis", options=options)
    assert "The tenant pays rent" in messages[-1].content
    assert sampling.json_schema is not None
    answer = '{"items": [{"quote": "pays rent on Mondays"}, {"quote": "pays rent on Sundays"}]}'
    found = findings("legal_analysis", answer, **options)
    assert [(quote["found"], quote["start"]) for quote in found["quotes"]] == [(True, 14), (False, None)]
    assert "not legal advice" in found["note"]


async def test_scientific_research() -> None:
    options = {"bibliography": "@book{kn68, title={Art}, author={Knuth, D.}, year={1968}}"}
    _, messages, _ = await ask("scientific_research", options=options)
    assert "[@kn68] Knuth, D. (1968). Art." in messages[0].content
    found = findings("scientific_research", "Known [@kn68], guessed [@roe99], see doi:10.1/x.", **options)
    assert found["citations"] == [{"key": "kn68", "supported": True}, {"key": "roe99", "supported": False}]
    assert found["references"] == [{"key": "kn68", "text": "Knuth, D. (1968). Art."}]
    assert found["invalid_dois"] == ["10.1/x"]


async def test_mathematical_reasoning() -> None:
    engine = engine_class("mathematical_reasoning")()
    model = ScriptedModel("Final answer: 41", "Final answer: 42")
    engine.load_model(model)
    request = GenerateRequest(
        id="r", engine=engine.name, prompt="What is 6 * 7?", options={"context": "arithmetic"}
    )
    assert await engine.generate(request) == "Finalanswer:42"
    assert (len(model.asked), engine.notes) == (2, {"attempts": 2})
    found = engine.check(request, "Final answer: 42")
    assert (found["answer"], found["latex"], found["verified"], found["attempts"]) == ("42", "42", "true", 1)
    assert engine.check(request, "Final answer: 41")["verified"] == "false"


async def test_code_generation() -> None:
    options = {"language": "Python", "template": "function"}
    _, messages, sampling = await ask("code_generation", options=options)
    engine = engine_class("code_generation")()
    assert "type hints" in messages[0].content
    assert sampling.temperature == engine.defaults.temperature
    request = GenerateRequest(id="r", engine=engine.name, prompt="Add.", options=options)
    found = engine.check(request, "```py\ndef add(a, b):\n    return a + b\n```\n```js\nlet = ;\n```")
    assert [(b["language"], b["syntax_ok"]) for b in found["blocks"]] == [
        ("python", True),
        ("javascript", False),
    ]
    assert found["language"] == "python"


async def test_code_completion() -> None:
    engine = engine_class("code_completion")()
    model = ScriptedModel("return a + b\n\n\ndef other():\n    pass\n")
    engine.load_model(model)
    options = {"prefix": "def add(a, b):\n    ", "filename": "sums.py"}
    request = GenerateRequest(id="r", engine=engine.name, prompt="-", options=options)
    assert (await engine.generate(request)).strip() == "return a + b"
    assert model.completed == [([options["prefix"]], [])]
    assert engine.notes == {"mode": "continuation", "cached": False}
    assert engine.check(request, "return a + b")["language"] == "python"


async def test_summarization() -> None:
    _, messages, _ = await ask("summarization", prompt="A long text.", options={"length": "short"})
    assert "two or three sentences" in messages[0].content
    assert messages[1].content == "Text:\n\nA long text."
    assert findings("summarization", "Short.", length="short")["words"] == 1


async def test_question_answering() -> None:
    options = {"passages": ["The sky is blue because of scattering."]}
    _, messages, _ = await ask("question_answering", options=options)
    assert messages[1].content == f"Passages:\n\n[1] {options['passages'][0]}\n\nQuestion: Why?"
    quotes = findings("question_answering", 'It is "because of scattering" I think.', **options)["quotes"]
    assert quotes == [{"text": "because of scattering", "found": True, "passage": 0}]


async def test_creative_writing() -> None:
    _, messages, sampling = await ask("creative_writing", options={"form": "haiku", "tone": "wry"})
    assert "Write a haiku. The tone is wry." in messages[0].content
    assert sampling.temperature == 1.0
    assert findings("creative_writing", "One two.", form="haiku")["words"] == 2


async def test_text_classification() -> None:
    engine = engine_class("text_classification")()
    engine.load_model(ScriptedModel())
    options = {"labels": ["question", "answer"]}
    request = GenerateRequest(id="r", engine=engine.name, prompt="Why?", options=options)
    assert await engine.generate(request) == findings(engine.name, "question", **options)["label"]
    assert engine.notes["scores"] == {"question": 0.5, "answer": 0.5}


async def test_information_extraction() -> None:
    schema = {"type": "object", "required": ["name"]}
    _, _, sampling = await ask("information_extraction", options={"schema": schema})
    assert sampling.json_schema == schema
    assert findings("information_extraction", '{"name": 1}', schema=schema)["data"] == {"name": 1}
    assert findings("information_extraction", '{"name": ', schema=schema)["data"] is None


async def test_data_analysis() -> None:
    options = {"csv": "city,sales\nRome,10\nOslo,30\n"}
    _, messages, _ = await ask("data_analysis", options=options)
    assert "Column 'sales' (number): 2 values, min 10, max 30, mean 20" in messages[-1].content
    found = findings("data_analysis", "The mean is 20, the growth 7 %.", **options)
    assert found["statistics"]["columns"][1]["mean"] == 20
    assert b64decode(found["chart"]).startswith(b"\x89PNG")
    assert found["unsupported_numbers"] == ["7 %"]


async def test_embedding() -> None:
    engine = engine_class("embedding")()
    engine.load_model(ScriptedModel())
    request = GenerateRequest(id="r", engine=engine.name, prompt="-", options={"inputs": ["a", "b"]})
    assert await engine.generate(request) == ""
    assert engine.notes["embeddings"] == [[1.0], [1.0]]
    assert (engine.notes["truncated"], engine.notes["warnings"]) == ([0], ["input 0 was cut to 256 tokens"])
    assert findings("embedding", "")["embeddings"] is None
    for wrong in ([], ["x"] * 2049, "x", [1]):
        with pytest.raises(RequestError) as refused:
            findings("embedding", "", inputs=wrong)
        assert (refused.value.param or "").startswith("options.inputs")
    turns = [{"role": "user", "content": "Hi"}]
    with pytest.raises(RequestError, match="not a conversation"):
        await ask("embedding", prompt=None, messages=turns)


@pytest.mark.parametrize("name", engine_names())
def test_every_engine_is_named_after_its_file(name: str) -> None:
    engine = engine_class(name)
    assert engine.name == name
    assert issubclass(engine, BaseLLMEngine)


@pytest.mark.parametrize("name", engine_names())
async def test_an_option_that_an_engine_does_not_know_is_refused_by_name(name: str) -> None:
    with pytest.raises(RequestError) as refused:
        await ask(name, options={"frobnicate": 1})
    assert (refused.value.status, refused.value.param) == (400, "options.frobnicate")


def test_an_unknown_engine_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(RequestError, match="conversational_chat") as refused:
        engine_class("nope")
    assert refused.value.param == "engine"


@pytest.mark.parametrize("name", ["base", "registry", "os", "../wire", ""])
def test_no_other_module_can_be_reached_as_an_engine(name: str) -> None:
    with pytest.raises(RequestError):
        engine_class(name)


async def test_an_engine_without_a_model_says_so() -> None:
    engine = engine_class("conversational_chat")()
    request = GenerateRequest(id="r", engine="conversational_chat", prompt="Hi")
    with pytest.raises(RequestError, match="no model"):
        await engine.generate(request)
    engine.load_model(ScriptedModel("x"))
    engine.unload_model()
    with pytest.raises(RequestError, match="no model"):
        await engine.generate(request)
