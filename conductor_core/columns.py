"""A table's header matched to known column names, and its rows as named cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from conductor_core.issues import Issue, close_name
from conductor_core.markdown_tables import Cell, Table, TableLine

_DOTS = frozenset(".…⋮⋯·: ")


@dataclass(frozen=True, slots=True)
class Columns:
    """Names that a table may have; `required` ones must be there, in any order."""

    required: tuple[str, ...]
    optional: tuple[str, ...]

    @property
    def known(self) -> tuple[str, ...]:
        return self.required + self.optional

    def name_of(self, text: str) -> str | None:
        """The known name that `text` is, whatever its case and spacing."""
        return next((name for name in self.known if _folded(name) == _folded(text)), None)

    def count_in(self, table: Table) -> int:
        """How many known names the table's header has."""
        return len({name for cell in table.header if (name := self.name_of(cell.text))})


def _folded(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter not in " _-*:")


def read_header(table: Table, columns: Columns, source: str) -> tuple[list[str | None], list[Issue]]:
    """The known name of each header cell, None for one at fault, and what is wrong with the header."""
    names: list[str | None] = []
    issues: list[Issue] = []
    for cell in table.header:
        name = columns.name_of(cell.text)
        message = _header_fault(cell.text, name, names, columns)
        if message:
            issues.append(Issue(source, cell.line, cell.column, "header", message))
        names.append(None if message else name)
    missing = (name for name in columns.required if name not in names)
    issues += (Issue(source, table.line, 1, "header", f"expected a column {name!r}") for name in missing)
    return names, issues


def _header_fault(text: str, name: str | None, seen: Sequence[str | None], columns: Columns) -> str | None:
    if name is None:
        known = ", ".join(columns.known)
        return f"unknown column {text[:60]!r}{close_name(text, columns.known)}; expected one of {known}"
    return f"expected each column once, got {name!r} again" if name in seen else None


def is_filler(row: TableLine) -> bool:
    """Whether a row says nothing: dots in place of more rows, or nothing at all."""
    return all(_DOTS.issuperset(cell.text) for cell in row.cells)


def named_rows(
    table: Table, names: Sequence[str | None], source: str
) -> Iterator[tuple[int, Mapping[str, Cell] | Issue]]:
    """Line and cells by column name of every row that says something; an Issue for one of another width."""
    for row in table.rows:
        if is_filler(row):
            continue
        cells = row.cells
        if len(cells) == len(names):
            yield row.line, {name: cell for name, cell in zip(names, cells, strict=True) if name is not None}
        else:
            column = cells[min(len(cells), len(names) + 1) - 1].column
            message = (
                f"expected {len(names)} cells as in the header, got {len(cells)} (\\| is a pipe in text)"
            )
            yield row.line, Issue(source, row.line, column, "row", message)
