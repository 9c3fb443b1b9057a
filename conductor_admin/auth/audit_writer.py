"""Writer of the gateway's audit log: one thread writes all lines in order, outside the event loop.

An action that cannot be recorded does not begin. If the disk refuses the outcome of one that has begun, the
line is kept in memory and written before any later line. Refusals are written within limits, else counted.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import structlog

from conductor_admin.auth.audit import BEGUN, Act, Audit, line_of
from conductor_admin.auth.refusal_limits import RefusalLimits
from conductor_admin.http.responses import insufficient_storage
from conductor_core.files import fault

log = structlog.get_logger()

T = TypeVar("T")

KEPT_BACK = 1000
"""Most lines that are kept in memory while the disk fails; then the oldest is lost. gateway.log has each."""

TELL_S = 60.0
"""Seconds between two writes of the counted refusals and two checks of the reserve."""


class AuditWriter:
    """Writes to `audit`; call `tend` at every heartbeat and `close` at the end."""

    def __init__(self, audit: Audit, clock: Callable[[], float] = time.monotonic) -> None:
        self._audit = audit
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "audit")
        self._kept_back: deque[bytes] = deque(maxlen=KEPT_BACK)  # of the thread alone
        # Separate, so that refusals without a key leave room for refusals of a key that lacks a scope.
        self._without_key, self._with_key = RefusalLimits(), RefusalLimits()
        self._told_at = clock()
        self._is_closed = False
        self._tending: Future[None] | None = None

    async def begin(self, act: Act, *, revokes: bool = False) -> None:
        """Record that `act` begins. Raises RequestError 507 `insufficient_storage` if it cannot.

        An action that `revokes` a key runs nevertheless; its line is written once there is room.
        """
        try:
            await self._run(lambda: self._begin(act, revokes=revokes))
        except OSError as error:
            log.error("audit_log_failed", action=act.action, cause=fault(error))
            raise insufficient_storage(
                "nothing was changed, because the audit log cannot be written", error
            ) from error

    async def end(self, act: Act, result: str | int, **details: Any) -> None:
        """Record how `act` ended."""
        line = line_of(act, result, details)
        await self._run(lambda: self._append_or_keep(line))

    def end_later(self, act: Act, result: str | int) -> None:
        """Record the end of an act whose task is being cancelled and can wait for nothing."""
        line = line_of(act, result)
        self._thread.submit(self._append_or_keep, line)

    async def was_read(self, act: Act, result: str | int, **details: Any) -> None:
        """Record that an operator read something; a failure is logged and does not stop the request."""
        try:
            await self._run(lambda: self._audit.was_read(act, result, **details))
        except OSError as error:
            log.warning("audit_read_not_recorded", action=act.action, cause=fault(error))

    async def refused(self, act: Act, result: int) -> None:
        """Record that `act` was refused, or only count it once the limits are reached."""
        limits = self._without_key if act.key_id is None else self._with_key
        source = act.key_id or act.source or "unknown"
        untold = limits.admit(source, self._clock())
        if untold is None:
            return
        more = {"more_before": untold} if untold else {}
        try:
            await self._run(lambda: self._audit.refused(act, result, **more))
        except OSError as error:
            limits.unwritten(source, untold + 1)
            log.warning("refusal_not_recorded", cause=fault(error))

    def tend(self) -> None:
        """Begin to write the lines that were kept and, when due, the counts of refusals. Never waits."""
        if self._tending is not None and not self._tending.done():
            return
        now = self._clock()
        is_due = now - self._told_at >= TELL_S
        if is_due:
            self._told_at = now
        if is_due or self._kept_back:
            counts = self._counts() if is_due else []
            self._tending = self._thread.submit(self._tend, counts)

    def close(self) -> None:
        """Write all that is left, and end the thread."""
        if not self._is_closed:
            self._is_closed = True
            self._thread.submit(self._tend, self._counts())
            self._thread.shutdown()

    def _counts(self) -> list[tuple[RefusalLimits, str, int]]:
        return [
            (limits, source, count)
            for limits in (self._without_key, self._with_key)
            for source, count in limits.take_counts().items()
        ]

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _begin(self, act: Act, *, revokes: bool) -> None:
        if not revokes:
            self._append_kept_back()
            self._audit.begin(act)
            return
        try:
            self._append_kept_back()
            self._audit.begin_revocation(act)
        except OSError as error:
            self._keep(line_of(act, BEGUN), error)

    def _append_or_keep(self, line: bytes) -> None:
        try:
            self._append_kept_back()
            self._audit.append(line)
        except OSError as error:
            self._keep(line, error)

    def _keep(self, line: bytes, error: OSError) -> None:
        self._kept_back.append(line)
        log.error("audit_line_kept_back", lines=len(self._kept_back), line=line.decode(), cause=fault(error))

    def _append_kept_back(self) -> None:
        while self._kept_back:
            self._audit.append(self._kept_back[0])
            self._kept_back.popleft()

    def _tend(self, counts: list[tuple[RefusalLimits, str, int]]) -> None:
        try:
            self._append_kept_back()
        except OSError:
            return  # logged when the lines were kept
        finally:
            for limits, source, count in counts:
                self._tell(limits, source, count)
        self._audit.reserve.fill()

    def _tell(self, limits: RefusalLimits, source: str, count: int) -> None:
        try:
            self._audit.refused(Act("unknown", "refusals", source), f"{count} more refused", more=count)
        except OSError:
            limits.unwritten(source, count)
