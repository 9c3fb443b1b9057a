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
class Prepared:
    """What one request asks of the model; `facts` is what `run` must know besides, as JSON has it."""

    messages: list[Message]
    sampling: Sampling
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            "messages": [message.model_dump(mode="json", exclude_none=True) for message in self.messages],
            "sampling": self.sampling.model_dump(mode="json", exclude_none=True),
            "facts": dict(self.facts),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """What `as_json` wrote."""
        messages = [Message.model_validate(message) for message in value["messages"]]
        return cls(messages, Sampling.model_validate(value["sampling"]), value["facts"])


@dataclass(frozen=True, slots=True)
class Attempt:
    """Says in a stream that the text so far is taken back and a new try begins."""

    number: int


@dataclass(frozen=True, slots=True)
class Control:
    """A control token of the model, by its text, in a prompt that no template is put around."""

    token: str


@dataclass(frozen=True, slots=True)
class Embeddings:
    """A vector of length 1 for each input, in order; `truncated` are the indices of those that were cut to
    `max_tokens`, what the model takes of one.
    """

    vectors: list[list[float]]
    truncated: list[int]
    max_tokens: int


Kept = TypeVar("Kept")


class Model(Protocol):
    """The loaded model as one request sees it; `usage` sums over all its calls.

    `languages` are the codes that a translation model marks its texts with (`fra_Latn`, or `fr`), none for a
    model of one pair of languages; None says that the model follows instructions instead. `pair` is that one
    pair as the model's folder names it, None where it does not.
    """

    context: int
    usage: Usage
    finish_reason: FinishReason
    languages: frozenset[str] | None
    pair: tuple[str, str] | None

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[str, None]:
        """Pieces of the answer; RequestError for what the runtime refuses."""
        ...

    def translate(self, text: str, source: str, target: str, sampling: Sampling) -> AsyncGenerator[str, None]:
        """Pieces of a translation model's answer; `source` and `target` are of `languages`, or empty."""
        ...

    def complete(
        self, parts: Sequence[str | Control], sampling: Sampling, ends: Sequence[str] = ()
    ) -> AsyncGenerator[str, None]:
        """Pieces that follow the bare `parts`; a token of `ends` ends the answer like the model's own end."""
        ...

    def has_control(self, token: str) -> bool:
        """Whether `token` is one token of the model beside its ordinary vocabulary."""
        ...

    def kept(self, kind: type[Kept]) -> Kept:
        """The one `kind` of this loaded model, made at first use and lost with the model."""
        ...

    async def score(self, prompt: str, continuations: Sequence[str]) -> list[float]:
        """Log-probability of each continuation after the prompt, summed over its tokens."""
        ...

    async def embed(self, inputs: Sequence[str]) -> Embeddings:
        """One vector for each input; RequestError 400 where the model makes none."""
        ...

    def count(self, text: str) -> int:
        """Tokens of `text` by the model's own tokenizer."""
        ...

    async def count_chat(self, messages: Sequence[Message]) -> int:
        """Tokens that `stream` would ask of these messages, the chat template's own included."""
        ...


class EngineOptions(Shape):
    """What a request may put under `options`; an engine with options of its own names a subclass."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @classmethod
    def names(cls) -> frozenset[str]:
        """What the options are called in a request: an alias stands for a name that pydantic itself uses."""
        return frozenset(field.alias or name for name, field in cls.model_fields.items())


SomeOptions = TypeVar("SomeOptions", bound=EngineOptions)


class Apart(Protocol):
    """A process for an engine's functions of text: `handlers.sandbox.checker`, or a stand-in of a test."""

    async def prepared(
        self, request: GenerateRequest, do: Literal["prepare", "converse"] = "prepare"
    ) -> Prepared:
        """`prepare` or `converse` of the request's engine; its RequestError, or one that says it is busy."""
        ...

    async def findings(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """`check` after `accept`; `unchecked` where it was stopped; RequestError where there is no place."""
        ...

    async def conclude(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """`findings`, and `unknown` where there is no place."""
        ...


class BaseLLMEngine:
    """An engine that adds a system prompt and checks nothing; a category overrides what differs.

    `accept`, `prepare`, `converse`, `check` and `unchecked` are pure functions of the request and a text.
    They run in the checker process, which loads the modules `libraries` before the first of them.
    `reads_text` False says that they look at types and lengths alone: they then run where they are called.
    `converses` says that earlier turns are part of what it is asked, so that a session makes sense with it.

    `notes` are findings about how this answer came to be, which nobody could read off its text. In their
    place `/check` says `run_findings`: what the plainest run would say, None for what only a model can make.
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
        """Loads what the engine's functions of text need, before the checker's children are forked."""
        for name in cls.libraries:
            importlib.import_module(name)

    def load_model(self, model: Model) -> None:
        """Binds the engine to the model that answers its requests."""
        self._model = model

    def unload_model(self) -> None:
        """Lets go of the model; a later call needs `load_model` first."""
        self._model = None

    def get_system_prompt(self, request: GenerateRequest) -> str:
        """The engine's own instructions for this request."""
        return self.system_prompt

    def accept(self, request: GenerateRequest) -> None:
        """Raises RequestError 400 naming the option that this engine does not know or cannot take."""
        known = self.options | self.options_type.names()
        unknown = sorted(request.options.keys() - known)
        if unknown:
            raise RequestError(
                f"engine {self.name} has no option {unknown[0]!r}; it knows {sorted(known) or 'none'}",
                code="unknown_option",
                param=f"options.{unknown[0]}",
            )
        read_options(self.options_type, request)

    def prepare(self, request: GenerateRequest) -> Prepared:
        """The conversation and the decoding values; RequestError 400 for options it does not know."""
        return self.converse(request)

    def converse(self, request: GenerateRequest) -> Prepared:
        """The turns as they stand, under this engine's system prompt: what is asked where tools are given."""
        self.accept(request)
        return Prepared(self._with_system(request), request.sampling.over(self.defaults))

    def check(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """Findings about an answer, `run_findings` among them; pure, the same as for `/check`."""
        return dict(self.run_findings)

    def unchecked(self, request: GenerateRequest, text: str, reason: str) -> dict[str, Any]:
        """Findings where `check` could not be finished; `reason` is a sentence for the client."""
        return self.unknown(reason)

    def unknown(self, reason: str) -> dict[str, Any]:
        """Findings that claim nothing and look at no text; `reason` is a sentence for the client."""
        return {**self.run_findings, "warnings": [reason]}

    async def prepared(
        self, request: GenerateRequest, do: Literal["prepare", "converse"] = "prepare"
    ) -> Prepared:
        """What `prepare`, or `converse`, makes of the request, in the checker process where there is one."""
        if self._apart is not None:
            return await self._apart.prepared(request, do)
        return self.prepare(request) if do == "prepare" else self.converse(request)

    async def findings(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """What `check` finds, in the checker process where there is one; RequestError where that is busy."""
        return await self._apart.findings(request, text) if self._apart else self.check(request, text)

    async def conclude(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """What is said of an answer: `findings`, or that there was no place for a check."""
        return await self._apart.conclude(request, text) if self._apart else self.check(request, text)

    async def run(self, request: GenerateRequest, model: Model) -> AsyncGenerator[str | Attempt, None]:
        """Pieces of the answer; overridden where one call of the model is not enough.

        Closing it must close what it reads from the model: that is how a generation is cancelled.
        """
        prepared = await self.prepared(request)
        async with aclosing(model.stream(prepared.messages, prepared.sampling)) as pieces:
            async for piece in pieces:
                yield piece

    def generate_stream(self, request: GenerateRequest) -> AsyncGenerator[str | Attempt, None]:
        """`run` on the loaded model."""
        return self.run(request, self._loaded())

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

    def _loaded(self) -> Model:
        if self._model is None:
            raise RequestError("the engine has no model", status=503, type="server_error", code="not_loaded")
        return self._model

    def _with_system(self, request: GenerateRequest) -> list[Message]:
        """The turns under one system message: the engine's, then the request's, which replaces a persona."""
        own = [m.content for m in request.turns if m.role == "system"]
        rest = [m for m in request.turns if m.role != "system"]
        parts = [self.get_system_prompt(request), *(own or [request.system or ""])]
        system = "\n\n".join(part for part in parts if part)
        return [Message(role="system", content=system), *rest] if system else rest


def asked_last(request: GenerateRequest) -> str:
    """What the user said last; nothing where no user speaks."""
    return next((turn.content for turn in reversed(request.turns) if turn.role == "user"), "")


def read_options(kind: type[SomeOptions], request: GenerateRequest) -> SomeOptions:
    """The options that `kind` has, typed; RequestError 400 names the first wrong one and what it may be."""
    own = {name: value for name, value in request.options.items() if name in kind.names()}
    try:
        return kind.model_validate(own)
    except ValidationError as error:
        # An option of several types has a mistake for each of them, with the type's name in its place.
        found = [(_place(one["loc"]), one["msg"]) for one in error.errors(include_url=False)]
        name = found[0][0]
        why = "; or ".join(dict.fromkeys(message for place, message in found if place == name))
        raise RequestError(f"option {name}: {why}", code="invalid_option", param=f"options.{name}") from error


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for at, part in enumerate(loc) if at == 0 or isinstance(part, int))
