"""The traces of the generations that run and of the latest that ended, in memory.

Bounded in number and in bytes. Ids are given by clients, so that several traces may have the same: the newest
that the reader may see is meant.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import orjson

from conductor_admin.callers import Caller
from conductor_admin.telemetry.trace import Trace
from handlers.wire import RequestError

MOST = 1000
MOST_BYTES = 8 * 2**20
_PREFIX = re.compile(r"^(chatcmpl-|cmpl-|resp_)")


@dataclass(frozen=True, slots=True)
class _Ended:
    id: str
    key_id: str | None
    body: bytes


class Traces:
    """`most` ended traces of at most `most_bytes` together, and all that run."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._running: dict[int, Trace] = {}
        self._ended: deque[_Ended] = deque()
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0

    def running(self) -> Iterator[Trace]:
        return iter(self._running.values())

    def begin(self, trace: Trace) -> None:
        self._running[id(trace)] = trace

    def end(self, trace: Trace) -> None:
        """Keep what the trace says now; the oldest ones make room for it."""
        del self._running[id(trace)]
        kept = _Ended(trace.job.request.id, trace.job.caller.key_id, orjson.dumps(trace.as_json()))
        self._ended.append(kept)
        self._bytes += len(kept.body)
        while len(self._ended) > self._most or self._bytes > self._most_bytes:
            self._bytes -= len(self._ended.popleft().body)

    def read(self, given: str, caller: Caller) -> dict[str, Any]:
        """The newest trace of that id, with or without the prefix of an answer's id under /v1.

        Raises 404 `request_not_found`, of another key's too.
        """
        for wanted in dict.fromkeys((given, _PREFIX.sub("", given))):
            if found := self._find(wanted, caller):
                return _known_to(caller, found)
        raise RequestError("no such request", status=404, code="request_not_found", param="id")

    def latest(self, limit: int) -> list[dict[str, Any] | orjson.Fragment]:
        """Those of all keys, the newest first: what runs, then what ended last, as it was written then."""
        running = [trace.as_json() for trace in islice(reversed(self._running.values()), limit)]
        ended = [orjson.Fragment(kept.body) for kept in islice(reversed(self._ended), limit - len(running))]
        return [*running, *ended]

    def _find(self, wanted: str, caller: Caller) -> dict[str, Any] | None:
        is_admin = "admin" in caller.scopes
        for trace in reversed(self._running.values()):
            if trace.job.request.id == wanted and (is_admin or trace.job.caller.key_id == caller.key_id):
                return trace.as_json()
        for kept in reversed(self._ended):
            if kept.id == wanted and (is_admin or kept.key_id == caller.key_id):
                body: dict[str, Any] = orjson.loads(kept.body)
                return body
        return None


def _known_to(caller: Caller, trace: dict[str, Any]) -> dict[str, Any]:
    """The trace with the caller's own category in the place of each set that is named after another one.

    Nothing is left of what had to go for its sake but the number.
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
