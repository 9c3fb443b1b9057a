"""A gateway that answers from a script, on a real port: it streams, and notices clients that leave."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

Lines = list[str]
WAIT_S = 20.0
HOLD = "hold"
"""Marker in a script: the stream stays open until the client leaves."""


def data(value: Any) -> str:
    """One event of a stream."""
    return f"data: {value if isinstance(value, str) else orjson.dumps(value).decode()}\n\n"


def last_record(tokens: int = 3, prompt_tokens: int = 7) -> dict[str, Any]:
    """The record that ends a stream well."""
    return {
        "id": "1",
        "category": "conversational_chat",
        "model": "Demo",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": tokens},
        "timings": {"first_token_s": 0.25, "total_s": 1.5},
        "findings": {},
    }


def answer(*pieces: str) -> Lines:
    """A whole stream with the text of `pieces`."""
    return [*(data({"delta": piece}) for piece in pieces), data(last_record(len(pieces))), data("[DONE]")]


def model(category: str = "conversational_chat", **changes: Any) -> dict[str, Any]:
    """One row of `GET /models`."""
    return {
        "category": category,
        "state": "READY",
        "phase": None,
        "progress": None,
        "model": "Demo",
        "precision": "Q4_1",
        "runtime": "openvino",
        "device": "cpu",
        "engine": category,
        "memory": {"declared": 10**9, "estimated": None, "measured": 5 * 10**8},
        "workers": [{"pid": 1, "state": "READY", "in_flight": 2, "waiting": 0}],
        "in_flight": 2,
        "set": "conversational_chat",
        "shared_with": [],
        "expires_at": None,
        "last_error": None,
        **changes,
    }


@dataclass
class FakeGateway:
    """Programmable: `reply` makes the lines of a stream from the request's body, one of `bodies`.

    `row`, if set, makes one row of `/models`. `may_load` holds loads and unloads back while it is
    clear, `busy` of them are asked to retry.
    """

    models: list[dict[str, Any]] = field(default_factory=lambda: [model()])
    reply: Callable[[dict[str, Any]], Lines] = field(default=lambda body: answer("Hel", "lo"))
    row: Callable[[str], dict[str, Any]] | None = None
    refusal: tuple[int, str] | tuple[int, str, str] | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    health: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    planned: list[str | None] = field(default_factory=list)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    busy: int = 0
    may_load: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def __enter__(self) -> Self:
        self.may_load.set()
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self._server = uvicorn.Server(uvicorn.Config(self._app(), log_level="error", ws="none"))
        self._thread = threading.Thread(target=self._serve, args=(listener,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def _serve(self, listener: socket.socket) -> None:
        # uvicorn closes the server it makes, not the socket it was given.
        with listener:
            self._server.run(sockets=[listener])

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/health/live", self._live),
                Route("/health", self._health),
                Route("/admin/plan", self._plan, methods=["GET", "POST"]),
                Route("/models", self._models),
                Route("/models/{category}", self._model),
                Route("/admin/models/{category}/{verb}", self._admin, methods=["POST"]),
                Route("/requests", self._requests),
                Route("/requests/{request}", self._request),
                Route("/sessions", self._listed),
                Route("/sessions/{session}", self._session, methods=["GET", "PATCH", "DELETE"]),
                Route("/generate/stream", self._generate, methods=["POST"]),
            ]
        )

    async def _live(self, request: Request) -> Response:
        return _json({"status": "live"})

    async def _health(self, request: Request) -> Response:
        return _json(self.health)

    async def _plan(self, request: Request) -> Response:
        self.planned.append(request.query_params.get("name"))
        return _error(*self.refusal) if self.refusal else _json(self.plan)

    async def _models(self, request: Request) -> Response:
        return _json({"models": self.models})

    async def _model(self, request: Request) -> Response:
        category = request.path_params["category"]
        if self.row:
            return _json(self.row(category))
        found = next((one for one in self.models if one["category"] == category), None)
        return _json(found) if found else _error(404, f"unknown category {category!r}")

    async def _requests(self, request: Request) -> Response:
        self.calls.append(f"{request.url.path}?{request.url.query}")
        return _json({"requests": self.requests})

    async def _request(self, request: Request) -> Response:
        found = [one for one in self.requests if one["id"] == request.path_params["request"]]
        return _json(found[0]) if found else _error(404, "no such request", "request_not_found")

    async def _listed(self, request: Request) -> Response:
        self.calls.append(f"{request.url.path}?{request.url.query}")
        return _json({"sessions": self.sessions, "next": None})

    async def _session(self, request: Request) -> Response:
        self.calls.append(f"{request.method} {request.url.path}")
        found = [one for one in self.sessions if one["id"] == request.path_params["session"]]
        if not found:
            return _error(404, "no such session", "session_not_found")
        body = await request.body()
        return _json({**found[0], **(orjson.loads(body) if body else {})})

    async def _admin(self, request: Request) -> Response:
        self.calls.append(f"{request.url.path}?{request.url.query}")
        await asyncio.to_thread(self.may_load.wait, WAIT_S)
        if self.busy:
            self.busy -= 1
            return _error(503, "still loading", "model_loading")
        return _error(*self.refusal) if self.refusal else _json({})

    async def _generate(self, request: Request) -> Response:
        body = orjson.loads(await request.body())
        self.bodies.append(body)
        if self.refusal:
            return _error(*self.refusal)
        return StreamingResponse(self._stream(self.reply(body)), media_type="text/event-stream")

    async def _stream(self, lines: Lines) -> AsyncIterator[str]:
        for line in lines:
            if line == HOLD:
                try:
                    await asyncio.Event().wait()
                finally:
                    self.left.set()
            yield line


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


def _error(status: int, message: str, code: str | None = None) -> Response:
    return _json({"error": {"message": message, "type": "t", "param": None, "code": code}}, status)
