"""The parts of one gateway, built once and passed to every route."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from conductor_admin.auth.audit_writer import AuditWriter
from conductor_admin.auth.authenticator import Authenticator
from conductor_admin.auth.caller import Caller
from conductor_admin.auto.chooser import Chooser
from conductor_admin.dispatcher import Dispatcher
from conductor_admin.http.fair_share import FairShare
from conductor_admin.http.middleware import HostPolicy
from conductor_admin.lifecycle.heartbeat import Heartbeat
from conductor_admin.lifecycle.lifecycle import Lifecycle
from conductor_admin.planner import PlannedRequest, plan
from conductor_admin.sessions.service import Sessions
from conductor_admin.settings.watcher import SettingsWatch
from conductor_admin.telemetry.recorder import Telemetry
from conductor_admin.telemetry.stats import Stats
from conductor_core.catalogue import Catalogue
from handlers.sandbox.checker import Checker
from handlers.wire import GenerateInput


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of one gateway."""

    settings: SettingsWatch
    lifecycle: Lifecycle
    dispatcher: Dispatcher
    stats: Stats
    heartbeat: Heartbeat
    keys: Authenticator
    audit: AuditWriter
    policy: HostPolicy = field(default_factory=HostPolicy)
    chooser: Chooser = field(default_factory=Chooser)
    checker: Checker = field(default_factory=Checker)
    shares: FairShare = field(default_factory=lambda: FairShare(len(os.sched_getaffinity(0))))

    @property
    def catalogue(self) -> Catalogue:
        """The current contents of SETTINGS.md."""
        return self.settings.now

    @property
    def sessions(self) -> Sessions:
        """The stored conversations."""
        return self.dispatcher.sessions

    @property
    def telemetry(self) -> Telemetry:
        """Metrics, traces and spans of the generations."""
        return self.dispatcher.telemetry

    async def plan(
        self, body: GenerateInput, request_id: str, caller: Caller, *, version: str | None = None
    ) -> PlannedRequest:
        """Plan the request of `body`; a missing category or persona comes from its session. RequestError."""
        with self.telemetry.refusals():
            body = await self.sessions.continued(body, caller)
            return plan(self.catalogue, body, request_id, caller=caller, version=version)
