"""Mistakes in a settings file with their positions: the error types of this package.

Knows positions and wording only. Every check collects its issues, so that one pass over the file reports all
of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

_SHOWN = 60


class CellError(ValueError):
    """The text of a cell is not valid for its column; the message says what was expected."""


def expected(what: str, text: str) -> CellError:
    """A CellError reading "expected `what`, got `text`", the text shortened for a terminal."""
    shown = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
    return CellError(f"expected {what}, got {shown!r}" if text else f"expected {what}, got an empty cell")


def close_name(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` if one of `known` is similar to `name`, else an empty string."""
    by_fold = {candidate.casefold(): candidate for candidate in known}
    matches = get_close_matches(name.casefold()[:200], by_fold, n=1)
    return f" (did you mean {by_fold[matches[0]]!r}?)" if matches else ""


@dataclass(frozen=True, slots=True)
class Issue:
    """One mistake; `line` and `column` are 1-based, `field` is the wrong column or section."""

    source: str
    line: int
    column: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}: {self.field}: {self.message}"


class SettingsError(Exception):
    """A settings file that cannot be used; `issues` is the complete list, in file order."""

    def __init__(self, issues: Iterable[Issue]) -> None:
        self.issues = tuple(sorted(issues, key=lambda issue: (issue.line, issue.column)))
        super().__init__("\n".join(str(issue) for issue in self.issues))
