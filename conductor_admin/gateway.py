"""What the routes work with, built once and handed down; and the loop that reconciles the worker sets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from conductor_admin.auth.audit_writer import AuditWriter
from conductor_admin.auto import Chooser
from conductor_admin.callers import Caller
from conductor_admin.generation import Generations
from conductor_admin.guard import HostPolicy
from conductor_admin.key_ring import KeyRing
from conductor_admin.lifecycle import Lifecycle
from conductor_admin.router import Job, plan
from conductor_admin.sessions import Sessions
from conductor_admin.settings_watch import SettingsWatch
from conductor_admin.stats import Stats
from conductor_admin.telemetry.recorder import Telemetry
from conductor_core.catalogue import Catalogue
from handlers.sandbox.checker import Checker
from handlers.wire import GenerateInput

log = structlog.get_logger()

BEAT_S = 1.0
STALLED_S = 5.0
_REFRESH_BEATS = 5


class Heart:
    """Reconciles the lifecycle every second; its beat is what `/health/live` looks at."""

    def __init__(self, lifecycle: Lifecycle, *looks: Callable[[], None]) -> None:
        """`looks` are called at each beat, for what has to be looked at besides."""
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
                    if beats % _REFRESH_BEATS == 0:
                        self._refresh()
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

    def _refresh(self) -> None:
        """Ask the workers beside the beat: one that hangs holds up nothing but its own answer."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._look_at_workers(), name="refresh")

    async def _look_at_workers(self) -> None:
        try:
            await self._lifecycle.refresh()
        except Exception:  # the outermost loop of a look: the next one comes all the same
            log.exception("refresh_failed")


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of one gateway."""

    settings: SettingsWatch
    lifecycle: Lifecycle
    generations: Generations
    stats: Stats
    heart: Heart
    keys: KeyRing
    audit: AuditWriter
    policy: HostPolicy = field(default_factory=HostPolicy)
    chooser: Chooser = field(default_factory=Chooser)
    checker: Checker = field(default_factory=Checker)

    @property
    def catalogue(self) -> Catalogue:
        """What SETTINGS.md means now."""
        return self.settings.now

    @property
    def sessions(self) -> Sessions:
        """The conversations that are kept."""
        return self.generations.sessions

    @property
    def telemetry(self) -> Telemetry:
        """What is told of the generations."""
        return self.generations.telemetry

    async def plan(
        self, body: GenerateInput, request_id: str, caller: Caller, *, version: str | None = None
    ) -> Job:
        """What `body` asks for; category and persona that it leaves out are those of its session."""
        with self.telemetry.refusals():
            body = await self.sessions.continued(body, caller)
            return plan(self.catalogue, body, request_id, caller=caller, version=version)
