"""Server-sent events of the /v1 routes: records of several generations in, framed bytes out.

Knows frames and comments; what an event says is given by the route.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import orjson

from conductor_admin.answers import KEEP_ALIVE_S, LOADING_S, loading_comment
from conductor_admin.generation import Generations
from conductor_admin.openai.runs import News, news
from conductor_admin.openai.wording import in_words_of
from conductor_admin.router import Job
from conductor_admin.states import State

EVENT_STREAM = "text/event-stream"

Render = Callable[[News], bytes]


def frame(value: Mapping[str, Any]) -> bytes:
    """One event without a name."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


async def events(
    generations: Generations,
    jobs: Sequence[Job],
    render: Render,
    names: Mapping[str, str],
    last: Callable[[], bytes],
) -> AsyncGenerator[bytes, None]:
    """What `render` makes of the jobs' records, comments in between, and `last()` where all succeeded."""

    def quiet_s() -> float:
        ready = all(generations.lifecycle.view(job.row.slug).state is State.READY for job in jobs[:1])
        return KEEP_ALIVE_S if ready else LOADING_S

    with in_words_of(names):
        async with aclosing(news(generations, jobs, quiet_s)) as stream:
            async for item in stream:
                piece = _comment(generations, jobs[0]) if item is None else render(item)
                if piece:
                    yield piece
    yield last()


def _comment(generations: Generations, job: Job) -> bytes:
    return loading_comment(job.row.slug, generations.lifecycle.view(job.row.slug))
