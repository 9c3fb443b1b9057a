"""The base of every engine: a category's prompt before the model and its checks after it.

Knows requests and text; no runtime, no HTTP, no TorchServe. An engine keeps nothing between requests.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar

from pydantic import ConfigDict, ValidationError

from handlers.wire import FinishReason, GenerateRequest, Message, RequestError, Sampling, Shape, Usage


@dataclass(frozen=True, slots=True)
class EnginePrompt:
    """The prompt and the decoding values of one request; `facts` are other JSON values that `run` needs."""

    messages: list[Message]
    sampling: Sampling
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON values that `from_json` reads."""
        return {
            "messages": [message.model_dump(mode="json", exclude_none=True) for message in self.messages],
            "sampling": self.sampling.model_dump(mode="json", exclude_none=True),
            "facts": dict(self.facts),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The value that `to_json` wrote."""
        messages = [Message.model_validate(message) for message in value["messages"]]
        return cls(messages, Sampling.model_validate(value["sampling"]), value["facts"])


@dataclass(frozen=True, slots=True)
class Attempt:
    """Marks in a stream that the text so far is discarded and a new attempt begins."""

    number: int


@dataclass(frozen=True, slots=True)
class ControlToken:
    """A control token of the model, by its text, in a prompt without a template."""

    token: str


@dataclass(frozen=True, slots=True)
class Embeddings:
    """A vector of length 1 for each input, in order; `truncated` are the indices of inputs that were cut to
    `max_tokens`, the longest input of the model.
    """

    vectors: list[list[float]]
    truncated: list[int]
    max_tokens: int


Kept = TypeVar("Kept")


class Model(Protocol):
    """The loaded model as one request sees it; `usage` sums over all its calls.

    `languages` are the codes with which a translation model marks its texts (`fra_Latn`, or `fr`), empty for
    a model of one language pair; None for a model that follows instructions. `pair` is the language pair that
    the model's folder names, or None.
    """

    context: int
    usage: Usage
    finish_reason: FinishReason
    languages: frozenset[str] | None
    pair: tuple[str, str] | None

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[str, None]:
        """Pieces of the answer; RequestError if the runtime refuses the request."""
        ...

    def translate(self, text: str, source: str, target: str, sampling: Sampling) -> AsyncGenerator[str, None]:
        """Pieces of a translation model's answer.

        `source` and `target` are codes of `languages`, or empty.
        """
        ...

    def complete(
        self, parts: Sequence[str | ControlToken], sampling: Sampling, ends: Sequence[str] = ()
    ) -> AsyncGenerator[str, None]:
        """Pieces that continue `parts` without a template; a token of `ends` ends the answer too."""
        ...

    def has_control(self, token: str) -> bool:
        """True if `token` is a single control token of the model."""
        ...

    def per_model_cache(self, kind: type[Kept]) -> Kept:
        """The one object of type `kind` of this loaded model, made at first use, kept with the model."""
        ...

    async def score(self, prompt: str, continuations: Sequence[str]) -> list[float]:
        """Log-probability of each continuation after the prompt, summed over its tokens."""
        ...

    async def embed(self, inputs: Sequence[str]) -> Embeddings:
        """One vector for each input; RequestError 400 if it is not an embedding model."""
        ...

    def count(self, text: str) -> int:
        """The number of tokens of `text` in the model's own tokenizer."""
        ...

    async def count_chat(self, messages: Sequence[Message]) -> int:
        """The number of prompt tokens of these messages in `stream`, including those of the chat template."""
        ...


class EngineOptions(Shape):
    """The `options` of a request; an engine with options of its own names a subclass."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @classmethod
    def names(cls) -> frozenset[str]:
        """Names of the options in a request; an alias replaces a name that pydantic itself uses."""
        return frozenset(field.alias or name for name, field in cls.model_fields.items())


SomeOptions = TypeVar("SomeOptions", bound=EngineOptions)


class Apart(Protocol):
    """A process that runs an engine's text functions: `handlers.sandbox.checker`, or a test double."""

    async def prepared(
        self, request: GenerateRequest, do: Literal["prepare", "converse"] = "prepare"
    ) -> EnginePrompt:
        """The result of the engine's `prepare` or `converse`.

        Raises the engine's RequestError, or one that says that the checker is busy.
        """
        ...

    async def findings(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """The result of `check` after `accept`, or of `unchecked` if the check was stopped.

        RequestError if the checker is busy.
        """
        ...

    async def conclude(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """The result of `findings`, or of `unknown` if the checker is busy."""
        ...


class BaseLLMEngine:
    """An engine that adds a system prompt and checks nothing; a category overrides what differs.

    `accept`, `prepare`, `converse`, `check` and `unchecked` are pure functions of the request and a text.
    They run in the checker process, which loads the modules `libraries` before the first of them.
    If `reads_text` is False they look at types and lengths only, and run in the calling process.
    `converses` is True if the engine uses earlier turns, so that it can serve a session.

    `notes` are findings about the run, which the text of the answer does not show. `/check` gives
    `run_findings` in their place: the values of the simplest run, None for those that need a model.
    """

    name: ClassVar[str]
    system_prompt: ClassVar[str]
    defaults: ClassVar[Sampling] = Sampling(max_tokens=512, temperature=0.7, top_p=0.95)
    options: ClassVar[frozenset[str]] = frozenset()
    options_type: ClassVar[type[EngineOptions]] = EngineOptions
    reads_text: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ()
    converses: ClassVar[bool] = False
    run_findings: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, apart: Apart | None = None) -> None:
        self._model: Model | None = None
        self._apart = apart
        self.notes: dict[str, Any] = {}

    @classmethod
    def load_libraries(cls) -> None:
        """Loads the libraries of the engine's text functions, before the checker forks its children."""
        for name in cls.libraries:
            importlib.import_module(name)

    def load_model(self, model: Model) -> None:
        """Binds the engine to the model that answers its requests."""
        self._model = model

    def unload_model(self) -> None:
        """Releases the model; a later call needs `load_model` first."""
        self._model = None

    def get_system_prompt(self, request: GenerateRequest) -> str:
        """The engine's own instructions for this request."""
        return self.system_prompt

    def accept(self, request: GenerateRequest) -> None:
        """Checks the options; raises RequestError 400 naming one that this engine does not know or accept."""
        known = self.options | self.options_type.names()
        unknown = sorted(request.options.keys() - known)
        if unknown:
            raise RequestError(
                f"engine {self.name} has no option {unknown[0]!r}; its options: {sorted(known) or 'none'}",
                code="unknown_option",
                param=f"options.{unknown[0]}",
            )
        read_options(self.options_type, request)

    def prepare(self, request: GenerateRequest) -> EnginePrompt:
        """The conversation and the decoding values; RequestError 400 for wrong options."""
        return self.converse(request)

    def converse(self, request: GenerateRequest) -> EnginePrompt:
        """The turns unchanged, with this engine's system prompt; used for requests with tools."""
        self.accept(request)
        # One system message: the engine's text, then the request's own or the persona.
        own = [m.content for m in request.turns if m.role == "system"]
        rest = [m for m in request.turns if m.role != "system"]
        parts = [self.get_system_prompt(request), *(own or [request.system or ""])]
        system = "\n\n".join(part for part in parts if part)
        turns = [Message(role="system", content=system), *rest] if system else rest
        return EnginePrompt(turns, request.sampling.over(self.defaults))

    def check(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """Findings about an answer, `run_findings` included; pure, and the same as those of `/check`."""
        return dict(self.run_findings)

    def unchecked(self, request: GenerateRequest, text: str, reason: str) -> dict[str, Any]:
        """Findings if `check` could not finish; `reason` is a sentence for the client."""
        return self.unknown(reason)

    def unknown(self, reason: str) -> dict[str, Any]:
        """Findings that claim nothing and need no text; `reason` is a sentence for the client."""
        return {**self.run_findings, "warnings": [reason]}

    async def prepared(
        self, request: GenerateRequest, do: Literal["prepare", "converse"] = "prepare"
    ) -> EnginePrompt:
        """The result of `prepare` or `converse`, from the checker process if there is one."""
        if self._apart is not None:
            return await self._apart.prepared(request, do)
        return self.prepare(request) if do == "prepare" else self.converse(request)

    async def findings(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """The result of `check`, from the checker process if there is one; RequestError if that is busy."""
        return await self._apart.findings(request, text) if self._apart else self.check(request, text)

    async def conclude(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """The findings about an answer, or those that say it was not checked because the checker was busy."""
        return await self._apart.conclude(request, text) if self._apart else self.check(request, text)

    async def run(self, request: GenerateRequest, model: Model) -> AsyncGenerator[str | Attempt, None]:
        """Pieces of the answer; engines that call the model more than once override it.

        Closing the generator must close the model's stream, which cancels the generation.
        """
        prepared = await self.prepared(request)
        async with aclosing(model.stream(prepared.messages, prepared.sampling)) as pieces:
            async for piece in pieces:
                yield piece

    def generate_stream(self, request: GenerateRequest) -> AsyncGenerator[str | Attempt, None]:
        """`run` on the loaded model."""
        if self._model is None:
            raise RequestError("the engine has no model", status=503, type="server_error", code="not_loaded")
        return self.run(request, self._model)

    async def generate(self, request: GenerateRequest) -> str:
        """The whole text of the last attempt."""
        pieces: list[str] = []
        async with aclosing(self.generate_stream(request)) as events:
            async for event in events:
                if isinstance(event, Attempt):
                    pieces.clear()
                else:
                    pieces.append(event)
        return "".join(pieces)


def asked_last(request: GenerateRequest) -> str:
    """The last message of the user; empty if there is none."""
    return next((turn.content for turn in reversed(request.turns) if turn.role == "user"), "")


def read_options(kind: type[SomeOptions], request: GenerateRequest) -> SomeOptions:
    """The request's options of type `kind`.

    RequestError 400 names the first wrong one and its allowed values.
    """
    own = {name: value for name, value in request.options.items() if name in kind.names()}
    try:
        return kind.model_validate(own)
    except ValidationError as error:
        # For an option of several types pydantic reports one error per type, with the type's name in `loc`.
        found = [(_place(one["loc"]), one["msg"]) for one in error.errors(include_url=False)]
        name = found[0][0]
        why = "; or ".join(dict.fromkeys(message for place, message in found if place == name))
        raise RequestError(f"option {name}: {why}", code="invalid_option", param=f"options.{name}") from error


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for at, part in enumerate(loc) if at == 0 or isinstance(part, int))
