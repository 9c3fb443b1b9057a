"""Vectors of an embedding model equal those of the library, in any batch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from handlers.inference.generator import Generator
from handlers.inference.model import LoadedModel
from handlers.inference.tokenizer import TextTokenizer
from handlers.runtimes.base import Embedder, RuntimeConfig
from handlers.runtimes.transformers.causal import open_runtime
from handlers.runtimes.transformers.embedding import EmbeddingRuntime, TokenisedText, batches
from handlers.strict_json import parse
from handlers.wire import GenerateBody, GenerateRequest, RequestError
from tests.handlers.tiny_models import tiny_bert

TEXTS = ["a", "The cat sat down.", "", "A much longer text, which is cut: " + "so " * 30]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("tiny-bert"), pooling_mode_mean_tokens=True)


@pytest.fixture(scope="module")
def runtime(folder: Path) -> Iterator[EmbeddingRuntime]:
    fatal: list[str] = []
    opened = open_runtime(RuntimeConfig(folder, "FP32", threads=2), fatal.append)
    assert isinstance(opened, EmbeddingRuntime)
    yield opened
    opened.close()
    assert fatal == []


async def done(
    runtime: EmbeddingRuntime, folder: Path, engine: str = "embedding", **fields: Any
) -> dict[str, Any]:
    generator = Generator(LoadedModel(runtime, TextTokenizer(folder)))
    request = GenerateRequest.model_validate({"id": "r", "engine": engine, "prompt": "-", **fields})
    *_, last = [record async for record in generator.records(request)]
    return dict(last["done"])


def direct(folder: Path, ids: list[int]) -> torch.Tensor:
    """The mean of the library's own states of one text, normalised to length 1."""
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder)(torch.tensor([ids])).last_hidden_state[0]
    return torch.nn.functional.normalize(states.mean(dim=0), dim=0)


async def test_vectors_are_those_of_the_library_whatever_the_batch(
    runtime: EmbeddingRuntime, folder: Path
) -> None:
    rows = [[10, 20, 30], [40], list(range(50, 74)), [7, 8]]
    vectors = torch.tensor(await runtime.embed(rows))
    assert torch.allclose(vectors.norm(dim=1), torch.ones(4), atol=1e-6)
    for row, vector in zip(rows, vectors, strict=True):
        assert torch.dot(direct(folder, row), vector) > 0.9999
    assert isinstance(runtime, Embedder)
    assert runtime.dimensions == len(vectors[0]) == 32


async def test_a_text_over_the_longest_is_cut_and_told(runtime: EmbeddingRuntime, folder: Path) -> None:
    answer = await done(runtime, folder, options={"inputs": TEXTS[:2] + TEXTS[3:]})
    assert answer["findings"]["truncated"] == [2]
    assert answer["findings"]["warnings"] == ["input 2 was cut to 24 tokens"]
    assert answer["usage"] == {"prompt_tokens": 1 + 17 + 24, "completion_tokens": 0}
    assert answer["text"] == ""


async def test_texts_are_put_into_lower_case_where_the_model_wants_it(
    runtime: EmbeddingRuntime, folder: Path
) -> None:
    answer = await done(runtime, folder, options={"inputs": ["ABC", "abc"]})
    one, two = map(torch.tensor, answer["findings"]["embeddings"])
    # Two rows of one batch may be summed in another order: some float32 steps of a number up to 1.
    assert torch.allclose(one, two, atol=16 * torch.finfo(torch.float32).eps)
    other = await done(runtime, folder, options={"inputs": ["ABD"]})
    assert not torch.allclose(one, torch.tensor(other["findings"]["embeddings"][0]), atol=1e-3)


async def test_a_prompt_alone_is_the_one_input(runtime: EmbeddingRuntime, folder: Path) -> None:
    given = await done(runtime, folder, prompt="hello")
    listed = await done(runtime, folder, options={"inputs": ["hello"]})
    assert given["findings"] == listed["findings"]
    assert given["findings"]["dimensions"] == 32


async def test_a_text_without_tokens_is_refused_and_the_next_one_served(runtime: EmbeddingRuntime) -> None:
    with pytest.raises(RequestError, match="0 tokens") as refused:
        await runtime.embed([[1], []])
    assert refused.value.status == 400
    assert len(await runtime.embed([[1]])) == 1


async def test_ids_outside_the_vocabulary_are_refused(runtime: EmbeddingRuntime) -> None:
    with pytest.raises(RequestError, match="token id 300"):
        await runtime.embed([[300]])


async def test_a_request_that_is_cancelled_leaves_the_others(runtime: EmbeddingRuntime) -> None:
    left = asyncio.create_task(runtime.embed([[5] * 24] * 500))
    stays = asyncio.create_task(runtime.embed([[5, 6]]))
    await asyncio.sleep(0)
    left.cancel()
    (vector,) = await stays
    assert len(vector) == 32
    with pytest.raises(asyncio.CancelledError):
        await left


@pytest.mark.parametrize("engine", ["conversational_chat", "text_classification", "code_completion"])
async def test_an_embedding_model_is_asked_for_no_text(
    runtime: EmbeddingRuntime, folder: Path, engine: str
) -> None:
    options = {"text_classification": {"labels": ["a", "b"]}, "code_completion": {"prefix": "x"}}
    with pytest.raises(RequestError, match="this model only makes embeddings") as refused:
        await done(runtime, folder, engine, prompt="x " * 200, options=options.get(engine, {}))
    assert refused.value.status == 400


async def test_a_generating_model_is_asked_for_no_vectors(tiny_llama_folder: Path) -> None:
    generating = open_runtime(RuntimeConfig(tiny_llama_folder, "FP32", threads=2), lambda _: None)
    generator = Generator(LoadedModel(generating, TextTokenizer(tiny_llama_folder)))
    request = GenerateRequest(id="r", engine="embedding", prompt="hello")
    with pytest.raises(RequestError, match="cannot make embeddings") as refused:
        [record async for record in generator.records(request)]
    generating.close()
    assert refused.value.status == 400


async def test_a_closed_runtime_fails_what_comes_later(folder: Path) -> None:
    closed = EmbeddingRuntime(RuntimeConfig(folder, "FP32", threads=2), lambda _: None)
    closed.close()
    with pytest.raises(RequestError, match="the model was closed"):
        await closed.embed([[1]])


async def test_a_library_that_fails_is_told_once_and_ends_the_runtime(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fatal: list[str] = []
    broken = EmbeddingRuntime(RuntimeConfig(folder, "FP32", threads=2), fatal.append)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(broken._model, "forward", fail)
    with pytest.raises(RequestError, match="out of memory") as refused:
        await broken.embed([[1] * 24] * 600)
    broken.close()
    assert refused.value.status == 500
    assert fatal == ["RuntimeError: out of memory"]


@pytest.mark.parametrize("precision", ["FP16", "BF16"])
async def test_half_precision_gives_nearly_the_same(
    runtime: EmbeddingRuntime, folder: Path, precision: str
) -> None:
    half = EmbeddingRuntime(RuntimeConfig(folder, precision, threads=2), lambda _: None)
    rows = [[10, 20, 30], [40, 41]]
    whole, other = torch.tensor(await runtime.embed(rows)), torch.tensor(await half.embed(rows))
    half.close()
    assert torch.all((whole * other).sum(dim=1) > 0.99)


@pytest.mark.parametrize("pooling", ["cls_token", "max_tokens", "lasttoken"])
async def test_each_pooling_is_the_model_s_own(tmp_path: Path, pooling: str) -> None:
    folder = tiny_bert(tmp_path / "model", **{f"pooling_mode_{pooling}": True})
    opened = EmbeddingRuntime(RuntimeConfig(folder, "FP32", threads=2), lambda _: None)
    vector, _ = torch.tensor(await opened.embed([[10, 20, 30], [1, 2, 3, 4, 5]]))
    opened.close()
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder)(torch.tensor([[10, 20, 30]])).last_hidden_state[0]
    expected = {"cls_token": states[0], "max_tokens": states.amax(dim=0), "lasttoken": states[-1]}[pooling]
    assert torch.dot(torch.nn.functional.normalize(expected, dim=0), vector) > 0.9999


def test_batches_are_bounded_by_tokens_with_padding() -> None:
    made = batches([TokenisedText([0] * n) for n in (1, 9, 3, 10, 2, 8)], tokens=20)
    assert [[len(text.ids) for text in batch] for batch in made] == [[10, 9], [8, 3], [2, 1]]
    assert [len(batch) for batch in batches([TokenisedText([0] * 30), TokenisedText([0])], tokens=20)] == [
        1,
        1,
    ]


def test_a_body_with_inputs_needs_no_prompt() -> None:
    body = parse(GenerateBody, b'{"options": {"inputs": ["a"]}}')
    assert (body.asked_prompt, body.messages) == ("", None)
    with pytest.raises(RequestError, match="give either prompt or messages"):
        parse(GenerateBody, b'{"options": {"labels": ["a"]}}')
