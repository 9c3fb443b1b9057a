"""Values of the table's cells."""

from __future__ import annotations

import math

import pytest

from conductor_core.catalogue import Catalogue, Precision, Row, StayLoaded
from conductor_core.settings.page import ROW_COLUMNS
from conductor_core.settings.parser import parse_settings
from tests.conductor_core.settings_texts import COLUMNS, ENGINES, line, parsed, settings_text


def only(catalogue: Catalogue) -> Row:
    (row,) = catalogue.rows
    return row


def test_the_documented_row_is_understood() -> None:
    row = only(parsed({"Category/Area": "**Conversational Chat**"}))
    assert (row.category, row.slug, row.model) == (
        "Conversational Chat",
        "conversational_chat",
        "Llama 3.1 8B",
    )
    assert row.technical_model_name == "meta-llama/Llama-3.1-8B-Instruct"
    assert (row.ref.kind, row.ref.source) == ("hub", "meta-llama/Llama-3.1-8B-Instruct")
    assert (row.precision, row.file_precision) == (Precision.FP16, None)
    assert row.stay_loaded is StayLoaded.TRUE
    assert (row.vram_requirement, row.declared_memory) == ("~8GB (FP16)", 8_000_000_000)
    assert (row.engine, row.line) == ("conversational_chat", 3)


def test_columns_left_out_have_their_defaults() -> None:
    row = only(parsed({}))
    assert (row.workers, row.runtime, row.device, row.context) == (1, "auto", "auto", None)
    assert (row.idle_timeout_s, row.parameters) == (300.0, {})


def test_empty_optional_cells_have_the_same_defaults() -> None:
    assert only(parsed(dict.fromkeys(ROW_COLUMNS.optional, ""))) == only(parsed({}))


def test_columns_may_stand_in_any_order_and_case() -> None:
    names = list(reversed(COLUMNS))
    lines = [
        line([name.upper() for name in names]),
        line(["---"] * 6),
        line([COLUMNS[name] for name in names]),
    ]
    assert only(parse_settings("\n".join(lines), engines=ENGINES)) == only(parsed({}))


def test_every_optional_column_is_read() -> None:
    cells = {
        "Workers": "3",
        "Runtime": "Transformers",
        "Device": "CUDA:1",
        "GPUs": "1",
        "Context": "8k",
        "Engine": "Translation",
        "Idle Timeout": "1h30m",
    }
    assert cells.keys() == set(ROW_COLUMNS.optional), "a new column has a cell here, and its value below"
    row = only(parsed(cells))
    assert (row.workers, row.runtime, row.device, row.context) == (3, "transformers", "cuda:1", 8192)
    assert (row.engine, row.idle_timeout_s) == ("translation", 5400.0)


@pytest.mark.parametrize(
    ("cell", "tokens"), [("4096", 4096), ("8,192", 8192), ("128K", 131072), ("1_000_000", 1_000_000)]
)
def test_context_is_a_number_of_tokens(cell: str, tokens: int) -> None:
    assert only(parsed({"Context": cell})).context == tokens


@pytest.mark.parametrize("word", ["true", "TRUE", "false", "Yield"])
def test_stay_loaded_words_have_any_case(word: str) -> None:
    assert only(parsed({"Stay Loaded": word})).stay_loaded is StayLoaded(word.lower())


@pytest.mark.parametrize(
    ("cell", "precision"),
    [
        ("fp32", Precision.FP32),
        ("BF16", Precision.BF16),
        ("`8-bit`", Precision.INT8),
        ("4-Bit", Precision.INT4),
    ],
)
def test_precision_words_have_any_case(cell: str, precision: Precision) -> None:
    assert only(parsed({"Precision": cell})).precision is precision


@pytest.mark.parametrize("cell", ["", "Q4_1", "q4_1"])
def test_a_gguf_keeps_its_own_quantisation_named_or_not(cell: str) -> None:
    row = only(parsed({"Technical Model Name": "./models/tiny.Q4_1.gguf", "Precision": cell}))
    assert (row.precision, row.file_precision) == (Precision.FILE, "Q4_1")


def test_a_gguf_whose_name_says_nothing_has_the_quantisation_of_its_cell() -> None:
    row = only(parsed({"Technical Model Name": "./tiny.gguf", "Precision": "Q8_0"}))
    assert row.file_precision == "Q8_0"


def test_an_empty_precision_of_a_checkpoint_is_its_own() -> None:
    row = only(parsed({"Precision": ""}))
    assert (row.precision, row.file_precision) == (Precision.FILE, None)


def test_a_dash_declares_no_memory() -> None:
    assert only(parsed({"VRAM/RAM Requirements": "-"})).declared_memory is None


def test_never_is_an_endless_idle_timeout() -> None:
    assert only(parsed({"Idle Timeout": "never"})).idle_timeout_s == math.inf


def test_markup_and_escaped_pipes_are_not_part_of_the_text() -> None:
    row = only(parsed({"Best Open Source Model": r"*Tiny* `a\|b` \| [link](https://example.org)"}))
    assert row.model == "Tiny a|b | link"


def test_a_row_of_dots_is_a_warning_with_its_line() -> None:
    text = settings_text({}) + "| ... | … | ... | ... | ... | ... |\n|  |  |  |  |  |  |\n|\n"
    catalogue = parse_settings(text, engines=ENGINES)
    assert catalogue.warnings == (
        "SETTINGS.md:4: skipped a row that has only dots or empty cells",
        "SETTINGS.md:5: skipped a row that has only dots or empty cells",
        "SETTINGS.md:6: skipped a row that has only dots or empty cells",
    )


def test_a_category_without_an_engine_uses_the_general_one_and_says_so() -> None:
    catalogue = parsed({"Category/Area": "Poetry"})
    assert only(catalogue).engine == "general_reasoning"
    assert catalogue.warnings == (
        "SETTINGS.md:3: poetry has no engine of its own and uses general_reasoning",
    )


def test_naming_the_general_engine_is_no_warning() -> None:
    assert parsed({"Category/Area": "Poetry", "Engine": "general_reasoning"}).warnings == ()


def test_several_tables_are_one_list_of_rows() -> None:
    text = settings_text({}) + "\n## More\n\n" + settings_text({"Category/Area": "Translation"})
    assert [row.slug for row in parse_settings(text, engines=ENGINES).rows] == [
        "conversational_chat",
        "translation",
    ]


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_a_byte_order_mark_and_foreign_line_ends_change_nothing(newline: str) -> None:
    text = settings_text({}, {"Category/Area": "Translation"}, before="# Title\n\n")
    assert parse_settings("\ufeff" + text.replace("\n", newline), engines=ENGINES) == parse_settings(
        text, engines=ENGINES
    )


def test_engines_are_by_default_the_installed_ones() -> None:
    assert parse_settings(settings_text({})).rows[0].engine == "conversational_chat"


def test_warnings_are_in_the_order_of_lines() -> None:
    text = settings_text({"Category/Area": "Poetry"})
    prose = text.splitlines()[-1].replace("Poetry", "Prose")
    found = parse_settings(f"{text}| ... | | | | | |\n{prose}\n", engines=ENGINES).warnings
    assert [warning.split(":")[1] for warning in found] == ["3", "4", "5"]
