"""Which worker set answers to which name, while SETTINGS.md changes under them.

A set that is retired takes no new request; it stays in the table until its workers and their memory are gone.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import count

from conductor_admin.set_entry import SetEntry
from conductor_core.catalogue import WorkerSet


class SetTable:
    """`entries` are all sets that may hold anything, by key; names belong to those that serve."""

    def __init__(self, sets: Iterable[WorkerSet]) -> None:
        self.entries: dict[str, SetEntry] = {}
        self._serial = count(2)
        self._names: dict[str, SetEntry] = {}
        for worker_set in sets:
            self.serve(self.add(worker_set))

    def add(self, worker_set: WorkerSet) -> SetEntry:
        """A new entry that answers to no name yet."""
        key = worker_set.name
        while key in self.entries:
            key = f"{worker_set.name}#{next(self._serial)}"
        entry = self.entries[key] = SetEntry(worker_set, key)
        return entry

    def serve(self, entry: SetEntry) -> None:
        """Let the entry answer to its name from now on."""
        self._names[entry.name] = entry

    def named(self, name: str) -> SetEntry:
        """What answers to `name`, or did so last; KeyError for a name that never was."""
        return self._names[name]

    def serving(self, name: str, slug: str) -> SetEntry | None:
        """What answers requests for the row `slug`, whose set was called `name` when they came."""
        entry = self._names.get(name)
        if entry and not entry.retired:
            return entry
        return next((e for e in self.present() if any(row.slug == slug for row in e.worker_set.rows)), None)

    def present(self) -> list[SetEntry]:
        """The entries that answer to a name, each once."""
        return [entry for name, entry in self._names.items() if entry.name == name and not entry.retired]

    def forget_gone(self) -> None:
        """Drop retired entries that hold nothing any more."""
        gone = [e for e in self.entries.values() if e.retired and e.held is None and not e.has_job]
        for entry in gone:
            del self.entries[entry.key]
