"""Completions of code that were made lately, for a user who asks again or types on inside one.

Bounded by number and by characters; the oldest go first. Knows text only; one per loaded model.
"""

from __future__ import annotations

from dataclasses import dataclass

from handlers.wire import FinishReason

MAX_ENTRIES = 256
MAX_CHARS = 4_000_000


@dataclass(frozen=True, slots=True)
class Completion:
    """A completion with how it came to be: `mode` is fim or continuation, `finish_reason` the model's."""

    text: str
    mode: str
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class _Entry:
    context: str
    prefix: str
    completion: Completion

    @property
    def chars(self) -> int:
        return len(self.context) + len(self.prefix) + len(self.completion.text)


class CompletionCache:
    """Used on one thread; a look-up compares strings and takes well under a millisecond."""

    def __init__(self, max_entries: int = MAX_ENTRIES, max_chars: int = MAX_CHARS) -> None:
        self._max_entries = max_entries
        self._max_chars = max_chars
        self._entries: list[_Entry] = []  # the latest is last
        self._chars = 0

    def find(self, context: str, prefix: str) -> Completion | None:
        """What is left of a kept completion whose prefix and beginning `prefix` is; never an empty one.

        `context` is all else that the completion depends on.
        """
        for entry in reversed(self._entries):
            if entry.context == context and prefix.startswith(entry.prefix):
                typed = prefix[len(entry.prefix) :]
                kept = entry.completion
                if kept.text.startswith(typed) and len(kept.text) > len(typed):
                    return Completion(kept.text[len(typed) :], kept.mode, kept.finish_reason)
        return None

    def keep(self, context: str, prefix: str, completion: Completion) -> None:
        """Keeps a completion that is not empty, and lets go of the oldest ones beyond the bounds."""
        entry = _Entry(context, prefix, completion)
        if not completion.text or entry.chars > self._max_chars:
            return
        self._entries.append(entry)
        self._chars += entry.chars
        while len(self._entries) > self._max_entries or self._chars > self._max_chars:
            self._chars -= self._entries.pop(0).chars
