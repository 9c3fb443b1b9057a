"""What a request may cause where its set is not loaded: a load, and the end of other sets for its sake.

A request that may cause less joins what others have caused, and never makes their load wait.
"""

from __future__ import annotations

import asyncio

from conductor_admin.leases import Wish
from conductor_admin.rooms import Rooms
from conductor_admin.set_entry import SetEntry
from conductor_admin.set_jobs import SetJobs
from conductor_admin.states import LOADING_RETRY_S, State
from handlers.wire import RequestError


def load_for(jobs: SetJobs, rooms: Rooms, entry: SetEntry, wish: Wish) -> asyncio.Task[None]:
    """The job that the request waits for, begun or joined. Raises 503 where it may not begin one."""
    if entry.state in (State.UNAVAILABLE, State.FAILED):
        _refuse(rooms, entry, wish)
        return jobs.begin_load(entry, may_evict=wish.may_evict)
    if wish.may_evict and not entry.may_evict:
        entry.may_evict = True
        rooms.settle()
    return jobs.begin_load(entry)


def _refuse(rooms: Rooms, entry: SetEntry, wish: Wish) -> None:
    if not wish.may_load:
        raise _not_allowed(f"{wish.slug} is not loaded, and this key may not load it", "load_not_allowed")
    if not wish.may_evict and not rooms.has_room_for(entry):
        message = f"{wish.slug} fits only in the place of another model, and this key may not unload one"
        raise _not_allowed(message, "eviction_not_allowed")


def _not_allowed(message: str, code: str) -> RequestError:
    return RequestError(
        message, status=503, type="permission_error", code=code, retry_after_s=LOADING_RETRY_S
    )
