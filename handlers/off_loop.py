"""Runs work on long texts outside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

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
    return await asyncio.to_thread(work, *args, **named) if size >= MUCH else work(*args, **named)
