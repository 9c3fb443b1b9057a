"""The asyncio side of a worker process: its loop thread, its socket and its shutdown.

Knows requests and records; nothing of TorchServe. A worker ends when its TorchServe has ended. A parent-death
signal cannot be used: the kernel sends it when the *thread* that forked ends, and TorchServe forks workers
from a thread pool whose threads end while the JVM lives on.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import aclosing
from pathlib import Path

import orjson
import uvloop

from handlers.diagnostics.loop_watch import SPARING_S, Holds, LoopStall, LoopWatch
from handlers.diagnostics.tracebacks import log_failure_of_loop
from handlers.wire import GenerateRequest
from handlers.worker.app import SocketServer, create_app
from handlers.worker.requests import Record, RecordSource, Running, worker_failed
from handlers.worker_config import WorkerConfig

LAST_WORDS_S = 1.0
START_S = 30.0

Load = Callable[[WorkerConfig, Callable[[str], None]], RecordSource]

logger = logging.getLogger(__name__)

PARENT_LOOK_S = 0.5


def leave_notice(run_dir: Path, config: WorkerConfig | None, error: str, traceback: str) -> None:
    """Writes `<pid>.error` into the run folder for the gateway: `{set, version, pid, error, traceback}`.

    `error` is one line; `set` and `version` are null if the configuration could not be read.
    """
    notice = {
        "set": config and config.set,
        "version": config and config.version,
        "pid": os.getpid(),
        "error": error,
        "traceback": traceback,
    }
    unnamed = run_dir / f"{os.getpid()}.error.new"
    unnamed.write_bytes(orjson.dumps(notice))
    unnamed.rename(run_dir / f"{os.getpid()}.error")


class WorkerServer:
    """One loaded runtime with its loop thread; `run_dir` None means no socket.

    `end(code)` ends the process at once; tests replace it.
    """

    def __init__(
        self,
        config: WorkerConfig,
        load: Load,
        run_dir: Path | None = None,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self.config = config
        self.last_error: str | None = None
        self._end = end
        self._run_dir = run_dir
        self._loop = uvloop.new_event_loop()
        self._stopping = asyncio.Event()
        self._server: SocketServer | None = None
        self._running = Running(load(config, self.fail))
        self._thread = threading.Thread(target=self._run, name="worker-loop", daemon=True)
        self._ready: Future[None] = Future()
        self._holds = Holds()

    def start(self) -> None:
        """Starts the loop.

        Returns when the socket accepts connections, or raises the error that prevented it.
        """
        if self._run_dir is not None:
            app = create_app(self.config, self._running, lambda: self.last_error, self._holds)
            self._server = SocketServer(app, self._run_dir / f"{os.getpid()}.sock", self._ready)
        else:
            self._ready.set_result(None)
        gc.freeze()  # else each full garbage collection of the imported modules takes a tenth of a second
        self._thread.start()
        self._ready.result(START_S)

    def submit(self, request: GenerateRequest, put: Callable[[Record], None]) -> None:
        """Runs `request`; `put` gets its records, on the loop's thread. Callable from any thread."""
        asyncio.run_coroutine_threadsafe(self._deliver(request, put), self._loop)

    def fail(self, reason: str) -> None:
        """Ends every request with an error record, then the process. Callable from any thread; acts once."""
        logger.error("the runtime failed, the worker exits: %s", reason)
        self.last_error = reason
        deadline = threading.Timer(LAST_WORDS_S, self.end)
        deadline.daemon = True
        deadline.start()
        if self._run_dir is not None:
            leave_notice(self._run_dir, self.config, reason, "")
        self._loop.call_soon_threadsafe(self._fail_all, reason)

    def stop(self) -> None:
        """Lets requests in progress finish, ends the loop and removes the socket.

        Not callable from the loop.
        """
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join()
        self._loop.close()

    def end(self) -> None:
        """Removes the socket and ends the process at once."""
        self.remove_socket()
        self._end(1)

    def leave(self) -> None:
        """Ends the loop's thread, for a process that exits: Python taken down under it would end by SIGSEGV.

        Requests in progress have `LAST_WORDS_S`; then the process ends at once.
        """
        self.remove_socket()
        self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(LAST_WORDS_S)
        if self._thread.is_alive():
            self._end(0)

    def remove_socket(self) -> None:
        """Removes the socket file."""
        if self._server is not None:
            self._server.path.unlink(missing_ok=True)

    async def _deliver(self, request: GenerateRequest, put: Callable[[Record], None]) -> None:
        async with aclosing(self._running.records(request)) as records:
            async for record in records:
                put(record)

    def _fail_all(self, reason: str) -> None:
        self._running.fail(worker_failed(reason))
        self._stop()

    def _stop(self) -> None:
        self._stopping.set()
        if self._server is not None:
            self._server.should_exit = True

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(log_failure_of_loop)
        try:
            self._loop.run_until_complete(self._serve())
        except (OSError, RuntimeError) as error:
            self._ready.set_exception(error)
            return
        if self.last_error is not None and self._server is not None:
            self.end()

    async def _serve(self) -> None:
        watch = LoopWatch(self._held, busy_s=SPARING_S, idle_s=SPARING_S)
        watch.start()
        try:
            if self._server is None:
                await self._stopping.wait()
            else:
                await self._server.serve()
                self.remove_socket()
        finally:
            watch.stop()

    def _held(self, held: LoopStall) -> None:
        if self._holds.add(held):
            logger.warning("event_loop_held %s", held)


def watch_parent(orphaned: Callable[[], None]) -> None:
    """Starts a thread that calls `orphaned` once, soon after the parent process has ended."""
    parent = os.getppid()

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_LOOK_S)
        orphaned()

    threading.Thread(target=wait, name="parent-watch", daemon=True).start()
