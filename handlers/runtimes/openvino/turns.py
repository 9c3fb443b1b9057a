"""Lets the event loop work between two steps of openvino-genai, which hold the interpreter's lock."""

from __future__ import annotations

import asyncio
import time

LEAST_TURNS = 4
"""Turns of the loop that a token needs from the runtime's queue to the socket."""

MOST_TURNS = 64
QUIET_TURN_S = 5e-5
"""A turn with nothing to do takes about 10 microseconds; a step takes 14 milliseconds and more."""


async def quiet() -> None:
    """Returns once the loop has worked off what was ready: pieces written, new requests read."""
    for turn in range(MOST_TURNS):
        before = time.perf_counter()
        await asyncio.sleep(0)
        if turn >= LEAST_TURNS and time.perf_counter() - before < QUIET_TURN_S:
            return
