"""Finds the end of a code completion: the end of its block, or the start of the text after the cursor.

Uses indentation, which all supported languages share, so that no parser has to read half a program. Text is
released line by line, because only a whole line shows if it still belongs to the block.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_OPENS = re.compile(
    r"(?:[:{(\[]|=>|->|\bdo|\bthen|\belse|\bdo \|[\w, ]*\|)\s*$|"
    r"^\s*(?:local )?(?:def|function|class|module|func|fn|sub)\b"
)
_CLOSES = re.compile(r"\s*(?:[})\]]|end\b|fi\b|done\b|esac\b)")
_BRACKETS = {")": "(", "]": "[", "}": "{"}
_ENDS = frozenset(")]}\"';, \n")
_LINE_END = re.compile(r"[\r\n]")
_LONGEST_LINE = 2_000
"""Characters of a line that are searched. The first or the last words of a line open a block."""
_LONGEST_OVERLAP = 10_000
"""Characters of the suffix that an answer is compared with; comparing them takes about 10 ms."""
_LEAST_MATCH = 3
"""Characters that a line needs to be recognised as the line after the cursor.

A single bracket is too short.
"""


class BlockReader:
    """Reads a completion between `prefix` and `suffix`; `done` is set when its end was found."""

    def __init__(self, prefix: str, suffix: str = "") -> None:
        self.done = False
        self._suffix = suffix
        self._next_line = suffix.lstrip().partition("\n")[0].strip()
        written = prefix.rstrip()
        line = written[max(written.rfind(end) for end in "\r\n") + 1 :]
        half = _LONGEST_LINE // 2
        self._last = line if len(line) <= _LONGEST_LINE else line[:half] + line[-half:]
        self._continues = bool(written) and not _LINE_END.search(prefix, len(written))
        self._base = _indent(self._last)
        self._opened = not self._continues and _OPENS.search(self._last) is not None
        self._held: list[str] = []
        self._blanks: list[str] = []
        self._seen: list[str] = []
        self._lines = 0

    def feed(self, piece: str) -> str:
        """The whole lines that surely belong to the completion; an empty string once `done`."""
        self._held.append(piece)
        if "\n" not in piece:
            return ""
        *lines, rest = "".join(self._held).split("\n")
        self._held = [rest]
        out: list[str] = []
        for line in lines:
            if self.done:
                break
            out.append(self._line(line + "\n"))
        return "".join(out)

    def flush(self) -> str:
        """The rest at the end of the answer, without the part that repeats the start of the suffix."""
        rest = "" if self.done else self._line("".join(self._held))
        rest += "" if self.done else "".join(self._blanks)
        return rest[: len(rest) - overlap("".join(self._seen), self._suffix)] if self._suffix else rest

    def _line(self, line: str) -> str:
        if self._ends_before(line):
            self.done = True
            return ""
        if not line.strip():  # blank lines after the block are not part of it
            self._blanks.append(line)
            return ""
        if self._lines == 0 and self._continues:
            self._opened = _OPENS.search(self._last + line) is not None
        elif self._is_closing(line):
            self.done = True
        self._lines += 1
        out, self._blanks = "".join([*self._blanks, line]), []
        self._seen.append(out)
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
    """The number of characters at the end of `text` that repeat the start of `suffix`.

    A closing bracket that `text` itself needs is not counted.
    """
    seen = suffix[:_LONGEST_OVERLAP]
    kept = {close for close, opening in _BRACKETS.items() if text.count(close) <= text.count(opening)}
    blank = len(seen) - len(seen.lstrip())
    # Closing signs alone may belong to the code before them; with any other character it is a repetition.
    closing = next((at for at, sign in enumerate(seen) if at >= blank and sign not in _ENDS), len(seen))
    needed = next((at for at, sign in enumerate(seen) if sign in kept), len(seen))
    return next((at for at in _shared(text, seen) if at > blank and (at > closing or at <= needed)), 0)


def _shared(text: str, suffix: str) -> Iterator[int]:
    """Lengths of the ends of `text` that are also starts of `suffix`, the longest first.

    Takes linear time.
    """
    whole = f"{suffix}\0{text[-len(suffix) :]}" if suffix else ""
    borders = [0] * len(whole)
    for at in range(1, len(whole)):
        length = borders[at - 1]
        while length and whole[at] != whole[length]:
            length = borders[length - 1]
        borders[at] = length + (whole[at] == whole[length])
    length = borders[-1] if borders else 0
    while length:
        if length <= min(len(suffix), len(text)):
            yield length
        length = borders[length - 1]


def _indent(line: str) -> int:
    expanded = line.expandtabs(4)
    return len(expanded) - len(expanded.lstrip())
