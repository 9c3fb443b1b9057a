"""Reads the tables of requests, CSV or JSON, into columns of cells, and writes their statistics in words.

Knows text and plain values only: nothing but the delimiter is guessed and nothing is evaluated. An option
that holds no table is refused by its name.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handlers.wire import bad_option

MOST_ROWS = 20_000
MOST_COLUMNS = 100
MOST_CELLS = 200_000
LONGEST_NAME = 200
DELIMITERS = ",;\t|"
FENCED = re.compile(r"```(?:csv|tsv)[^\S\n]*\n(.*?)\n?```", re.DOTALL | re.IGNORECASE)

Cell = str | int | float | bool | None

_FIGURES = ("min", "max", "mean", "median", "std", "sum", "q1", "q3")


@dataclass(frozen=True, slots=True)
class DataTable:
    """A table. Each row is as long as `columns`, which have unique names; None is a missing cell.

    `decimal` is the decimal separator of numbers that are text.
    """

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Cell]]
    warnings: tuple[str, ...] = ()
    decimal: str = "."


def fenced_table(texts: Iterable[str]) -> str | None:
    """The last fenced block of a text that is marked as CSV; None if there is none."""
    found = [block for text in texts for block in FENCED.findall(text)]
    return found[-1] if found else None


def read_csv(text: str, option: str = "csv") -> DataTable:
    """The table in `text`, whose first line names the columns; RequestError 400 names the wrong line."""
    plain = text.removeprefix("\ufeff")
    # An iterator over lines as CSV ends them; Unicode has more line ends than CSV.
    lines = io.StringIO(plain, newline="")
    # The delimiter that gives the first line most cells; of equal ones the first in `DELIMITERS`.
    first = plain.lstrip("\r\n").partition("\n")[0][: csv.field_size_limit()]
    delimiter = max(DELIMITERS, key=lambda sign: len(next(csv.reader([first], delimiter=sign), [])))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = next((cells for cells in reader if len(cells) > 1 or "".join(cells).strip()), [])
        check_size(0, len(header), option)
        rows: list[list[str]] = []
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue  # spreadsheets often end with empty rows
            if len(cells) > len(header):
                reason = f"line {reader.line_num} has {len(cells)} cells, the first line has {len(header)}"
                raise bad_option(option, reason)
            check_size(len(rows) + 1, len(header), option)
            rows.append(cells)
    except csv.Error as error:
        raise bad_option(option, f"line {reader.line_num}: {error}") from error
    short = sum(len(cells) < len(header) for cells in rows)
    filled: list[list[Cell]] = [[*cells, *[None] * (len(header) - len(cells))] for cells in rows]
    warnings = [f"{short} rows were too short; their last cells are empty"] if short else []
    return _named(header, filled, warnings, option, "," if delimiter == ";" else ".")


def read_table(value: list[Any] | dict[str, Any]) -> DataTable:
    """A list of objects, or `{"columns": [...], "rows": [[...]]}`; RequestError 400 naming the row."""
    if isinstance(value, list):
        if not all(isinstance(row, dict) for row in value):
            raise bad_option("table", "expected a list of objects, or an object with columns and rows")
        names = list(dict.fromkeys(name for row in value for name in row))
        check_size(len(value), len(names), "table")
        cells = [[row.get(name) for name in names] for row in value]
        for number, row in enumerate(cells):
            _check_cells(number, row)
        return _named(names, cells, [], "table")
    columns, rows = value.get("columns"), value.get("rows")
    if set(value) != {"columns", "rows"} or not isinstance(columns, list) or not isinstance(rows, list):
        raise bad_option(
            "table", "expected a list of objects, or an object with columns and rows, both lists"
        )
    if not all(isinstance(name, str) for name in columns):
        raise bad_option("table", "expected columns to be names")
    check_size(len(rows), len(columns), "table")
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(columns):
            raise bad_option("table", f"row {number}: expected a list of {len(columns)} cells")
        _check_cells(number, row)
    return _named(columns, rows, [], "table")


def check_size(rows: int, columns: int, option: str) -> None:
    """Raises RequestError 400 with the limit if a table of this size is too large."""
    for size, most, what in (
        (columns, MOST_COLUMNS, "columns"),
        (rows, MOST_ROWS, "rows"),
        (rows * columns, MOST_CELLS, "cells"),
    ):
        if size > most:
            raise bad_option(option, f"more than {most} {what}")


def _check_cells(number: int, row: list[Any]) -> None:
    for cell in row:
        if not (cell is None or isinstance(cell, str | int | float)):
            raise bad_option("table", f"row {number}: a cell is text, a number, true, false or null")


def _named(
    names: list[str], rows: list[list[Cell]], warnings: list[str], option: str, decimal: str = "."
) -> DataTable:
    if not names or not rows:
        raise bad_option(option, "expected the names of columns and at least one row")
    plain = [name.strip()[:LONGEST_NAME] or f"column {number}" for number, name in enumerate(names, start=1)]
    unique: list[str] = []
    seen: Counter[str] = Counter()
    for name in plain:
        seen[name] += 1
        while (one := name if seen[name] == 1 else f"{name} ({seen[name]})") in unique:
            seen[name] += 1
        unique.append(one)
    if unique != plain:
        warnings = [*warnings, "several columns have the same name; the later ones are numbered"]
    return DataTable(tuple(unique), rows, tuple(warnings), decimal)


def lines_of(statistics: Mapping[str, Any]) -> list[str]:
    """Lines of text: one for the table, each column, each correlation and each group."""
    return [
        f"The table has {statistics['rows']} rows and {statistics['column_count']} columns.",
        *(_column(column) for column in statistics["columns"]),
        *(_group(group) for group in statistics["groups"]),
        *(
            f"Correlation of {pair['a']!r} and {pair['b']!r}: {_shown(pair['r'])}."
            for pair in statistics["correlations"]
        ),
    ]


def _column(column: Mapping[str, Any]) -> str:
    parts = [f"Column {column['name']!r} ({column['kind']}): {column['count']} values"]
    if column["missing"]:
        parts.append(f"{column['missing']} missing")
    parts += [f"{name} {_shown(column[name])}" for name in _FIGURES if column.get(name) is not None]
    if column.get("top"):
        parts.append(f"{column['unique']} different")
        parts.append("most often " + ", ".join(f"{one['value']!r} ({one['count']})" for one in column["top"]))
    return ", ".join(parts) + "."


def _group(group: Mapping[str, Any]) -> str:
    values = (
        f"{one['value']!r}: mean {_shown(one['mean'])}, sum {_shown(one['sum'])}" for one in group["values"]
    )
    return f"{group['column']!r} by {group['by']!r}: {'; '.join(values)}."


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
