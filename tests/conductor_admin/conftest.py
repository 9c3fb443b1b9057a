"""Fixtures of the gateway tests: a state directory, a catalogue, a gateway over the fake TorchServe."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest

from conductor_admin.app import create_app
from conductor_admin.auth.audit import Audit
from conductor_admin.auth.audit_writer import AuditWriter
from conductor_admin.auth.authenticator import Authenticator
from conductor_admin.auth.keys import KeyBody
from conductor_admin.auth.keys_file import KeysFile
from conductor_admin.dispatcher import Dispatcher
from conductor_admin.gateway import Gateway
from conductor_admin.lifecycle.heartbeat import Heartbeat
from conductor_admin.lifecycle.leases import LeaseLimits
from conductor_admin.lifecycle.lifecycle import Lifecycle
from conductor_admin.memory.history import MemoryHistory
from conductor_admin.sessions.database import default_url
from conductor_admin.sessions.service import Sessions
from conductor_admin.sessions.store import SessionStore
from conductor_admin.settings.watcher import SettingsWatch
from conductor_admin.telemetry.recorder import Telemetry
from conductor_admin.telemetry.stats import Stats
from conductor_admin.workers.client import Patience
from conductor_admin.workers.loader import Loader
from conductor_admin.workers.torchserve_client import TorchServe
from conductor_core.catalogue import Catalogue
from conductor_core.paths import StateDir
from conductor_core.settings.parser import load_settings, parse_settings
from tests.conductor_admin.fake_torchserve import FakeBuilder, FakeTorchServe, SocketServer
from tests.conductor_admin.gateway_rig import GB, OWNER_TOKEN, SETTINGS, FakeMemory, MakeRig, Rig
from tests.conductor_admin.key_rig import Keys
from tests.loop_steps import own_work

PATIENCE = Patience(5, 5)


@pytest.fixture
def state() -> Iterator[StateDir]:
    # Not tmp_path: its names are too long for the path of a Unix socket.
    with tempfile.TemporaryDirectory(prefix="ct-") as folder:
        state = StateDir.at(Path(folder))
        state.create()
        yield state


@pytest.fixture
def catalogue() -> Catalogue:
    return parse_settings(SETTINGS)


@pytest.fixture
def make_rig(state: StateDir) -> MakeRig:
    """`make_rig(**limits)`; resident sets are not loaded unless the test calls `lifecycle.start`."""

    @contextlib.asynccontextmanager
    async def make(
        *,
        max_wait_s: float = 5.0,
        queue_size: int = 64,
        patience: Patience = PATIENCE,
        serves: bool = True,
        budget: int = 10 * GB,
        settings: str = SETTINGS,
    ) -> AsyncIterator[Rig]:
        path = state.root / "SETTINGS.md"
        path.write_text(settings)
        with own_work("reads settings"):
            page = load_settings(path)
        torchserve, builder = FakeTorchServe(state), FakeBuilder(state)
        client = TorchServe(state.management_socket, state.inference_socket, state.torchserve_keys)
        limits = LeaseLimits(max_wait_s, queue_size, lambda memory: 5.0, {"cpu": budget})
        loader, memory, history = (
            Loader(client, builder, state),
            FakeMemory(),
            MemoryHistory(state.peaks_file),
        )
        telemetry = Telemetry()
        lifecycle = Lifecycle(
            page.sets, loader, limits, memory, history, serves_models=serves, listener=telemetry.metrics
        )
        stats = Stats()
        store = SessionStore(default_url(state.root))
        sessions = Sessions(store, lambda: watch.now)
        dispatcher = Dispatcher(lifecycle, stats, patience, sessions, telemetry=telemetry)

        def read(text: str | None, name: str | None) -> Catalogue:
            return load_settings(path) if text is None else parse_settings(text, name or path.name)

        watch = SettingsWatch(path, page, read, lifecycle.apply)
        keys, audit = Authenticator(KeysFile(state), owner=OWNER_TOKEN), AuditWriter(Audit(state))
        heartbeat = Heartbeat(lifecycle, keys.tend, audit.tend)
        gateway = Gateway(watch, lifecycle, dispatcher, stats, heartbeat, keys, audit)
        with own_work("builds an application"):
            server = SocketServer(create_app(gateway))
        await store.open()
        await torchserve.start()
        await server.start()
        await lifecycle.torchserve_started()
        url = f"http://127.0.0.1:{server.port}"
        try:
            with own_work("opens a client, which reads certificates"):
                http_client = httpx2.AsyncClient(base_url=url, timeout=10, trust_env=False)
            async with http_client as http:
                yield Rig(state, gateway, torchserve, builder, memory, http, url)
        finally:
            await server.stop()
            await lifecycle.close()
            await torchserve.stop()
            await store.close()
            await asyncio.to_thread(audit.close)

    return make


@pytest.fixture
async def rig(make_rig: MakeRig) -> AsyncIterator[Rig]:
    async with make_rig() as rig:
        yield rig


@pytest.fixture
def keys(rig: Rig) -> Keys:
    """The gateway of `rig` with keys of each scope."""
    file = rig.gateway.keys.file
    bodies = {
        "infer": KeyBody(name="infer"),
        "admin": KeyBody(name="admin", scopes=["admin"]),
        "both": KeyBody(name="both", scopes=["infer", "admin"]),
        "revoked": KeyBody(name="revoked"),
    }
    texts = {name: file.create(body)[1] for name, body in bodies.items()}
    file.revoke("revoked")
    return Keys(rig, **texts)
