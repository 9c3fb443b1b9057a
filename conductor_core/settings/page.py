"""The sections of a settings page: tables of rows, tables of engine parameters, texts of personas.

Sections are recognised by headings, tables by columns; cells are not read. The text below
`## Conversational Persona` is the default persona; named ones are below `### Name`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from conductor_core.issues import Issue
from conductor_core.settings.tables import Block, Columns, Heading, MarkdownTable, Prose, read_blocks

LONGEST_NAME = 200

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
# Two known names make a table the table of rows, so that one misspelt column does not hide it.
_ENOUGH_COLUMNS = 2


@dataclass(slots=True)
class PersonaReader:
    """Collects persona texts from blocks in order; the text is kept exactly as in the source."""

    source: str
    issues: list[Issue] = field(default_factory=list)
    _texts: dict[str | None, list[str]] = field(default_factory=dict)
    _names: dict[str, Heading] = field(default_factory=dict)
    _current: str | None = None

    def name(self, heading: Heading) -> None:
        """Starts a persona at a `### Name` heading."""
        self._current = heading.text
        if not 0 < len(heading.text) <= LONGEST_NAME:
            self._report(heading, f"expected a name of 1 to {LONGEST_NAME} characters")
        elif heading.text.casefold() in self._names:
            self._report(heading, f"expected each persona once, got {heading.text!r} again")
        else:
            self._names[heading.text.casefold()] = heading

    def add(self, block: Block) -> None:
        """Adds a block to the current persona's text."""
        self._texts.setdefault(self._current, []).append("\n".join(block.lines).strip("\n"))

    def default(self) -> str | None:
        """The text of the default persona."""
        return self._text(None) or None

    def named(self) -> dict[str, str]:
        """The text of each named persona; a persona without text is an issue."""
        for heading in self._names.values():
            if not self._text(heading.text):
                self._report(heading, f"expected text for the persona below {heading.text!r}")
        return {heading.text: self._text(heading.text) for heading in self._names.values()}

    def _text(self, name: str | None) -> str:
        return "\n\n".join(self._texts.get(name, [])).strip()

    def _report(self, heading: Heading, message: str) -> None:
        self.issues.append(Issue(self.source, heading.line, 1, "Conversational Persona", message))


@dataclass(frozen=True, slots=True)
class Page:
    """The parts of a settings page, in source order."""

    rows: tuple[MarkdownTable, ...]
    parameters: tuple[MarkdownTable, ...]
    persona: str | None
    personas: dict[str, str]
    issues: tuple[Issue, ...]


def read_page(text: str, source: str) -> Page:
    """Splits `text` into its parts; misplaced parts are in `issues`."""
    reader = _PageReader(source)
    for block in read_blocks(text):
        reader.read(block)
    return reader.page()


class _PageReader:
    """Reads the blocks in order and tracks the current section."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._section = ""
        self._level = 0
        self._rows: list[MarkdownTable] = []
        self._parameters: list[MarkdownTable] = []
        self._personas = PersonaReader(source)
        self._issues: list[Issue] = []

    def read(self, block: Block) -> None:
        if isinstance(block, Heading):
            self._heading(block)
        elif isinstance(block, MarkdownTable):
            self._table(block)
        elif self._section == _PERSONA:
            self._personas.add(block)
        elif block.is_text:
            self._stray_rows(block)

    def _heading(self, heading: Heading) -> None:
        if self._section == _PERSONA and heading.level > self._level:
            if heading.level == self._level + 1:
                self._personas.name(heading)
            else:
                self._personas.add(heading)
        elif self._section != _PARAMETERS or heading.level <= self._level:
            self._section, self._level = heading.text.casefold().rstrip(": "), heading.level

    def _table(self, table: MarkdownTable) -> None:
        if self._section == _PARAMETERS:
            self._parameters.append(table)
        elif ROW_COLUMNS.count_in(table) >= _ENOUGH_COLUMNS:
            self._rows.append(table)
            # The table may follow the persona without a heading in between.
            self._section = ""
        elif self._section == _PERSONA:
            self._personas.add(table)

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
            message = (
                f"expected a table with the columns {names} (followed by a line |---| with as many cells)"
            )
            self._issues.append(Issue(self._source, 1, 1, "table", message))
        named = self._personas.named()
        issues = (*self._issues, *self._personas.issues)
        return Page(tuple(self._rows), tuple(self._parameters), self._personas.default(), named, issues)
