"""The template process of `handlers.sandbox.checker`, which forks a confined child for each channel.

The template only loads libraries. A child reads questions as lines of JSON and answers each with its engine's
result. It ends with the channel, with the template, or at its limits.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError

from handlers.diagnostics.library_text import hide_library_text
from handlers.engines.registry import engine_class
from handlers.sandbox.confinement import Confinement, harden
from handlers.sandbox.kernel import prctl
from handlers.wire import GenerateRequest, RequestError

PR_SET_PDEATHSIG = 1
MOST_FINDINGS = 4 * 2**20
"""Most bytes of findings as JSON: parsing more would block the reader's event loop for too long."""


def main(control: socket.socket, cpu_s: float, memory: int) -> None:
    """Forks a child for every channel that arrives on `control`, until that closes.

    A message without a channel names an engine: its libraries are loaded, then the message is confirmed.
    """
    harden()
    confinement = Confinement(Path(__file__).parent.parent, memory)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    control.send(b"r")
    while True:
        message, fds, _, _ = socket.recv_fds(control, 4096, 1)
        if not message:
            return
        if not fds:
            engine_class(orjson.loads(message)).load_libraries()
            control.send(b"r")
            continue
        with socket.socket(fileno=fds[0]) as channel:
            if os.fork() == 0:
                control.close()
                prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                confinement.enter(channel.fileno())
                channel.sendall(orjson.dumps({"pid": os.getpid()}) + b"\n")
                serve(channel, cpu_s)
                os._exit(0)


def serve(channel: socket.socket, cpu_s: float) -> None:
    """Answers each question on `channel`.

    The kernel ends the process if one takes more than `cpu_s` seconds.
    """
    with channel.makefile("rwb") as lines:
        for line in lines:
            # SIGPROF ends the process by default, without any code of this project or of a library.
            signal.setitimer(signal.ITIMER_PROF, cpu_s)
            reply = _reply(line)
            signal.setitimer(signal.ITIMER_PROF, 0)
            lines.write(reply + b"\n")
            lines.flush()


def _reply(line: bytes) -> bytes:
    try:
        asked = orjson.loads(line)
        if "cpu_s" in asked:
            signal.setitimer(signal.ITIMER_PROF, asked["cpu_s"])
        return orjson.dumps(_answer(asked), option=orjson.OPT_SERIALIZE_NUMPY)
    except RequestError as refusal:
        return orjson.dumps({"refused": refusal.to_json()["error"]})
    except ValidationError:
        return orjson.dumps({"failed": "its texts together exceed the size limit of one message"})
    except MemoryError:
        os._exit(1)
    except Exception as error:  # the outermost loop: libraries may raise any exception for hostile text
        return orjson.dumps({"failed": f"the check failed: {type(error).__name__}"})


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    request = GenerateRequest.model_validate(asked["request"])
    engine = engine_class(request.engine)()
    match asked["do"]:
        case "prepare":
            return {"prepared": engine.prepare(request).to_json()}
        case "converse":
            return {"prepared": engine.converse(request).to_json()}
        case "unchecked":
            return _bounded(engine.unchecked(request, asked["text"], asked["reason"]))
    engine.accept(request)
    return _bounded(engine.check(request, asked["text"]))


def _bounded(findings: dict[str, Any]) -> dict[str, Any]:
    size = len(orjson.dumps(findings, option=orjson.OPT_SERIALIZE_NUMPY))
    if size > MOST_FINDINGS:
        return {"failed": f"the findings of the check are too large: {size >> 20} MB"}
    return {"findings": findings}


if __name__ == "__main__":
    hide_library_text()
    main(socket.socket(fileno=int(sys.argv[1])), float(sys.argv[2]), int(sys.argv[3]))
