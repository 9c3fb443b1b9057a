"""The audit log: one JSON line for each thing that an operator did or was refused; never a key's text.

Three files, so that no kind of line pushes another out: what changes something, as it begins and as it ends;
what was only read; what was refused, which costs whoever is refused nothing. Written by the gateway
(`conductor_admin.auth.audit_writer`) and by the command line. Every field is bounded as JSON spells it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from conductor_admin.auth.journal import Journal
from conductor_admin.auth.reserve import Reserve
from conductor_core.files import DISK_FULL
from conductor_core.paths import StateDir

LARGEST_BYTES = 16 * 2**20
KEPT = 9
"""Older files of what was done, `audit.jsonl.1` the youngest of them."""

LARGEST_OTHER_BYTES = 8 * 2**20
KEPT_OTHER = 3

BEGUN = "begun"
"""The result of a line that is written before anything is done; a line with its outcome follows."""

_LONGEST = {"who": 100, "action": 300, "source": 100, "request_id": 100, "key_id": 50}
_LONGEST_DETAIL = 1000


@dataclass(frozen=True, slots=True)
class Act:
    """Who does what: by name and `key_id`, from which address, in which request."""

    who: str
    action: str
    source: str | None = None
    request_id: str | None = None
    key_id: str | None = None


class Audit:
    """The logs of one state directory; each method raises OSError where its line cannot be written."""

    def __init__(self, state: StateDir) -> None:
        self.reserve = Reserve(state.reserve_file)
        self._done = Journal(state.audit_file, largest=LARGEST_BYTES, kept=KEPT)
        others = {"largest": LARGEST_OTHER_BYTES, "kept": KEPT_OTHER}
        self._refusals = Journal(state.refusals_file, **others)
        self._reads = Journal(state.reads_file, **others)

    def begin(self, act: Act) -> None:
        """Say that `act` begins. What cannot be written here must not be done."""
        self.append(line_of(act, BEGUN))

    def begin_revocation(self, act: Act) -> None:
        """Say that a key is about to be revoked; on a full disk the reserve is given up for it."""
        try:
            self.begin(act)
        except OSError as error:
            if error.errno not in DISK_FULL or not self.reserve.give_up():
                raise
            self.begin(act)

    def end(self, act: Act, result: str | int, **details: Any) -> None:
        """Say how `act` ended: with an HTTP status, or in a word."""
        self.append(line_of(act, result, details))

    def append(self, line: bytes) -> None:
        """Add a line of `line_of` to those of what was done, and wait until the disk has it."""
        self._done.append(line, lasting=True)

    def refused(self, act: Act, result: str | int, **details: Any) -> None:
        """Say that `act` was refused before it began."""
        self._refusals.append(line_of(act, result, details))

    def was_read(self, act: Act, result: str | int, **details: Any) -> None:
        """Say what somebody read who may change things."""
        self._reads.append(line_of(act, result, details))


def line_of(act: Act, result: str | int, details: Mapping[str, Any] | None = None) -> bytes:
    """The line of `act` at this moment; JSON escapes line ends and controls."""
    fields = {
        name: value if value is None else bounded(value, _LONGEST[name])
        for name, value in asdict(act).items()
    }
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        **fields,
        "result": bounded(result, _LONGEST_DETAIL) if isinstance(result, str) else result,
        **{name: _detail(value) for name, value in (details or {}).items()},
    }
    return orjson.dumps(line) + b"\n"


def _detail(value: Any) -> Any:
    if isinstance(value, str):
        return bounded(value, _LONGEST_DETAIL)
    try:
        spelled = orjson.dumps(value, default=str).decode()
    except TypeError:  # half characters, of a command line
        return bounded(json.dumps(value, default=str), _LONGEST_DETAIL)
    return value if len(spelled) <= _LONGEST_DETAIL else bounded(spelled, _LONGEST_DETAIL)


def bounded(text: str, most: int) -> str:
    """The beginning of `text` that JSON spells in at most `most` bytes; half characters become escapes."""
    text = text[:most].encode("utf-8", "backslashreplace").decode()
    while (spelled := len(orjson.dumps(text)) - 2) > most:
        text = text[: min(len(text) - 1, len(text) * most // spelled)]
    return text
