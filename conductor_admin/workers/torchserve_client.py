"""Client of TorchServe's management API: the only code of the gateway that knows its routes and answers.

Knows nothing of worker sets, requests or processes. To load is `register` and polling `describe`, to unload
is `unregister`. Only bare file names of our own store ever reach TorchServe. Each call carries the key that
TorchServe's key file names; if TorchServe refuses a key, new ones are read or requested and the call is made
again.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp
import orjson

from conductor_admin.workers.torchserve_token import LIFETIME_MIN, TokenError, TorchServeKeys, read_keys
from conductor_admin.workers.torchserve_watch import PING_TIMEOUT_S

Api = Literal["management", "inference", "api"]

_ARCHIVE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,120}\.mar")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,120}")
_TIMEOUT = aiohttp.ClientTimeout(total=30)


class TorchServeError(Exception):
    """TorchServe refused or did not answer; `status` is its HTTP status, 0 without an answer.

    `kind` is the class of the exception in its answer, if it names one.
    """

    def __init__(self, message: str, status: int = 0, kind: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """One worker as TorchServe describes it; only its pid is relied upon."""

    pid: int
    ready: bool


class TorchServe:
    """Calls over the private management and inference sockets. Every method raises TorchServeError."""

    def __init__(
        self, management: Path, inference: Path, key_file: Path, *, lifetime_min: float = LIFETIME_MIN
    ) -> None:
        self._management = management
        self._inference = inference
        self._key_file = key_file
        self._lifetime_min = lifetime_min
        self._keys: TorchServeKeys | None = None
        self._renewing = asyncio.Lock()

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
        """Kill the version's workers and unregister it; a missing version is no error."""
        try:
            await self._call("DELETE", self._path(name, version))
            return
        except TorchServeError as error:
            if error.status == 404:
                return
            if error.status != 403:
                raise
        # The default version can be removed only if it is the last one or another one becomes the default.
        answer = await self._call("GET", self._path(name, "all"))
        others = [found["modelVersion"] for found in answer if found["modelVersion"] != version]
        if not others:
            raise TorchServeError(f"{name} {version} cannot be unregistered", 403)
        await self._call("PUT", f"{self._path(name, others[0])}/set-default")
        await self._call("DELETE", self._path(name, version))

    async def ping(self) -> bool:
        """True if TorchServe takes calls; its status of the workers is ignored."""
        try:
            await self._call("GET", "/ping", "inference")
        except TorchServeError as error:
            return error.status == 500
        return True

    async def fault(self) -> str | None:
        """None if both APIs answer, even with a refusal; else the cause in one line."""
        found = await asyncio.gather(
            self._probe("/ping", "inference"), self._probe("/models?limit=1", "management")
        )
        return next((fault for fault in found if fault), None)

    async def _probe(self, path: str, api: Api) -> str | None:
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await self._call("GET", path, api)
        except TimeoutError:
            return f"the {api} API of TorchServe accepts calls but does not answer"
        except TorchServeError as error:
            return None if error.status else f"the {api} API: {error}"
        return None

    async def renew_when_due(self) -> None:
        """Request new keys once half of the lifetime of the old ones is over."""
        keys = self._known_keys()
        if keys.is_due(time.time(), self._lifetime_min):
            await self._renew(keys)

    @staticmethod
    def _path(name: str, version: str) -> str:
        for part in (name, version):
            if not _NAME.fullmatch(part):
                raise TorchServeError(f"{part!r} is not a model name or version")
        return f"/models/{name}/{version}"

    async def _call(self, method: str, path: str, api: Api = "management") -> Any:
        keys = self._known_keys()
        try:
            return await self._send(method, path, api, keys)
        except TorchServeError as error:
            if error.kind != "InvalidKeyException":
                raise
        # A call with a refused key has had no effect, so it may be repeated.
        await self._renew(keys)
        return await self._send(method, path, api, self._known_keys())

    def _known_keys(self) -> TorchServeKeys:
        self._keys = self._keys or self._read_keys()
        return self._keys

    def _read_keys(self) -> TorchServeKeys:
        try:
            return read_keys(self._key_file)
        except TokenError as error:
            raise TorchServeError(str(error)) from error

    async def _renew(self, old: TorchServeKeys) -> None:
        """Replace `old` by the keys in the file, or by new ones if it still has `old`. One at a time."""
        async with self._renewing:
            try:
                written = self._read_keys()  # a restarted TorchServe has written new keys
            except TorchServeError:
                written = old
            if written == old:
                # The key that never expires is kept in memory: a disk that is full may lose the file.
                for name in ("management", "inference"):
                    await self._send("GET", f"/token?type={name}", "api", old)
                written = self._read_keys()
            self._keys = written

    async def _send(self, method: str, path: str, api: Api, keys: TorchServeKeys) -> Any:
        socket = self._inference if api == "inference" else self._management
        connector = aiohttp.UnixConnector(path=str(socket), force_close=True)
        headers = {"authorization": f"Bearer {getattr(keys, api)}"}
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session,
                session.request(method, f"http://torchserve{path}", headers=headers) as response,
            ):
                status, body = response.status, await response.read()
        except (aiohttp.ClientError, OSError) as error:
            raise TorchServeError(f"TorchServe does not answer: {type(error).__name__}") from error
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            value = {}
        if status >= 400:
            decoded = value if isinstance(value, dict) else {}
            message = str(decoded.get("message") or f"TorchServe answered {status}")
            raise TorchServeError(message, status, str(decoded.get("type", "")))
        return value
