"""Landlock rules: a process may read the files of Python and its libraries, and no other file.

Knows paths and the kernel's rights; nothing of checks. The numbers are the same on every architecture.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

from handlers.sandbox.kernel import call

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
EXECUTE, READ_FILE, READ_DIR = 1 << 0, 1 << 2, 1 << 3
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""The number of file access rights by version of Landlock; 16 from version 5."""
_NET_SINCE, _SCOPE_SINCE = 4, 6
_NET, _SCOPE = 0b11, 0b11
SYSTEM = (
    "/usr/lib", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo", "/dev/null",
    "/dev/urandom",
)  # fmt: skip
"""Shared libraries and time zones, which libraries open at run time."""


def version() -> int:
    """The kernel's version of Landlock; 0 if it has none or it is disabled."""
    return max(0, call(CREATE_RULESET, 0, 0, _VERSION_FLAG))


def lacking() -> str | None:
    """The reason why file access cannot be restricted; None if it can."""
    return None if version() else "the kernel does not support Landlock"


def readable(package: Path) -> list[Path]:
    """Paths that a Python process needs to run `package`: its installation, its path, and the package itself.

    The parent folder of the package is left out, because it may hold anything: the project, its keys.
    """
    around = package.parent
    path = [Path(entry) for entry in sys.path if entry and Path(entry).resolve() != around.resolve()]
    own = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix), Path(sys.base_exec_prefix)]
    return [package, *own, *path, *map(Path, SYSTEM)]


class FileRules:
    """A rule set that allows to read `paths`; `enter` restricts the calling thread permanently."""

    def __init__(self, paths: Iterable[Path]) -> None:
        known = version()
        files = (1 << _FILE_RIGHTS.get(known, 16)) - 1
        net = _NET if known >= _NET_SINCE else 0
        scope = _SCOPE if known >= _SCOPE_SINCE else 0
        # An older kernel accepts the longer structure if the fields that it does not know are 0.
        attributes = struct.pack("=QQQ", files, net, scope)
        held = ctypes.create_string_buffer(attributes, len(attributes))
        self._fd = call(CREATE_RULESET, ctypes.addressof(held), len(attributes), 0)
        if self._fd < 0:
            raise _failed("landlock_create_ruleset")
        os.set_inheritable(self._fd, False)
        for path in paths:
            try:
                allowed = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:  # not on this machine
                continue
            try:
                rights = READ_FILE | READ_DIR | EXECUTE if path.is_dir() else READ_FILE
                rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, allowed))
                if call(ADD_RULE, self._fd, _PATH_BENEATH, ctypes.addressof(rule), 0) != 0:
                    raise _failed(f"landlock_add_rule for {path}")
            finally:
                os.close(allowed)

    def enter(self) -> None:
        """Restricts the thread to these files; requires no-new-privileges."""
        if call(RESTRICT_SELF, self._fd, 0) != 0:
            raise _failed("landlock_restrict_self")


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
