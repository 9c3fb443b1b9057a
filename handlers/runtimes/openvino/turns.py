"""Lets the event loop run between two steps of openvino-genai, which hold the interpreter's lock."""

from __future__ import annotations

import asyncio
import time

LEAST_TURNS = 4
"""Loop iterations that a token needs from the runtime's queue to the socket."""

MOST_TURNS = 64
QUIET_TURN_S = 5e-5
"""An iteration shorter than this was idle.

An idle one takes about 10 microseconds, a step 14 milliseconds or more.
"""


async def quiet() -> None:
    """Returns when the loop has done everything that was ready: pieces are written, new requests read."""
    for turn in range(MOST_TURNS):
        before = time.perf_counter()
        await asyncio.sleep(0)
        if turn >= LEAST_TURNS and time.perf_counter() - before < QUIET_TURN_S:
            return
