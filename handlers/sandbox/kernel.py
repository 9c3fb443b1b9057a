"""System calls that Python has no function for; failures raise OSError or return -1."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, *arguments: int) -> None:
    """Calls `prctl(2)`; OSError if the kernel refuses."""
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if _libc.prctl(option, *padded) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def call(number: int, *arguments: int) -> int:
    """Makes a system call by its number; returns -1 if it failed."""
    return int(_libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)))
