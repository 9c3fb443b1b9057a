"""Marian and M2M100 repositories without a tokenizer.json are converted by the build or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from archives.convert_job import work
from archives.errors import BuildError
from handlers.inference.generator import Generator
from handlers.inference.model import LoadedModel
from handlers.inference.tokenizer import TextTokenizer
from handlers.runtimes.base import RuntimeConfig
from handlers.runtimes.transformers.causal import open_runtime
from handlers.wire import GenerateRequest
from tests.archives.translation_folders import tiny_m2m100, tiny_marian

pytestmark = pytest.mark.slow


def prepared(source: Path, target: Path) -> Path:
    """Converts a model's folder as the build does."""
    target.mkdir()
    request = {
        "source": str(source),
        "target": str(target),
        "name": "tiny",
        "form": "folder",
        "runtime": "transformers",
    }
    assert work(request, lambda *_: None)["path"] is None
    return target


async def translated(folder: Path, text: str, **options: Any) -> dict[str, Any]:
    runtime = open_runtime(RuntimeConfig(folder, "FP32", threads=2), lambda _: None)
    generator = Generator(LoadedModel(runtime, TextTokenizer(folder)))
    request = GenerateRequest.model_validate(
        {
            "id": "r",
            "engine": "translation",
            "prompt": text,
            "options": options,
            "sampling": {"max_tokens": 8},
        }
    )
    *_, last = [record async for record in generator.records(request)]
    runtime.close()
    return dict(last["done"])


def pieces(folder: Path, text: str, language: str = "") -> list[str]:
    tokenizer = TextTokenizer(folder)
    ids = tokenizer.encode_source(text, language)
    numbers = json.loads((folder / "tokenizer.json").read_text())
    names = {token["id"]: token["content"] for token in numbers["added_tokens"]}
    vocabulary = numbers["model"]["vocab"]
    listed = (
        [token for token, _ in vocabulary]
        if isinstance(vocabulary, list)
        else sorted(vocabulary, key=vocabulary.get)
    )
    return [names.get(number) or listed[number] for number in ids]


def test_marian_s_pieces_have_the_numbers_of_its_own_vocabulary(tmp_path: Path) -> None:
    source = tiny_marian(tmp_path / "source")
    folder = prepared(source, tmp_path / "target")
    assert pieces(folder, "the cat sat.") == ["▁the", "▁cat", "▁sat", ".", "</s>"]
    vocabulary = json.loads((source / "vocab.json").read_text())
    ids = TextTokenizer(folder).encode_source("the cat", "")
    assert ids == [vocabulary["▁the"], vocabulary["▁cat"], vocabulary["</s>"]]
    assert TextTokenizer(folder).decode(ids) == "the cat"


def test_pieces_of_the_target_language_are_for_decoding_only(tmp_path: Path) -> None:
    folder = prepared(tiny_marian(tmp_path / "source", extra=("▁cats", "ß")), tmp_path / "target")
    assert pieces(folder, "the cats") == ["▁the", "▁cat", "s", "</s>"]
    assert TextTokenizer(folder).decode([2]) == "cats"
    assert pieces(folder, "aß") == ["▁", "a", "ß", "</s>"]
    assert pieces(folder, "a€€") == ["▁", "a", "<unk>", "</s>"]


async def test_a_marian_model_translates_without_a_mark(tmp_path: Path) -> None:
    folder = prepared(tiny_marian(tmp_path / "source"), tmp_path / "target")
    assert TextTokenizer(folder).languages == {}
    done = await translated(folder, "the cat sat.", source="en", target="de")
    assert done["findings"]["target"] == "deu_Latn"
    assert done["usage"]["prompt_tokens"] == 5
    assert done["usage"]["completion_tokens"] > 0


async def test_m2m100_marks_source_and_target_with_its_own_tokens(tmp_path: Path) -> None:
    folder = prepared(tiny_m2m100(tmp_path / "source"), tmp_path / "target")
    assert pieces(folder, "the cat", "fr") == ["__fr__", "▁the", "▁", "c", "at", "</s>"]
    languages = TextTokenizer(folder).languages
    assert languages is not None
    assert len(languages) == 100
    first = json.loads((tmp_path / "source" / "vocab.json").read_text())
    assert (languages["af"], languages["zu"]) == (len(first), len(first) + 99)
    french = await translated(folder, "the cat", source="en", target="fr")
    german = await translated(folder, "the cat", source="en", target="de")
    assert french["text"] != german["text"]


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("vocab.json", None, "it has no vocab.json"),
        ("vocab.json", "[]", "vocab.json is not a JSON object"),
        ("vocab.json", '{"</s>": 0, "<unk>": 5}', "does not number its pieces from 0"),
        ("vocab.json", '{"</s>": 0, "<pad>": 1}', "lacks <unk>"),
        ("vocab.json", '{"</s>": 0, "<unk>": 1, "<pad>": 2, ">>fr<<": 3, ">>es<<": 4}', "several languages"),
        ("source.spm", None, r"it has no source\.spm"),
        ("source.spm", "no model", r"source\.spm cannot be read"),
        ("target_vocab.json", "{}", "one vocabulary to read and another one to write"),
    ],
)
def test_a_marian_folder_that_is_not_enough_is_refused_with_the_reason(
    tmp_path: Path, file: str, content: str | None, why: str
) -> None:
    source = tiny_marian(tmp_path / "source")
    (source / file).unlink(missing_ok=True)
    if content is not None:
        (source / file).write_text(content)
    with pytest.raises(BuildError, match=why) as refused:
        prepared(source, tmp_path / "target")
    assert "tiny has no tokenizer.json" in str(refused.value)


def test_m2m100_with_languages_that_nobody_lists_is_refused(tmp_path: Path) -> None:
    source = tiny_m2m100(tmp_path / "source")
    (source / "tokenizer_config.json").write_text('{"language_codes": "wmt21"}')
    with pytest.raises(BuildError, match="lists its languages"):
        prepared(source, tmp_path / "target")
