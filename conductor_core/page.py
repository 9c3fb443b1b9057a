"""A settings page taken apart: which tables are rows, which are engine parameters, which text is a persona.

Sections are told by their headings, tables by their columns; what the cells say is not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

from conductor_core.columns import Columns
from conductor_core.issues import Issue
from conductor_core.markdown_tables import Block, Heading, Prose, Table, read_blocks
from conductor_core.personas import PersonaReader

ROW_COLUMNS = Columns(
    required=(
        "Category/Area",
        "Best Open Source Model",
        "VRAM/RAM Requirements",
        "Technical Model Name",
        "Stay Loaded",
        "Precision",
    ),
    optional=("Workers", "Runtime", "Device", "GPUs", "Context", "Engine", "Idle Timeout"),
)

_PERSONA = "conversational persona"
_PARAMETERS = "engine parameters"
# Two of the names make it the table of rows, so that one misspelt column does not make it disappear.
_ENOUGH_COLUMNS = 2


@dataclass(frozen=True, slots=True)
class Page:
    """The parts of a settings page, in source order."""

    rows: tuple[Table, ...]
    parameters: tuple[Table, ...]
    persona: str | None
    personas: dict[str, str]
    issues: tuple[Issue, ...]


def read_page(text: str, source: str) -> Page:
    """Take `text` apart; misplaced pieces are in `issues`."""
    reader = _PageReader(source)
    for block in read_blocks(text):
        reader.read(block)
    return reader.page()


class _PageReader:
    """One walk over the blocks, remembering the section that the block is in."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._section = ""
        self._level = 0
        self._rows: list[Table] = []
        self._parameters: list[Table] = []
        self._personas = PersonaReader(source)
        self._issues: list[Issue] = []

    def read(self, block: Block) -> None:
        if isinstance(block, Heading):
            self._heading(block)
        elif isinstance(block, Table):
            self._table(block)
        else:
            self._prose(block)

    def _heading(self, heading: Heading) -> None:
        if self._section == _PERSONA and heading.level > self._level:
            if heading.level == self._level + 1:
                self._personas.name(heading)
            else:
                self._personas.add(heading)
        elif self._section != _PARAMETERS or heading.level <= self._level:
            self._section, self._level = heading.text.casefold().rstrip(": "), heading.level

    def _table(self, table: Table) -> None:
        if self._section == _PARAMETERS:
            self._parameters.append(table)
        elif ROW_COLUMNS.count_in(table) >= _ENOUGH_COLUMNS:
            self._rows.append(table)
            # The table may follow the persona without a heading between them.
            self._section = ""
        elif self._section == _PERSONA:
            self._personas.add(table)

    def _prose(self, prose: Prose) -> None:
        if self._section == _PERSONA:
            self._personas.add(prose)
        elif prose.is_text:
            self._stray_rows(prose)

    def _stray_rows(self, prose: Prose) -> None:
        for number, line in enumerate(prose.lines, prose.line):
            if line.lstrip().startswith("|"):
                column = len(line) - len(line.lstrip()) + 1
                self._report(number, column, "expected this row inside a table (an empty line ends a table)")
                return

    def _report(self, line: int, column: int, message: str) -> None:
        self._issues.append(Issue(self._source, line, column, "row", message))

    def page(self) -> Page:
        if not self._rows:
            names = ", ".join(ROW_COLUMNS.required)
            message = f"expected a table with the columns {names} (a line |---| of as many cells below them)"
            self._issues.append(Issue(self._source, 1, 1, "table", message))
        named = self._personas.named()
        issues = (*self._issues, *self._personas.issues)
        return Page(tuple(self._rows), tuple(self._parameters), self._personas.default(), named, issues)
