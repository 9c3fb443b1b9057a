"""The audit log: one JSON line for each action of an operator, done or refused; never a key's text.

Three files, so that no kind of line pushes another out: changes, as they begin and as they end; reads; and
refusals, which anybody can cause. Written by the gateway (`conductor_admin.auth.audit_writer`) and by the
command line. The length of every field is bounded, measured as JSON.
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
"""Number of older files of changes, of which `audit.jsonl.1` is the youngest."""

LARGEST_OTHER_BYTES = 8 * 2**20
KEPT_OTHER = 3

BEGUN = "begun"
"""Result in a line that is written before an action runs; a line with the outcome follows."""

_LONGEST = {"who": 100, "action": 300, "source": 100, "request_id": 100, "key_id": 50}
_LONGEST_DETAIL = 1000


@dataclass(frozen=True, slots=True)
class Act:
    """An action and its actor: name and `key_id`, source address, and request id."""

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
        """Record that `act` begins; if this raises, the action must not run."""
        self.append(line_of(act, BEGUN))

    def begin_revocation(self, act: Act) -> None:
        """Record that a key is about to be revoked; on a full disk, free the reserve file for the line."""
        try:
            self.begin(act)
        except OSError as error:
            if error.errno not in DISK_FULL or not self.reserve.give_up():
                raise
            self.begin(act)

    def end(self, act: Act, result: str | int, **details: Any) -> None:
        """Record how `act` ended: an HTTP status or a word."""
        self.append(line_of(act, result, details))

    def append(self, line: bytes) -> None:
        """Add a line made by `line_of` to the changes, and wait until the disk has it."""
        self._done.append(line, lasting=True)

    def refused(self, act: Act, result: str | int, **details: Any) -> None:
        """Record that `act` was refused before it began."""
        self._refusals.append(line_of(act, result, details))

    def was_read(self, act: Act, result: str | int, **details: Any) -> None:
        """Record that an operator read something."""
        self._reads.append(line_of(act, result, details))


def line_of(act: Act, result: str | int, details: Mapping[str, Any] | None = None) -> bytes:
    """Line of `act` with the current time; JSON escapes line ends and control characters."""
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
    except TypeError:  # lone surrogates, from a command line
        return bounded(json.dumps(value, default=str), _LONGEST_DETAIL)
    return value if len(spelled) <= _LONGEST_DETAIL else bounded(spelled, _LONGEST_DETAIL)


def bounded(text: str, most: int) -> str:
    """The beginning of `text` that takes at most `most` bytes as JSON; lone surrogates are escaped."""
    text = text[:most].encode("utf-8", "backslashreplace").decode()
    while (spelled := len(orjson.dumps(text)) - 2) > most:
        text = text[: min(len(text) - 1, len(text) * most // spelled)]
    return text
