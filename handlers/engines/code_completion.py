"""Code completion: the code between prefix and suffix, without any text around it."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Annotated, Any, ClassVar

from pydantic import Field

from handlers.checks.code.endings import BlockReader
from handlers.checks.code.languages import Language, of_content, of_file, of_mention
from handlers.engines._completion_cache import CachedCompletion, CompletionCache
from handlers.engines._fill_in_middle import Family, family_of
from handlers.engines.base import (
    Attempt,
    BaseLLMEngine,
    EngineOptions,
    EnginePrompt,
    Model,
    asked_last,
    read_options,
)
from handlers.wire import GenerateRequest, Message, Sampling

Code = Annotated[str, Field(max_length=4_000_000)]
_OPEN_FENCE = re.compile(r"(?:\A|\n)(?:```|~~~)[^\n`]*\n(?P<code>(?:(?!\n(?:```|~~~))[\s\S])*)\Z")


class CompletionOptions(EngineOptions):
    """`options` of this engine; the prompt is the prefix if there is no `prefix`."""

    prefix: Annotated[Code | None, Field(description="code before the cursor; default: the prompt")] = None
    suffix: Annotated[Code, Field(description="code after the cursor")] = ""
    language: Annotated[
        Language | None,
        Field(description="programming language; default: detected from the file name or the code"),
    ] = None
    filename: Annotated[
        str | None,
        Field(max_length=4_096, description="name of the file, from which the language is detected"),
    ] = None


class CodeCompletion(BaseLLMEngine):
    """Findings: `language`, `mode` (fim, continuation), `cached`."""

    name: ClassVar[str] = "code_completion"
    system_prompt: ClassVar[str] = ""
    defaults: ClassVar[Sampling] = Sampling(max_tokens=128, temperature=0.0)
    options_type: ClassVar[type[EngineOptions]] = CompletionOptions
    run_findings: ClassVar[Mapping[str, Any]] = {"mode": "continuation", "cached": False}

    def prepare(self, request: GenerateRequest) -> EnginePrompt:
        """The prefix alone, which the model continues without a chat template."""
        self.accept(request)
        prefix = Message(role="user", content=_prefix(request))
        return EnginePrompt([prefix], request.sampling.over(self.defaults))

    def check(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """The language of prefix and completion."""
        options = read_options(CompletionOptions, request)
        language = (
            options.language
            or of_file(options.filename or "")
            or (None if options.prefix is not None else of_mention(asked_last(request)))
            or of_content(f"{_prefix(request)}{text}{options.suffix}")
        )
        return {"language": language, **self.run_findings}

    def unknown(self, reason: str) -> dict[str, Any]:
        """Findings without a language."""
        return {"language": None, **self.run_findings, "warnings": [reason]}

    async def run(self, request: GenerateRequest, model: Model) -> AsyncGenerator[str | Attempt, None]:
        """A cached completion if the user asks again or goes on typing inside it, else a new one."""
        prepared = await self.prepared(request)
        prefix, suffix = prepared.messages[0].content, read_options(CompletionOptions, request).suffix
        cache = model.per_model_cache(CompletionCache)
        context = f"{prepared.sampling.model_dump_json()}\n{suffix}"
        if kept := cache.find(context, prefix):
            self.notes = {"mode": kept.mode, "cached": True}
            model.finish_reason = kept.finish_reason
            yield kept.text
            return
        family = family_of(model.has_control) if suffix.strip() else None
        self.notes = {"mode": "fim" if family else "continuation", "cached": False}
        pieces: list[str] = []
        async with aclosing(_generated(model, family, prefix, suffix, prepared.sampling)) as stream:
            async for piece in stream:
                pieces.append(piece)
                yield piece
        cache.keep(
            context, prefix, CachedCompletion("".join(pieces), self.notes["mode"], model.finish_reason)
        )


async def _generated(
    model: Model, family: Family | None, prefix: str, suffix: str, sampling: Sampling
) -> AsyncGenerator[str, None]:
    reader = BlockReader(prefix, suffix)
    parts, ends = (family.parts(prefix, suffix), family.ends) if family else ((prefix,), ())
    async with aclosing(model.complete(parts, sampling, ends)) as stream:
        async for piece in stream:
            if text := reader.feed(piece):
                yield text
            if reader.done:
                break
    if reader.done:
        model.finish_reason = "stop"
    if text := reader.flush():
        yield text


def _prefix(request: GenerateRequest) -> str:
    given = read_options(CompletionOptions, request).prefix
    if given is not None:
        return given
    asked = asked_last(request)
    fenced = _OPEN_FENCE.search(asked)
    return fenced["code"] if fenced else asked
