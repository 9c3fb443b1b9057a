"""Types of table columns: number, date, truth value or text, decided by all cells of the column."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from handlers.checks.tables.tables import Cell, DataTable

Kind = Literal["number", "date", "boolean", "text", "empty"]
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "#n/a"})
MOSTLY = 0.9
"""Share of numeric cells from which a text column gets a warning."""
_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+(?:\.\d*)?|\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?")
_COMMA = re.compile(r"[+-]?\d+,\d+")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:?\d\d)?)?")
_CODE = re.compile(r"0\d+")


@dataclass(frozen=True, slots=True)
class Column:
    """A typed column. `values` are float, datetime, bool or str by `kind`; None for a missing cell."""

    name: str
    kind: Kind
    values: Sequence[Any]
    warnings: tuple[str, ...] = ()


def columns_of(table: DataTable) -> list[Column]:
    """The table's columns in order."""
    cells = zip(*table.rows, strict=True)
    return [_column(name, column, table.decimal) for name, column in zip(table.columns, cells, strict=True)]


def _column(name: str, column: Sequence[Cell], decimal: str) -> Column:
    stripped = [cell.strip() if isinstance(cell, str) else cell for cell in column]
    cells = [None if isinstance(cell, str) and cell.lower() in MISSING else cell for cell in stripped]
    there = [cell for cell in cells if cell is not None]
    if not there:
        return Column(name, "empty", cells)
    if not any(isinstance(cell, str) and _CODE.fullmatch(cell) for cell in there):
        numbers = _read(cells, lambda cell: _number(cell, decimal))
        known = sum(value is not None for value in numbers)
        if known == len(there):
            return Column(name, "number", numbers)
        if known >= MOSTLY * len(there):
            others = f"{len(there) - known} of {len(there)} cells"
            warning = f"{name}: {others} are not numbers; the column is read as text"
            return Column(name, "text", _read(cells, _text), (warning,))
    for kind, reader in _OTHERS:
        values = _read(cells, reader)
        if sum(value is not None for value in values) == len(there):
            return Column(name, kind, values)
    return Column(name, "text", _read(cells, _text))


def _read(cells: list[Cell], reader: Callable[[Cell], Any]) -> list[Any]:
    return [None if cell is None else reader(cell) for cell in cells]


def _number(cell: Cell, decimal: str) -> float | None:
    if isinstance(cell, bool) or cell is None:
        return None
    if isinstance(cell, str):
        if decimal == "," and _COMMA.fullmatch(cell):
            return float(cell.replace(",", "."))
        return float(cell.replace(",", "")) if _NUMBER.fullmatch(cell) else None
    try:
        return float(cell)
    except OverflowError:
        return float("inf")


def _truth(cell: Cell) -> bool | None:
    words = {"true": True, "false": False}
    return cell if isinstance(cell, bool) else words.get(str(cell).lower())


def _date(cell: Cell) -> datetime | None:
    if not isinstance(cell, str) or not _DATE.fullmatch(cell):
        return None
    try:
        moment = datetime.fromisoformat(cell)
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        return None


def _text(cell: Cell) -> str:
    return str(cell)


_OTHERS: tuple[tuple[Kind, Callable[[Cell], Any]], ...] = (("boolean", _truth), ("date", _date))
