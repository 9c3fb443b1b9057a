"""What `model` names: a category and its engine, a model alone, or the choice itself; and all those names.

Knows the catalogue, not its states: a name is listed whether its set is loaded or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from conductor_admin.callers import Caller, visible
from conductor_admin.gateway import Gateway
from conductor_admin.openai.auto import choose
from conductor_core.catalogue import Catalogue, Row
from conductor_core.issues import CellError
from conductor_core.slugs import slug_of
from handlers.wire import RequestError

AUTO = "auto"
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Target:
    """The row that answers; `bare` is its model without an engine, `name` what the answer calls it.

    `reason` says why this category was chosen, where nobody named it.
    """

    row: Row
    name: str
    bare: bool = False
    reason: str | None = None


async def target_of(gateway: Gateway, model: str, caller: Caller, prompt: str) -> Target:
    """What `model` names for this caller; `prompt` is what `auto` chooses by.

    Raises RequestError 404 `model_not_found` with close names.
    """
    if model == AUTO and not any(model == name for name, _ in names(gateway.catalogue, caller)):
        chosen = await choose(gateway, prompt, caller)
        return Target(chosen.row, chosen.row.slug, reason=chosen.reason)
    return named(gateway.catalogue, model, caller)


def named(catalogue: Catalogue, model: str, caller: Caller) -> Target:
    """What `model` names, `auto` aside."""
    row = _category(catalogue, model)
    if row is not None and caller.may_use(row.slug):
        return Target(row, row.slug)
    for row in visible(catalogue, caller):
        if row.technical_model_name == model:
            return Target(row, model, bare=True)
    raise _unknown(model, [name for name, _ in names(catalogue, caller)])


def names(catalogue: Catalogue, caller: Caller) -> Iterator[tuple[str, Row]]:
    """Every name with its row, categories first, each name once."""
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
    hint = f"did you mean {', '.join(close)}?" if close else "GET /v1/models lists them"
    return RequestError(
        f"no model {model[:_SHOWN]!r}; {hint}", status=404, code="model_not_found", param="model"
    )
