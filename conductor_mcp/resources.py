"""Resources of the MCP server: models, SETTINGS.md and stored conversations that the caller may see."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import orjson
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp_types import Resource, ResourceTemplate

from conductor_admin.api.native.models import model_answer
from conductor_admin.api.schemas import ModelList
from conductor_admin.auth.caller import Caller, need_scope, visible
from conductor_admin.gateway import Gateway
from conductor_admin.http.responses import storage_failed
from conductor_admin.planner import find_row
from conductor_mcp.tools.base import failure_text
from handlers.wire import RequestError

SCHEME = "conductor://"
JSON = "application/json"
MARKDOWN = "text/markdown"
_NEWEST = 50


@dataclass(frozen=True, slots=True)
class Kind:
    """Resources below one path; `read` gets the caller and the rest of the path, empty for the list."""

    path: str
    title: str
    description: str
    mime_type: str
    read: Callable[[Caller, str], Awaitable[str]]
    item: str | None = None
    item_description: str | None = None


class Resources:
    """Resources of `gateway` that clients may read."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._kinds = (
            Kind(
                "models",
                "Models",
                "Every category, its model and its state",
                JSON,
                self._models,
                "category",
                "One category, its model and its state",
            ),
            Kind(
                "sessions",
                "Conversations",
                "The newest conversations that the gateway has stored",
                JSON,
                self._sessions,
                "session_id",
                "One conversation with its turns",
            ),
            Kind(
                "settings", "SETTINGS.md", "The table of models, as it is on disk", MARKDOWN, self._settings
            ),
        )

    def listed(self) -> list[Resource]:
        """The resources with a fixed URI."""
        return [
            Resource(
                uri=SCHEME + kind.path,
                name=kind.path,
                title=kind.title,
                description=kind.description,
                mime_type=kind.mime_type,
            )
            for kind in self._kinds
        ]

    def templates(self) -> list[ResourceTemplate]:
        """The URI templates."""
        return [
            ResourceTemplate(
                uri_template=f"{SCHEME}{kind.path}/{{{kind.item}}}",
                name=kind.item,
                title=kind.title,
                description=kind.item_description,
                mime_type=kind.mime_type,
            )
            for kind in self._kinds
            if kind.item
        ]

    async def read(self, uri: str, caller: Caller) -> list[ReadResourceContents]:
        """Content of `uri`. Raises ResourceNotFoundError, or ResourceError if the caller may not read it."""
        path, _, part = uri.removeprefix(SCHEME).partition("/")
        kind = next((one for one in self._kinds if one.path == path), None)
        if not uri.startswith(SCHEME) or kind is None or (part and not kind.item):
            raise ResourceNotFoundError(f"no resource {uri[:200]!r}; resources/list lists them")
        try:
            text = await kind.read(caller, part)
        except RequestError as error:
            kind_of_error = ResourceNotFoundError if error.status == 404 else ResourceError
            raise kind_of_error(failure_text(error)) from error
        return [ReadResourceContents(content=text, mime_type=kind.mime_type)]

    async def _models(self, caller: Caller, category: str) -> str:
        catalogue = self._gateway.catalogue
        if category:
            row = find_row(catalogue, category, caller)
            return _json(model_answer(self._gateway, row, caller).model_dump())
        rows = visible(catalogue, caller)
        return _json(
            ModelList(models=[model_answer(self._gateway, row, caller) for row in rows]).model_dump()
        )

    async def _sessions(self, caller: Caller, session_id: str) -> str:
        need_scope(caller, "infer")
        sessions = self._gateway.sessions
        if not session_id:
            newest = await sessions.store.newest(caller.key_id, _NEWEST, None)
            return _json({"sessions": [one.to_json() for one in newest]})
        session = await sessions.read(session_id, caller.key_id)
        turns = await sessions.store.turns(session.id)
        return _json({**session.to_json(), "turns": [turn.to_json() for turn in turns]})

    async def _settings(self, caller: Caller, _: str) -> str:
        if caller.categories is not None:
            raise RequestError(
                "this key is limited to some categories, and the table covers all of them",
                status=403,
                code="category_not_allowed",
            )
        try:
            return await self._gateway.settings.text()
        except OSError as error:
            raise storage_failed(error) from error


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
