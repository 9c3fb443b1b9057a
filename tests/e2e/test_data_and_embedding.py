"""Data analysis on the real demo model, and embeddings of the real embedding model."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import torch

from handlers.inference.generator import Generator
from handlers.inference.model import LoadedModel
from handlers.inference.tokenizer import TextTokenizer
from handlers.runtimes.base import RuntimeConfig
from handlers.sandbox.checker import Checker
from handlers.wire import GenerateRequest
from tests.demo import demo_folder, embedding_folder

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

SALES = "region,sales\nNorth,120\nSouth,80\nNorth,140\nSouth,60\n"
CATS = "A cat sits on the mat."
ALIKE = "A kitten is lying on a rug."
OTHER = "The central bank raised interest rates."


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def writer() -> AsyncIterator[Generator]:
    from handlers.runtimes.openvino.runtime import OpenVinoRuntime

    folder = demo_folder("openvino")
    runtime = OpenVinoRuntime(RuntimeConfig(folder, "Q4_1", threads=2), lambda _: None)
    yield Generator(LoadedModel(runtime, TextTokenizer(folder)))
    runtime.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def embedder() -> AsyncIterator[Generator]:
    from handlers.runtimes.transformers.causal import open_runtime

    folder = embedding_folder()
    runtime = open_runtime(RuntimeConfig(folder, "FP32", threads=2), lambda _: None)
    yield Generator(LoadedModel(runtime, TextTokenizer(folder)))
    runtime.close()


async def answered(generator: Generator, engine: str, **options: Any) -> dict[str, Any]:
    request = GenerateRequest.model_validate(
        {
            "id": "r",
            "engine": engine,
            "prompt": "Which region sells more?",
            "options": options,
            "sampling": {"max_tokens": 40, "temperature": 0},
        }
    )
    *_, last = [record async for record in generator.records(request)]
    return dict(last["done"])


async def test_a_table_is_computed_and_put_into_words(writer: Generator) -> None:
    done = await answered(writer, "data_analysis", csv=SALES)
    assert done["text"].strip()
    (group,) = done["findings"]["statistics"]["groups"]
    assert group["values"][0] == {"value": "North", "count": 2, "mean": 130, "sum": 260}
    assert base64.b64decode(done["findings"]["chart"]).startswith(b"\x89PNG")
    checker = Checker()
    request = GenerateRequest(
        id="r", engine="data_analysis", prompt="Which region sells more?", options={"csv": SALES}
    )
    assert await checker.findings(request, done["text"]) == done["findings"]
    checker.close()


async def test_vectors_are_those_of_a_plain_forward_pass(embedder: Generator) -> None:
    """transformers' own tokenizer and model, with the mean over all tokens."""
    from transformers import AutoModel, AutoTokenizer

    texts = [CATS, ALIKE, OTHER, "Über naïve Café-Gäste [SEP] 日本語", "word " * 400]
    done = await answered(embedder, "embedding", inputs=texts)
    folder = embedding_folder()
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    for text, vector in zip(texts, done["findings"]["embeddings"], strict=True):
        plain = text.replace("[SEP]", "[ SEP ]")
        given = tokenizer(plain, return_tensors="pt", truncation=True, max_length=256, padding=False)
        with torch.inference_mode():
            mean = model(**given).last_hidden_state[0].mean(dim=0)
        assert torch.dot(torch.nn.functional.normalize(mean, dim=0), torch.tensor(vector)) > 0.9999
    assert done["findings"]["truncated"] == [4]


async def test_like_sentences_lie_closer_than_others(embedder: Generator) -> None:
    done = await answered(embedder, "embedding", inputs=[CATS, ALIKE, OTHER])
    cats, alike, other = torch.tensor(done["findings"]["embeddings"])
    assert torch.dot(cats, alike) > 0.5
    assert torch.dot(cats, other) < 0.2
    assert done["usage"]["prompt_tokens"] > 20
