"""The story of one generation, from its arrival to its end: who waited for what, and what came of it.

Holds figures and names, never a prompt or an answer, and never a key. Written by `conductor_admin.generation`
through `conductor_admin.telemetry.recorder`. Moments are monotonic seconds, `started_at` is Unix time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

from conductor_admin.arrivals import Arrival, arrival
from conductor_admin.load_story import Wait
from conductor_admin.router import Job
from conductor_admin.telemetry.findings import conclusions
from handlers.wire import Done, RequestError

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Stage = Literal["queue", "prefill", "decode"]
"""Where a request was when it ended: waiting for a worker, before its first token, or after that."""


@dataclass(slots=True, eq=False)
class Trace:
    """One generation; `workers` are the pids that it was given to, the last of which answered."""

    job: Job
    arrival: Arrival = field(default_factory=arrival.get)
    wait: Wait = field(default_factory=Wait)
    began: float = field(default_factory=time.monotonic)
    started_at: float = field(default_factory=time.time)
    given: float | None = None
    first: float | None = None
    ended: float | None = None
    workers: list[int] = field(default_factory=list)
    attempts: int = 1
    done: Done | None = None
    error: RequestError | None = None

    def has_worker(self, pid: int) -> None:
        """The request leaves the queue for this worker."""
        self.workers.append(pid)
        self.given = time.monotonic()

    def is_queued_again(self) -> None:
        """The worker took no connection."""
        self.given = None

    def relayed(self, records: bytes) -> None:
        """The client is sent records."""
        if self.first is None:
            self.first = time.monotonic()
        # A delta cannot look so: quotation marks within a JSON text are escaped.
        self.attempts += records.count(b'{"attempt":')

    def is_done(self, done: Done) -> None:
        """The worker has said its last."""
        self.done, self.ended = done, time.monotonic()

    @property
    def stage(self) -> Stage:
        if self.given is None:
            return "queue"
        return "prefill" if self.first is None else "decode"

    @property
    def state(self) -> State:
        if self.ended is None:
            return "queued" if self.given is None else "running"
        if self.done is not None:
            return "succeeded"
        return "cancelled" if self.error is None else "failed"

    @property
    def seconds(self) -> float:
        return (time.monotonic() if self.ended is None else self.ended) - self.began

    @property
    def queue_s(self) -> float:
        """How long it waited for a worker, loads included."""
        return self.seconds if self.given is None else self.given - self.began

    @property
    def first_token_s(self) -> float | None:
        """From its arrival to the first piece of the answer."""
        return None if self.first is None else self.first - self.began

    @property
    def prefill_s(self) -> float | None:
        """In the worker, until the first token."""
        return self.done.timings.first_token_s if self.done else None

    @property
    def decode_s(self) -> float | None:
        """In the worker, from the first token to the last."""
        if self.done is None or self.prefill_s is None:
            return None
        return max(0.0, self.done.timings.total_s - self.prefill_s)

    @property
    def token_s(self) -> float | None:
        """From one token to the next, on average; None of an answer with less than two."""
        tokens = self.done.usage.completion_tokens if self.done else 0
        return self.decode_s / (tokens - 1) if self.decode_s and tokens > 1 else None

    def figures(self) -> dict[str, Any]:
        """The figures of the generation's line in the log; seconds."""
        caller, usage = self.job.caller, self.done.usage if self.done else None
        return {
            "id": self.job.request.id,
            "route": self.arrival.route,
            "category": self.job.row.slug,
            "model": self.job.row.technical_model_name,
            "set": self.job.set_name,
            "key": caller.key_id,
            "worker": self.workers[-1] if self.workers else None,
            "queue_seconds": round(self.queue_s, 4),
            "first_token_seconds": _rounded(self.first_token_s),
            "tokens_per_second": round(1 / self.token_s, 2) if self.token_s else None,
            "prompt_tokens": usage.prompt_tokens if usage else None,
            "completion_tokens": usage.completion_tokens if usage else None,
            "finish_reason": self.done.finish_reason if self.done else None,
            "seconds": round(self.seconds, 4),
        }

    def as_json(self) -> dict[str, Any]:
        """The body of `GET /requests/{id}`."""
        job, done = self.job, self.done
        return {
            "id": job.request.id,
            "state": self.state,
            "stage": self.stage,
            "started_at": self.started_at,
            "route": self.arrival.route,
            "category": job.row.slug,
            "reason": job.reason,
            "engine": None if job.request.is_bare else job.request.engine,
            "model": job.row.technical_model_name,
            "set": job.set_name,
            "key": job.caller.key_id,
            "session_id": job.session.id if job.session else None,
            "queue": {"seconds": round(self.queue_s, 4), "ahead": self.wait.ahead},
            "loads": [story.as_json() for story in self.wait.loads],
            "workers": self.workers,
            "first_token_s": _rounded(self.first_token_s),
            "timings": done.timings.model_dump() if done else None,
            "tokens_per_second": round(1 / self.token_s, 2) if self.token_s else None,
            "usage": {**done.usage.model_dump(), "total_tokens": done.usage.total_tokens} if done else None,
            "attempts": self.attempts,
            "findings": conclusions(done.findings) if done else None,
            "finish_reason": done.finish_reason if done else None,
            "error": _told(self.error),
            "seconds": round(self.seconds, 4),
        }


def _told(error: RequestError | None) -> dict[str, Any] | None:
    """What went wrong; the words of a client's mistake are left out, since they may repeat what it sent."""
    if error is None:
        return None
    message = error.message[:500] if error.status >= 500 else None
    return {"code": error.code, "status": error.status, "param": error.param, "message": message}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
