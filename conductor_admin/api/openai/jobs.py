"""Jobs that answer a checked body: one for each prompt and choice.

Plans only; nothing runs here.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from conductor_admin.api.openai.bodies import Body, Choosing
from conductor_admin.api.targets import Target
from conductor_admin.auth.caller import Caller
from conductor_admin.gateway import Gateway
from conductor_admin.planner import PlannedRequest
from handlers.wire import GatewayOptions, GenerateInput, Message, RequestError, Sampling


@dataclass(frozen=True, slots=True)
class Requester:
    """The caller of a request; `request_id` is the id of its first job."""

    caller: Caller
    request_id: str


@dataclass(frozen=True, slots=True)
class PromptInput:
    """One prompt in one of its three forms; `wire` are further fields of a `GenerateRequest`."""

    wire: dict[str, Any]
    messages: list[Message] | None = None
    prompt: str | None = None
    prompt_ids: list[int] | None = None


async def plan_jobs(
    gateway: Gateway,
    target: Target,
    body: Choosing,
    sampling: Sampling,
    requester: Requester,
    prompt_inputs: list[PromptInput],
) -> list[PlannedRequest]:
    """`body.choices` jobs for each ask, in that order; choices of one prompt have seeds of their own."""
    if body.choices * len(prompt_inputs) > 1 and (body.session or body.session_id is not None):
        raise RequestError("a session allows one answer at a time", code="invalid_value", param="n")
    jobs: list[PlannedRequest] = []
    for prompt_input in prompt_inputs:
        for number in range(body.choices):
            request_id = f"{requester.request_id}-{len(jobs)}" if jobs else requester.request_id
            own = sampling
            if number and sampling.seed is not None:
                own = sampling.model_copy(update={"seed": (sampling.seed + number) % 2**32})
            ids = replace(requester, request_id=request_id)
            jobs.append(await plan_job(gateway, target, body, own, ids, prompt_input))
            await asyncio.sleep(0)  # lets other tasks run: there may be a thousand jobs
    return jobs


async def plan_job(
    gateway: Gateway,
    target: Target,
    body: Body,
    sampling: Sampling,
    requester: Requester,
    prompt_input: PromptInput,
) -> PlannedRequest:
    """Plan one job; a bare one uses no engine, no persona and no parameters of the row."""
    asked = GenerateInput(
        category=target.row.slug,
        messages=prompt_input.messages,
        # The planner takes text; token ids replace it below.
        prompt="ids" if prompt_input.prompt_ids is not None else prompt_input.prompt,
        # Not `model_dump`, which would copy options and schema for each of a thousand jobs.
        **{name: getattr(body, name) for name in GatewayOptions.model_fields},
        **dict(sampling),
    )
    job = await gateway.plan(asked, requester.request_id, requester.caller)
    wire = dict(prompt_input.wire)
    if prompt_input.prompt_ids is not None:
        wire |= {"prompt": None, "prompt_ids": prompt_input.prompt_ids, "bare": True}
    if target.raw or wire.get("bare"):
        _refuse_engine_fields(body)
        wire |= {"bare": True, "system": None, "sampling": sampling, "options": {}}
    return replace(job, request=job.request.model_copy(update=wire), reason=target.reason)


def _refuse_engine_fields(body: Body) -> None:
    for name in ("options", "persona"):
        if getattr(body, name):
            raise RequestError(
                f"{name} is for a category's engine, and this request asks the model alone",
                code="invalid_value",
                param=name,
            )
