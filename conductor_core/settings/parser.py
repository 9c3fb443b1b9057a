"""Parses SETTINGS.md into a Catalogue.

Any text gives a catalogue or a SettingsError with all its mistakes. `served_catalogue` places the rows on
this machine's devices; `conductor serve`, `conductor plan` and both builders use it, so that they agree. The
other functions place the sets as on a CPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from conductor_core.catalogue import Catalogue, Row
from conductor_core.files import FileTooLarge, read_bounded
from conductor_core.issues import Issue, SettingsError
from conductor_core.machine import Machine
from conductor_core.operator import OperatorSettings
from conductor_core.paths import ProjectPaths
from conductor_core.placement import place, unplaced_sets
from conductor_core.settings.page import ROW_COLUMNS, Page, read_page
from conductor_core.settings.parameters import ParameterReader
from conductor_core.settings.rows import FALLBACK_ENGINE, RowReader
from conductor_core.settings.tables import MarkdownTable, is_filler, named_rows, read_header
from handlers.engines.registry import engine_names

LARGEST_FILE = 250_000
"""Most characters of a settings file; more is a mistake, and parsing would take seconds."""

LARGEST_BYTES = 4 * LARGEST_FILE
"""Most bytes of that many characters."""


def load_settings(path: Path, engines: Iterable[str] | None = None) -> Catalogue:
    """Reads and parses the file at `path`; SettingsError also if it cannot be read."""
    try:
        text = read_bounded(path, LARGEST_BYTES).decode("utf-8")
    except FileTooLarge as error:
        raise _whole_file(path.name, f"expected at most {LARGEST_FILE} characters, got more") from error
    except OSError as error:
        raise _whole_file(path.name, f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise _whole_file(path.name, f"expected UTF-8 text, got other bytes at byte {error.start}") from error
    return parse_settings(text, path.name, engines)


def parse_settings(text: str, source: str = "SETTINGS.md", engines: Iterable[str] | None = None) -> Catalogue:
    """Parses `text`; `engines` are the known engine names, by default the installed ones.

    Raises SettingsError, which lists all mistakes with line, column and what was expected.
    """
    text = text.removeprefix("\ufeff")
    if len(text) > LARGEST_FILE:
        raise _whole_file(source, f"expected at most {LARGEST_FILE} characters, got {len(text)}")
    surrogate = next((i for i, letter in enumerate(text) if "\ud800" <= letter <= "\udfff"), None)
    if surrogate is not None:
        raise _whole_file(source, f"expected Unicode text, got a lone surrogate at {surrogate}")
    page = read_page(text, source)
    known = frozenset(engine_names() if engines is None else engines)
    return _CatalogueReader(page, source, known | {FALLBACK_ENGINE}).catalogue()


def _whole_file(source: str, message: str) -> SettingsError:
    return SettingsError([Issue(source, 1, 1, "file", message)])


class _CatalogueReader:
    """Reads the tables of a page, collecting rows, warnings and issues."""

    def __init__(self, page: Page, source: str, engines: frozenset[str]) -> None:
        self._page = page
        self._source = source
        self._engines = engines
        self._rows: dict[str, Row | None] = {}
        self._lines: dict[str, int] = {}
        self._issues = list(page.issues)
        self._warnings: list[tuple[int, str]] = []

    def catalogue(self) -> Catalogue:
        for table in self._page.rows:
            self._table(table)
        parameters = ParameterReader(self._rows, self._source)
        for table in self._page.parameters:
            parameters.read(table)
        self._issues += parameters.issues
        if not self._rows and not self._issues:
            line = self._page.rows[0].line
            self._issues.append(
                Issue(self._source, line, 1, "table", "expected at least one row, found none")
            )
        if self._issues:
            raise SettingsError(self._issues)
        rows = tuple(
            replace(row, parameters=parameters.by_slug.get(slug, {}))
            for slug, row in self._rows.items()
            if row
        )
        sets = unplaced_sets(rows)
        page = self._page
        warnings = tuple(warning for _, warning in sorted(self._warnings, key=lambda found: found[0]))
        return Catalogue(rows, page.persona, page.personas, sets, warnings, self._source)

    def _table(self, table: MarkdownTable) -> None:
        names, issues = read_header(table, ROW_COLUMNS, self._source)
        self._issues += issues
        for filler in filter(is_filler, table.rows):
            self._warn(filler.line, "skipped a row that has only dots or empty cells")
        for line, cells in named_rows(table, names, self._source):
            if isinstance(cells, Issue):
                self._issues.append(cells)
                continue
            reader = RowReader(cells, self._source, self._engines)
            row = reader.read(line)
            self._issues += reader.issues
            if reader.slug is None:
                continue
            if reader.slug in self._rows:
                cell, first = cells["Category/Area"], self._lines[reader.slug]
                message = f"expected each category once, got {reader.slug!r} again (first in line {first})"
                self._issues.append(Issue(self._source, cell.line, cell.column, "Category/Area", message))
                continue
            self._rows[reader.slug] = row
            self._lines[reader.slug] = line
            names_engine = "Engine" in cells and bool(cells["Engine"].text)
            if row and row.engine == FALLBACK_ENGINE != row.slug and not names_engine:
                self._warn(line, f"{row.slug} has no engine of its own and uses {FALLBACK_ENGINE}")

    def _warn(self, line: int, message: str) -> None:
        self._warnings.append((line, f"{self._source}:{line}: {message}"))


def served_catalogue(
    settings: OperatorSettings, machine: Machine, text: str | None = None, name: str | None = None
) -> Catalogue:
    """The catalogue of the operator's file, or of `text` with the file name `name`, placed on `machine`.

    Raises SettingsError with all mistakes, or with all rows that do not fit into the memory budget.
    """
    file = ProjectPaths.at(settings.settings).settings
    page = load_settings(file) if text is None else parse_settings(text, name or file.name)
    return place(page, machine, settings.memory_budget)
