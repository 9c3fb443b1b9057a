"""Response models for the OpenAPI document only; no route uses them.

A model names the fields that a client may rely on and allows more. Memory is in bytes, times in Unix seconds
unless a name says otherwise.
"""

from __future__ import annotations

from typing import Any, Literal

from handlers.wire import FinishReason, Shape


class Fault(Shape):
    """An error: `code` is a stable word, `param` the field at fault."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(Shape):
    """Body of every answer with a status of 400 or more."""

    error: Fault


class TorchserveErrorAnswer(ErrorAnswer):
    """Error body for TorchServe's clients: TorchServe's own fields beside `error`."""

    code: int
    type: str
    message: str


class Tokens(Shape):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Seconds(Shape):
    first_token_s: float | None
    total_s: float


class Generated(Shape):
    """An answer; `findings` are the results of the category engine's checks."""

    id: str
    category: str
    model: str
    text: str
    finish_reason: FinishReason | Literal["tool_calls"]
    usage: Tokens
    timings: Seconds
    findings: dict[str, Any]
    session_id: str | None


class Checked(Shape):
    findings: dict[str, Any]


class Memory(Shape):
    declared: int | None
    estimated: int | None
    measured: int | None
    peak: int | None
    correction: str | None


class ModelAnswer(Shape):
    """A row of SETTINGS.md and the worker set behind it."""

    category: str
    name: str
    state: Literal["UNAVAILABLE", "LOADING", "READY", "UNLOADING", "FAILED"]
    phase: str | None
    progress: float | None
    model: str
    technical_model_name: str
    precision: str
    runtime: str
    device: str
    contexts_in_cache: float | None
    engine: str
    stay_loaded: str
    memory: Memory
    workers: list[dict[str, Any]]
    in_flight: int
    set: str
    shared_with: list[str]
    last_error: str | None


class ModelsAnswer(Shape):
    models: list[ModelAnswer]
    personas: list[str]


class Live(Shape):
    live: bool


class Ready(Shape):
    ready: bool


class HealthAnswer(Live, Ready):
    status: Literal["ok", "loading", "degraded", "unavailable"]
    torchserve: bool
    torchserve_fault: str | None
    sets: list[dict[str, Any]]


class Ping(Shape):
    status: Literal["Healthy", "Unhealthy"]


class StatsAnswer(Shape):
    uptime_s: float
    memory: dict[str, Any] | None
    swaps: int | None
    swaps_avoided: int | None
    categories: dict[str, dict[str, Any]]


class TraceAnswer(Shape):
    """One generation from its arrival to its end."""


class TracesAnswer(Shape):
    requests: list[TraceAnswer]


class PlanAnswer(Shape):
    """Changes that another SETTINGS.md would make."""


class SessionAnswer(Shape):
    id: str
    title: str
    persona: str | None
    category: str
    created: float
    updated: float
    turn_count: int


class SessionWithTurnsAnswer(SessionAnswer):
    turns: list[dict[str, Any]]


class SessionsAnswer(Shape):
    sessions: list[SessionAnswer]
    next: str | None


class Deleted(Shape):
    id: str
    deleted: Literal[True]


class KeyShown(Shape):
    """A key without its text."""

    id: str
    name: str
    scopes: list[str]
    last_used: float | None


class KeyMade(KeyShown):
    """A key with its text, which is never shown again."""

    key: str


class KeysAnswer(Shape):
    keys: list[KeyShown]


class OpenAIModel(Shape):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class OpenAIModels(Shape):
    object: Literal["list"]
    data: list[OpenAIModel]


class CompletionAnswer(Shape):
    """The answer of chat completions and of completions; `conductor` is this server's addition."""

    id: str
    object: Literal["chat.completion", "text_completion"]
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: Tokens
    conductor: dict[str, Any]


class EmbeddingsAnswer(Shape):
    object: Literal["list"]
    data: list[dict[str, Any]]
    model: str
    usage: dict[str, int]


class ResponseObject(Shape):
    id: str
    object: Literal["response"]
    status: str
    model: str
    output: list[dict[str, Any]]
