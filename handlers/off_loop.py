"""Runs work on long texts outside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from contextvars import copy_context
from functools import partial
from time import thread_time
from typing import ParamSpec, TypeVar

from handlers.cpu_account import charge

MUCH = 10_000
"""Characters from which work runs in a thread. The slowest work, tokenising Chinese, takes 13 ms for this
many; a thread costs a tenth of a millisecond."""

TURN = 100
"""Characters that cost as much to read or write as a turn of a conversation."""

P = ParamSpec("P")
R = TypeVar("R")


async def off_loop(size: int, work: Callable[P, R], *args: P.args, **named: P.kwargs) -> R:
    """The result of `work`, which runs in a thread if `size` (characters) is at least `MUCH`.

    A thread helps only if the work releases the interpreter's lock: Python code does, and
    `encode_batch_fast`.
    """
    if size < MUCH:
        return work(*args, **named)
    return await charged_thread(partial(work, *args, **named))


async def charged_thread(work: Callable[[], R], pool: Executor | None = None) -> R:
    """The result of `work`, which runs in a thread of `pool` or of the loop, and is paid for."""
    used: list[float] = []

    def timed() -> R:
        began = thread_time()
        try:
            return work()
        finally:
            used.append(thread_time() - began)

    try:
        return await asyncio.get_running_loop().run_in_executor(pool, copy_context().run, timed)
    finally:
        charge(sum(used))
