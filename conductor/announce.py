"""Output of `conductor serve`: one line for each step of a worker set, then the address."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from conductor_admin.gateway import Gateway
from conductor_admin.lifecycle.states import State
from conductor_admin.lifecycle.worker_sets import WorkerSetView, is_ready

_LOOK_S = 0.1
_STEP = 0.1


async def announce(gateway: Gateway, url: str, say: Callable[[str], None]) -> None:
    """Print the steps of all sets until the gateway is ready, then its address."""
    start = time.monotonic()
    last_lines: dict[str, str] = {}
    while True:
        views = gateway.lifecycle.views()
        for view in views:
            line = set_line(view)
            if line and last_lines.get(view.worker_set.name) != line:
                last_lines[view.worker_set.name] = line
                say(line)
        if is_ready(views, gateway.lifecycle.torchserve_up):
            say(f"ready in {time.monotonic() - start:.1f} s: {url}")
            return
        await asyncio.sleep(_LOOK_S)


def set_line(view: WorkerSetView) -> str | None:
    """One line about the state of a set, None for other states; progress in steps of 10 %."""
    name = view.worker_set.name
    if view.state is State.FAILED and view.failure:
        return f"{name}: failed: {view.failure.message}"
    if view.state is State.LOADING:
        share = "" if view.progress is None else f" {int(view.progress / _STEP) * 10}%"
        return f"{name}: {view.phase}{share}"
    return f"{name}: ready" if view.state is State.READY else None
