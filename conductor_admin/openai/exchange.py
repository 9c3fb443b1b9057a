"""What all answers under /v1 share: id, time, names, headers and usage.

Knows OpenAI's envelopes; what lies in them is for the routes.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from conductor_admin.answers import session_header
from conductor_admin.callers import caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.openai.bodies import Body
from conductor_admin.openai.jobs import Asker
from conductor_admin.openai.runs import Outcome
from conductor_admin.openai.targets import Target, target_of
from conductor_admin.router import Job
from conductor_core.catalogue import WorkerSet

_MOST_IGNORED = 32


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request under way."""

    gateway: Gateway
    target: Target
    asker: Asker
    fingerprint: str
    ignored: Sequence[str] = ()
    created: int = field(default_factory=lambda: int(time.time()))

    def headers(self, job: Job) -> dict[str, str]:
        """Who answers and why, in which session, and which fields have no effect."""
        row = self.target.row
        found = {
            "x-conductor-category": row.slug,
            "x-conductor-model": _printable(row.technical_model_name),
            "x-conductor-reason": _printable(self.target.reason or ""),
            "x-conductor-ignored": ", ".join(map(_printable, self.ignored[:_MOST_IGNORED])),
            **session_header(job),
        }
        return {name: value for name, value in found.items() if value}

    def head(self, prefix: str, kind: str) -> dict[str, Any]:
        """How every object of this exchange begins."""
        return {
            "id": f"{prefix}-{self.asker.request_id}",
            "object": kind,
            "created": self.created,
            "model": self.target.name,
            "system_fingerprint": self.fingerprint,
        }


async def open_exchange(
    gateway: Gateway, request: Request, body: Body, prompt: str, ignored: Iterable[str] = ()
) -> Exchange:
    """Who answers `body`; `prompt` is what `auto` chooses by."""
    caller = caller_of(request)
    target = await target_of(gateway, body.model, caller, prompt)
    asker = Asker(caller, request.state.request_id)
    mark = fingerprint(gateway.catalogue.set_of(target.row.slug))
    return Exchange(gateway, target, asker, mark, [*body.ignored, *ignored])


def fingerprint(worker_set: WorkerSet) -> str:
    """The same as long as the same weights are served in the same way."""
    first = worker_set.first
    text = f"{first.technical_model_name}|{first.precision.value}|{worker_set.runtime}|{worker_set.device}"
    return f"fp_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def conductor(outcome: Outcome) -> dict[str, Any]:
    """What this server adds to an answer."""
    session = outcome.job.session
    return {
        "category": outcome.job.row.slug,
        "findings": outcome.done.findings,
        "timings": outcome.done.timings.model_dump(),
        "session_id": session.id if session else None,
    }


def usage(outcomes: Sequence[Outcome], choices: int) -> dict[str, int]:
    """Tokens of all answers; a prompt counts once, however many choices it has."""
    prompt = sum(outcome.done.usage.prompt_tokens for outcome in outcomes[::choices])
    completion = sum(outcome.done.usage.completion_tokens for outcome in outcomes)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _printable(text: str) -> str:
    return re.sub(r"[^\x20-\x7e]", "?", text[:200])
