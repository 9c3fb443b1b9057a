"""Parses one line of the table of rows: one function for each column, and rules between cells.

The function of a column returns the value of a cell's text, or raises CellError with the expected form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from conductor_core.catalogue import AUTO, ModelRef, Precision, Row, RuntimeName, StayLoaded
from conductor_core.issues import CellError, Issue, close_name, expected
from conductor_core.quantities import parse_bytes, parse_duration
from conductor_core.runtimes import RUNTIMES, check_device, resolve_runtime
from conductor_core.settings.tables import Cell
from conductor_core.slugs import slug_of
from conductor_core.weights import QUANTISATION, parse_model_ref, quantisation_in

PRECISION_EXPECTED = "one of FP32, FP16, BF16, 8-bit, 4-bit or the file's own"
LARGEST_CONTEXT = 10_000_000

_PRECISIONS = {word.value.casefold(): word for word in Precision if word is not Precision.FILE}
_COUNT = re.compile(r"([0-9]{1,9}|[0-9]{1,3}(?:[,_][0-9]{3}){1,2})(k?)", re.IGNORECASE)

T = TypeVar("T")

DEFAULT_IDLE_TIMEOUT_S = 300.0

FALLBACK_ENGINE = "general_reasoning"
"""The engine of categories without an engine of their own."""


def parse_text(text: str) -> str:
    """Any text that is not empty."""
    if not text:
        raise expected("a name", text)
    return text


def parse_memory(text: str) -> int | None:
    """Bytes; None for an empty cell or a dash."""
    return None if text in {"", "-", "–", "—"} else parse_bytes(text)


def parse_stay_loaded(text: str) -> StayLoaded:
    """One of true, false, yield."""
    try:
        return StayLoaded(text.casefold())
    except ValueError:
        raise expected("true, false or yield", text) from None


def parse_precision(text: str) -> tuple[Precision, str | None]:
    """The precision; for that of a file also the quantisation in the cell, if the cell is not empty."""
    if not text:
        return Precision.FILE, None
    word = _PRECISIONS.get(text.casefold())
    if word is not None:
        return word, None
    if QUANTISATION.fullmatch(text):
        return Precision.FILE, text.upper()
    raise expected(PRECISION_EXPECTED, text)


def check_file_precision(ref: ModelRef, named: str | None) -> str | None:
    """The quantisation of the file, from its cell or its name; CellError if the file cannot have `named`."""
    in_name = quantisation_in(ref)
    if named is None:
        return in_name
    if not ref.is_gguf:
        raise CellError(
            f"expected FP32, FP16, BF16, 8-bit, 4-bit or an empty cell, got {named!r}: "
            "only GGUF files have such a quantisation, and this model is not a GGUF file"
        )
    if in_name is not None and in_name.removeprefix("UD-") != named.removeprefix("UD-"):
        raise CellError(
            f"expected {in_name} (the file's own), FP32, FP16, BF16, 8-bit or 4-bit, got {named!r}, "
            "which the file does not contain"
        )
    return in_name or named


def parse_workers(text: str) -> int:
    """1 to 64 processes; an empty cell is 1."""
    if not text:
        return 1
    if not re.fullmatch(r"[0-9]{1,2}", text) or not 1 <= int(text) <= 64:
        raise expected("a whole number from 1 to 64", text)
    return int(text)


def parse_runtime(text: str) -> RuntimeName:
    """A runtime's name, or `auto`; an empty cell is `auto`."""
    name = text.casefold() or AUTO
    if name != AUTO and name not in RUNTIMES:
        *first, last = (AUTO, *RUNTIMES)
        raise expected(f"{', '.join(first)} or {last}", text)
    return name


def parse_device(text: str) -> str:
    """`auto`, `cpu`, `cuda` or `cuda:N`; an empty cell is auto."""
    device = text.casefold() or "auto"
    if not re.fullmatch(r"auto|cpu|cuda(:(0|[1-9][0-9]?))?", device):
        raise expected("auto, cpu, cuda or cuda:N", text)
    return device


def check_gpus(text: str) -> None:
    """The `GPUs` cell: this version serves a model on one device only."""
    if text not in {"", "1"}:
        raise expected(
            "1 or an empty cell (several GPUs for one model are not available in this version)", text
        )


def parse_context(text: str) -> int | None:
    """Tokens ("8192", "8,192", "8k" with k = 1024); None for an empty cell: the model's own context."""
    if not text:
        return None
    match = _COUNT.fullmatch(text)
    tokens = int(re.sub("[,_]", "", match[1])) * (1024 if match[2] else 1) if match else 0
    if not 1 <= tokens <= LARGEST_CONTEXT:
        raise expected("a number of tokens such as 8192 or 8k", text)
    return tokens


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
        """The row of line `line` of the file; None if a cell is wrong or a column is missing."""
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
        """Reads cells that depend on each other: model, precision, runtime and device."""
        ref = self._value("Technical Model Name", parse_model_ref)
        precision = self._value("Precision", parse_precision)
        runtime = self._value("Runtime", parse_runtime)
        device = self._value("Device", parse_device)
        if ref is None or precision is None or runtime is None or device is None:
            return {}
        word, named = precision
        values = {"ref": ref, "precision": word, "runtime": runtime, "device": device}
        values["file_precision"] = None
        if word is Precision.FILE:
            values["file_precision"] = self._value("Precision", lambda _: check_file_precision(ref, named))
        resolved = self._value("Runtime", lambda _: resolve_runtime(ref, word, runtime))
        if resolved is not None:
            self._value("Device", lambda _: check_device(resolved, device))
        return values

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
