"""Counts swaps: loads that had to unload something first, and those that serving in order would have made.

Pure bookkeeping. The second figure comes from a shadow of the memory in which every request is served in the
order of arrival, the set that was used least lately making room for the next.
"""

from __future__ import annotations

from conductor_admin.policy import Bytes, lack, total


class Swaps:
    """Swaps since the start; `made` is counted by whoever evicts."""

    def __init__(self, budget: Bytes) -> None:
        self.made = 0
        self._in_order = 0
        self._budget = budget
        self._shadow: dict[str, Bytes] = {}

    @property
    def avoided(self) -> int:
        """Swaps that answering requests strictly in order would have made beyond those that were."""
        return max(0, self._in_order - self.made)

    def asked(self, name: str, memory: Bytes) -> None:
        """A request for the set `name` has come."""
        known = self._shadow.pop(name, None)
        if known is None and self._make_room(memory):
            self._in_order += 1
        self._shadow[name] = memory

    def ended(self, name: str) -> None:
        """The set was unloaded for a reason of its own, not for another one's sake."""
        self._shadow.pop(name, None)

    def _make_room(self, memory: Bytes) -> bool:
        swapped = False
        while self._shadow and lack(total([memory, *self._shadow.values()]), self._budget):
            self._shadow.pop(next(iter(self._shadow)))
            swapped = True
        return swapped
