"""The calls to the kernel that Python has no name for; each raises OSError or says that it failed."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, *arguments: int) -> None:
    """`prctl(2)`; OSError where the kernel refuses."""
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if _libc.prctl(option, *padded) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def call(number: int, *arguments: int) -> int:
    """A system call by its number; -1 where it failed."""
    return int(_libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)))
