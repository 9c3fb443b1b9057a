"""Work on texts that leaves the event loop once there is much of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

MUCH = 10_000
"""Characters from which work goes to a thread. The slowest of all, tokenising Chinese, takes 13 ms for so
many; a thread costs a tenth of a millisecond."""

TURN = 100
"""Characters that cost as much as a turn of a conversation, to be read or written."""

P = ParamSpec("P")
R = TypeVar("R")


async def off_loop(size: int, work: Callable[P, R], *args: P.args, **named: P.kwargs) -> R:
    """The result of `work`, which is called in a thread where `size` characters are much.

    A thread helps where the interpreter's lock is free in between: in Python, and in `encode_batch_fast`.
    """
    return await asyncio.to_thread(work, *args, **named) if size >= MUCH else work(*args, **named)
