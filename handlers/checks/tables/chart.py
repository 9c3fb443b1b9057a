"""One chart of a table as a PNG, drawn by matplotlib without a screen.

Titles and labels are plain text: nothing in them is read as a formula.
"""

from __future__ import annotations

import base64
import io
import math
import os
import tempfile
import warnings as python_warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from handlers.checks.tables.columns import Column, Kind

with tempfile.TemporaryDirectory(prefix="conductor-charts-") as folder:
    # matplotlib would search for fonts and keep a list of them in the user's home. Its own fonts are enough,
    # and the list stays in memory.
    os.environ |= {"MPLCONFIGDIR": folder, "MPL_IGNORE_SYSTEM_FONTS": "1"}
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    del os.environ["MPLCONFIGDIR"]

MOST_BARS = 30
MOST_POINTS = 5_000
HIST_BINS = 30
LONGEST_LABEL = 40
LARGEST = 1e100
"""Larger numbers overflow in the drawing itself."""
NAMES: tuple[Kind, ...] = ("text", "boolean", "date", "number")


@dataclass(frozen=True, slots=True)
class ChartRequest:
    """The chart that the request asks for; a column that is None is chosen from the table."""

    kind: str = "auto"
    x: str | None = None
    y: str | None = None


def draw(columns: Sequence[Column], request: ChartRequest) -> tuple[str | None, list[str]]:
    """The PNG in base64 and warnings about it.

    None instead of the PNG if none was asked for or none can be drawn.
    """
    if request.kind == "none":
        return None, []
    kinds = [request.kind] if request.kind != "auto" else ["line", "bar", "scatter", "hist"]
    for kind in kinds:
        axes = _choose(kind, columns, request, auto=request.kind == "auto")
        if axes is not None:
            return _png(kind, *axes)
    return None, [
        f"there are no columns for a chart ({request.kind}): {_NEEDS.get(request.kind, _NEEDS['hist'])}"
    ]


_NEEDS = {
    "line": "a line needs a column of numbers",
    "bar": "bars need a column to count or to group by",
    "scatter": "points need two columns of numbers",
    "hist": "a histogram needs a column of numbers",
}


def _choose(
    kind: str, columns: Sequence[Column], request: ChartRequest, *, auto: bool
) -> tuple[Column | None, Column | None] | None:
    """The columns of the x and y axes; None where the table has none for this kind of chart."""
    numbers = _fitting(columns, ("number",))
    if kind == "line":
        x = _named(columns, request.x) or _first(_fitting(columns, ("date",)))
        y = _named(numbers, request.y) or _first(numbers, x)
        return (x, y) if y is not None and (x is not None or not auto) else None
    if kind == "bar":
        x = _named(columns, request.x) or _first(_fitting(columns, NAMES[:2] if auto else NAMES))
        return (x, _named(numbers, request.y) or _first(numbers, x)) if x is not None else None
    x = _named(numbers, request.x) or _first(numbers)
    if kind == "hist":
        return (x, None) if x is not None else None
    y = _named(numbers, request.y) or _first(numbers, x)
    return (x, y) if x is not None and y is not None else None


def _fitting(columns: Sequence[Column], kinds: Sequence[Kind]) -> list[Column]:
    return [
        column
        for kind in kinds
        for column in columns
        if column.kind == kind
        and (column.kind != "number" or all(value is None or abs(value) < LARGEST for value in column.values))
    ]


def _named(columns: Sequence[Column], name: str | None) -> Column | None:
    return next((column for column in columns if column.name == name), None)


def _first(columns: Sequence[Column], other: Column | None = None) -> Column | None:
    return next((column for column in columns if column is not other), None)


def _png(kind: str, x: Column | None, y: Column | None) -> tuple[str, list[str]]:
    notes: list[str] = []
    with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}):
        figure = Figure(figsize=(8, 5), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        with python_warnings.catch_warnings(record=True) as caught:
            python_warnings.simplefilter("always")
            _DRAW[kind](axes, x, y, notes)
            image = io.BytesIO()
            figure.savefig(image, format="png", metadata={"Software": None})
        if any("Glyph" in str(warning.message) for warning in caught):
            notes.append("the chart's font lacks some letters")
    return base64.b64encode(image.getvalue()).decode(), notes


def _bars(axes: Axes, x: Column, y: Column | None, notes: list[str]) -> None:
    labels = [None if value is None else _label(value) for value in x.values]
    heights = _means(labels, y.values) if y is not None else Counter(filter(None, labels))
    kept = dict(sorted(heights.items(), key=lambda item: -abs(item[1]))[:MOST_BARS])
    if len(kept) < len(heights):
        notes.append(f"the chart shows {len(kept)} of {len(heights)} values")
    axes.bar(range(len(kept)), list(kept.values()))
    axes.set_xticks(range(len(kept)), list(kept), rotation=45, ha="right")
    _titles(axes, x.name, "count" if y is None else f"mean of {y.name}")


def _means(x: Sequence[Any], y: Sequence[float | None]) -> dict[Any, float]:
    groups: dict[Any, list[float]] = defaultdict(list)
    for key, value in zip(x, y, strict=True):
        if key is not None and value is not None:
            groups[key].append(value)
    return {key: math.fsum(values) / len(values) for key, values in groups.items()}


def _line(axes: Axes, x: Column | None, y: Column, notes: list[str]) -> None:
    across = x.values if x is not None else range(1, len(y.values) + 1)
    means = _means(across, y.values)
    places = sorted(means) if x is not None and x.kind in ("date", "number") else list(means)
    points = _points(places, [means[place] for place in places], notes)
    across = [_label(at) if isinstance(at, str | bool) else at for at, _ in points]
    axes.plot(across, [value for _, value in points], marker=".")
    axes.tick_params(axis="x", rotation=45)
    single = len(means) == sum(value is not None for value in y.values)
    _titles(axes, x.name if x is not None else "row", y.name if single else f"mean of {y.name}")


def _scatter(axes: Axes, x: Column, y: Column, notes: list[str]) -> None:
    points = _points(x.values, y.values, notes)
    axes.scatter([across for across, _ in points], [up for _, up in points], s=12)
    _titles(axes, x.name, y.name)


def _hist(axes: Axes, x: Column, y: Column | None, notes: list[str]) -> None:
    values = [value for value in x.values if value is not None]
    axes.hist(values, bins=min(HIST_BINS, max(1, len(set(values)))))
    _titles(axes, x.name, "count")


def _points(across: Sequence[Any], up: Sequence[Any], notes: list[str]) -> list[tuple[Any, float]]:
    whole = [(a, b) for a, b in zip(across, up, strict=True) if a is not None and b is not None]
    if len(whole) > MOST_POINTS:
        notes.append(f"the chart shows {MOST_POINTS} of {len(whole)} points")
        step = len(whole) / MOST_POINTS
        whole = [whole[int(number * step)] for number in range(MOST_POINTS)]
    return whole


def _label(value: Any) -> str:
    text = "".join(sign if sign.isprintable() else " " for sign in str(value))
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"


def _titles(axes: Axes, across: str, up: str) -> None:
    axes.set_xlabel(_label(across))
    axes.set_ylabel(_label(up))


_DRAW: dict[str, Callable[..., None]] = {"bar": _bars, "line": _line, "scatter": _scatter, "hist": _hist}
