"""Runs a composed gateway until a signal or its last client ends it, and ends everything it started."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import structlog
import uvicorn
import uvloop

from archives.errors import BuildError
from conductor.announce import announce
from conductor.composition import Server, compose
from conductor_admin.app import create_app
from conductor_admin.auth.keys_file import KeysFileError, create_first_key, has_key
from conductor_admin.auth.reserve import Reserve
from conductor_admin.http.listener import check_open, listen, most_connections, url_of
from conductor_admin.http.protocol import bounded
from conductor_admin.lifecycle.lifecycle import Lifecycle
from conductor_admin.sessions.database import SessionDatabaseError
from conductor_admin.telemetry.drain import Drain, to_descriptor
from conductor_admin.telemetry.logs import configure_logs
from conductor_admin.telemetry.loop import watch_loop
from conductor_admin.workers.cleanup import finish
from conductor_admin.workers.torchserve_config import find_java
from conductor_core.files import fault, is_fault_of_files
from conductor_core.issues import SettingsError
from conductor_core.operator import OperatorSettings
from conductor_core.paths import StateDir, StateDirError
from conductor_core.run_file import ProcessName, StartError, kill_leftovers, only_gateway
from conductor_mcp.client_lock import until_nobody_holds
from handlers.diagnostics.tracebacks import log_failure_of_loop, log_failures_of_threads

log = structlog.get_logger()

DRAIN_S = 5.0
_START_FAULTS = (StartError, StateDirError, KeysFileError, SettingsError, BuildError, SessionDatabaseError)
_GRACE_S = 15.0  # until connections that do not read are dropped


@dataclass(frozen=True, slots=True)
class ServeMode:
    """Mode of a gateway: without models, only MCP and health, or only while clients hold it."""

    skip_model_loading: bool = False
    mcp_only: bool = False
    while_used: bool = False


def serve(settings: OperatorSettings, mode: ServeMode) -> int:
    """Serve until SIGINT or SIGTERM, and return the exit status; prints a failed start in one line."""
    state = StateDir.at(settings.state_dir)
    try:
        if settings.create_key:
            state.create()
            key = create_first_key(state)
            if key is not None:
                _tell(1, f"created a key with all scopes; it is in {key}")
        check_open(settings.host, has_key(state))
        java = None if mode.skip_model_loading else find_java(os.environ)
        state.create()
        with only_gateway(state), contextlib.closing(listen(settings.host, settings.port)) as listener:
            state.check_files()
            Reserve(state.reserve_file).fill()
            with contextlib.ExitStack() as at_end:
                at_end.callback(configure_logs(state.logs, settings.log_level))
                kill_leftovers(state.run_file)
                uvloop.run(_serve(compose(settings, java=java), settings, mode, listener))
    except _START_FAULTS as error:
        return _refused(str(error))
    except OSError as error:
        if not is_fault_of_files(error):
            raise
        line = fault(error if error.filename else OSError(error.errno, error.strerror, str(state.root)))
        log.error("gateway_broke_off", cause=line)
        return _refused(line)
    return 0


def _refused(line: str) -> int:
    _tell(2, f"conductor: {line}")
    return 1


async def _serve(
    server: Server, settings: OperatorSettings, mode: ServeMode, listener: socket.socket
) -> None:
    log_failures_of_threads()
    asyncio.get_running_loop().set_exception_handler(log_failure_of_loop)
    await server.gateway.sessions.store.open()
    try:
        await _serve_http(server, settings, mode, listener)
    finally:
        await finish(_close(server))


async def _close(server: Server) -> None:
    try:
        await server.gateway.sessions.store.close()
    finally:
        await asyncio.to_thread(server.gateway.checker.close)
        await asyncio.to_thread(server.gateway.telemetry.spans.close)
        await asyncio.to_thread(server.gateway.audit.close)


async def _serve_http(
    server: Server, settings: OperatorSettings, mode: ServeMode, listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    url = url_of(settings.host, port)
    me = ProcessName.of(os.getpid())
    server.run_file.write(
        pid=me.pid, started=me.started, host=settings.host, port=port, url=url, run=str(server.state.run)
    )
    http = _Http(
        uvicorn.Config(
            create_app(server.gateway, server.mcp.routes, mcp_only=mode.mcp_only),
            http=bounded(settings.send_timeout, most_connections(), server.gateway.shares.delay_of_refusal),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,  # else any local client could forge its address in the audit log
            timeout_graceful_shutdown=int(_GRACE_S),
        )
    )
    _keep_collections_short()
    watch = watch_loop(server.gateway.telemetry.metrics)
    watch.start()
    models = asyncio.create_task(_models(server), name="models")
    # A defect that ends the models ends the gateway: a server that can only refuse is useless.
    models.add_done_callback(lambda _: setattr(http, "should_exit", True))
    output = _lines_to(1)
    announcing = asyncio.create_task(announce(server.gateway, url, lambda line: output.put(_line(line))))
    unused = asyncio.create_task(_end_when_unused(http, server.state)) if mode.while_used else None
    try:
        with _signals(http, models):
            await http.serve(sockets=[listener])
    finally:
        announcing.cancel()
        models.cancel()
        if unused:
            unused.cancel()
        await finish(asyncio.wait({models, announcing}))
        await finish(asyncio.to_thread(output.close))
        watch.stop()
        server.run_file.remove()
        log.info("gateway_ended")
    if not models.cancelled():
        models.result()


def _keep_collections_short() -> None:
    """Keep the garbage collector from blocking the event loop.

    What exists now stays, so that no collection scans it (28 ms each), and full collections come early: a
    flood of MCP sessions left 45,000 objects for one, which took 86 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 2)


async def _models(server: Server) -> None:
    """Run all background tasks; cancelling ends TorchServe and the workers, and so every stream."""
    lifecycle = server.gateway.lifecycle
    tasks = [
        asyncio.create_task(server.gateway.heartbeat.run(), name="heart"),
        asyncio.create_task(server.gateway.settings.run(), name="settings"),
        asyncio.create_task(server.mcp.run(), name="mcp"),
    ]
    if server.process is not None:
        tasks.append(asyncio.create_task(server.process.supervise(), name="torchserve"))
        lifecycle.start()
    try:
        await asyncio.gather(*tasks)
    finally:
        # Each signal, the end of the drain and the end of the HTTP server cancel this task.
        lifecycle.refuse()
        for task in tasks:
            task.cancel()
        await finish(_end_models(lifecycle, tasks))


async def _end_models(lifecycle: Lifecycle, tasks: Collection[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)
    await lifecycle.close()


async def _end_when_unused(http: uvicorn.Server, state: StateDir) -> None:
    await until_nobody_holds(state)
    log.info("gateway_unused")
    http.should_exit = True


class _Http(uvicorn.Server):
    """uvicorn without its signal handlers, which would raise the signal again before our own end."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to `_signals`."""
        yield


@contextlib.contextmanager
def _signals(http: uvicorn.Server, models: asyncio.Task[None]) -> Iterator[None]:
    """Drain for DRAIN_S seconds at the first signal, without new connections; end at once at the second.

    After the block signals are ignored, because their default action would end the process in the middle of
    its cleanup, which is limited in time.
    """
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if http.should_exit:
            models.cancel()
        http.should_exit = True
        loop.call_later(DRAIN_S, models.cancel)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: None)


def _tell(descriptor: int, text: str) -> None:
    """Write to standard output or error without waiting for a reader."""
    lines = _lines_to(descriptor)
    lines.put(_line(text))
    lines.close()


def _lines_to(descriptor: int) -> Drain:
    return Drain(to_descriptor(descriptor), lambda lines: _line(f"({lines} lines were dropped)"), "output")


def _line(text: str) -> bytes:
    return f"{text}\n".encode("utf-8", "backslashreplace")
