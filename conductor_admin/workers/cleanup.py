"""Cleanup that a cancellation cannot cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


async def finish(work: Coroutine[Any, Any, Result]) -> Result:
    """Run `work` to its end, however often the caller is cancelled meanwhile; then raise the cancellation.

    An end has many authors (a signal, a second one, a drain that ran out, a task that failed), and each of
    them cancels. `work` must be bounded in time by itself, since nobody can stop it.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result
