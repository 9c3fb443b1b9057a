"""Targets of a `model` field: a category with its engine, a model without engine, or `auto`.

Reads the catalogue, not the states of sets: a name is listed even if its set is not loaded. `auto` calls
`conductor_admin.auto.chooser` with the gateway's rows and its embedding row.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches

from conductor_admin.auth.caller import Caller, visible
from conductor_admin.auto.chooser import Embed
from conductor_admin.gateway import Gateway
from conductor_admin.planner import find_row
from conductor_core.catalogue import Catalogue, Row
from conductor_core.issues import CellError
from conductor_core.slugs import slug_of
from handlers.wire import GenerateInput, RequestError

EMBEDDING_ENGINE = "embedding"
_EMBEDDING_WAIT_S = 30.0

AUTO = "auto"
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Chosen:
    """The chosen row and, for a response header, a short reason."""

    row: Row
    reason: str


async def choose(gateway: Gateway, prompt: str, caller: Caller) -> Chosen:
    """The row for `prompt` among those that the caller may use; RequestError 404 if there is none."""
    rows = [row for row in visible(gateway.catalogue, caller) if row.engine != EMBEDDING_ENGINE]
    if not rows:
        return Chosen(find_row(gateway.catalogue, None, caller), "default: there is no other row")
    vectors = next(
        (row for row in visible(gateway.catalogue, caller) if row.engine == EMBEDDING_ENGINE), None
    )
    if vectors is None:
        return Chosen(*await gateway.chooser.choose(prompt, rows, None, ""))
    version = f"{vectors.technical_model_name} {vectors.precision.value}"
    embed = _embedder(gateway, vectors, caller)
    return Chosen(*await gateway.chooser.choose(prompt, rows, embed, version))


def _embedder(gateway: Gateway, row: Row, caller: Caller) -> Embed:
    # A choice must not evict another model, nor wait as long as an answer may.
    asker = replace(caller, may_evict=False)

    async def embed(texts: list[str]) -> list[list[float]]:
        body = GenerateInput(category=row.slug, options={"inputs": texts}, max_wait_s=_EMBEDDING_WAIT_S)
        job = await gateway.plan(body, uuid.uuid4().hex, asker)
        done = await gateway.dispatcher.result(job)
        return list(done.findings["embeddings"])

    return embed


@dataclass(frozen=True, slots=True)
class Target:
    """The row that answers; `raw` asks its model without an engine, `name` is `model` in the answer.

    `reason` explains the choice that `auto` made.
    """

    row: Row
    name: str
    raw: bool = False
    reason: str | None = None


async def target_of(gateway: Gateway, model: str, caller: Caller, prompt: str) -> Target:
    """Target of a `model` field for this caller; `auto` chooses by `prompt`.

    Raises RequestError 404 `model_not_found` with close names.
    """
    if model == AUTO and not any(model == name for name, _ in names(gateway.catalogue, caller)):
        chosen = await choose(gateway, prompt, caller)
        return Target(chosen.row, chosen.row.slug, reason=chosen.reason)
    return named(gateway.catalogue, model, caller)


def named(catalogue: Catalogue, model: str, caller: Caller) -> Target:
    """Target of a category or technical model name; RequestError 404 for another name."""
    row = _category(catalogue, model)
    if row is not None and caller.may_use(row.slug):
        return Target(row, row.slug)
    for row in visible(catalogue, caller):
        if row.technical_model_name == model:
            return Target(row, model, raw=True)
    raise _unknown(model, [name for name, _ in names(catalogue, caller)])


def names(catalogue: Catalogue, caller: Caller) -> Iterator[tuple[str, Row]]:
    """Yield every name with its row, categories first, each name once."""
    rows = visible(catalogue, caller)
    seen = {row.slug for row in rows}
    yield from ((row.slug, row) for row in rows)
    for row in rows:
        if row.technical_model_name not in seen:
            seen.add(row.technical_model_name)
            yield row.technical_model_name, row


def _category(catalogue: Catalogue, name: str) -> Row | None:
    exact = catalogue.row(name)
    if exact is not None or any(row.technical_model_name == name for row in catalogue.rows):
        return exact
    try:
        return catalogue.row(slug_of(name))
    except CellError:
        return None


def _unknown(model: str, known: list[str]) -> RequestError:
    close = get_close_matches(model[:_SHOWN], known, n=3) or get_close_matches(
        model[:_SHOWN].lower(), known, n=3
    )
    hint = f"did you mean {', '.join(close)}?" if close else "GET /v1/models lists the models"
    return RequestError(
        f"no model {model[:_SHOWN]!r}; {hint}", status=404, code="model_not_found", param="model"
    )
