"""The table under `## Engine Parameters`: defaults for a category's requests, with the requests' bounds."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping

from pydantic import BaseModel, ValidationError

from conductor_core.catalogue import Row
from conductor_core.issues import CellError, Issue, close_name, expected
from conductor_core.settings.tables import Cell, Columns, MarkdownTable, named_rows, read_header
from conductor_core.slugs import slug_of
from handlers.engines.registry import engine_class
from handlers.wire import Sampling

Parameters = dict[str, float | int | str | bool]

PARAMETER_COLUMNS = Columns(
    required=("Category",),
    optional=(
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "seed",
        "history_tokens",
    ),
)

_NUMBER = re.compile(r"[+-]?[0-9]{1,12}(\.[0-9]{1,12})?")
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "more than {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "less than {}",
}


class ParameterReader:
    """Reads all parameter tables; `by_slug` and `issues` are complete after the last `read`."""

    def __init__(self, slugs: Mapping[str, Row | None], source: str) -> None:
        self._slugs = slugs
        self._source = source
        self.by_slug: dict[str, Parameters] = {}
        self.issues: list[Issue] = []

    def read(self, table: MarkdownTable) -> None:
        """Reads one table; `slugs` are the categories of the table of rows."""
        names, issues = read_header(table, PARAMETER_COLUMNS, self._source)
        self.issues += issues
        for _, cells in named_rows(table, names, self._source):
            if isinstance(cells, Issue):
                self.issues.append(cells)
            elif "Category" in cells:
                self._row(cells)

    def _row(self, cells: Mapping[str, Cell]) -> None:
        values: Parameters = {}
        for name, cell in cells.items():
            try:
                if name == "Category":
                    slug = self._slug(cell.text)
                    self.by_slug[slug] = values
                elif cell.text:
                    values[name] = parse_parameter(name, cell.text)
                    self._check_engine(name, cells["Category"].text)
            except CellError as error:
                self.issues.append(Issue(self._source, cell.line, cell.column, name, str(error)))

    def _check_engine(self, name: str, category: str) -> None:
        """Raises CellError for an option that the category's engine does not have."""
        if name in Sampling.model_fields:
            return
        with contextlib.suppress(CellError):  # reported at the category's own cell
            category = slug_of(category)
        row = self._slugs.get(category)
        if row and name not in engine_class(row.engine).options_type.names():
            raise CellError(f"expected nothing: the engine {row.engine} has no {name}")

    def _slug(self, text: str) -> str:
        slug = slug_of(text)
        if slug not in self._slugs:
            raise CellError(
                f"expected a category of the table, got {text[:60]!r}{close_name(slug, self._slugs)}"
            )
        if slug in self.by_slug:
            raise CellError(f"expected each category once, got {slug!r} again")
        return slug


def parse_parameter(name: str, text: str) -> float | int:
    """The value of a request's field or option `name`; CellError with the bounds if `text` is not valid."""
    if not _NUMBER.fullmatch(text):
        raise expected(_bounds(name), text)
    value = float(text) if "." in text else int(text)
    try:
        return getattr(_shape(name).model_validate({name: value}), name)  # type: ignore[no-any-return]
    except ValidationError:
        raise expected(_bounds(name), text) from None


def _shape(name: str) -> type[BaseModel]:
    return Sampling if name in Sampling.model_fields else engine_class("conversational_chat").options_type


def _bounds(name: str) -> str:
    schema = _shape(name).model_json_schema()["properties"][name]["anyOf"][0]
    kind = "a whole number" if schema["type"] == "integer" else "a number"
    limits = [words.format(f"{schema[key]:g}") for key, words in _BOUNDS.items() if key in schema]
    return f"{kind} of {' and '.join(limits)}"
