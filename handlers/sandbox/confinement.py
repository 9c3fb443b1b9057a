"""Confinement of a process that reads untrusted text: limits, no network, no files but Python's own.

`lacking` names protections that the kernel does not have; the others still apply.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from pathlib import Path

from handlers.sandbox import file_rules, syscall_filter
from handlers.sandbox.kernel import prctl

PR_SET_NO_NEW_PRIVS = 38
MOST_FILES = 64
PASSED_ON = ("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PYTHONHOME", "TZ")
"""Environment variables that Python, its libraries and the loader need; all others are removed."""


def lacking() -> tuple[str, ...]:
    """Reasons why this kernel cannot fully protect a confined process; empty if it can."""
    reasons = (syscall_filter.lacking(), file_rules.lacking())
    return tuple(reason for reason in reasons if reason is not None)


def environment(around: Mapping[str, str], package: Path) -> dict[str, str]:
    """Environment of a process that runs `package`: allowed variables of `around` and a few of its own."""
    kept = {name: around[name] for name in PASSED_ON if name in around}
    path = os.pathsep.join(filter(None, [str(package.parent), around.get("PYTHONPATH")]))
    # One thread for numpy: the buffers of further threads would count as memory of the check.
    return {**kept, "PYTHONPATH": path, "PYTHONUTF8": "1", "OPENBLAS_NUM_THREADS": "1"}


def harden() -> None:
    """Hardens a process that only loads libraries: no new privileges, no core file."""
    # It stays dumpable: otherwise only root could read its memory use.
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class Confinement:
    """The confinement of children; made once by the process that forks them, so that each fork is fast."""

    def __init__(self, package: Path, memory: int) -> None:
        self._memory = memory
        self._files = None if file_rules.lacking() else file_rules.FileRules(file_rules.readable(package))
        self._filters_calls = syscall_filter.lacking() is None

    def enter(self, channel: int) -> None:
        """Confines this process permanently; of the open files only `channel` stays open."""
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        # Output of a library would fill the worker's log with untrusted text.
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(nothing, standard, inheritable=False)
        if self._files is not None:
            self._files.enter()
        os.closerange(3, channel)
        os.closerange(channel + 1, os.sysconf("SC_OPEN_MAX"))
        # RLIMIT_DATA does not count shared mappings; RLIMIT_AS does, but also the libraries' address space.
        limits = {
            resource.RLIMIT_DATA: self._memory,
            resource.RLIMIT_AS: taken + self._memory,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_NPROC: 0,
            resource.RLIMIT_NOFILE: MOST_FILES,
            resource.RLIMIT_MEMLOCK: 0,
            resource.RLIMIT_MSGQUEUE: 0,
        }
        for limit, value in limits.items():
            resource.setrlimit(limit, (value, value))
        if self._filters_calls:
            syscall_filter.install()
