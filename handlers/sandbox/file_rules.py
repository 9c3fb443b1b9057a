"""Landlock: a process that may read what Python and its libraries are made of, and no other file.

Knows paths and the kernel's rights; nothing of checks. The numbers are the same on every processor.
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
"""How many rights over files a version of Landlock knows; 16 from the fifth on."""
_NET_SINCE, _SCOPE_SINCE = 4, 6
_NET, _SCOPE = 0b11, 0b11
SYSTEM = (
    "/usr/lib", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo", "/dev/null",
    "/dev/urandom",
)  # fmt: skip
"""Shared libraries and time zones, which libraries open late."""


def version() -> int:
    """The kernel's version of Landlock; 0 where it has none, or it is off."""
    return max(0, call(CREATE_RULESET, 0, 0, _VERSION_FLAG))


def lacking() -> str | None:
    """The reason why files cannot be kept from a process; None where they can."""
    return None if version() else "the kernel has no Landlock"


def readable(package: Path) -> list[Path]:
    """The files that a Python needs which runs `package`: its installation, its path, and the package itself.

    The folder around the package is on the path too, and may hold anything: the project, its keys.
    """
    around = package.parent
    path = [Path(entry) for entry in sys.path if entry and Path(entry).resolve() != around.resolve()]
    own = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.exec_prefix), Path(sys.base_exec_prefix)]
    return [package, *own, *path, *map(Path, SYSTEM)]


class FileRules:
    """A set of rules that lets `paths` be read; `enter` binds the calling thread, for good."""

    def __init__(self, paths: Iterable[Path]) -> None:
        known = version()
        files = (1 << _FILE_RIGHTS.get(known, 16)) - 1
        net = _NET if known >= _NET_SINCE else 0
        scope = _SCOPE if known >= _SCOPE_SINCE else 0
        # An older kernel takes the longer form where what it does not know is 0.
        self._fd = self._asked(CREATE_RULESET, struct.pack("=QQQ", files, net, scope))
        for path in paths:
            self._allow(path)

    def enter(self) -> None:
        """No other file from here on; needs no-new-privileges before."""
        if call(RESTRICT_SELF, self._fd, 0) != 0:
            raise _failed("landlock_restrict_self")

    def _allow(self, path: Path) -> None:
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:  # not on this machine
            return
        try:
            rights = READ_FILE | READ_DIR | EXECUTE if path.is_dir() else READ_FILE
            rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, fd))
            if call(ADD_RULE, self._fd, _PATH_BENEATH, ctypes.addressof(rule), 0) != 0:
                raise _failed(f"landlock_add_rule for {path}")
        finally:
            os.close(fd)

    @staticmethod
    def _asked(number: int, attributes: bytes) -> int:
        held = ctypes.create_string_buffer(attributes, len(attributes))
        fd = call(number, ctypes.addressof(held), len(attributes), 0)
        if fd < 0:
            raise _failed("landlock_create_ruleset")
        os.set_inheritable(fd, False)
        return fd


def _failed(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"{what}: {os.strerror(number)}")
