"""Which worker set answers for which row, while SETTINGS.md changes under them.

A set is asked for by the slug of any of its rows; its name is that of its first. One that is retired takes
no new request; it stays in the table until its workers and their memory are gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import count

from conductor_admin.set_entry import SetEntry
from conductor_admin.states import row_removed
from conductor_core.catalogue import WorkerSet


class SetTable:
    """`entries` are all sets that may hold anything, by key; each row is served by one of them."""

    def __init__(self, sets: Iterable[WorkerSet]) -> None:
        self.entries: dict[str, SetEntry] = {}
        self._serial = count(2)
        self._serving: dict[str, SetEntry] = {}
        for worker_set in sets:
            self.serve(self.add(worker_set))

    def add(self, worker_set: WorkerSet) -> SetEntry:
        """A new entry that serves no row yet."""
        key = worker_set.name
        while key in self.entries:
            key = f"{worker_set.name}#{next(self._serial)}"
        entry = self.entries[key] = SetEntry(worker_set, key)
        return entry

    def serve(self, entry: SetEntry) -> None:
        """Let the entry answer for all its rows from now on."""
        self._serving |= {row.slug: entry for row in entry.worker_set.rows}

    def serve_new(self, entry: SetEntry) -> None:
        """Let the entry answer for those of its rows that nothing else that is loaded answers for."""
        for row in entry.worker_set.rows:
            other = self._serving.get(row.slug)
            if other is None or not other.is_loaded:
                self._serving[row.slug] = entry

    def keep_rows(self, slugs: Collection[str]) -> None:
        """Forget rows that are not among `slugs`, and list the others in their order."""
        self._serving = {slug: self._serving[slug] for slug in slugs if slug in self._serving}

    def named(self, slug: str) -> SetEntry:
        """What answers for the row `slug`, or did and still does for those who have it.

        Raises RequestError 404 once that is gone too.
        """
        if entry := self._serving.get(slug):
            return entry
        for entry in self.entries.values():
            if any(row.slug == slug for row in entry.worker_set.rows):
                return entry
        raise row_removed(slug)

    def serving(self, slug: str) -> SetEntry | None:
        """What answers requests for the row `slug`, if it still takes any."""
        entry = self._serving.get(slug)
        return entry if entry and not entry.retired else None

    def serves_beside(self, entry: SetEntry) -> bool:
        """Whether another one that is loaded answers for a row of `entry`."""
        others = [self._serving.get(row.slug) for row in entry.worker_set.rows]
        return any(other and other is not entry and other.is_loaded for other in others)

    def present(self) -> list[SetEntry]:
        """The entries that answer for a row, each once."""
        return [entry for entry in dict.fromkeys(self._serving.values()) if not entry.retired]

    def forget_gone(self) -> None:
        """Drop retired entries that hold nothing any more."""
        gone = [e for e in self.entries.values() if e.retired and e.held is None and not e.has_job]
        for entry in gone:
            del self.entries[entry.key]
