"""JSON schemas as token masks, by llguidance.

A schema is compiled outside the batch and in bounded time; only its own request fails if the compiler refuses
it. A matcher never raises later: it enters an error state, in which the mask allows only the end token and
`failure` is the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from llguidance import LLMatcher, LLTokenizer
from tokenizers import Tokenizer
from torch import Tensor

from handlers.wire import RequestError

COMPILE_SECONDS = 1.0
# Compact JSON: if white space were free, a small model could answer with blanks until max_tokens.
OPTIONS = {"whitespace_flexible": False}


class SchemaMask:
    """The token mask of one request's schema."""

    def __init__(self, matcher: LLMatcher, eos_ids: Sequence[int]) -> None:
        self._matcher = matcher
        self._eos_ids = list(eos_ids)

    @property
    def failure(self) -> str | None:
        """The reason why the answer cannot follow the schema; None if it can."""
        return self._matcher.get_error() or None

    def advance(self, tokens: Sequence[int]) -> None:
        self._matcher.consume_tokens(list(tokens))

    def apply(self, row: Tensor) -> None:
        """Sets tokens that the schema forbids to minus infinity in `row` (shape [vocabulary])."""
        if self._matcher.is_stopped():
            allowed = np.zeros(row.numel(), dtype=np.uint8)
        else:
            bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
            allowed = np.unpackbits(bits, bitorder="little", count=row.numel())
        if not allowed.any():
            allowed[self._eos_ids] = 1
        row.masked_fill_(torch.from_numpy(allowed).to(row.device) == 0, -torch.inf)


class SchemaCompiler:
    """Compiles schemas for one tokenizer, which is read at the first schema (0.3 s)."""

    def __init__(self, tokenizer_file: Path, vocabulary: int, eos_ids: Sequence[int]) -> None:
        self._tokenizer_file = tokenizer_file
        self._vocabulary = vocabulary
        self._eos_ids = list(eos_ids)

    async def compile(self, schema: dict[str, Any]) -> SchemaMask:
        """A new mask for `schema`; RequestError 400 if it is refused or takes more than a second."""
        if not self._eos_ids:
            raise _refused("the model has no end token")
        await asyncio.to_thread(getattr, self, "_tokenizer")
        # Shielded: the thread cannot be stopped; it ends by llguidance's own limits, without holding the GIL.
        building = asyncio.ensure_future(asyncio.to_thread(self._build, schema))
        try:
            matcher = await asyncio.wait_for(asyncio.shield(building), COMPILE_SECONDS)
        except TimeoutError:
            raise _refused(f"it takes longer than {COMPILE_SECONDS:g} s to compile") from None
        if matcher.is_error():
            raise _refused(matcher.get_error().splitlines()[0][:300])
        return SchemaMask(matcher, self._eos_ids)

    def _build(self, schema: dict[str, Any]) -> LLMatcher:
        grammar = LLMatcher.grammar_from_json_schema(orjson.dumps(schema).decode(), overrides=OPTIONS)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        if not matcher.is_error():
            # Within the time limit; a schema that no value satisfies fails only here.
            matcher.compute_bitmask()
        return matcher

    @cached_property
    def _tokenizer(self) -> LLTokenizer:
        tokenizer = Tokenizer.from_file(str(self._tokenizer_file))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return LLTokenizer(tokenizer.to_str(), n_vocab=self._vocabulary, eos_token=self._eos_ids)


def _refused(reason: str) -> RequestError:
    return RequestError(f"json_schema is refused: {reason}", param="json_schema", code="invalid_json_schema")
