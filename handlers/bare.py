"""The model without an engine: a conversation by its chat template alone, or a text that simply goes on.

What an OpenAI client asks of a technical model name; the decoding values are the request's own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from handlers.logprobs import Echo
from handlers.model import RequestModel
from handlers.wire import GenerateRequest, Sampling

DEFAULTS = Sampling(temperature=1.0)
"""The model's own distribution."""


async def bare_events(request: GenerateRequest, model: RequestModel) -> AsyncGenerator[Echo | str, None]:
    """The prompt where it is asked for, then pieces of the answer."""
    sampling = request.sampling.over(DEFAULTS)
    if request.messages is not None:
        async with aclosing(model.stream(request.messages, sampling)) as pieces:
            async for piece in pieces:
                yield piece
        return
    ids = await model.prompt_ids(request.prompt_ids or request.prompt or "")
    if request.echo:
        yield await model.echo(ids, sampling)
    if request.no_answer:
        model.count_prompt(len(ids))
        return
    async with aclosing(model.resume(ids, sampling)) as pieces:
        async for piece in pieces:
            yield piece
