"""Markdown tables: splits a page into headings, tables and other blocks, and rows into cells by column name.

markdown-it-py parses CommonMark with GFM tables; it gives lines but no columns, so cells are located in their
line by the same splitting rule. The meaning of a table is unknown here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.common.utils import mdTrim
from markdown_it.token import Token

from conductor_core.issues import Issue, close_name

# Without `lheading` a line of dashes under a paragraph is a rule, and does not make the paragraph a heading.
_MARKDOWN = MarkdownIt("commonmark").enable("table").disable("lheading")

_DOTS = frozenset(".…⋮⋯·: ")


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell's text without markup; `line` and `column` (1-based) are its start."""

    text: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class TableLine:
    """One line of a table with the cells of the source; a single pipe has no cells."""

    line: int
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Heading:
    """An ATX heading."""

    line: int
    lines: tuple[str, ...]
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class MarkdownTable:
    """A table; its rows may be wider or narrower than its header."""

    line: int
    lines: tuple[str, ...]
    header: tuple[Cell, ...]
    rows: tuple[TableLine, ...]


@dataclass(frozen=True, slots=True)
class Prose:
    """Any other block; `is_text` is False for code fences and comments."""

    line: int
    lines: tuple[str, ...]
    is_text: bool


Block = Heading | MarkdownTable | Prose
"""A block of a page; `line` is 1-based, `lines` are its lines in the source."""


def read_blocks(text: str) -> list[Block]:
    """The top-level blocks of `text` in order; any text is a page."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = text.split("\n")
    tokens = _MARKDOWN.parse(text)
    blocks: list[Block] = []
    group: list[Token] = []
    depth = 0
    for token in tokens:
        group.append(token)
        depth += token.nesting
        if depth == 0:
            blocks.append(_block(group, lines))
            group = []
    return blocks


def _block(group: list[Token], lines: list[str]) -> Block:
    first = group[0]
    start, end = first.map or (0, 0)
    source = tuple(lines[start:end])
    if first.type == "heading_open":
        return Heading(start + 1, source, int(first.tag[1:]), _plain(group[1]))
    if first.type == "table_open":
        return MarkdownTable(start + 1, source, *_rows(group, start, lines))
    return Prose(start + 1, source, first.type in {"paragraph_open", "code_block"})


def _rows(group: list[Token], start: int, lines: list[str]) -> tuple[tuple[Cell, ...], tuple[TableLine, ...]]:
    rows: list[tuple[int, list[Token]]] = []
    for token in group:
        if token.type == "tr_open":
            rows.append((token.map[0] if token.map else start, []))
        elif token.type == "inline":
            rows[-1][1].append(token)
    found: list[TableLine] = []
    for n, inlines in rows:
        spans = cell_spans(lines[n])
        texts = [_plain(token) for token in inlines[: len(spans)]]
        texts += [lines[n][begin:end] for begin, end in spans[len(texts) :]]
        cells = (Cell(text, n + 1, begin + 1) for text, (begin, _) in zip(texts, spans, strict=True))
        found.append(TableLine(n + 1, tuple(cells)))
    header, *body = found
    return header.cells, tuple(body)


def cell_spans(line: str) -> list[tuple[int, int]]:
    """Start and end of each cell's text in a table line; a pipe after a backslash does not end a cell."""
    stripped = mdTrim(line)
    offset = line.index(stripped)
    pipes = [i for i, letter in enumerate(stripped) if letter == "|" and stripped[i - 1 : i] != "\\"]
    spans = [(left + 1, right) for left, right in pairwise([-1, *pipes, len(stripped)])]
    if spans[0][0] == spans[0][1]:
        del spans[0]
    if spans and spans[-1][0] == spans[-1][1]:
        del spans[-1]
    return [_trimmed(stripped, begin, end, offset) for begin, end in spans]


def _trimmed(text: str, begin: int, end: int, offset: int) -> tuple[int, int]:
    while begin < end and text[begin].isspace():
        begin += 1
    while begin < end and text[end - 1].isspace():
        end -= 1
    return offset + begin, offset + end


def _plain(inline: Token) -> str:
    pieces = (_piece(child) for child in inline.children or ())
    return " ".join("".join(pieces).split())


def _piece(token: Token) -> str:
    if token.type in {"text", "code_inline", "image"}:
        return token.content
    return " " if token.type in {"softbreak", "hardbreak", "html_inline"} else ""


@dataclass(frozen=True, slots=True)
class Columns:
    """Column names of a table; the `required` ones must be present, in any order."""

    required: tuple[str, ...]
    optional: tuple[str, ...]

    @property
    def known(self) -> tuple[str, ...]:
        return self.required + self.optional

    def name_of(self, text: str) -> str | None:
        """The known name that equals `text` apart from case and spacing."""
        return next((name for name in self.known if _folded(name) == _folded(text)), None)

    def count_in(self, table: MarkdownTable) -> int:
        """The number of known names in the table's header."""
        return len({name for cell in table.header if (name := self.name_of(cell.text))})


def _folded(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter not in " _-*:")


def read_header(table: MarkdownTable, columns: Columns, source: str) -> tuple[list[str | None], list[Issue]]:
    """The known name of each header cell (None for a wrong one), and the issues of the header."""
    names: list[str | None] = []
    issues: list[Issue] = []
    for cell in table.header:
        name = columns.name_of(cell.text)
        message = None
        if name is None:
            known, close = ", ".join(columns.known), close_name(cell.text, columns.known)
            message = f"unknown column {cell.text[:60]!r}{close}; expected one of {known}"
        elif name in names:
            message = f"expected each column once, got {name!r} again"
        if message:
            issues.append(Issue(source, cell.line, cell.column, "header", message))
        names.append(None if message else name)
    missing = (name for name in columns.required if name not in names)
    issues += (Issue(source, table.line, 1, "header", f"expected a column {name!r}") for name in missing)
    return names, issues


def is_filler(row: TableLine) -> bool:
    """True if all cells of a row are empty or dots."""
    return all(_DOTS.issuperset(cell.text) for cell in row.cells)


def named_rows(
    table: MarkdownTable, names: Sequence[str | None], source: str
) -> Iterator[tuple[int, Mapping[str, Cell] | Issue]]:
    """Line and cells by column name of each row that is not filler; an Issue for a row of another width."""
    for row in table.rows:
        if is_filler(row):
            continue
        cells = row.cells
        if len(cells) == len(names):
            yield row.line, {name: cell for name, cell in zip(names, cells, strict=True) if name is not None}
        else:
            column = cells[min(len(cells), len(names) + 1) - 1].column
            message = (
                f"expected {len(names)} cells as in the header, got {len(cells)} (\\| is a pipe in a cell)"
            )
            yield row.line, Issue(source, row.line, column, "row", message)
