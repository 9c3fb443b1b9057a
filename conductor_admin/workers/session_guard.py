"""The parent of a supervised TorchServe: ends it and its whole session as soon as the gateway is gone.

The gateway runs this file as a script, as the leader of a new session, with TorchServe's command as
arguments. Standard input is a pipe whose other end only the gateway holds, so that the kernel reports every
end of the gateway, SIGKILL included. A parent-death signal on TorchServe alone would not do: the JVM would
have to be forked by a thread of the gateway that never ends, and a worker that is stopped or hangs in a
library would outlive the JVM. Here that signal only covers the end of this process itself: it is one thread
when it forks, and that thread lives as long as the process.

Imports the standard library alone: it runs without the environment's packages, in about 12 MB.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading

_PR_SET_PDEATHSIG = 1


def main(command: list[str]) -> int:
    """Run `command` until it or the gateway ends; return 0 if the command did, else 1."""
    libc, guard = ctypes.CDLL(None), os.getpid()
    if os.getpgrp() != guard:  # else it would kill the whole group it was started in
        os.setsid()

    def end_with_guard() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:  # it ended before the call of prctl
            os._exit(1)

    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=end_with_guard)
    threading.Thread(target=_end_with_gateway, daemon=True).start()
    return int(child.wait() != 0)


def _end_with_gateway() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
