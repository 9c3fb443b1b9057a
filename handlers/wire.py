"""Request and record types that gateway and workers exchange, and the one error type.

Knows shapes only: no model, no HTTP framework. The gateway's `/generate` body and the body of TorchServe's
`/predictions` are the same class, so that both APIs refuse the same bodies with the same messages. The base
classes of all models of the project are here too: errors show no values, and types are not coerced.
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
"""Most options of one request, far more than any engine has."""

MAX_PROMPT_CHARS = 4_000_000
MAX_TOKENS_CEILING = 1_000_000
MOST_BIASES = 1_000
"""Most entries of `logit_bias`; each one is applied at every token of the answer."""

_VALUE_CHARS = 10
"""Characters that one JSON value counts in `size`, in addition to its text."""
_MOST_COUNTED = 100_000
"""Upper limit of the count: a longer text is large in any case, and counting on would take milliseconds."""

FinishReason = Literal["stop", "length", "cancelled"]
Role = Literal["system", "user", "assistant", "tool"]


class Shape(BaseModel):
    """The base of all models: a validation error never shows the wrong value.

    The error may be logged, and the values are prompts and answers.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _let_others_run(cls, value: Any) -> Any:
        # pydantic keeps the interpreter's lock, for 110 ms over 16,000 calls of tools. A call of Python is
        # where another thread may take it: 0.2 us for each value of the model.
        return value


class Strict(Shape):
    """The base of request and record types: strict types, frozen, finite numbers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _whole(value: object) -> object:
    # In JSON, and for clients whose only number type is a float, 5.0 is a whole number.
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Accepts 5.0 as an integer.

It must follow the bounds of the field, else the JSON schema would not show them.
"""


def no_number(value: object) -> object:
    """Refuses numbers where `"new"`, true or false is expected."""
    # In Python, and so in a Literal, 1 equals True.
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError('Input should be "new", true or false')
    return value


class RequestError(Exception):
    """A failed request, with everything that the client learns about it.

    `status` is the HTTP status, `code` a stable word for programs, `param` the wrong field,
    `retry_after_s` is set if a retry helps.
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

    def to_json(self) -> dict[str, Any]:
        """`{"error": {message, type, param, code}}`, the one error shape of every interface."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


class ToolCall(Strict):
    """A tool call of the assistant; `arguments` is JSON text as the model wrote it."""

    id: Annotated[str, Field(max_length=200)]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    arguments: Annotated[str, Field(max_length=MAX_PROMPT_CHARS)]


class Message(Strict):
    """One turn of a conversation; a turn of role `tool` is the result of the call `tool_call_id`.

    It has no limits, because the gateway and the engines build turns from several fields, each of which was
    checked before. `MessageBody` is a turn as a client sends it.
    """

    role: Role
    content: str
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class MessageBody(Message):
    """One turn in a client's body, with limits for its fields."""

    content: Annotated[str, Field(max_length=MAX_PROMPT_CHARS)]
    name: Annotated[str, Field(max_length=200)] | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] | None = None
    tool_call_id: Annotated[str, Field(max_length=200)] | None = None


class Sampling(Strict):
    """Decoding parameters of a request; None means the engine's default.

    `logprobs` asks for a row of `handlers.logprobs` for each token of the answer, `top_logprobs` for this
    many alternatives in each row.
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
        """These values, with those of `defaults` in place of None."""
        given = {k: v for k, v in self if v is not None}
        return defaults.model_copy(update=given)


def few_options(options: dict[str, Any]) -> dict[str, Any]:
    """`options` unchanged.

    ValueError if there are too many, because every request to a worker copies them.
    """
    if len(options) > MOST_OPTIONS:
        raise ValueError(f"there are more than {MOST_OPTIONS} options")
    return options


class GatewayOptions(Strict):
    """Fields of a request for the gateway and the engine, in every protocol.

    `keep_alive` and `max_wait_s` are seconds.
    """

    options: Annotated[dict[str, Any], AfterValidator(few_options)] = Field(default_factory=dict)
    session: Annotated[Literal["new", True, False], BeforeValidator(no_number)] | None = None
    session_id: Annotated[str, Field(max_length=200)] | None = None
    persona: Annotated[str, Field(max_length=200)] | None = None
    keep_alive: Annotated[float, Field(ge=-1, le=10_000_000)] | None = None
    max_wait_s: Annotated[float, Field(ge=0, le=86_400)] | None = None


INPUT_OPTIONS = frozenset({"csv", "document", "inputs", "prefix", "table"})
"""Options of engines that give the input of a request, so that it needs no prompt."""


class GenerateInput(Sampling, GatewayOptions):
    """One generation as the gateway plans it, in every protocol; decoding fields are not nested.

    `session` "new" or true begins a session, which a later `session_id` continues.
    """

    prompt: str | None = None
    messages: Sequence[Message] | None = None
    category: Annotated[str, Field(max_length=200)] | None = None
    engine: Annotated[str, Field(max_length=200)] | None = None
    stream: bool = False

    @model_validator(mode="after")
    def _one_input(self) -> Self:
        if (self.asked_prompt is None) == (self.messages is None):
            raise ValueError("give either prompt or messages, not both")
        return self

    @property
    def asked_prompt(self) -> str | None:
        """The prompt; empty if an option alone gives the input."""
        by_option = self.messages is None and not INPUT_OPTIONS.isdisjoint(self.options)
        return "" if self.prompt is None and by_option else self.prompt

    @property
    def sampling(self) -> Sampling:
        return Sampling.model_construct(**{name: getattr(self, name) for name in Sampling.model_fields})


class GenerateBody(GenerateInput):
    """Body of `/generate` and of TorchServe's `/predictions`; only `/predictions` uses `engine`."""

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARS)] | None = None
    messages: Annotated[list[MessageBody], Field(min_length=1, max_length=10_000)] | None = None


class GenerateRequest(Strict):
    """The body of a worker's `POST /generate`, which the gateway sends.

    `bare` asks the model without an engine: `messages` go through the chat template alone, `prompt` or
    `prompt_ids` are continued unchanged, including their control tokens. `prompt_ids` are always bare.
    `echo` asks for a first record `{"prompt": Echo}`, with log-probabilities if `sampling.logprobs` is set.
    `no_answer` ends the request after that record. `tools` are OpenAI's tool objects for the chat template.
    `attempts` is the number of tries of an engine: 1 if the client cannot discard text that was sent.
    Texts have no limits here; the gateway checks the client's body.
    `client` names the client for fair sharing of the worker, by a word that stands for its key.
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
            raise ValueError("give exactly one of prompt, messages and prompt_ids")
        if self.echo and (self.messages is not None or not self.is_raw):
            raise ValueError("echo requires a raw prompt")
        if self.no_answer and not self.echo:
            raise ValueError("no_answer requires echo")
        return self

    @property
    def size(self) -> int:
        """The size in characters; each JSON value counts `_VALUE_CHARS` more.

        A lower bound for large options.
        """
        turns = (
            len(turn.content)
            + _VALUE_CHARS
            + sum(_VALUE_CHARS + len(c.arguments) for c in turn.tool_calls or ())
            for turn in self.turns
        )
        ids = _VALUE_CHARS * len(self.prompt_ids or ())
        return sum(turns) + ids + _chars([self.options, self.tools])

    @property
    def is_raw(self) -> bool:
        return self.bare or self.prompt_ids is not None

    @property
    def turns(self) -> list[Message]:
        """The conversation; a prompt alone is its only user turn."""
        if self.messages is not None:
            return self.messages
        return [Message(role="user", content=self.prompt or "")]


def _chars(value: Any) -> int:
    """Characters of the strings in a JSON value plus `_VALUE_CHARS` per value; stops at `_MOST_COUNTED`."""
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
    """Token counts of the model's own tokenizer, summed over all calls of the request."""

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

    The gateway sets `model` to the model of its worker, also while another model replaces it.
    """

    finish_reason: FinishReason
    usage: Usage
    timings: Timings
    findings: dict[str, Any] = Field(default_factory=dict)
    text: str
    # Not validated: validating the rows of 8,192 tokens would take half a second.
    logprobs: SkipValidation[Iterable[dict[str, Any]] | None] = None
    model: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The record's content as JSON values; without `logprobs` if they were not requested."""
        left_out = {"logprobs", "findings"} | ({"model"} if self.model is None else set())
        # Findings are not validated either: vectors have up to 786,000 numbers.
        record = {**self.model_dump(mode="json", exclude=left_out), "findings": self.findings}
        return record if self.logprobs is None else {**record, "logprobs": self.logprobs}


def bad_option(name: str, what: str) -> RequestError:
    """A RequestError 400 that names `options.<name>`; the message is `what`."""
    return RequestError(f"option {name}: {what}", code="invalid_option", param=f"options.{name}")
