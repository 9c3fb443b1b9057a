"""A cache of recent code completions, for a user who asks again or goes on typing inside a completion.

It is bounded by number and by characters; the oldest entries are removed first. There is one per loaded
model.
"""

from __future__ import annotations

from dataclasses import dataclass

from handlers.wire import FinishReason

MAX_ENTRIES = 256
MAX_CHARS = 4_000_000


@dataclass(frozen=True, slots=True)
class CachedCompletion:
    """A completion; `mode` is fim or continuation, `finish_reason` is the model's."""

    text: str
    mode: str
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class _Entry:
    context: str
    prefix: str
    completion: CachedCompletion

    @property
    def chars(self) -> int:
        return len(self.context) + len(self.prefix) + len(self.completion.text)


class CompletionCache:
    """Recent completions of one model. For one thread only; a look-up takes well under a millisecond."""

    def __init__(self, max_entries: int = MAX_ENTRIES, max_chars: int = MAX_CHARS) -> None:
        self._max_entries = max_entries
        self._max_chars = max_chars
        self._entries: list[_Entry] = []  # the latest is last
        self._chars = 0

    def find(self, context: str, prefix: str) -> CachedCompletion | None:
        """The rest of a cached completion, where `prefix` is its prefix plus the start of its text.

        None if no rest. `context` is everything else that the completion depends on.
        """
        for entry in reversed(self._entries):
            if entry.context == context and prefix.startswith(entry.prefix):
                typed = prefix[len(entry.prefix) :]
                kept = entry.completion
                if kept.text.startswith(typed) and len(kept.text) > len(typed):
                    return CachedCompletion(kept.text[len(typed) :], kept.mode, kept.finish_reason)
        return None

    def keep(self, context: str, prefix: str, completion: CachedCompletion) -> None:
        """Adds a completion that is not empty, and removes the oldest ones beyond the bounds."""
        entry = _Entry(context, prefix, completion)
        if not completion.text or entry.chars > self._max_chars:
            return
        self._entries.append(entry)
        self._chars += entry.chars
        while len(self._entries) > self._max_entries or self._chars > self._max_chars:
            self._chars -= self._entries.pop(0).chars
