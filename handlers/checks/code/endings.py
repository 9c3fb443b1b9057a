"""Where a completion of code ends: with its block, or where the text behind the cursor begins.

Goes by indentation, which every language in use shares, so that it needs no parser on half a program. Text is
let go line by line: only a whole line shows whether it still belongs to the block.
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
"""Characters of a line that are looked at: a line opens a block by its first or its last words."""
_LONGEST_OVERLAP = 10_000
"""Characters of the suffix that an answer is held against; they take about 10 ms."""
_LEAST_MATCH = 3
"""Characters from which a line counts as the one behind the cursor; a lone bracket does not."""


class BlockReader:
    """Reads a completion between `prefix` and `suffix`; `done` once its end has been seen."""

    def __init__(self, prefix: str, suffix: str = "") -> None:
        self.done = False
        self._suffix = suffix
        self._next_line = suffix.lstrip().partition("\n")[0].strip()
        written = prefix.rstrip()
        self._last = _shortened(written[max(written.rfind(end) for end in "\r\n") + 1 :])
        self._continues = bool(written) and not _LINE_END.search(prefix, len(written))
        self._base = _indent(self._last)
        self._opened = not self._continues and _OPENS.search(self._last) is not None
        self._held: list[str] = []
        self._blanks: list[str] = []
        self._seen: list[str] = []
        self._lines = 0

    def feed(self, piece: str) -> str:
        """The whole lines that became certain; nothing once `done`."""
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
        """The rest at the end of the answer, without what the suffix repeats."""
        rest = "" if self.done else self._line("".join(self._held))
        rest += "" if self.done else "".join(self._blanks)
        return rest[: len(rest) - overlap("".join(self._seen), self._suffix)] if self._suffix else rest

    def _line(self, line: str) -> str:
        if self._ends_before(line):
            self.done = True
            return ""
        if not line.strip():  # blank lines behind the block are not part of it
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
    """How many characters at the end of `text` the suffix says again; brackets that `text` opened stay."""
    seen = suffix[:_LONGEST_OVERLAP]
    kept = {close for close, opening in _BRACKETS.items() if text.count(close) <= text.count(opening)}
    blank = len(seen) - len(seen.lstrip())
    # Signs that only close may be needed by what stands before them; with any other one it is a repetition.
    closing = next((at for at, sign in enumerate(seen) if at >= blank and sign not in _ENDS), len(seen))
    needed = next((at for at, sign in enumerate(seen) if sign in kept), len(seen))
    return next((at for at in _shared(text, seen) if at > blank and (at > closing or at <= needed)), 0)


def _shared(text: str, suffix: str) -> Iterator[int]:
    """The lengths at which `text` ends as `suffix` begins, the longest first, in linear time."""
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


def _shortened(line: str) -> str:
    half = _LONGEST_LINE // 2
    return line if len(line) <= _LONGEST_LINE else line[:half] + line[-half:]


def _indent(line: str) -> int:
    expanded = line.expandtabs(4)
    return len(expanded) - len(expanded.lstrip())
