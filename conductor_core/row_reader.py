"""One line of the table of rows: its cells read by `cells`, and the relations between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from conductor_core.catalogue import ModelRef, Precision, Row, StayLoaded
from conductor_core.cells import (
    check_file_precision,
    check_gpus,
    parse_context,
    parse_device,
    parse_memory,
    parse_precision,
    parse_runtime,
    parse_stay_loaded,
    parse_text,
    parse_workers,
)
from conductor_core.issues import CellError, Issue, close_name
from conductor_core.markdown_tables import Cell
from conductor_core.model_refs import parse_model_ref
from conductor_core.quantities import parse_duration
from conductor_core.runtimes import check_device, resolve_runtime
from conductor_core.slugs import slug_of

T = TypeVar("T")

DEFAULT_IDLE_TIMEOUT_S = 300.0

FALLBACK_ENGINE = "general_reasoning"
"""Serves the categories that have no engine of their own."""


class RowReader:
    """Reads the cells of one line; `issues` is complete after `read`."""

    def __init__(self, cells: Mapping[str, Cell], source: str, engines: frozenset[str]) -> None:
        self._cells = cells
        self._source = source
        self._engines = engines
        self.issues: list[Issue] = []
        self._failed = False
        self.slug = self._value("Category/Area", slug_of)

    def read(self, line: int) -> Row | None:
        """The row, which stands in `line` of the file; None where a cell is wrong or its column missing."""
        values: dict[str, Any] = {
            "model": self._value("Best Open Source Model", parse_text),
            "declared_memory": self._value("VRAM/RAM Requirements", parse_memory),
            "stay_loaded": self._value("Stay Loaded", parse_stay_loaded) or StayLoaded.FALSE,
            "engine": self._value("Engine", self._engine),
            "workers": self._value("Workers", parse_workers),
            "context": self._value("Context", parse_context),
            "idle_timeout_s": self._value("Idle Timeout", _idle_timeout),
            **self._weights(),
        }
        self._value("GPUs", check_gpus)
        if self._failed or self.slug is None:
            return None
        return Row(
            category=self._text("Category/Area"),
            slug=self.slug,
            technical_model_name=self._text("Technical Model Name"),
            vram_requirement=self._text("VRAM/RAM Requirements"),
            line=line,
            **values,
        )

    def _weights(self) -> dict[str, Any]:
        """Cells that must agree with each other: model, precision, runtime and device."""
        ref = self._value("Technical Model Name", parse_model_ref)
        precision = self._value("Precision", parse_precision)
        runtime = self._value("Runtime", parse_runtime)
        device = self._value("Device", parse_device)
        if ref is None or precision is None or runtime is None or device is None:
            return {}
        word, named = precision
        values = {"ref": ref, "precision": word, "runtime": runtime, "device": device}
        values["file_precision"] = self._file_precision(ref, word, named)
        resolved = self._value("Runtime", lambda _: resolve_runtime(ref, word, runtime))
        if resolved is not None:
            self._value("Device", lambda _: check_device(resolved, device))
        return values

    def _file_precision(self, ref: ModelRef, word: Precision, named: str | None) -> str | None:
        if word is not Precision.FILE:
            return None
        return self._value("Precision", lambda _: check_file_precision(ref, named))

    def _engine(self, text: str) -> str:
        slug = self.slug or ""
        if not text:
            return slug if slug in self._engines else FALLBACK_ENGINE
        engine = slug_of(text)
        if engine not in self._engines:
            known = ", ".join(sorted(self._engines))
            raise CellError(
                f"unknown engine {engine!r}{close_name(engine, self._engines)}; expected one of {known}"
            )
        return engine

    def _text(self, column: str) -> str:
        cell = self._cells.get(column)
        return cell.text if cell else ""

    def _value(self, column: str, parse: Callable[[str], T]) -> T | None:
        cell = self._cells.get(column)
        try:
            return parse(cell.text if cell else "")
        except CellError as error:
            self._failed = True
            # A column that the header lacks is reported once, at the header.
            if cell is not None:
                self.issues.append(Issue(self._source, cell.line, cell.column, column, str(error)))
            return None


def _idle_timeout(text: str) -> float:
    return parse_duration(text) if text else DEFAULT_IDLE_TIMEOUT_S
