"""Authentication: finds the caller of a request's credential, and ends requests whose key is revoked.

The file's stamp is checked at every request and every heartbeat, so that keys made or revoked by another
process count at once. A file that breaks or vanishes while the gateway runs changes nothing: access stays
as closed as it was. A key is revoked in memory first and then in the file, so that no disk keeps it valid.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections import defaultdict
from collections.abc import AsyncIterator

import structlog
from starlette.datastructures import Headers

from conductor_admin.auth.caller import ANYONE, OWNER, Caller
from conductor_admin.auth.keys import LONGEST_TEXT, Key, digest, matching, named
from conductor_admin.auth.keys_file import KeysFile, KeysFileError
from conductor_admin.http.responses import keys_file_failed
from handlers.wire import RequestError

log = structlog.get_logger()


class Authenticator:
    """Keys of `file`; `owner` is the owner's token. `always_closed` if other machines reach the port."""

    def __init__(self, file: KeysFile, *, owner: str | None = None, always_closed: bool = False) -> None:
        """Raises KeysFileError for a broken file."""
        self.file = file
        self.failures = 0
        """Requests refused for the lack of a valid key."""
        self.last_used: dict[str, float] = {}
        """Unix seconds by key id, since the start."""
        self._owner = digest(owner) if owner else None
        self._always_closed = always_closed
        self._stamp = file.stamp()
        keys = file.read()
        self._keys: dict[str, Key] = {key.id: key for key in keys or ()}
        self._closed = keys is not None
        self._running: defaultdict[str, set[asyncio.Timeout]] = defaultdict(set)
        self._revoked: set[str] = set()  # not valid here, even if the file still has it
        self._unwritten: set[str] = set()  # revoked keys that could not be written to the file
        self._writing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """True if everybody who reaches the port may do everything."""
        return not (self._closed or self._always_closed)

    @property
    def all(self) -> tuple[Key, ...]:
        """The keys in force, expired ones included."""
        return tuple(self._keys.values())

    def tend(self) -> None:
        """Check the file, and retry revocations that the disk did not take; called at each heartbeat."""
        self.look()
        if self._unwritten and (self._writing is None or self._writing.done()):
            self._writing = asyncio.create_task(self._write_revoked(), name="revoked keys")

    async def revoke(self, name: str) -> Key:
        """Revoke the key with this id or name, end its requests, then remove it from the file.

        Raises RequestError 404 `key_not_found`. If the file cannot be written, raises 507 or 503; the key
        stays revoked while this gateway runs, and `tend` retries the write.
        """
        self.look()
        key = named(self.all, name)
        self._revoked.add(key.id)
        del self._keys[key.id]
        self._end(key.id)
        try:
            await asyncio.to_thread(self.file.revoke, key.id)
        except KeysFileError as error:
            self._unwritten.add(key.id)
            log.error("key_revocation_not_written", key=key.id, cause=str(error))
            raise keys_file_failed(
                f"{key.name} is revoked in this gateway, but this could not be saved: a restart before it is "
                f"saved would make the key valid again. Saving is tried again every second ({error})",
                error.cause,
            ) from error
        self.look()
        return key

    async def _write_revoked(self) -> None:
        for key_id in tuple(self._unwritten):
            try:
                await asyncio.to_thread(self.file.revoke, key_id)
            except KeysFileError:
                return  # logged when it failed first
            except RequestError:
                pass  # the command line was faster
            self._unwritten.discard(key_id)
            log.info("key_revocation_written", key=key_id)
        self.look()

    def look(self) -> None:
        """Read the file if it has changed, and end the requests of keys that are gone."""
        try:
            stamp = self.file.stamp()
            if stamp in (self._stamp, None):
                return
            self._stamp = stamp
            keys = self.file.read() or ()
        except KeysFileError as error:
            log.error("keys_broken", cause=str(error))
            return
        self._closed = True
        self._revoked &= {key.id for key in keys}
        self._keys = {key.id: key for key in keys if key.id not in self._revoked}
        log.info("keys_read", keys=len(self._keys))
        for key_id in self._running.keys() - self._keys.keys():
            self._end(key_id)

    def caller(self, headers: Headers) -> Caller:
        """Find the caller. Raises RequestError 401 `missing_api_key` or `invalid_api_key`."""
        self.look()
        if self.is_open:
            return ANYONE
        try:
            return self._caller(credential(headers))
        except RequestError:
            self.failures += 1
            raise

    def _caller(self, text: str) -> Caller:
        if self._owner is not None and hmac.compare_digest(self._owner, digest(text)):
            return OWNER
        key, now = matching(self._keys.values(), text), time.time()
        if key is None or not key.is_valid(now):
            raise invalid_key()
        self.last_used[key.id] = now
        return key.caller()

    @contextlib.asynccontextmanager
    async def while_valid(self, caller: Caller) -> AsyncIterator[asyncio.Timeout]:
        """Run the block while the key is valid; then it ends with TimeoutError and an `expired` timeout."""
        key = self._keys.get(caller.key_id or "")
        left = None if key is None or key.expires is None else max(0.0, key.expires - time.time())
        try:
            async with asyncio.timeout(left) as running:
                if key is not None:
                    self._running[key.id].add(running)
                yield running
        finally:
            if key is not None:
                self._running[key.id].discard(running)
                if not self._running[key.id]:
                    del self._running[key.id]

    def _end(self, key_id: str) -> None:
        for running in self._running.get(key_id, ()):
            if not running.expired():  # one that is ending already may take its time
                running.reschedule(asyncio.get_running_loop().time())


def credential(headers: Headers) -> str:
    """The text of `Authorization: Bearer` or `x-api-key`. Raises RequestError 401."""
    given = headers.getlist("authorization")
    if not given:
        keys = headers.getlist("x-api-key")
        if not keys:
            raise RequestError(
                "this server needs an API key: send it as Authorization: Bearer",
                status=401,
                type="authentication_error",
                code="missing_api_key",
            )
        given = [f"bearer {key}" for key in keys]
    scheme, _, text = given[0].partition(" ")
    text = text.strip()
    if len(given) > 1 or scheme.lower() != "bearer" or not 0 < len(text) <= LONGEST_TEXT:
        raise invalid_key()
    return text


def invalid_key() -> RequestError:
    """The refusal of a key that is unknown, revoked, expired or malformed."""
    return RequestError(
        "the API key is not valid", status=401, type="authentication_error", code="invalid_api_key"
    )
