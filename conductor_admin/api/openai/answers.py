"""Answers under /v1, in the shapes of OpenAI's API; `conductor` is this server's addition.

Fields are in the order of the answer; one of a default value is left out of an answer that does not set it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from conductor_admin.api.schemas import Answer, Seconds, Tokens

Logprobs = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "object"}, {"type": "null"}]})]
"""An object whose lists are JSON text already, for `json_of`."""

Vector = Annotated[
    Any,
    WithJsonSchema({"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]}),
]
"""Numbers, as JSON text for `json_of`, or base64 of 32-bit floats."""


class OpenAIModel(Answer):
    """A name that `model` accepts."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class OpenAIModels(Answer):
    """All names that `model` accepts."""

    object: Literal["list"]
    data: list[OpenAIModel]


class AnswerDetails(Answer):
    """Category, findings, timings and session of one answer."""

    category: str
    findings: dict[str, Any]
    timings: Seconds
    session_id: str | None


class ChoicesDetails(Answer):
    """Details of several answers."""

    choices: list[AnswerDetails]


class CompletionHead(Answer):
    """Fields that every answer of completions begins with."""

    id: str
    object: str
    created: int
    model: str
    system_fingerprint: str


class TextChoice(Answer):
    """One continuation."""

    index: int
    text: str
    logprobs: Logprobs
    finish_reason: str | None


class TextCompletionAnswer(CompletionHead):
    """The answer of completions."""

    choices: list[TextChoice]
    usage: Tokens
    conductor: AnswerDetails | ChoicesDetails


class CalledFunction(Answer):
    """The name of a called function, and its arguments as JSON text."""

    name: str
    arguments: str


class CallAnswer(Answer):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(Answer):
    """The model's turn; `content` is null if it only calls tools."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[CallAnswer] = Field(default=[])


class ChatChoice(Answer):
    """One answer of a conversation."""

    index: int
    message: AssistantMessage
    logprobs: Logprobs
    finish_reason: str


class ChatCompletionAnswer(CompletionHead):
    """The answer of chat completions."""

    choices: list[ChatChoice]
    usage: Tokens
    conductor: AnswerDetails | ChoicesDetails


class EmbeddingAnswer(Answer):
    """The vector of one text."""

    object: Literal["embedding"]
    index: int
    embedding: Vector


class EmbeddingUsage(Answer):
    """Tokens of all texts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingDetails(Answer):
    """Category and findings of an answer of embeddings."""

    category: str
    findings: dict[str, Any]


class EmbeddingsAnswer(Answer):
    """The vectors of all texts."""

    object: Literal["list"]
    data: list[EmbeddingAnswer]
    model: str
    usage: EmbeddingUsage
    conductor: EmbeddingDetails


class IncompleteDetails(Answer):
    """The reason for which a response was cut."""

    reason: Literal["max_output_tokens"]


class InputTokensDetails(Answer):
    """Tokens of the input that were cached."""

    cached_tokens: int


class OutputTokensDetails(Answer):
    """Tokens of the output that were reasoning."""

    reasoning_tokens: int


class ResponseUsage(Answer):
    """Tokens of a response."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseAnswer(Answer):
    """A response; many of its fields are repeated from the request."""

    id: str
    object: Literal["response"]
    created_at: int
    model: str
    error: None
    instructions: str | None
    max_output_tokens: int | None
    metadata: Any
    parallel_tool_calls: bool
    previous_response_id: None
    store: bool
    temperature: float | None
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_p: float | None
    truncation: Literal["disabled"]
    user: str | None
    status: Literal["completed", "incomplete"]
    incomplete_details: IncompleteDetails | None
    output: list[dict[str, Any]]
    usage: ResponseUsage
    conductor: AnswerDetails
