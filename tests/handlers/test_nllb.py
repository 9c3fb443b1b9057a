"""Translation from engine to runtime on a tiny NLLB with the real tokenizer class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, NllbTokenizer

from handlers.inference.generator import Generator
from handlers.inference.model import LoadedModel
from handlers.inference.tokenizer import TextTokenizer
from handlers.runtimes.base import RuntimeConfig
from handlers.runtimes.transformers.causal import open_runtime
from handlers.wire import GenerateRequest, RequestError

TEXT = "The cat sat down. Was it tired?\n\nIt was."


@pytest.fixture(scope="module")
def generator(tiny_nllb_folder: Path) -> Iterator[Generator]:
    fatal: list[str] = []
    runtime = open_runtime(RuntimeConfig(tiny_nllb_folder, "FP32", threads=2), fatal.append)
    yield Generator(LoadedModel(runtime, TextTokenizer(tiny_nllb_folder)))
    runtime.close()
    assert fatal == []


async def answer(generator: Generator, **options: object) -> dict[str, Any]:
    request = GenerateRequest(id="r", engine="translation", prompt=TEXT, options=options)
    *_, last = [record async for record in generator.records(request)]
    return dict(last["done"])


def direct(folder: Path, sentence: str, target: str) -> str:
    """The answer of transformers itself, with the same limit."""
    tokenizer = NllbTokenizer.from_pretrained(folder, src_lang="eng_Latn")
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32)
    given = tokenizer(sentence, return_tensors="pt")
    limit = 3 * (given.input_ids.shape[1] - 2) + 64
    room = 128 - given.input_ids.shape[1]
    output = model.generate(
        **given,
        forced_bos_token_id=tokenizer.convert_tokens_to_ids(target),
        max_new_tokens=1 + min(limit, room),
    )
    return str(tokenizer.decode(output[0], skip_special_tokens=True)).strip()


def test_a_source_is_tokenised_as_by_the_tokenizer_class(tiny_nllb_folder: Path) -> None:
    theirs = NllbTokenizer.from_pretrained(tiny_nllb_folder, src_lang="fra_Latn")
    ours = TextTokenizer(tiny_nllb_folder)
    for text in ("Hello there.", "It says fra_Latn and </s> as text"):
        ids = ours.encode_source(text, "fra_Latn")
        assert ids[0] == theirs.convert_tokens_to_ids("fra_Latn")
        assert ids[-1] == theirs.eos_token_id
        assert not set(ids[1:-1]) & set(theirs.all_special_ids) - {theirs.unk_token_id}
    assert ours.encode_source("Hello there.", "fra_Latn") == theirs("Hello there.").input_ids
    assert len(ours.languages or ()) == 202


async def test_each_sentence_is_what_the_library_translates(
    generator: Generator, tiny_nllb_folder: Path
) -> None:
    done = await answer(generator, source="English", target="fr")
    one, two, three = (
        direct(tiny_nllb_folder, sentence, "fra_Latn")
        for sentence in ("The cat sat down.", "Was it tired?", "It was.")
    )
    assert done["text"] == f"{one} {two}\n\n{three}"
    assert done["findings"]["target"] == "fra_Latn"
    assert done["usage"]["prompt_tokens"] > len(TEXT) / 2


async def test_another_target_gives_another_text(generator: Generator) -> None:
    french = await answer(generator, source="en", target="fra_Latn")
    german = await answer(generator, source="en", target="deu_Latn")
    assert french["text"] != german["text"]


async def test_a_language_that_the_model_does_not_know_is_refused(generator: Generator) -> None:
    with pytest.raises(RequestError, match="Klingon") as refused:
        await answer(generator, source="en", target="Klingon")
    assert refused.value.param == "options.target"
