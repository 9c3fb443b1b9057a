"""`auto`: which category a prompt is for."""

from __future__ import annotations

from dataclasses import dataclass

from conductor_admin.callers import Caller
from conductor_admin.gateway import Gateway
from conductor_admin.router import find_row
from conductor_core.catalogue import Row


@dataclass(frozen=True, slots=True)
class Chosen:
    """The row that answers and, in a few words for a header, why it does."""

    row: Row
    reason: str


async def choose(gateway: Gateway, prompt: str, caller: Caller) -> Chosen:
    """The row for `prompt` among those that the caller may use."""
    return Chosen(find_row(gateway.catalogue, None, caller), "default")
