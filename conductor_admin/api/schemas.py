"""Answers of the gateway's own routes: models that routes build and that the OpenAPI document reads.

Memory is in bytes, times in Unix seconds unless a name says otherwise. A field of a default value is left out
of an answer that does not set it. Fields are in the order of the answer.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from conductor_admin.lifecycle.states import State
from handlers.wire import FinishReason

Rows = Annotated[Any, WithJsonSchema({"type": "array", "items": {"type": "object"}})]
"""A list that may be JSON text already, for `json_of`."""


class Answer(BaseModel):
    """The base of all answers."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


def json_of(answer: object) -> orjson.Fragment:
    """The JSON of an answer, without a copy of its values: vectors have up to 786,000 numbers."""
    return orjson.Fragment(orjson.dumps(answer, default=_set_fields))


def _set_fields(answer: Answer) -> dict[str, Any]:
    return {name: value for name, value in answer.__dict__.items() if name in answer.model_fields_set}


class Fault(Answer):
    """An error: `code` is a stable word, `param` the field at fault."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(Answer):
    """Body of every answer with a status of 400 or more."""

    error: Fault


class TorchserveErrorAnswer(ErrorAnswer):
    """Error body for TorchServe's clients: TorchServe's own fields beside `error`."""

    code: int
    type: str
    message: str


class Tokens(Answer):
    """Token counts by the model's own tokenizer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Seconds(Answer):
    """Seconds in the worker."""

    first_token_s: float | None
    total_s: float


class Generated(Answer):
    """An answer; `findings` are the results of the category engine's checks."""

    id: str
    category: str
    model: str
    text: str
    logprobs: Rows = Field(default=None, exclude_if=lambda rows: rows is None)
    finish_reason: FinishReason
    usage: Tokens
    timings: Seconds
    findings: dict[str, Any]
    session_id: str | None


class Checked(Answer):
    """Findings of the category engine's checks."""

    findings: dict[str, Any]


class RowMemory(Answer):
    """Bytes, `declared` of one worker, others of the set; `correction` is a better cell."""

    declared: int | None
    estimated: int | None
    measured: int | None
    peak: int | None
    correction: str | None


class WorkerAnswer(Answer):
    """A worker process; `waiting` counts its own queue."""

    pid: int
    state: str
    in_flight: int
    waiting: int


class ModelAnswer(Answer):
    """A row of SETTINGS.md and the worker set behind it; null for what is unknown."""

    category: str
    name: str
    state: State
    phase: str | None
    progress: float | None
    model: str
    technical_model_name: str
    precision: str
    runtime: str
    device: str
    context: int | None
    contexts_in_cache: float | None
    engine: str
    converses: bool
    version: str | None
    stay_loaded: str
    vram_requirement: str
    memory: RowMemory
    workers: list[WorkerAnswer]
    in_flight: int
    position: int | None
    queue: int | None
    eta_s: float | None
    set: str
    shared_with: list[str]
    last_used: float | None
    expires_at: float | None
    last_error: str | None
    retry_after_s: float | None


class ModelWithOptions(ModelAnswer):
    """A row, and as JSON Schema the `options` that its engine takes."""

    options: dict[str, Any]


class ModelList(Answer):
    """All rows, in the order of the table."""

    models: list[ModelAnswer]


class ModelsAnswer(ModelList):
    """All rows, in the order of the table, and the names of the personas."""

    personas: list[str]


class Live(Answer):
    """True while the lifecycle loop beats."""

    live: bool


class Ready(Answer):
    """True once every resident set is READY or FAILED and at least one set can serve."""

    ready: bool


class SetHealth(Answer):
    """A worker set; `unresponsive` are pids of workers that do not answer."""

    set: str
    state: State
    phase: str | None
    progress: float | None
    position: int | None
    unresponsive: list[int]
    error: str | None
    retry_after_s: float | None


class SettingsHealth(Answer):
    """Mistakes in the current SETTINGS.md."""

    errors: list[str]


HealthStatus = Literal["ok", "loading", "degraded", "unavailable"]


class HealthAnswer(Answer):
    """Health of the gateway, of TorchServe and of every set that the caller may see."""

    status: HealthStatus
    live: bool
    ready: bool
    torchserve: bool
    torchserve_fault: str | None
    settings: SettingsHealth
    failed_changes: list[str]
    sets: list[SetHealth]


class Ping(Answer):
    """TorchServe's word for the health of the server."""

    status: Literal["Healthy", "Unhealthy"]


class MemoryUse(Answer):
    """Bytes that models may take, and those that loaded ones are charged."""

    budget: int
    used: int
    free: int


class ServerMemory(MemoryUse):
    """Memory of all devices together, and of each."""

    devices: dict[str, MemoryUse]


class Percentiles(Answer):
    """Milliseconds; null without times."""

    p50: float | None
    p99: float | None


class CategoryStats(Answer):
    """Figures of one category since the start."""

    generations: int
    prompt_tokens: int
    completion_tokens: int
    errors: int
    error_rate: float
    latency_ms: Percentiles
    ttft_ms: Percentiles
    queued: int


class StatsAnswer(Answer):
    """Figures since the gateway started: memory in bytes, times in milliseconds unless a name says otherwise.

    Figures of the whole server are null for a key that is limited to some categories.
    """

    uptime_s: float
    memory: ServerMemory | None
    swaps: int | None
    swaps_avoided: int | None
    categories: dict[str, CategoryStats]
