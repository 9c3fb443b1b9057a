"""Fakes of TorchServe and its workers inside the test process, with the refusals of the real ones.

FakeTorchServe speaks the management API on a Unix socket: 404 for an archive that is not in the store, 409
for one that is registered, 404 for an unknown model, 403 for a default version that is not the last; a worker
that dies is started again. A FakeWorker is a sleeping process (its pid lives and dies as a real one's) and a
socket served from the test's event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from archives.weights_info import KnownWeights
from conductor_admin.http.protocol import BoundedProtocol
from conductor_admin.workers.loader import LoadError, Report
from conductor_admin.workers.worker import Archive
from conductor_core.catalogue import WorkerSet
from conductor_core.paths import StateDir
from handlers.long_records import lines_of
from handlers.wire import WIRE_VERSION
from tests.loop_steps import own_work

VERSION = "0123456789ab"

Script = Callable[[dict[str, Any]], AsyncIterator[dict[str, Any]]]


def done(text: str, finish_reason: str = "stop") -> dict[str, Any]:
    """The last record of an answer of three words."""
    return {
        "done": {
            "finish_reason": finish_reason,
            "usage": {"prompt_tokens": 5, "completion_tokens": 3},
            "timings": {"first_token_s": 0.01, "total_s": 0.02},
            "findings": {},
            "text": text,
        }
    }


async def three_words(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Default answer of a worker: three words."""
    for word in ("one", " two", " three"):
        yield {"delta": word}
    yield done("one two three")


class SocketServer:
    """An ASGI application on a Unix socket, or on a port of the kernel's choice, of this event loop."""

    def __init__(self, app: ASGIApp, path: Path | None = None) -> None:
        self._app = app
        self._where: dict[str, Any] = {"uds": str(path)} if path else {"host": "127.0.0.1", "port": 0}

    @property
    def port(self) -> int:
        return int(self._server.servers[0].sockets[0].getsockname()[1])

    async def start(self) -> None:
        config = uvicorn.Config(
            self._app,
            http=BoundedProtocol,
            log_config=None,
            lifespan="off",
            ws="none",
            access_log=False,
            **self._where,
        )
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        # Cancelled in the middle it would leave a bound socket behind.
        self._starting = asyncio.ensure_future(self._server.startup())
        await asyncio.shield(self._starting)

    async def stop(self) -> None:
        """End at once, as a killed process does: open connections break."""
        await self._starting
        for server in self._server.servers:
            server.close()
        # A socket accepted in this turn of the loop becomes a connection in the next one.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        tasks = list(self._server.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass(eq=False)
class FakeWorker:
    """A worker's process and socket; `requests` are the bodies it got, `left` is set when a client leaves.

    `hang` acts like SIGSTOP on a real one: the socket takes connections and never answers.
    """

    state: StateDir
    version: str
    script: Script
    wire: int = WIRE_VERSION
    memory: int = 1000
    requests: list[dict[str, Any]] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    answering: bool = False
    may_answer: asyncio.Event = field(default_factory=_is_set)
    running: int = 0
    loop_held: int = 0
    process: asyncio.subprocess.Process | None = None
    server: SocketServer | None = None
    spawning: asyncio.Future[asyncio.subprocess.Process] | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def spawn(self) -> None:
        # Cancelled in the middle it would leave a process behind.
        self.spawning = asyncio.ensure_future(asyncio.create_subprocess_exec("sleep", "600"))
        self.process = await asyncio.shield(self.spawning)

    async def serve(self) -> None:
        routes = [
            Route("/generate", self._generate, methods=["POST"]),
            Route("/health", self._health, methods=["GET"]),
        ]
        self.server = SocketServer(Starlette(routes=routes), self.state.worker_socket(self.pid))
        await self.server.start()
        self.answering = True

    async def kill(self) -> None:
        """End like after `kill -9`: the process ends, every connection breaks."""
        self.answering = False
        if self.process is None and self.spawning is not None:
            self.process = await self.spawning
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            await self.process.wait()
        if self.server is not None:
            await self.server.stop()

    def hang(self, *, stopped: bool = True) -> None:
        """Stop answering, with a process that is stopped or only sleeps."""
        if stopped:
            os.kill(self.pid, signal.SIGSTOP)
        self.may_answer.clear()

    async def _health(self, request: Request) -> Response:
        await self.may_answer.wait()
        body = {
            "wire": self.wire,
            "version": self.version,
            "set": "s",
            "memory": self.memory,
            "loop": {"held": self.loop_held, "longest_s": 0.25},
            "context": 2048,
        }
        return JSONResponse({**body, "device": "cpu", "running": self.running, "waiting": 0})

    async def _generate(self, request: Request) -> Response:
        raw = await request.body()
        with own_work("a real worker parses in a thread"):
            body = orjson.loads(raw)
        await self.may_answer.wait()
        self.requests.append(body)
        return StreamingResponse(self._lines(body), media_type="application/x-ndjson")

    async def _lines(self, body: dict[str, Any]) -> AsyncIterator[bytes]:
        try:
            async for record in self.script(body):
                await self.may_answer.wait()
                with own_work("a real worker has a loop of its own"):
                    lines = list(lines_of(record))
                for line in lines:
                    yield line
        except asyncio.CancelledError:
            self.left.set()
            raise


@dataclass(eq=False)
class _Model:
    archive: str
    workers: list[FakeWorker] = field(default_factory=list)
    keeper: asyncio.Task[None] | None = None


class FakeTorchServe:
    """The management and inference APIs; `registered` lists every archive that was registered, in order.

    Every call needs the key of its API from the key file; `lifetime_s` is a key's lifetime. While
    `may_answer` is clear it takes calls and answers none.

    `may_load` holds loads back while it is clear, `may_unload` unloads; `traceback` makes the next loads fail
    with that line. A model has `each` workers; where more archives than `fits` are registered, memory runs
    out.
    """

    def __init__(self, state: StateDir) -> None:
        self.state = state
        self.script: Script = three_words
        self.wire = WIRE_VERSION
        self.memory = 1000
        self.each = 1
        self.fits: int | None = None
        self.traceback: str | None = None
        self.may_load = asyncio.Event()
        self.may_load.set()
        self.may_unload = asyncio.Event()
        self.may_unload.set()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.lifetime_s = 3600.0
        self.bought: list[str] = []
        self.disk_full = False
        self.registered: list[str] = []
        self.unregistered: list[str] = []
        self._models: dict[tuple[str, str], _Model] = {}
        self._made: list[_Model] = []
        self._defaults: dict[str, str] = {}
        routes = [
            Route("/models", self._register, methods=["POST"]),
            Route("/models/{name}/{version}", self._describe, methods=["GET"]),
            Route("/models/{name}/{version}", self._unregister, methods=["DELETE"]),
            Route("/models/{name}/{version}/set-default", self._set_default, methods=["PUT"]),
            Route("/models", self._list, methods=["GET"]),
            Route("/token", self._buy),
            Route("/ping", self._ping),
        ]
        app = Starlette(routes=routes)
        self._keys: dict[str, tuple[str, float]] = {}
        self._servers = [
            SocketServer(self._guarded("management", app), state.management_socket),
            SocketServer(self._guarded("inference", app), state.inference_socket),
        ]

    def _guarded(self, api: str, app: ASGIApp) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope, receive)
            await self.may_answer.wait()
            buys = api == "management" and request.url.path == "/token"
            key, expires = self._keys["API" if buys else api]
            if request.headers.get("authorization") != f"Bearer {key}" or time.time() >= expires:
                await _refusal(400, "InvalidKeyException", "Token Authorization failed.")(
                    scope, receive, send
                )
            else:
                await app(scope, receive, send)

        return guarded

    async def _buy(self, request: Request) -> Response:
        self.bought.append(request.query_params["type"])
        self._make_keys(request.query_params["type"])
        if self.disk_full:
            # It makes the new key before it writes it.
            self.state.torchserve_keys.write_bytes(b"")
            return _refusal(400, "InvalidKeyException", "Token Authentication failed.")
        return Response()

    def _make_keys(self, *apis: str) -> None:
        for api in apis:
            expires = math.inf if api == "API" else time.time() + self.lifetime_s
            self._keys[api] = (secrets.token_urlsafe(6), expires)
        text: dict[str, dict[str, str]] = {"API": {"key": self._keys["API"][0]}}
        for api in ("management", "inference"):
            key, expires = self._keys[api]
            text[api] = {"key": key, "expiration time": datetime.fromtimestamp(expires, UTC).isoformat()}
        self.state.torchserve_keys.write_bytes(orjson.dumps(text))

    async def start(self) -> None:
        self._make_keys("API", "management", "inference")
        for server in self._servers:
            await server.start()

    async def stop(self) -> None:
        # First the calls: one that was cut off may leave a model half registered or half unregistered.
        for server in self._servers:
            await server.stop()
        for model in self._made:
            await _end(model)
        for kept in (self._made, self._models, self._defaults):
            kept.clear()

    def workers(self, name: str) -> list[FakeWorker]:
        """The workers of a model that answer."""
        return [w for (n, _), m in self._models.items() if n == name for w in m.workers if w.answering]

    async def _ping(self, request: Request) -> Response:
        return JSONResponse({"status": "Healthy"})

    async def _list(self, request: Request) -> Response:
        return JSONResponse({"models": [{"modelName": name} for name, _ in self._models]})

    async def _register(self, request: Request) -> Response:
        archive = request.query_params["url"]
        assert request.query_params["synchronous"] == "false"
        if not (self.state.store / archive).exists():
            return _refusal(404, "ModelNotFoundException", f"Model not found in model store: {archive}")
        key = _key(archive)
        if key in self._models:
            return _refusal(409, "ConflictStatusException", f"Model version {key[1]} is already registered")
        self.registered.append(archive)
        model = self._models[key] = _Model(archive)
        self._made.append(model)
        self._defaults.setdefault(*key)
        model.keeper = asyncio.create_task(self._keep_all(key, model))
        return JSONResponse({"status": "Processing worker updates..."}, 202)

    async def _keep_all(self, key: tuple[str, str], model: _Model) -> None:
        async with asyncio.TaskGroup() as keepers:
            for _ in range(self.each):
                keepers.create_task(self._keep(key, model))

    async def _keep(self, key: tuple[str, str], model: _Model) -> None:
        """Run one worker and start it again whenever it ends."""
        while True:
            worker = FakeWorker(self.state, key[1], self.script, self.wire, self.memory)
            model.workers.append(worker)
            await worker.spawn()
            await self.may_load.wait()
            if words := self._last_words():
                notice = {"set": key[0], "version": key[1], "pid": worker.pid, "error": words}
                (self.state.run / f"{worker.pid}.error").write_bytes(orjson.dumps(notice))
                await worker.kill()
            else:
                await worker.serve()
            assert worker.process is not None
            await worker.process.wait()
            # Killed by its pid, as `kill -9` does it: its connections end with it.
            await worker.kill()
            model.workers.remove(worker)

    def _last_words(self) -> str | None:
        crowded = self.fits is not None and len(self._models) > self.fits
        return "MemoryError: std::bad_alloc" if crowded else self.traceback

    async def _describe(self, request: Request) -> Response:
        name, version = request.path_params["name"], request.path_params["version"]
        keys = [key for key in self._models if key[0] == name and version in ("all", key[1])]
        found = [self._described(key) for key in keys]
        if not found:
            return _refusal(404, "ModelNotFoundException", f"Model not found: {name}")
        return JSONResponse(found)

    def _described(self, key: tuple[str, str]) -> dict[str, Any]:
        workers = [
            {"id": "9000", "pid": w.pid, "status": "READY" if w.answering else "UNLOADING"}
            for w in self._models[key].workers
            if w.process is not None
        ]
        return {"modelName": key[0], "modelVersion": key[1], "workers": workers}

    async def _set_default(self, request: Request) -> Response:
        self._defaults[request.path_params["name"]] = request.path_params["version"]
        return JSONResponse({"status": "Default version succsesfully updated"})

    async def _unregister(self, request: Request) -> Response:
        key = (request.path_params["name"], request.path_params["version"])
        if key not in self._models:
            return _refusal(404, "ModelNotFoundException", f"Model not found: {key[0]}")
        if self._defaults[key[0]] == key[1] and sum(name == key[0] for name, _ in self._models) > 1:
            words = f"Cannot remove default version for model {key[0]}"
            return _refusal(403, "InvalidModelVersionException", words)
        await self.may_unload.wait()
        self.unregistered.append(key[0])
        await self._end(key)
        return JSONResponse({"status": f'Model "{key[0]}" unregistered'})

    async def _end(self, key: tuple[str, str]) -> None:
        model = self._models.pop(key)
        if all(name != key[0] for name, _ in self._models):
            del self._defaults[key[0]]
        await _end(model)


async def _end(model: _Model) -> None:
    if model.keeper is not None:
        model.keeper.cancel()
        await asyncio.wait({model.keeper})
    for worker in model.workers:
        await worker.kill()


def _key(archive: str) -> tuple[str, str]:
    name, _, version = archive.removesuffix(".mar").rpartition("-")
    return name, version


def _refusal(code: int, kind: str, message: str) -> Response:
    return JSONResponse({"code": code, "type": kind, "message": message}, code)


class FakeBuilder:
    """A build tool whose archives are empty files; `may_build` holds it back, `fault` makes it fail.

    `damage` is the fault that `check` finds in built weights, `known` the facts about weights not built yet.
    """

    def __init__(self, state: StateDir) -> None:
        self._state = state
        self.may_build = asyncio.Event()
        self.may_build.set()
        self.fault: str | None = None
        self.damage: str | None = None
        self.builds = 0
        self.version = VERSION
        self.known = KnownWeights()

    async def survey(self, worker_set: WorkerSet) -> KnownWeights:
        return self.known

    async def check(self, worker_set: WorkerSet) -> None:
        if self.damage is not None:
            raise LoadError(self.damage)

    async def build(self, worker_set: WorkerSet, report: Report) -> Archive:
        self.builds += 1
        report("convert", 0.41)
        await self.may_build.wait()
        if self.fault is not None:
            raise LoadError(self.fault)
        file = f"{worker_set.name}-{self.version}.mar"
        (self._state.store / file).touch()
        return Archive(
            file=file, name=worker_set.name, version=self.version, estimated=500, identity=worker_set.name
        )
