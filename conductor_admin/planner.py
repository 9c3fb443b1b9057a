"""Plans the request of a checked body: the row, its worker set, persona and parameters.

Pure functions of the catalogue and the body; no I/O, no state. Every refusal is a RequestError.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from difflib import get_close_matches

from conductor_admin.auth.caller import Caller, visible
from conductor_core.catalogue import Catalogue, Row
from conductor_core.issues import CellError
from conductor_core.slugs import slug_of
from handlers.engines.registry import engine_names
from handlers.wire import GenerateInput, GenerateRequest, RequestError, Sampling

DEFAULT_CATEGORY = "conversational_chat"
_SHOWN = 64


@dataclass(frozen=True, slots=True)
class SessionAsk:
    """The session that a request continues, or begins with a new `id` and its `persona`."""

    id: str
    is_new: bool = False
    persona: str | None = None


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One generation: the row that answers, the set that serves it, and the request for its worker.

    `version` is the archive version that the client requires; `max_wait_s` limits its wait for a load,
    `keep_alive_s` is the time for which its set is kept afterwards. `caller` pays for it. If there is a
    `session`, `request` has only the new messages. `reason` explains the choice of `auto`.
    """

    row: Row
    set_name: str
    request: GenerateRequest
    caller: Caller
    max_wait_s: float | None = None
    keep_alive_s: float | None = None
    version: str | None = None
    session: SessionAsk | None = None
    reason: str | None = None


def find_row(catalogue: Catalogue, category: str | None, caller: Caller) -> Row:
    """The row of a slug or a category's name; without one the conversational row, else the first.

    Raises 404 `model_not_found` with close names, also for a row that the caller may not use.
    """
    if category is None:
        return _default_row(catalogue, caller)
    try:
        found = catalogue.row(category) or catalogue.row(slug_of(category))
    except CellError:
        found = None
    if found is None or not caller.may_use(found.slug):
        raise _unknown(category, [row.slug for row in visible(catalogue, caller)])
    return found


def _default_row(catalogue: Catalogue, caller: Caller) -> Row:
    usual = catalogue.row(DEFAULT_CATEGORY)
    if usual is not None and caller.may_use(DEFAULT_CATEGORY):
        return usual
    rows = visible(catalogue, caller)
    if not rows:
        raise RequestError(
            "this key may not use any category of this server",
            status=404,
            code="model_not_found",
            param="category",
        )
    return rows[0]


def _unknown(category: str, known: list[str]) -> RequestError:
    close = get_close_matches(category[:_SHOWN].lower(), known, n=3)
    hint = f"did you mean {', '.join(close)}?" if close else "GET /models lists the categories"
    return RequestError(
        f"no category {category[:_SHOWN]!r}; {hint}", status=404, code="model_not_found", param="category"
    )


def plan(
    catalogue: Catalogue,
    body: GenerateInput,
    request_id: str,
    *,
    caller: Caller,
    version: str | None = None,
) -> PlannedRequest:
    """Plan the request of `body`; its decoding values override the row's parameters. Raises RequestError."""
    row = find_row(catalogue, body.category, caller)
    engine = _engine(body.engine, row)
    if engine != row.engine and caller.is_restricted:
        raise RequestError(
            f"this key is for {row.slug} with its own engine, {row.engine}",
            status=403,
            type="permission_error",
            code="engine_not_allowed",
            param="engine",
        )
    own = row_options(row) if engine == row.engine else {}
    request = GenerateRequest(
        id=request_id,
        client=caller.client,
        engine=engine,
        prompt=body.asked_prompt,
        messages=None if body.messages is None else list(body.messages),
        system=persona_text(catalogue, body.persona, row),
        sampling=body.sampling.over(row_sampling(row)),
        options={**own, **body.options},
    )
    set_name = catalogue.set_of(row.slug).name
    return PlannedRequest(
        row, set_name, request, caller, body.max_wait_s, body.keep_alive, version, _session(body)
    )


def _session(body: GenerateInput) -> SessionAsk | None:
    if body.session and body.session_id is not None:
        raise RequestError(
            "give session for a new session or session_id to continue one, not both",
            param="session",
            code="invalid_value",
        )
    if body.session:
        return SessionAsk(uuid.uuid4().hex, is_new=True, persona=body.persona)
    return None if body.session_id is None else SessionAsk(body.session_id, persona=body.persona)


def _engine(asked: str | None, row: Row) -> str:
    if asked is not None and asked not in engine_names():
        raise RequestError(
            f"no engine {asked[:_SHOWN]!r}; available engines: {', '.join(engine_names())}",
            param="engine",
            code="unknown_engine",
        )
    return asked or row.engine


def persona_text(catalogue: Catalogue, name: str | None, row: Row) -> str | None:
    """The named persona's text, else the default persona for the conversational row, else None."""
    if name is None:
        return catalogue.persona if row.slug == DEFAULT_CATEGORY else None
    return known_persona(catalogue, name)


def known_persona(catalogue: Catalogue, name: str) -> str:
    """Text of a persona, in any case of its name. Raises RequestError 404 `persona_not_found`."""
    by_fold = {known.casefold(): text for known, text in catalogue.personas.items()}
    if name.casefold() not in by_fold:
        known = ", ".join(sorted(catalogue.personas)) or "none"
        raise RequestError(
            f"no persona {name[:_SHOWN]!r}; there are: {known}",
            status=404,
            param="persona",
            code="persona_not_found",
        )
    return by_fold[name.casefold()]


def row_sampling(row: Row) -> Sampling:
    """The row's decoding parameters."""
    return Sampling.model_validate({k: v for k, v in row.parameters.items() if k in Sampling.model_fields})


def row_options(row: Row) -> dict[str, float | int | str | bool]:
    """The row's parameters that are options of its engine."""
    return {k: v for k, v in row.parameters.items() if k not in Sampling.model_fields}
