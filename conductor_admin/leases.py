"""What a request says to the lifecycle, the lease that it gets, and the bounds on both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from conductor_admin.load_story import Wait
from conductor_admin.policy import Bytes
from conductor_admin.worker_client import WorkerClient


@dataclass(slots=True)
class Place:
    """Which worker, by its pid, answered last, and so holds what was said; None where nobody knows."""

    pid: int | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request says of its set: the row that asks, how long it waits, how long the set is kept.

    None leaves both to the gateway's and the set's own; `keep_alive_s` below 0 is for ever. `may_load` and
    `may_evict` are what the request may cause: a load, and the end of another set for that load's sake.
    `prefers` is the pid of the worker that would answer best; `wait` is told what the request waits for.
    `client` is whose share of the server the request takes; `may_shorten` that `keep_alive_s` may end the set
    sooner than the table has it.
    """

    slug: str
    max_wait_s: float | None = None
    keep_alive_s: float | None = None
    may_load: bool = True
    may_evict: bool = True
    prefers: int | None = None
    client: str = ""
    is_admin: bool = False
    may_shorten: bool = True
    wait: Wait = field(default_factory=Wait)


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker that will not be unloaded while the lease lasts; `model` is the technical name it serves."""

    client: WorkerClient
    version: str
    pid: int
    model: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds in seconds, requests and bytes by device; `load_s` maps a set's memory to a deadline."""

    max_wait_s: float
    queue_size: int
    load_s: Callable[[int | None], float]
    budget: Bytes
