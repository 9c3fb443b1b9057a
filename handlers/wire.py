"""Request and record types that cross between gateway and worker, and the one error type.

Knows shapes only: no model, no HTTP framework. The gateway's `/generate` body and the body of TorchServe's
`/predictions` are the same class, so that both planes refuse the same things in the same words. The bases of
all models of the project are here too: no value in the text of an error, and no guessing at types.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SkipValidation,
    model_validator,
)

WIRE_VERSION = 3

MOST_OPTIONS = 64
"""Options of one request, far more than any engine knows."""

MAX_PROMPT_CHARS = 4_000_000
MAX_TOKENS_CEILING = 1_000_000
MOST_BIASES = 1_000
"""Of one request; each is looked at for each token of the answer."""

_VALUE_CHARS = 10
"""Characters that cost as much as a value beside them."""
_MOST_COUNTED = 100_000
"""Much in any case: counting further would take milliseconds."""

FinishReason = Literal["stop", "length", "cancelled"]
Role = Literal["system", "user", "assistant", "tool"]


class Shape(BaseModel):
    """The base of all models: the text of an error about one never shows the value at fault.

    Such a text may end in a log, and the values are prompts and answers.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _let_others_run(cls, value: Any) -> Any:
        # pydantic keeps the interpreter's lock, for 110 ms over 16,000 calls of tools. A call of Python is
        # where another thread may take it: 0.2 us for each value of the model.
        return value


class Strict(Shape):
    """The base of the shapes on the wire: strict, frozen, finite."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _whole(value: object) -> object:
    # To JSON, and to clients whose only number is a float, 5.0 is a whole number.
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Stands after an integer's bounds, which a JSON schema would not show otherwise."""


def no_number(value: object) -> object:
    """Refuses numbers where `"new"`, true or false is meant."""
    # To Python, and so to a Literal, 1 is True.
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError('Input should be "new", true or false')
    return value


class RequestError(Exception):
    """A failure that carries its own rendering, from the worker's runtime to the client's screen.

    `status` is the HTTP status, `code` a stable machine word, `param` the field at fault,
    `retry_after_s` is set where a retry helps.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = type
        self.code = code
        self.param = param
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """`{"error": {message, type, param, code}}`, the one error shape of every interface."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class ToolCall(Strict):
    """A call that the assistant made; `arguments` is JSON text, as the model wrote it."""

    id: Annotated[str, Field(max_length=200)]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    arguments: Annotated[str, Field(max_length=MAX_PROMPT_CHARS)]


class Message(Strict):
    """One turn of a conversation; a turn of role `tool` is the result of the call `tool_call_id`.

    It has no limits: the gateway and the engines put turns together out of several fields, each of which has
    passed its own limit. `MessageBody` is a turn as a client sends it.
    """

    role: Role
    content: str
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class MessageBody(Message):
    """One turn in a body, within the limits of its fields."""

    content: Annotated[str, Field(max_length=MAX_PROMPT_CHARS)]
    name: Annotated[str, Field(max_length=200)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] | None = None
    tool_call_id: Annotated[str, Field(max_length=200)] | None = None


class Sampling(Strict):
    """What a request may say about decoding; None leaves the value to the engine's default.

    `logprobs` asks for a row of `handlers.logprobs` with each token of the answer, `top_logprobs` for so many
    likelier alternatives too.
    """

    max_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS_CEILING), WHOLE] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=1_000_000), WHOLE] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    stop: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=16)] | None
    ) = None
    seed: Annotated[int, Field(ge=0, lt=2**32), WHOLE] | None = None
    json_schema: dict[str, Any] | None = None
    logit_bias: (
        Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=MOST_BIASES)] | None
    ) = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), WHOLE] | None = None

    def over(self, defaults: Sampling) -> Sampling:
        """These values where they are given, `defaults` elsewhere."""
        given = {k: v for k, v in self if v is not None}
        return defaults.model_copy(update=given)


def few_options(options: dict[str, Any]) -> dict[str, Any]:
    """`options` where they are few: each request to a worker is made anew with all of them."""
    if len(options) > MOST_OPTIONS:
        raise ValueError(f"there are more than {MOST_OPTIONS} options")
    return options


class Wishes(Strict):
    """What a request may ask of the gateway and of a category's engine, in every protocol.

    `keep_alive` and `max_wait_s` are seconds.
    """

    options: Annotated[dict[str, Any], AfterValidator(few_options)] = Field(default_factory=dict)
    session: Annotated[Literal["new", True, False], BeforeValidator(no_number)] | None = None
    session_id: Annotated[str, Field(max_length=200)] | None = None
    persona: Annotated[str, Field(max_length=200)] | None = None
    keep_alive: Annotated[float, Field(ge=-1, le=10_000_000)] | None = None
    max_wait_s: Annotated[float, Field(ge=0, le=86_400)] | None = None


INPUT_OPTIONS = frozenset({"csv", "document", "inputs", "prefix", "table"})
"""Options of engines that say what a request is about, so that it needs no prompt."""


class GenerateInput(Sampling, Wishes):
    """One generation as the gateway plans it, whatever the protocol; decoding fields lie flat in it.

    `session` "new", or true, begins a session that a later `session_id` goes on with.
    """

    prompt: str | None = None
    messages: Sequence[Message] | None = None
    category: Annotated[str, Field(max_length=200)] | None = None
    engine: Annotated[str, Field(max_length=200)] | None = None
    stream: bool = False

    @model_validator(mode="after")
    def _one_input(self) -> Self:
        if (self.asked_prompt is None) == (self.messages is None):
            raise ValueError("exactly one of prompt and messages is needed")
        return self

    @property
    def asked_prompt(self) -> str | None:
        """The prompt; empty where an option alone says what the request is about."""
        by_option = self.messages is None and not INPUT_OPTIONS.isdisjoint(self.options)
        return "" if self.prompt is None and by_option else self.prompt

    @property
    def sampling(self) -> Sampling:
        return Sampling.model_construct(**{name: getattr(self, name) for name in Sampling.model_fields})


class GenerateBody(GenerateInput):
    """Body of `/generate` and of TorchServe's `/predictions`; `engine` is for `/predictions` alone."""

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARS)] | None = None
    messages: Annotated[list[MessageBody], Field(min_length=1, max_length=10_000)] | None = None


class GenerateRequest(Strict):
    """What the gateway sends to a worker's `POST /generate`.

    `bare` asks for the model without an engine: of `messages` the chat template alone, while `prompt` or
    `prompt_ids` are continued as they are, control tokens in them included. `prompt_ids` are always bare.
    `echo` asks for a first record `{"prompt": Echo}`; with `sampling.logprobs` it has those of the prompt.
    `no_answer` ends the request after that record. `tools` are OpenAI's tool objects, given to the template.
    `attempts` is how often an engine may try: 1 where a text that was sent cannot be taken back.
    The limits of texts are those of the bodies that it is made of.
    `client` tells whose share of the worker it takes, by a word that stands for a key and is none.
    """

    id: str
    client: Annotated[str, Field(max_length=64)] | None = None
    engine: str
    prompt: str | None = None
    messages: list[Message] | None = None
    prompt_ids: Annotated[list[int], Field(min_length=1)] | None = None
    bare: bool = False
    echo: bool = False
    no_answer: bool = False
    tools: Annotated[list[dict[str, Any]], Field(min_length=1)] | None = None
    attempts: Annotated[int, Field(ge=1, le=8)] = 2
    system: str | None = None
    sampling: Sampling = Sampling()
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_input(self) -> Self:
        if [self.prompt, self.messages, self.prompt_ids].count(None) != 2:
            raise ValueError("exactly one of prompt, messages and prompt_ids is needed")
        if self.echo and (self.messages is not None or not self.is_bare):
            raise ValueError("echo is for a bare prompt")
        if self.no_answer and not self.echo:
            raise ValueError("no_answer needs echo")
        return self

    @property
    def size(self) -> int:
        """Characters of what it says, at least; each value counts for some."""
        turns = (
            len(turn.content)
            + _VALUE_CHARS
            + sum(_VALUE_CHARS + len(c.arguments) for c in turn.tool_calls or ())
            for turn in self.turns
        )
        ids = _VALUE_CHARS * len(self.prompt_ids or ())
        return sum(turns) + ids + _chars([self.options, self.tools])

    @property
    def is_bare(self) -> bool:
        return self.bare or self.prompt_ids is not None

    @property
    def turns(self) -> list[Message]:
        """The conversation, a bare prompt being its only user turn."""
        if self.messages is not None:
            return self.messages
        return [Message(role="user", content=self.prompt or "")]


def _chars(value: Any) -> int:
    """Characters of the texts in a JSON value, and some for each value, counted to `_MOST_COUNTED`."""
    found, level = 0, [value]
    while level and found < _MOST_COUNTED:
        one = level.pop()
        found += _VALUE_CHARS + (len(one) if isinstance(one, str) else 0)
        if isinstance(one, dict):
            level += one.values()
        elif isinstance(one, list):
            level += one
    return found


class Usage(Strict):
    """Token counts by the model's own tokenizer; a sum over all calls of the request."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


class Timings(Strict):
    """Worker-side times in seconds, measured on a monotonic clock."""

    first_token_s: float | None = None
    total_s: float = 0.0


class Done(Strict):
    """The last record of a stream that succeeded; `logprobs` are those of `text`, each a row of
    `handlers.logprobs`.

    `model` is the gateway's to say: which model its worker serves, also while another one replaces it.
    """

    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    findings: dict[str, Any] = Field(default_factory=dict)
    text: str
    # JSON as it stands: reading through the rows of 8,192 tokens would take half a second.
    logprobs: SkipValidation[Iterable[dict[str, Any]] | None] = None
    model: str | None = None

    def as_record(self) -> dict[str, Any]:
        """The record's content as JSON has it; without `logprobs` where nobody asked for them."""
        left_out = {"logprobs", "findings"} | ({"model"} if self.model is None else set())
        # Findings are JSON as they stand, too: up to 786,000 numbers of vectors.
        record = {**self.model_dump(mode="json", exclude=left_out), "findings": self.findings}
        return record if self.logprobs is None else {**record, "logprobs": self.logprobs}


def bad_option(name: str, what: str) -> RequestError:
    """A 400 that names `options.<name>` and says `what` it may be."""
    return RequestError(f"option {name}: {what}", code="invalid_option", param=f"options.{name}")
