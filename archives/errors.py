"""The one error of the build tool: what is wrong, with which row, and what mends it, in one line."""

from __future__ import annotations

from conductor_core.catalogue import Row

FETCH_AGAIN = "fetch it again"
"""The cure of a file that is not whole, where nobody knows yet how its model came here."""


class BuildError(Exception):
    """A row that cannot be built. `fault` says what is wrong, `cure` what mends it, `where` names the row."""

    def __init__(self, fault: str, cure: str, *, where: str | None = None) -> None:
        super().__init__(f"{where}: {fault}; {cure}" if where else f"{fault}; {cure}")
        self.fault = fault
        self.cure = cure
        self.where = where

    def at(self, row: Row, source: str) -> BuildError:
        """This error with the row of the file `source` named, unless it names one already."""
        if self.where is not None:
            return self
        return BuildError(self.fault, self.cure, where=f"{source} line {row.line} ({row.category})")


class BuildCancelled(Exception):
    """The build was told to stop; nothing half-made is visible."""
