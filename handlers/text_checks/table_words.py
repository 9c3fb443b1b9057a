"""Statistics of a table as lines that a model can read, the most telling first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FIGURES = ("min", "max", "mean", "median", "std", "sum", "q1", "q3")


def lines_of(statistics: Mapping[str, Any]) -> list[str]:
    """One line for the whole, each column, each pair that goes together, each group."""
    return [
        f"The table has {statistics['rows']} rows and {statistics['column_count']} columns.",
        *(_column(column) for column in statistics["columns"]),
        *(_group(group) for group in statistics["groups"]),
        *(_pair(pair) for pair in statistics["correlations"]),
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


def _pair(pair: Mapping[str, Any]) -> str:
    return f"Correlation of {pair['a']!r} and {pair['b']!r}: {_shown(pair['r'])}."


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
