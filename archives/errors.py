"""The error of the build tool: one line with the row, the fault and its remedy."""

from __future__ import annotations

from conductor_core.catalogue import Row

FETCH_AGAIN = "download it again"
"""The remedy for a damaged file, before the origin of its model is known."""


class BuildError(Exception):
    """A row that cannot be built. `fault` is the problem, `cure` its remedy, `where` names the row."""

    def __init__(self, fault: str, cure: str, *, where: str | None = None) -> None:
        super().__init__(f"{where}: {fault}; {cure}" if where else f"{fault}; {cure}")
        self.fault = fault
        self.cure = cure
        self.where = where

    def at(self, row: Row, source: str) -> BuildError:
        """This error with `row` of the file `source` as `where`, unless it names a row already."""
        if self.where is not None:
            return self
        return BuildError(self.fault, self.cure, where=f"{source} line {row.line} ({row.category})")


class BuildCancelled(Exception):
    """The build was stopped; no incomplete file is visible."""
