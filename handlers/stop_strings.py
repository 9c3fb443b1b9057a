"""Cuts a growing text at the first stop string, holding back what may still become one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat


class StopStrings:
    """Feed pieces; what comes back is safe to send. `hit` says that a stop string was met."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self._borders = [_borders(stop) for stop in self._stops]
        self._begun = [0 for _ in self._stops]
        self.hit = False

    def feed(self, piece: str) -> str:
        """The part of the text that no stop string can claim any more; ends before the earliest stop."""
        text = self._held + piece
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.hit = True
            self._held = ""
            self._begun = [0 for _ in self._stops]
            return text[: min(found)]
        self._begun = list(map(_begun, self._stops, self._borders, self._begun, repeat(piece)))
        keep = max(self._begun, default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """The held text, once nothing follows."""
        held, self._held = self._held, ""
        return held


def _borders(stop: str) -> list[int]:
    """For each beginning of `stop` the length of its longest end that begins `stop` too."""
    found = [0] * len(stop)
    for at in range(1, len(stop)):
        found[at] = _begun(stop, found, found[at - 1], stop[at])
    return found


def _begun(stop: str, borders: list[int], begun: int, piece: str) -> int:
    """How much of `stop` the text ends with once `piece` follows; `begun` is how much it did before.

    It looks at each new character once, so that 16 long stop strings cost a token no more than short ones.
    """
    for character in piece:
        while begun and stop[begun] != character:
            begun = borders[begun - 1]
        begun += stop[begun] == character
    return begun
