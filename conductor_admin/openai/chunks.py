"""A chat answer piece by piece: what each record of a worker makes of one choice's deltas.

Knows the chunks of chat completions; tools' arguments are streamed as they are written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from conductor_admin.openai.logprobs import chat_logprobs
from conductor_admin.openai.tools import Offer, call_id
from handlers.tool_calls.parser import Event, Text, ToolCallParser
from handlers.tool_calls.reader import CallArguments, CallStart
from handlers.wire import Done

Delta = dict[str, Any]


class ChoiceChunks:
    """The state of one choice of a stream; `index` is its place among them."""

    def __init__(self, index: int, offer: Offer) -> None:
        self._index = index
        self._offer = offer
        self._parser = ToolCallParser(offer.names) if offer.names else None
        self._began = False
        self._called = False
        self._logprobs: list[dict[str, Any]] | None = None

    def record(self, record: dict[str, Any]) -> list[Delta]:
        """The `choices` entries that a record of the worker makes."""
        if "delta" not in record:
            return []
        if "logprobs" in record:
            self._logprobs = self._logprobs or []
            self._logprobs += record["logprobs"]
        piece = record["delta"]
        deltas = self._events(self._parser.feed(piece)) if self._parser else [{"content": piece}]
        return self._entries(deltas)

    def end(self, done: Done) -> list[Delta]:
        """The last entries, the very last of which has the finish reason."""
        rest = self._events(self._parser.close()) if self._parser else []
        entries = self._entries(rest)
        return [*entries, *self._entries([{}], reason_of(done, called=self._called))]

    def _events(self, events: Iterable[Event]) -> list[Delta]:
        return [delta for event in events if (delta := self._delta(event)) is not None]

    def _delta(self, event: Event) -> Delta | None:
        if isinstance(event, Text):
            return {"content": event.text}
        if event.index and not self._offer.several:
            return None
        self._called = True
        return {"tool_calls": [_call_delta(event)]}

    def _entries(self, deltas: list[Delta], reason: str | None = None) -> list[Delta]:
        entries = [self._entry(delta, reason) for delta in deltas]
        if entries and not self._began:
            self._began = True
            role = {"role": "assistant", "content": ""}
            entries.insert(0, {"index": self._index, "delta": role, "logprobs": None, "finish_reason": None})
        return entries

    def _entry(self, delta: Delta, reason: str | None) -> Delta:
        told, self._logprobs = self._logprobs, None
        return {
            "index": self._index,
            "delta": delta,
            "logprobs": None if told is None else chat_logprobs(told),
            "finish_reason": reason,
        }


def reason_of(done: Done, *, called: bool) -> str:
    """`length` where the answer was cut, else `tool_calls` where it has calls, else `stop`."""
    if done.finish_reason == "length":
        return "length"
    return "tool_calls" if called else "stop"


def _call_delta(event: CallStart | CallArguments) -> dict[str, Any]:
    if isinstance(event, CallArguments):
        return {"index": event.index, "function": {"arguments": event.text}}
    return {
        "index": event.index,
        "id": call_id(),
        "type": "function",
        "function": {"name": event.name, "arguments": ""},
    }
