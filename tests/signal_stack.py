"""The stack on which the main thread's signal handlers run, put back after each test.

openvino's CPU plugin sets one of its own for each pipeline. Where two pipelines do not end in the reverse
order of their beginning, the last one puts back a stack that is unmapped by then: the next signal, a time-out
of pytest or Ctrl-C, would end the process by SIGSEGV without a word.
"""

from __future__ import annotations

import ctypes

_libc = ctypes.CDLL(None, use_errno=True)


class SignalStack(ctypes.Structure):
    """stack_t of sigaltstack(2)."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def signal_stack() -> SignalStack:
    """The alternate signal stack of the calling thread."""
    stack = SignalStack()
    _call(None, ctypes.byref(stack))
    return stack


def use_signal_stack(stack: SignalStack) -> None:
    """Set the alternate signal stack of the calling thread."""
    _call(ctypes.byref(stack), None)


def _call(new: object, old: object) -> None:
    if _libc.sigaltstack(new, old) != 0:
        raise OSError(ctypes.get_errno(), "sigaltstack failed")
