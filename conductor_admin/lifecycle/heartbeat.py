"""Heartbeat of the gateway: reconciles the worker sets every second and shows that the event loop lives."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from conductor_admin.lifecycle.lifecycle import Lifecycle

log = structlog.get_logger()

BEAT_S = 1.0
STALLED_S = 5.0
_REFRESH_BEATS = 5


class Heartbeat:
    """Reconciles the lifecycle every second; `/health/live` checks that it does."""

    def __init__(self, lifecycle: Lifecycle, *looks: Callable[[], None]) -> None:
        """`looks` are further functions that are called at each beat."""
        self._lifecycle = lifecycle
        self._looks = looks
        self._last_beat = time.monotonic()
        self._refreshing: asyncio.Task[None] | None = None

    @property
    def is_beating(self) -> bool:
        return time.monotonic() - self._last_beat < STALLED_S

    async def run(self) -> None:
        """Beat until cancelled."""
        beats = 0
        try:
            while True:
                self._last_beat = time.monotonic()
                try:
                    await self._lifecycle.reconcile()
                    if beats % _REFRESH_BEATS == 0 and (not self._refreshing or self._refreshing.done()):
                        # A task of its own: a worker that hangs must not delay the beat.
                        self._refreshing = asyncio.create_task(self._look_at_workers(), name="refresh")
                    for look in self._looks:
                        look()
                except Exception:  # the outermost loop: one bad beat must not be the last
                    log.exception("reconcile_failed")
                beats += 1
                await asyncio.sleep(BEAT_S)
        finally:
            if self._refreshing:
                self._refreshing.cancel()
                await asyncio.wait({self._refreshing})

    async def _look_at_workers(self) -> None:
        try:
            await self._lifecycle.refresh()
        except Exception:  # the outermost loop of a refresh: the next one must still come
            log.exception("refresh_failed")
