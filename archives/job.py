"""The child's side of `archives.child.run_job`: one JSON request in, JSON lines out.

Output of libraries goes to standard error, which is the log; only records reach the builder.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from archives.errors import BuildError

_PR_SET_PDEATHSIG = 1


Report = Callable[[str, int, "int | None", str], None]
"""Reports progress: phase, done, total and message, as in `BuildProgress.update`."""


def serve_job(work: Callable[[dict[str, Any], Report], dict[str, Any]]) -> None:
    """Answers the one request on standard input with `work(request, report)`; ends when the builder ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # the kernel ends it with the builder
    # The records alone go to the old standard output; what libraries print goes to standard error.
    records = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def write(**record: Any) -> None:
        records.write(json.dumps(record) + "\n")
        records.flush()

    def report(phase: str, done: int, total: int | None, message: str) -> None:
        write(progress=[phase, done, total, message])

    try:
        write(result=work(json.load(sys.stdin), report))
    except BuildError as error:
        write(refusal=[error.fault, error.cure])
