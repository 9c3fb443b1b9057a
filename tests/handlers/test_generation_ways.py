"""Requests without an engine's own prompt: the bare model, tools, and log-probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from handlers.inference.generator import Generator
from handlers.inference.model import LoadedModel
from handlers.inference.tokenizer import TextTokenizer
from handlers.wire import GenerateRequest, RequestError, Sampling
from tests.handlers.fake_runtime import ScriptedRuntime
from tests.handlers.tiny_models import byte_tokenizer

TOOLS = [{"type": "function", "function": {"name": "add"}}]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    """A token for each byte, and no template: messages are joined by empty lines."""
    folder: Path = tmp_path_factory.mktemp("bytes")
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    return TextTokenizer(folder)


class Said(ScriptedRuntime):
    """Answers with a text, and records the prompts."""

    def __init__(self, tokenizer: TextTokenizer, text: str) -> None:
        super().__init__(tokenizer.encode(text), context=4000)
        self.tokenizer = tokenizer
        self.prompts: list[str] = []

    def submit(self, request_id: str, prompt_ids: Any, plan: Any) -> Any:
        self.prompts.append(self.tokenizer.decode(prompt_ids))
        return super().submit(request_id, prompt_ids, plan)


async def ask(runtime: Said, **fields: Any) -> list[dict[str, Any]]:
    generator = Generator(LoadedModel(runtime, runtime.tokenizer))
    request = GenerateRequest.model_validate({"id": "r", "engine": "conversational_chat", **fields})
    return [record async for record in generator.records(request)]


@pytest.mark.parametrize("engine", ["conversational_chat", "mathematical_reasoning", "translation"])
async def test_tools_are_told_under_the_engines_own_prompt(tokenizer: TextTokenizer, engine: str) -> None:
    runtime = Said(tokenizer, "ok")
    (*_, last) = await ask(runtime, engine=engine, prompt="Hello", tools=TOOLS)
    (prompt,) = runtime.prompts
    assert "<tools>" in prompt
    assert prompt.endswith("Hello")
    assert not prompt.startswith("You may call functions")
    assert last["done"]["text"] == "ok"


async def test_a_bare_prompt_is_all_that_the_model_reads(tokenizer: TextTokenizer) -> None:
    runtime = Said(tokenizer, " there")
    records = await ask(runtime, prompt="Hello", bare=True, sampling=Sampling(max_tokens=3))
    assert runtime.prompts == ["Hello"]
    assert "".join(record.get("delta", "") for record in records) == " th"
    assert runtime.plans[0].temperature == 1.0


async def test_control_tokens_of_a_bare_prompt_are_meant(tokenizer: TextTokenizer) -> None:
    runtime = Said(tokenizer, "x")
    records = await ask(runtime, prompt="<src>a", bare=True, echo=True, sampling=Sampling(logprobs=True))
    echo = records[0]["prompt"]
    assert echo["text"] == "<src>a"
    assert [(token["token"], token["offset"]) for token in echo["tokens"]] == [("<src>", 0), ("a", 5)]


async def test_each_delta_has_the_rows_of_its_text(tokenizer: TextTokenizer) -> None:
    records = await ask(
        Said(tokenizer, "né"), prompt="Hello", sampling=Sampling(top_logprobs=0, logprobs=True)
    )
    told = [("".join(row["token"] for row in r["logprobs"]), r["delta"]) for r in records if "delta" in r]
    assert told == [("n", "n"), ("\ufffd\ufffd", "é")]
    assert len(records[-1]["done"]["logprobs"]) == 3


async def test_nobody_is_told_of_logprobs_who_did_not_ask(tokenizer: TextTokenizer) -> None:
    records = await ask(Said(tokenizer, "no"), prompt="Hello")
    assert not [record for record in records if "logprobs" in record or "logprobs" in record.get("done", {})]


async def test_an_engine_that_rewrites_the_answer_refuses_logprobs(tokenizer: TextTokenizer) -> None:
    with pytest.raises(RequestError, match="engine") as refused:
        await ask(
            Said(tokenizer, "Bonjour."),
            engine="translation",
            prompt="Hello.",
            options={"target": "fr"},
            sampling=Sampling(logprobs=True),
        )
    assert (refused.value.status, refused.value.param) == (400, "logprobs")


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": "a", "prompt_ids": [1]},
        {"prompt": "a", "echo": True},
        {"prompt": "a", "bare": True, "no_answer": True},
        {"messages": [{"role": "user", "content": "a"}], "bare": True, "echo": True},
    ],
)
def test_requests_that_contradict_themselves_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"give exactly one|echo"):
        GenerateRequest.model_validate({"id": "r", "engine": "e", **wrong})
