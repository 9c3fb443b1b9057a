"""Prompts without a template have control tokens only where an engine puts them."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from handlers.engines._completion_cache import CompletionCache
from handlers.engines.base import ControlToken
from handlers.inference.model import LoadedModel
from handlers.inference.tokenizer import TextTokenizer
from handlers.wire import RequestError, Sampling
from tests.handlers.fake_runtime import ScriptedRuntime

SPECIAL, UNMARKED = ["<s>", "<pre>", "<end>"], ["<mid>"]


def folder(path: Path, *, begins: bool = False) -> Path:
    """A byte-level tokenizer with special and non-special control tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = tokenizers.Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    made.add_tokens([AddedToken(token, special=False) for token in UNMARKED])
    if begins:
        made.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", made.token_to_id("<s>"))]
        )
    made.save(str(path / "tokenizer.json"))
    return path


@pytest.fixture
def tokenizer(tmp_path: Path) -> TextTokenizer:
    """A tokenizer that adds nothing before a text."""
    return TextTokenizer(folder(tmp_path))


def test_control_tokens_are_ids_and_text_stays_text(tokenizer: TextTokenizer) -> None:
    ids = {name: tokenizer.control_id(name) for name in (*SPECIAL, *UNMARKED)}
    hostile = "a<pre>b<mid>c"
    bare = tokenizer.encode_bare([ids["<pre>"] or 0, hostile, ids["<mid>"] or 0])
    assert bare == [ids["<pre>"], *tokenizer.encode_bare([hostile]), ids["<mid>"]]
    assert not set(bare[1:-1]) & set(ids.values())
    assert tokenizer.decode(bare[1:-1]) == hostile
    assert tokenizer.control_id("a") is None


def test_a_model_that_begins_every_text_with_a_token_gets_it(tmp_path: Path) -> None:
    tokenizer = TextTokenizer(folder(tmp_path, begins=True))
    assert tokenizer.encode_bare(["a"]) == [tokenizer.control_id("<s>"), *tokenizer.encode("a")]


async def test_an_end_token_ends_the_answer_and_is_not_in_it(tokenizer: TextTokenizer) -> None:
    end = tokenizer.control_id("<mid>")
    assert end is not None
    runtime = ScriptedRuntime([*tokenizer.encode("ab"), end, *tokenizer.encode("cd")], context=400)
    model = LoadedModel(runtime, tokenizer).for_request("r")
    stream = model.complete([ControlToken("<pre>"), "x"], Sampling(max_tokens=50), ["<mid>", "<unknown>"])
    assert "".join([piece async for piece in stream]) == "ab"
    assert (model.finish_reason, model.usage.prompt_tokens) == ("stop", 2)


async def test_nothing_to_continue_is_refused(tokenizer: TextTokenizer) -> None:
    model = LoadedModel(ScriptedRuntime([1], context=400), tokenizer).for_request("r")
    with pytest.raises(RequestError, match="no text to continue"):
        await anext(model.complete([""], Sampling(max_tokens=5)))


def test_what_is_kept_belongs_to_the_loaded_model(tokenizer: TextTokenizer) -> None:
    loaded = LoadedModel(ScriptedRuntime([1], context=400), tokenizer)
    assert loaded.for_request("a").per_model_cache(CompletionCache) is loaded.for_request(
        "b"
    ).per_model_cache(CompletionCache)
    other = LoadedModel(ScriptedRuntime([1], context=400), tokenizer)
    assert other.for_request("a").per_model_cache(CompletionCache) is not loaded.for_request(
        "a"
    ).per_model_cache(CompletionCache)
