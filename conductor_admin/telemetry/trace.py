"""Traces: the record of one generation from its arrival to its end, and the latest of them in memory.

A trace has figures and names, never a prompt, an answer or a key. `conductor_admin.dispatcher` writes it
through `conductor_admin.telemetry.recorder`. Times are monotonic seconds, `started_at` is Unix time. Stored
traces are limited in number and in bytes. Clients choose ids, so several traces may have one id: a look-up
returns the newest that the reader may see.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import orjson

from conductor_admin.auth.caller import Caller
from conductor_admin.http.request_context import RequestContext, request_context
from conductor_admin.lifecycle.load_record import QueueWait
from conductor_admin.planner import PlannedRequest
from handlers.wire import Done, RequestError

_CONCLUSIONS = frozenset({"verified", "mode", "language", "attempts", "words", "dimensions"})
"""Findings whose value is a fixed word or a count; any other text or number may be part of the answer."""

_MOST_FINDINGS = 32
_CONCLUSION_CHARS = 40

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
Stage = Literal["queue", "prefill", "decode"]
"""Stage of a request at its end: waiting for a worker, before its first token, or after it."""

MOST_TRACES = 1000
MOST_TRACE_BYTES = 8 * 2**20
_PREFIX = re.compile(r"^(chatcmpl-|cmpl-|resp_)")


def conclusions(findings: dict[str, Any]) -> dict[str, Any]:
    """`findings` with sizes instead of texts, lists and numbers that may be part of an answer."""
    found: dict[str, Any] = {}
    for name, value in list(findings.items())[:_MOST_FINDINGS]:
        if value is None or isinstance(value, bool):
            found[name] = value
        elif name in _CONCLUSIONS and isinstance(value, str | int | float):
            found[name] = value[:_CONCLUSION_CHARS] if isinstance(value, str) else value
        elif isinstance(value, str):
            found[name] = {"characters": len(value)}
        elif isinstance(value, list | dict):
            found[name] = {"items": len(value)}
        else:
            found[name] = {"number": True}
    return found


@dataclass(slots=True, eq=False)
class Trace:
    """One generation; `workers` are the pids that it was given to, the last of which answered.

    `prefill_s` and `decode_s` are seconds in the worker until the first token and after it, `token_s` is the
    mean between two tokens; None until the end, or if there are too few tokens.
    """

    job: PlannedRequest
    request_context: RequestContext = field(default_factory=request_context.get)
    wait: QueueWait = field(default_factory=QueueWait)
    began: float = field(default_factory=time.monotonic)
    started_at: float = field(default_factory=time.time)
    given: float | None = None
    first: float | None = None
    ended: float | None = None
    workers: list[int] = field(default_factory=list)
    attempts: int = 1
    done: Done | None = None
    error: RequestError | None = None
    prefill_s: float | None = None
    decode_s: float | None = None
    token_s: float | None = None

    def has_worker(self, pid: int) -> None:
        """Record that the request was given to this worker."""
        self.workers.append(pid)
        self.given = time.monotonic()

    def is_queued_again(self) -> None:
        """Record that the worker took no connection and the request waits again."""
        self.given = None

    def relayed(self, records: bytes) -> None:
        """Record that records were sent to the client."""
        if self.first is None:
            self.first = time.monotonic()
        # A delta cannot contain this: quotation marks inside JSON text are escaped.
        self.attempts += records.count(b'{"attempt":')

    def is_done(self, done: Done) -> None:
        """Record the last record of the worker, and its times."""
        self.done, self.ended = done, time.monotonic()
        self.prefill_s = done.timings.first_token_s
        if self.prefill_s is not None:
            self.decode_s = max(0.0, done.timings.total_s - self.prefill_s)
        tokens = done.usage.completion_tokens
        if self.decode_s and tokens > 1:
            self.token_s = self.decode_s / (tokens - 1)

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
        """Seconds of the wait for a worker, loads included."""
        return self.seconds if self.given is None else self.given - self.began

    @property
    def first_token_s(self) -> float | None:
        """Seconds from arrival to the first piece of the answer."""
        return None if self.first is None else self.first - self.began

    def figures(self) -> dict[str, Any]:
        """Figures of the generation's log line; times in seconds."""
        caller, usage = self.job.caller, self.done.usage if self.done else None
        return {
            "id": self.job.request.id,
            "route": self.request_context.route,
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

    def to_json(self) -> dict[str, Any]:
        """The body of `GET /requests/{id}`."""
        planned, done = self.job, self.done
        return {
            "id": planned.request.id,
            "state": self.state,
            "stage": self.stage,
            "started_at": self.started_at,
            "route": self.request_context.route,
            "category": planned.row.slug,
            "reason": planned.reason,
            "engine": None if planned.request.is_raw else planned.request.engine,
            "model": planned.row.technical_model_name,
            "set": planned.set_name,
            "key": planned.caller.key_id,
            "session_id": planned.session.id if planned.session else None,
            "queue": {"seconds": round(self.queue_s, 4), "ahead": self.wait.ahead},
            "loads": [load_record.to_json() for load_record in self.wait.loads],
            "workers": self.workers,
            "first_token_s": _rounded(self.first_token_s),
            "timings": done.timings.model_dump() if done else None,
            "tokens_per_second": round(1 / self.token_s, 2) if self.token_s else None,
            "usage": {**done.usage.model_dump(), "total_tokens": done.usage.total_tokens} if done else None,
            "attempts": self.attempts,
            "findings": conclusions(done.findings) if done else None,
            "finish_reason": done.finish_reason if done else None,
            "error": _error_to_json(self.error),
            "seconds": round(self.seconds, 4),
        }


def _error_to_json(error: RequestError | None) -> dict[str, Any] | None:
    """The error as JSON; the message of a client's mistake is left out, as it may repeat client data."""
    if error is None:
        return None
    message = error.message[:500] if error.status >= 500 else None
    return {"code": error.code, "status": error.status, "param": error.param, "message": message}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)


@dataclass(frozen=True, slots=True)
class _EndedTrace:
    id: str
    key_id: str | None
    body: bytes


class Traces:
    """All running traces, and up to `most` ended ones of at most `most_bytes` together."""

    def __init__(self, most: int = MOST_TRACES, most_bytes: int = MOST_TRACE_BYTES) -> None:
        self._running: dict[int, Trace] = {}
        self._ended: deque[_EndedTrace] = deque()
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0

    def running(self) -> Iterator[Trace]:
        return iter(self._running.values())

    def begin(self, trace: Trace) -> None:
        self._running[id(trace)] = trace

    def end(self, trace: Trace) -> None:
        """Store the ended trace as JSON, and drop the oldest ones beyond the limits."""
        del self._running[id(trace)]
        kept = _EndedTrace(trace.job.request.id, trace.job.caller.key_id, orjson.dumps(trace.to_json()))
        self._ended.append(kept)
        self._bytes += len(kept.body)
        while len(self._ended) > self._most or self._bytes > self._most_bytes:
            self._bytes -= len(self._ended.popleft().body)

    def read(self, given: str, caller: Caller) -> dict[str, Any]:
        """The newest trace of that id, with or without the prefix of an answer's id under /v1.

        Raises RequestError 404 `request_not_found`, also for a request of another key.
        """
        is_admin = "admin" in caller.scopes
        for wanted in dict.fromkeys((given, _PREFIX.sub("", given))):
            for trace in reversed(self._running.values()):
                if trace.job.request.id == wanted and (is_admin or trace.job.caller.key_id == caller.key_id):
                    return _known_to(caller, trace.to_json())
            for kept in reversed(self._ended):
                if kept.id == wanted and (is_admin or kept.key_id == caller.key_id):
                    return _known_to(caller, orjson.loads(kept.body))
        raise RequestError("no such request", status=404, code="request_not_found", param="id")

    def latest(self, limit: int) -> list[dict[str, Any] | orjson.Fragment]:
        """The latest traces of all keys, newest first: running ones, then ended ones as stored."""
        running = [trace.to_json() for trace in islice(reversed(self._running.values()), limit)]
        ended = [orjson.Fragment(kept.body) for kept in islice(reversed(self._ended), limit - len(running))]
        return [*running, *ended]


def _known_to(caller: Caller, trace: dict[str, Any]) -> dict[str, Any]:
    """The trace for a restricted caller: names of other categories' sets are replaced by the caller's own.

    Evicted sets of other categories stay in the list without a name.
    """
    if not caller.is_restricted:
        return trace

    def named(name: str) -> str | None:
        return name if caller.may_use(name) else None

    loads = [
        {
            **load,
            "set": named(load["set"]) or trace["category"],
            "evicted": [{**one, "set": named(one["set"])} for one in load["evicted"]],
        }
        for load in trace["loads"]
    ]
    return {**trace, "set": named(trace["set"]) or trace["category"], "loads": loads}
