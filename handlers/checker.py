"""Runs an engine's check in a process of its own, where it can be stopped and can take no memory.

Knows engines by name and findings as JSON; what a check does is the engine's. The process that runs checks is
forked off one that has its libraries loaded already, so that a stopped one is replaced in milliseconds.
multiprocessing's own fork server would import the `__main__` of TorchServe's worker, torch with it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from handlers.engines.registry import engine_class
from handlers.wire import GenerateRequest

CPU_S = 2.0
MEMORY_BYTES = 512 * 2**20
WALL_FACTOR = 5
"""A busy machine gives processor time late: a check may take this many times as long by the clock."""

Findings = dict[str, Any]


class Checker:
    """One checker process, started at first use and again after every check that had to be stopped.

    `cpu_s` is the processor time of one check, `memory` the bytes its process may allocate.
    """

    def __init__(self, cpu_s: float = CPU_S, memory: int = MEMORY_BYTES) -> None:
        self._cpu_s = cpu_s
        self._memory = memory
        self._one_at_a_time = threading.Lock()
        # A thread of its own: waiting checks must not take the threads of everybody else.
        self._thread = ThreadPoolExecutor(1, "checker")
        self._template: subprocess.Popen[bytes] | None = None
        self._libraries: frozenset[str] = frozenset()
        self._control: socket.socket | None = None
        self._channel: socket.socket | None = None

    async def findings(self, request: GenerateRequest, text: str) -> Findings:
        """`check`, off the event loop."""
        # A long text takes long without a parser too; those that wait for one are not waited for.
        thread = self._thread if engine_class(request.engine).parses else None
        return await asyncio.get_running_loop().run_in_executor(thread, self.check, request, text)

    def check(self, request: GenerateRequest, text: str) -> Findings:
        """Findings of the request's engine about `text`; RequestError 400 for wrong options.

        Where the check had to be stopped, or failed, the engine says what it can without it.
        """
        engine = engine_class(request.engine)()
        engine.accept(request)
        if not engine.parses:
            return engine.check(request, text)
        reply = self._ask(request, text)
        if "findings" in reply:
            return dict(reply["findings"])
        return engine.unchecked(request, text, reply["failed"])

    def __del__(self) -> None:
        # One that lives as long as its process is closed by nobody.
        self.close()

    def close(self) -> None:
        """Ends both processes; the next check would start them again."""
        self._thread.shutdown(wait=False)
        with self._one_at_a_time:
            self._drop()
            self._drop_template()

    def _ask(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        asked = orjson.dumps({"request": request.model_dump(mode="json"), "text": text}) + b"\n"
        with self._one_at_a_time:
            self._have_loaded(engine_class(request.engine).libraries)
            channel = self._send(asked)
            try:
                with channel.makefile("rb") as replies:
                    line = replies.readline()
            except OSError:  # it took too long by the clock
                line = b""
            if not line.endswith(b"\n"):
                self._drop()
                return {"failed": self._limits()}
        return dict(orjson.loads(line))

    def _have_loaded(self, libraries: Iterable[str]) -> None:
        """Lets the template load what only some engines need; a child that was forked before has to go."""
        wanted = self._libraries.union(libraries)
        if wanted == self._libraries:
            return
        self._drop()
        try:
            self._load(wanted)
        except OSError:  # it was killed, by the kernel for one; a second failure is the caller's
            self._drop_template()
            self._load(wanted)

    def _load(self, libraries: frozenset[str]) -> None:
        control = self._template_socket()
        control.sendall(",".join(sorted(libraries)).encode())
        if not control.recv(1):
            raise ConnectionResetError("the checker process ended while it loaded its libraries")
        self._libraries = libraries

    def _send(self, asked: bytes) -> socket.socket:
        if self._channel is None:
            self._channel = self._fork()
        try:
            self._channel.sendall(asked)
        except OSError:  # it was killed while it had nothing to do, by the kernel for one
            self._drop()
            self._channel = self._fork()
            self._channel.sendall(asked)
        return self._channel

    def _limits(self) -> str:
        return f"the check was stopped: it needs more than {self._cpu_s:g} s or {self._memory >> 20} MB"

    def _fork(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.settimeout(self._cpu_s * WALL_FACTOR)
        with theirs:
            try:
                socket.send_fds(self._template_socket(), [b"f"], [theirs.fileno()])
            except OSError:  # it was killed, by the kernel for one; a second failure is the caller's
                libraries = self._libraries
                self._drop_template()
                self._have_loaded(libraries)
                socket.send_fds(self._template_socket(), [b"f"], [theirs.fileno()])
        return ours

    def _template_socket(self) -> socket.socket:
        if self._control is None:
            # Its messages keep their bounds: a channel is never taken for the names of libraries.
            self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._template = _start(theirs, self._cpu_s, self._memory)
            self._control.recv(1)  # its libraries are loaded
        return self._control

    def _drop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _drop_template(self) -> None:
        if self._control is not None and self._template is not None:
            self._control.close()
            self._template.wait()
            self._control = self._template = None
            self._libraries = frozenset()


def _start(control: socket.socket, cpu_s: float, memory: int) -> subprocess.Popen[bytes]:
    # The worker's copy of `handlers` lies in a folder that only this process has on its path.
    here = str(Path(__file__).parent.parent)
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [
            sys.executable,
            "-P",
            "-m",
            "handlers.checker_process",
            str(control.fileno()),
            str(cpu_s),
            str(memory),
        ],
        # One thread of numpy's: the buffers of more of them count as memory of the check.
        env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        pass_fds=[control.fileno()],
        stdin=subprocess.DEVNULL,
    )
