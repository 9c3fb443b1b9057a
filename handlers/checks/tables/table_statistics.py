"""Statistics of a table by pandas: of each column, of groups, and correlations between columns.

Every number is finite or None, since JSON has no other numbers.
"""

from __future__ import annotations

import math
import warnings as python_warnings
from collections.abc import Sequence
from typing import Any

import numpy
import pandas

from handlers.checks.tables.columns import Column

TOP_VALUES = 5
LONGEST_VALUE = 80
MOST_GROUPS = 12
MOST_GROUPINGS = 6
MOST_CORRELATED = 20
MOST_CORRELATIONS = 20
FEWEST_PAIRS = 3


def statistics_of(columns: Sequence[Column], rows: int) -> tuple[dict[str, Any], list[str]]:
    """`{rows, column_count, columns, correlations, groups}`, and warnings about them."""
    with numpy.errstate(all="ignore"), python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")
        described = [_described(column) for column in columns]
        figures = {
            "rows": rows,
            "column_count": len(columns),
            "columns": described,
            "correlations": _correlations(columns),
            "groups": _groups(columns),
        }
    infinite = [one["name"] for one in described if one.get("infinite")]
    return figures, [f"{name}: numbers too large to compute with are left out" for name in infinite]


def _described(column: Column) -> dict[str, Any]:
    there = [value for value in column.values if value is not None]
    figures: dict[str, Any] = {
        "name": column.name,
        "kind": column.kind,
        "count": len(there),
        "missing": len(column.values) - len(there),
        "unique": len(set(there)),
    }
    if column.kind == "number":
        finite = pandas.Series([value for value in there if math.isfinite(value)], dtype="float64")
        return {**figures, **_numbers(finite), "infinite": sum(map(math.isinf, there))}
    if column.kind == "date":
        return {**figures, "min": min(there).isoformat(sep=" "), "max": max(there).isoformat(sep=" ")}
    counts = pandas.Series(there, dtype="object").value_counts().head(TOP_VALUES)
    top = [{"value": shown(value), "count": int(count)} for value, count in counts.items()]
    return {**figures, "top": top}


def _numbers(values: pandas.Series) -> dict[str, Any]:
    quarter, half, rest = values.quantile([0.25, 0.5, 0.75]).tolist() if len(values) else [None] * 3
    figures = {
        "min": values.min(),
        "max": values.max(),
        "sum": values.sum(),
        "mean": values.mean(),
        "median": half,
        "std": values.std(),
        "q1": quarter,
        "q3": rest,
    }
    return {name: clean(value) for name, value in figures.items()}


def _correlations(columns: Sequence[Column]) -> list[dict[str, Any]]:
    numbers = [column for column in columns if column.kind == "number"][:MOST_CORRELATED]
    frame = pandas.DataFrame({column.name: _series(column) for column in numbers})
    table = frame.corr(min_periods=FEWEST_PAIRS)
    pairs = [(a.name, b.name) for at, a in enumerate(numbers) for b in numbers[at + 1 :]]
    found = [(a, b, clean(table.loc[a, b])) for a, b in pairs]
    known = [(a, b, r) for a, b, r in found if r is not None]
    strongest = sorted(known, key=lambda pair: -abs(pair[2]))[:MOST_CORRELATIONS]
    return [{"a": a, "b": b, "r": r} for a, b, r in strongest]


def _groups(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Mean and sum of the number columns for each value of a column with few values."""
    by = []
    for column in columns:
        there = [value for value in column.values if value is not None]
        few = min(MOST_GROUPS, len(there) // 2 + 1)
        if column.kind in ("text", "boolean") and 1 < len(set(there)) <= few:
            by.append(column)
    numbers = [column for column in columns if column.kind == "number"]
    pairs = [(key, column) for key in by for column in numbers][:MOST_GROUPINGS]
    return [{"by": key.name, "column": column.name, "values": _grouped(key, column)} for key, column in pairs]


def _grouped(key: Column, column: Column) -> list[dict[str, Any]]:
    keys = pandas.Series(key.values, dtype="object")
    table = _series(column).groupby(keys, sort=False).agg(["count", "mean", "sum"])
    return [
        {
            "value": shown(value),
            "count": int(row["count"]),
            "mean": clean(row["mean"]),
            "sum": clean(row["sum"]),
        }
        for value, row in table.iterrows()
    ]


def _series(column: Column) -> pandas.Series:
    kept = [v if v is not None and math.isfinite(v) else math.nan for v in column.values]
    return pandas.Series(kept, dtype="float64")


def clean(value: Any) -> float | None:
    """`value` rounded to 12 digits, which removes rounding errors of sums; None if it is not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{float(value):.12g}")


def shown(value: Any) -> str:
    """A cell's text, no longer than `LONGEST_VALUE`."""
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
