"""One generation on behalf of an MCP client: the same router, leases and workers as `/generate`."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel

from conductor_admin.answers import generation_answer, waiting_for
from conductor_admin.gateway import Gateway
from conductor_admin.router import Job
from conductor_admin.states import State
from conductor_admin.worker_client import worker_died
from conductor_core.catalogue import Row
from conductor_mcp.progress import Progress
from conductor_mcp.tool import Call, Input
from handlers.wire import Done, GenerateBody


class Usage(BaseModel):
    """Token counts by the model's own tokenizer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Timings(BaseModel):
    """Seconds in the worker."""

    first_token_s: float | None = None
    total_s: float


class Answer(BaseModel):
    """What `/generate` answers; `findings` is what the engine's checks say of the text."""

    id: str
    category: str
    model: str
    text: str
    finish_reason: Literal["stop", "length", "cancelled", "tool_calls"]
    usage: Usage
    timings: Timings
    findings: dict[str, Any]
    session_id: str | None = None


async def generate(gateway: Gateway, body: GenerateBody, call: Call[Input]) -> Answer:
    """The answer to `body`; ends with the call, whoever ends it. Raises RequestError."""
    job = await gateway.plan(body, call.origin.request_id, call.origin.caller)
    progress = Progress(call.context)
    if progress.is_wanted:
        # What was told as progress cannot be taken back, so there is one attempt.
        job = replace(job, request=job.request.model_copy(update={"attempts": 1}))
        done = await call.origin.while_there(_told(gateway, job, progress))
    else:
        done = await call.origin.while_there(gateway.generations.result(job))
    return Answer.model_validate(generation_answer(job, done))


async def _told(gateway: Gateway, job: Job, progress: Progress) -> Done:
    async with (
        progress.telling(lambda: status(gateway, job.row)),
        aclosing(gateway.generations.run(job)) as records,
    ):
        async for record in records:
            if isinstance(record, Done):
                return record
            progress.add(record)
    raise worker_died()


def status(gateway: Gateway, row: Row) -> tuple[float, str]:
    """How far the model of `row` is: a share of its loading from 0 to 1, and words."""
    view = gateway.lifecycle.view(gateway.catalogue.set_of(row.slug).name)
    if view.state is State.READY:
        return 1.0, f"{row.slug} is at work"
    return view.progress or 0.0, waiting_for(row.slug, view)
