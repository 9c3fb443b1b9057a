"""`auto`: `conductor_admin.auto` asked with what this gateway has, its rows and its embedding row."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace

from conductor_admin.auto import Embed
from conductor_admin.callers import Caller, visible
from conductor_admin.gateway import Gateway
from conductor_admin.router import find_row
from conductor_core.catalogue import Row
from handlers.wire import GenerateInput

ENGINE = "embedding"
_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Chosen:
    """The row that answers and, in a few words for a header, why it does."""

    row: Row
    reason: str


async def choose(gateway: Gateway, prompt: str, caller: Caller) -> Chosen:
    """The row for `prompt` among those that the caller may use; 403 where there is none."""
    rows = [row for row in visible(gateway.catalogue, caller) if row.engine != ENGINE]
    if not rows:
        return Chosen(find_row(gateway.catalogue, None, caller), "default: there is no other row")
    vectors = next((row for row in visible(gateway.catalogue, caller) if row.engine == ENGINE), None)
    if vectors is None:
        return Chosen(*await gateway.chooser.choose(prompt, rows, None, ""))
    version = f"{vectors.technical_model_name} {vectors.precision.value}"
    embed = _embedder(gateway, vectors, caller)
    return Chosen(*await gateway.chooser.choose(prompt, rows, embed, version))


def _embedder(gateway: Gateway, row: Row, caller: Caller) -> Embed:
    # A choice is not worth another model's place in memory, nor a wait as long as an answer's.
    asker = replace(caller, may_evict=False)

    async def embed(texts: list[str]) -> list[list[float]]:
        body = GenerateInput(category=row.slug, options={"inputs": texts}, max_wait_s=_WAIT_S)
        job = await gateway.plan(body, uuid.uuid4().hex, asker)
        done = await gateway.generations.result(job)
        return list(done.findings["embeddings"])

    return embed
