"""Blocks of a page and the positions of cells."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from conductor_core.settings.tables import Heading, MarkdownTable, Prose, cell_spans, read_blocks


def test_blocks_keep_their_lines() -> None:
    heading, prose, table, fence = read_blocks("# A *b*\nx\ny\n\n| a |\n|---|\n| 1 |\n```\n| 2 |\n```\n")
    assert isinstance(heading, Heading)
    assert (heading.level, heading.text, heading.line) == (1, "A b", 1)
    assert isinstance(prose, Prose)
    assert (prose.line, prose.lines, prose.is_text) == (2, ("x", "y"), True)
    assert isinstance(table, MarkdownTable)
    assert [[cell.text for cell in row.cells] for row in table.rows] == [["1"]]
    assert isinstance(fence, Prose)
    assert not fence.is_text


def test_a_cell_knows_the_column_where_its_text_begins() -> None:
    (table,) = read_blocks("  |  a | **b** |\n|---|---|\n| \\| x|`y\\|z`   | extra |\nonly one\n")
    assert isinstance(table, MarkdownTable)
    assert [(cell.text, cell.line, cell.column) for cell in table.header] == [("a", 1, 6), ("b", 1, 10)]
    first, second = table.rows
    assert [(cell.text, cell.column) for cell in first.cells] == [("| x", 3), ("y|z", 8), ("extra", 19)]
    assert [(cell.text, cell.line, cell.column) for cell in second.cells] == [("only one", 4, 1)]


@given(st.lists(st.text(alphabet="ab |\\`*\t", max_size=8), min_size=2, max_size=5))
def test_cells_are_found_where_the_markdown_parser_finds_them(cells: list[str]) -> None:
    source = "|" + "|".join(cells) + "|"
    spans = cell_spans(source)
    header = "|" + "x|" * len(spans)
    delimiter = "|" + "---|" * len(spans)
    (table, *_) = read_blocks(f"{header}\n{delimiter}\n{source}\n")
    assert isinstance(table, MarkdownTable)
    for row in table.rows:
        assert len(row.cells) == len(spans)
        for cell, (begin, end) in zip(row.cells, spans, strict=True):
            plain = [letter for letter in source[begin:end] if letter in "ab"]
            assert [letter for letter in cell.text if letter in "ab"] == plain
