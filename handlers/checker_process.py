"""The process behind `handlers.checker`: a template that forks one child for each channel it is handed.

The template loads libraries and nothing else; a child reads requests as lines of JSON and answers each with
its engine's findings. It ends with the channel, with the template, or at its limits.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import resource
import signal
import socket
import sys
from typing import Any

import orjson

from handlers.engines.registry import engine_class
from handlers.library_text import hide_library_text
from handlers.wire import GenerateRequest

LIBRARIES = ("sympy", "math_verify", "tree_sitter")
_PR_SET_PDEATHSIG = 1


def main(control: socket.socket, cpu_s: float, memory: int) -> None:
    """Forks a child for every channel that arrives on `control`, until that closes.

    A message without a channel names modules to load first; it is answered once they are.
    """
    for name in LIBRARIES:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    control.send(b"r")
    while True:
        message, fds, _, _ = socket.recv_fds(control, 4096, 1)
        if not message:
            return
        if not fds:
            for name in message.decode().split(","):
                importlib.import_module(name)
            control.send(b"r")
            continue
        with socket.socket(fileno=fds[0]) as channel:
            if os.fork() == 0:
                control.close()
                _become_child(memory)
                serve(channel, cpu_s)
                os._exit(0)


def serve(channel: socket.socket, cpu_s: float) -> None:
    """Answers each request on `channel`; the kernel ends the process when one takes more than `cpu_s`."""
    with channel.makefile("rwb") as lines:
        for line in lines:
            # SIGPROF by default ends the process: no code of ours, nor of a library, can be in its way.
            signal.setitimer(signal.ITIMER_PROF, cpu_s)
            reply = orjson.dumps(_reply(line), option=orjson.OPT_SERIALIZE_NUMPY)
            signal.setitimer(signal.ITIMER_PROF, 0)
            lines.write(reply + b"\n")
            lines.flush()


def _reply(line: bytes) -> dict[str, Any]:
    asked = orjson.loads(line)
    request = GenerateRequest.model_validate(asked["request"])
    try:
        return {"findings": engine_class(request.engine)().check(request, asked["text"])}
    except MemoryError:
        os._exit(1)
    except Exception as error:  # the outermost loop: libraries raise anything over text made to confuse them
        return {"failed": f"the check failed: {type(error).__name__}"}


def _become_child(memory: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    hide_library_text()
    main(socket.socket(fileno=int(sys.argv[1])), float(sys.argv[2]), int(sys.argv[3]))
