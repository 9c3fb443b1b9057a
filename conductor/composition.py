"""The one place that composes a gateway out of its parts; `conductor.server` runs it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from archives.build_context import BuildContext
from conductor_admin.auth.audit import Audit
from conductor_admin.auth.audit_writer import AuditWriter
from conductor_admin.auth.authenticator import Authenticator
from conductor_admin.auth.keys_file import KeysFile
from conductor_admin.dispatcher import Dispatcher
from conductor_admin.gateway import Gateway
from conductor_admin.http.fair_share import FairShare
from conductor_admin.http.listener import host_policy, is_private
from conductor_admin.lifecycle.heartbeat import Heartbeat
from conductor_admin.lifecycle.leases import LeaseLimits
from conductor_admin.lifecycle.lifecycle import Lifecycle
from conductor_admin.memory.history import MemoryHistory
from conductor_admin.memory.machine import MachineMemory
from conductor_admin.sessions.database import default_url
from conductor_admin.sessions.service import Sessions
from conductor_admin.sessions.store import SessionStore
from conductor_admin.settings.watcher import SettingsWatch
from conductor_admin.telemetry.recorder import Telemetry
from conductor_admin.telemetry.spans import open_spans
from conductor_admin.telemetry.stats import Stats
from conductor_admin.workers.builder import SetBuilder
from conductor_admin.workers.client import Patience
from conductor_admin.workers.loader import Loader
from conductor_admin.workers.torchserve_client import TorchServe
from conductor_admin.workers.torchserve_process import TorchServeProcess
from conductor_core.catalogue import Catalogue
from conductor_core.machine import probe
from conductor_core.operator import OperatorSettings
from conductor_core.owner import write_owner_token
from conductor_core.paths import ProjectPaths, StateDir
from conductor_core.placement import device_budgets
from conductor_core.run_file import RunFile
from conductor_core.settings.parser import served_catalogue
from conductor_mcp.endpoint import McpEndpoint


@dataclass(frozen=True, slots=True)
class Server:
    """A composed gateway; `process` is None under --skip-model-loading."""

    gateway: Gateway
    mcp: McpEndpoint
    state: StateDir
    run_file: RunFile
    process: TorchServeProcess | None


def compose(settings: OperatorSettings, *, java: Path | None) -> Server:
    """Build every object once. Without `java` no model is served.

    Raises SettingsError for a broken SETTINGS.md, BuildError for broken wheel pins.
    """
    state = StateDir.at(settings.state_dir)
    project = ProjectPaths.at(settings.settings)
    machine = probe()

    def read(text: str | None = None, name: str | None = None) -> Catalogue:
        return served_catalogue(settings, machine, text, name)

    catalogue = read()
    torchserve = TorchServe(state.management_socket, state.inference_socket, state.torchserve_keys)
    loader = Loader(torchserve, SetBuilder(state.store, BuildContext(project)), state)
    budget = device_budgets(machine, settings.memory_budget)
    limits = LeaseLimits(settings.max_wait, settings.queue_size, settings.load_timeout_for, budget)
    memory = MachineMemory(gpu.device for gpu in machine.gpus)
    history = MemoryHistory(state.peaks_file)
    telemetry = Telemetry(spans=open_spans(os.environ))
    lifecycle = Lifecycle(
        catalogue.sets,
        loader,
        limits,
        memory,
        history,
        serves_models=java is not None,
        listener=telemetry.metrics,
    )
    stats = Stats()
    patience = Patience(settings.first_token_timeout, settings.token_timeout)
    watch = SettingsWatch(project.settings, catalogue, read, lifecycle.apply)
    owner, closed = write_owner_token(state), not is_private(settings.host)
    audit = AuditWriter(Audit(state))
    keys = Authenticator(KeysFile(state), owner=owner, always_closed=closed)
    database = settings.database_url or default_url(state.root)
    sessions = Sessions(SessionStore(database), lambda: watch.now)
    gateway = Gateway(
        settings=watch,
        lifecycle=lifecycle,
        dispatcher=Dispatcher(lifecycle, stats, patience, sessions, telemetry=telemetry),
        stats=stats,
        heartbeat=Heartbeat(lifecycle, keys.tend, audit.tend),
        keys=keys,
        audit=audit,
        policy=host_policy(settings.host),
        shares=FairShare(len(os.sched_getaffinity(0)), held_back=telemetry.metrics.held_back.inc),
    )
    run_file = RunFile(state)
    process = java and TorchServeProcess(
        state,
        java,
        torchserve,
        lifecycle,
        spawned=run_file.torchserve_spawned,
    )
    return Server(gateway, McpEndpoint(gateway), state, run_file, process or None)
