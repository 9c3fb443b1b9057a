"""Where a completion of code ends: with its block, or where the text behind the cursor begins.

Goes by indentation, which every language in use shares, so that it needs no parser on half a program. Text is
let go line by line: only a whole line shows whether it still belongs to the block.
"""

from __future__ import annotations

import re

_OPENS = re.compile(
    r"(?:[:{(\[]|=>|->|\bdo|\bthen|\belse|\bdo \|[\w, ]*\|)\s*$|"
    r"^\s*(?:local )?(?:def|function|class|module|func|fn|sub)\b"
)
_CLOSES = re.compile(r"\s*(?:[})\]]|end\b|fi\b|done\b|esac\b)")
_BRACKETS = {")": "(", "]": "[", "}": "{"}
_LEAST_MATCH = 3
"""Characters from which a line counts as the one behind the cursor; a lone bracket does not."""


class BlockReader:
    """Reads a completion between `prefix` and `suffix`; `done` once its end has been seen."""

    def __init__(self, prefix: str, suffix: str = "") -> None:
        self.done = False
        self._suffix = suffix
        self._next_line = next((line.strip() for line in suffix.splitlines() if line.strip()), "")
        lines = [line for line in prefix.splitlines() if line.strip()]
        self._last = lines[-1] if lines else ""
        self._continues = bool(prefix) and not prefix.endswith("\n") and bool(prefix.splitlines()[-1].strip())
        self._base = _indent(self._last)
        self._opened = not self._continues and _OPENS.search(self._last) is not None
        self._held = ""
        self._blanks = ""
        self._seen = ""
        self._lines = 0

    def feed(self, piece: str) -> str:
        """The whole lines that became certain; nothing once `done`."""
        self._held += piece
        out = ""
        while not self.done and "\n" in self._held:
            line, _, self._held = self._held.partition("\n")
            out += self._line(line + "\n")
        return out

    def flush(self) -> str:
        """The rest at the end of the answer, without what the suffix repeats."""
        rest = "" if self.done else self._line(self._held)
        rest += "" if self.done else self._blanks
        return rest[: len(rest) - overlap(self._seen, self._suffix)] if self._suffix else rest

    def _line(self, line: str) -> str:
        if self._ends_before(line):
            self.done = True
            return ""
        if not line.strip():  # blank lines behind the block are not part of it
            self._blanks += line
            return ""
        if self._lines == 0 and self._continues:
            self._opened = _OPENS.search(self._last + line) is not None
        elif self._is_closing(line):
            self.done = True
        self._lines += 1
        out, self._blanks = self._blanks + line, ""
        self._seen += out
        return out

    def _ends_before(self, line: str) -> bool:
        text = line.strip()
        if not text or (self._lines == 0 and self._continues):
            return False
        if text == self._next_line and len(text) >= _LEAST_MATCH:
            return True
        if not self._is_outside(line):
            return False
        return not self._is_closing(line) or bool(self._suffix.strip())

    def _is_outside(self, line: str) -> bool:
        if self._lines == 0:
            return False
        indent = _indent(line)
        return indent <= self._base if self._opened else indent < self._base

    def _is_closing(self, line: str) -> bool:
        return self._is_outside(line) and _CLOSES.match(line) is not None


def overlap(text: str, suffix: str) -> int:
    """How many characters at the end of `text` the suffix says again; brackets that `text` opened stay."""
    for length in range(min(len(text), len(suffix)), 0, -1):
        shared = suffix[:length]
        if text.endswith(shared) and shared.strip() and _can_go(text, shared):
            return length
    return 0


def _can_go(text: str, shared: str) -> bool:
    if not set(shared.strip()) <= set(")]}\"';, \n"):
        return True
    return all(
        text.count(close) > text.count(opening) for close, opening in _BRACKETS.items() if close in shared
    )


def _indent(line: str) -> int:
    expanded = line.expandtabs(4)
    return len(expanded) - len(expanded.lstrip())
