"""Client of TorchServe's management API: the only code of the gateway that knows its routes and answers.

Knows nothing of worker sets, requests or processes. To load is `register` and polling `describe`, to unload
is `unregister`. Only bare file names of our own store ever reach TorchServe.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

_ARCHIVE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,120}\.mar")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,120}")
_TIMEOUT = aiohttp.ClientTimeout(total=30)


class TorchServeError(Exception):
    """TorchServe refused or did not answer; `status` is its HTTP status, 0 where there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """One worker as TorchServe describes it; its status is never trusted beyond the pid."""

    pid: int
    ready: bool


class TorchServe:
    """Calls over the private management and inference sockets. Every method raises TorchServeError."""

    def __init__(self, management: Path, inference: Path) -> None:
        self._management = management
        self._inference = inference

    async def register(self, archive: str) -> None:
        """Start the workers of `archive`, a file name in the store, without waiting for them."""
        if not _ARCHIVE.fullmatch(archive):
            raise TorchServeError(f"{archive!r} is not an archive name")
        await self._call("POST", f"/models?url={archive}&synchronous=false")

    async def describe(self, name: str, version: str) -> list[WorkerProcess]:
        """The worker processes of one registered version; those that have no pid yet are left out."""
        answer = await self._call("GET", self._path(name, version))
        workers = answer[0]["workers"] if isinstance(answer, list) and answer else []
        return [
            WorkerProcess(pid=worker["pid"], ready=worker["status"] == "READY")
            for worker in workers
            if worker.get("pid", -1) > 0
        ]

    async def unregister(self, name: str, version: str) -> None:
        """Kill the version's workers and forget it; a version that is not there is no error."""
        try:
            await self._call("DELETE", self._path(name, version))
        except TorchServeError as error:
            if error.status == 403:
                await self._unregister_default(name, version)
            elif error.status != 404:
                raise

    async def _unregister_default(self, name: str, version: str) -> None:
        # The default version can only go when it is the last one, or another one is the default.
        answer = await self._call("GET", self._path(name, "all"))
        others = [found["modelVersion"] for found in answer if found["modelVersion"] != version]
        if not others:
            raise TorchServeError(f"{name} {version} cannot be unregistered", 403)
        await self._call("PUT", f"{self._path(name, others[0])}/set-default")
        await self._call("DELETE", self._path(name, version))

    async def ping(self) -> bool:
        """Whether TorchServe answers at all; its verdict on the workers is not used."""
        try:
            await self._call("GET", "/ping", inference=True)
        except TorchServeError as error:
            return error.status == 500
        return True

    @staticmethod
    def _path(name: str, version: str) -> str:
        for part in (name, version):
            if not _NAME.fullmatch(part):
                raise TorchServeError(f"{part!r} is no model name or version")
        return f"/models/{name}/{version}"

    async def _call(self, method: str, path: str, *, inference: bool = False) -> Any:
        socket = self._inference if inference else self._management
        connector = aiohttp.UnixConnector(path=str(socket), force_close=True)
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
                session.request(method, f"http://torchserve{path}") as response,
            ):
                return _answer(response.status, await response.read())
        except (aiohttp.ClientError, OSError) as error:
            raise TorchServeError(f"TorchServe does not answer: {type(error).__name__}") from error


def _answer(status: int, body: bytes) -> Any:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        value = {}
    if status >= 400:
        message = value.get("message", "") if isinstance(value, dict) else ""
        raise TorchServeError(message or f"TorchServe answered {status}", status)
    return value
