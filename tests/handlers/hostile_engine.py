"""An engine that attacks its sandbox; a test copies it into a copy of the real engines.

The text of a request names the attack, its prompt the target; the finding is the result of the attack.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from handlers.engines.base import BaseLLMEngine
from handlers.wire import GenerateRequest

PTRACE_ATTACH, IO_URING_SETUP, SOCKET, X32 = 16, 425, 41, 0x40000000
MANY = 10_000


class Hostile(BaseLLMEngine):
    """Finding `came`: the result of the attack, or the name and number of the error that stopped it."""

    name: ClassVar[str] = "hostile"
    system_prompt: ClassVar[str] = ""

    def check(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """Runs one attack."""
        try:
            return {"came": ATTACKS[text](request.prompt or "")}
        except (OSError, RuntimeError, MemoryError, ValueError) as error:
            return {"came": "refused", "error": f"{type(error).__name__}: {error}"}


def connect(target: str) -> str:
    socket.create_connection(("127.0.0.1", int(target)), timeout=5).close()
    return "connected"


def connect_unix(target: str) -> str:
    with socket.socket(socket.AF_UNIX) as made:
        made.connect(target)
    return "connected"


def listen(_: str) -> str:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
    return "bound"


def read(target: str) -> str:
    return Path(target).read_text()


def read_through_link(target: str) -> str:
    """Reads a file by a path that begins in an allowed folder."""
    return Path(f"{sys.prefix}/../../../../../../../../../..{target}").read_text()


def read_around(_: str) -> str:
    """Reads the environment of the process that asked."""
    return Path(f"/proc/{os.getppid()}/environ").read_text()


def list_folder(target: str) -> str:
    return str(os.listdir(target))


def write(target: str) -> str:
    Path(target).write_text("mine")
    return "written"


def append(target: str) -> str:
    with open(target, "a") as file:
        file.write("mine")
    return "written"


def make_folder(target: str) -> str:
    Path(f"{target}.d").mkdir()
    return "made"


def link(target: str) -> str:
    os.symlink("/etc/passwd", f"{target}.link")
    return "linked"


def change_mode(target: str) -> str:
    os.chmod(target, 0o777)
    return "changed"


def remove(target: str) -> str:
    os.unlink(target)
    return "removed"


def fork(_: str) -> str:
    made = 0
    for _number in range(100):
        if os.fork() == 0:
            os._exit(0)
        made += 1
    return f"forked {made}"


def start_thread(_: str) -> str:
    threading.Thread(target=lambda: None).start()
    return "started"


def execute(_: str) -> str:
    os.execv("/bin/true", ["true"])


def spawn(_: str) -> str:
    return str(subprocess.run(["/bin/true"], check=True))


def open_many(_: str) -> str:
    held = [os.open(os.devnull, os.O_RDONLY) for _number in range(MANY)]
    return f"opened {len(held)}"


def environment(_: str) -> str:
    return str({**os.environ, "proc": _proc_environ()})


def _proc_environ() -> str:
    try:
        return Path("/proc/self/environ").read_text()
    except OSError:
        return ""


def kill_parent(_: str) -> str:
    os.kill(os.getppid(), signal.SIGTERM)
    return "killed"


def kill_asker(target: str) -> str:
    os.kill(int(target), signal.SIGTERM)
    return "killed"


def signal_by_file(target: str) -> str:
    fcntl.fcntl(3, fcntl.F_SETOWN, int(target))
    return "aimed"


def limit_asker(target: str) -> str:
    resource.prlimit(int(target), resource.RLIMIT_NOFILE, (0, 0))
    return "limited"


def raise_limits(_: str) -> str:
    resource.setrlimit(resource.RLIMIT_NOFILE, (100_000, 100_000))
    return "raised"


def slow_asker(target: str) -> str:
    os.setpriority(os.PRIO_PROCESS, int(target), 19)
    return "slowed"


def trace(target: str) -> str:
    return _syscall(101, PTRACE_ATTACH, int(target), 0, 0)


def ring(_: str) -> str:
    held = ctypes.create_string_buffer(120)
    return _syscall(IO_URING_SETUP, 1, ctypes.addressof(held))


def other_abi(_: str) -> str:
    return _syscall(X32 + SOCKET, socket.AF_INET, socket.SOCK_STREAM, 0)


def share_memory(_: str) -> str:
    with mmap.mmap(-1, 2 * 2**30) as held:
        return f"mapped {len(held)}"


def print_much(_: str) -> str:
    print("x" * 100_000, flush=True)
    return "printed"


def _syscall(*numbers: int) -> str:
    if ctypes.CDLL(None, use_errno=True).syscall(*map(ctypes.c_long, numbers)) < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return "allowed"


ATTACKS: dict[str, Callable[[str], str]] = {
    made.__name__: made
    for made in (
        connect, connect_unix, listen, read, read_through_link, read_around, list_folder, write, append,
        make_folder, link, change_mode, remove, fork, start_thread, execute, spawn, open_many, environment,
        kill_parent, kill_asker, signal_by_file, limit_asker, raise_limits, slow_asker, trace, ring,
        other_abi, share_memory, print_much,
    )
}  # fmt: skip
