"""Sessions in use: locks a session while it is answered, adds its history to the prompt, stores its turns.

The only writer of turns. Knows planned requests and records; `conductor_admin.sessions.store` has the
database. A turn is stored before its last record is sent, so that a complete answer is never lost. If the
client disconnects or the answer fails, the part that was sent is stored; a turn without sent text is not.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import replace

from conductor_admin.auth.caller import Caller
from conductor_admin.lifecycle.leases import WorkerAffinity
from conductor_admin.planner import PlannedRequest, SessionAsk, persona_text
from conductor_admin.sessions.models import Session, Turn
from conductor_admin.sessions.store import SessionStore
from conductor_admin.sessions.turns import PartialAnswer, first_session, turn_of, with_history
from conductor_core.catalogue import Catalogue
from handlers.wire import Done, GenerateInput, RequestError

_AFFINITIES = 10_000
"""Number of sessions whose worker is remembered."""

Records = AsyncGenerator[bytes | Done, None]
Generate = Callable[[PlannedRequest, WorkerAffinity], Records]


class Sessions:
    """The sessions of one gateway; their `store` must be open."""

    def __init__(self, store: SessionStore, catalogue: Callable[[], Catalogue]) -> None:
        self.store = store
        self._catalogue = catalogue
        self._busy: dict[str, str | None] = {}
        self._affinities: OrderedDict[str, WorkerAffinity] = OrderedDict()

    async def read(self, session_id: str, owner: str | None) -> Session:
        """The caller's session; 404 `session_not_found` if there is none or it belongs to another key."""
        found = await self.store.find(session_id, owner)
        if found is None:
            raise not_found()
        return found

    async def continued(self, body: GenerateInput, caller: Caller) -> GenerateInput:
        """Fill in the category and persona of the session that `body` continues, if it names none.

        Raises 404 `session_not_found`, 409 `session_busy`.
        """
        if body.session_id is None or body.session:
            return body
        self._refuse_busy(body.session_id, caller.key_id)
        session = await self.read(body.session_id, caller.key_id)
        own = {"category": body.category or session.category, "persona": body.persona or session.persona}
        return body.model_copy(update=own)

    async def run(self, planned: PlannedRequest, generate: Generate, *, sends: bool) -> Records:
        """Yield the records of one turn and store it; `sends` means that the client gets them as they come.

        Raises what `generate` raises, and RequestError 400, 404 and 409 about the session.
        """
        ask = _ask(planned)
        with self._claim(ask.id, planned.caller.key_id):
            session, asked = await self._begin(planned, ask)
            partial = PartialAnswer()
            try:
                async with aclosing(generate(asked, self._affinity(ask.id))) as records:
                    async for record in records:
                        if isinstance(record, Done):
                            partial.is_kept = True
                            record = await self._complete(planned, session, record)
                        elif sends:
                            partial.blocks.append(record)
                        yield record
            finally:
                if not partial.is_kept and (text := partial.text()):
                    with contextlib.suppress(RequestError):  # the store has logged it; the client has left
                        await self._keep(planned, session, turn_of(planned, text, None))

    async def _begin(self, planned: PlannedRequest, ask: SessionAsk) -> tuple[Session, PlannedRequest]:
        """The session, and the planned request with the session's history."""
        if ask.is_new:
            return first_session(planned, ask, time.time()), with_history(planned, planned.request.system, [])
        session = await self.read(ask.id, planned.caller.key_id)
        # The request's persona, else the session's own, else the default one.
        persona = planned.request.system
        if planned.session and planned.session.persona is None and session.persona is not None:
            persona = persona_text(self._catalogue(), session.persona, planned.row)
        return session, with_history(planned, persona, await self.store.past_turns(ask.id))

    async def change(self, session_id: str, owner: str | None, values: Mapping[str, str | None]) -> Session:
        """Change the title or persona of the session; 404 if there is none."""
        if values and not await self.store.change(session_id, owner, values):
            raise not_found()
        return await self.read(session_id, owner)

    async def delete(self, session_id: str, owner: str | None) -> None:
        """Delete a session with its turns; 404, or 409 `session_busy` while it is being answered."""
        with self._claim(session_id, owner):
            if not await self.store.delete(session_id, owner):
                raise not_found()
        self._affinities.pop(session_id, None)

    async def _complete(self, planned: PlannedRequest, session: Session, done: Done) -> Done:
        try:
            await self._keep(planned, session, turn_of(planned, done.text, done))
        except RequestError as error:
            # The answer is complete: return it although it could not be stored.
            warnings = [*done.findings.get("warnings", []), f"this turn is not saved: {error.message}"]
            return done.model_copy(update={"findings": {**done.findings, "warnings": warnings}})
        return done

    async def _keep(self, planned: PlannedRequest, session: Session, turn: Turn) -> None:
        used = replace(session, updated=time.time())
        await self.store.add(used, turn, is_new=_ask(planned).is_new)

    def _affinity(self, session_id: str) -> WorkerAffinity:
        affinity = self._affinities.setdefault(session_id, WorkerAffinity())
        self._affinities.move_to_end(session_id)
        if len(self._affinities) > _AFFINITIES:
            self._affinities.popitem(last=False)
        return affinity

    @contextlib.contextmanager
    def _claim(self, session_id: str, owner: str | None) -> Iterator[None]:
        self._refuse_busy(session_id, owner)
        if session_id in self._busy:
            raise not_found()
        self._busy[session_id] = owner
        try:
            yield
        finally:
            del self._busy[session_id]

    def _refuse_busy(self, session_id: str, owner: str | None) -> None:
        if session_id in self._busy and self._busy[session_id] == owner:
            raise RequestError(
                "the session is being answered; wait for the answer, or stop it",
                status=409,
                code="session_busy",
                param="session_id",
                retry_after_s=1,
            )


def not_found() -> RequestError:
    """Error 404 of a session that does not exist or belongs to another key."""
    return RequestError("no such session", status=404, code="session_not_found", param="session_id")


def _ask(planned: PlannedRequest) -> SessionAsk:
    assert planned.session is not None
    return planned.session
