"""The table under `## Engine Parameters`."""

from __future__ import annotations

import pytest

from tests.conductor_core.settings_texts import mistakes, parsed

HEADING = "\n## Engine Parameters\n\n"


def table(header: str, *rows: str) -> str:
    return (
        HEADING
        + f"| {header} |\n|{'---|' * (header.count('|') + 1)}\n"
        + "".join(f"| {row} |\n" for row in rows)
    )


def test_values_reach_their_row_and_empty_cells_do_not() -> None:
    catalogue = parsed(
        {},
        {"Category/Area": "Translation"},
        after=table("Category | temperature | Max Tokens | seed", "Conversational Chat | 0.7 | 512 | "),
    )
    assert catalogue.rows[0].parameters == {"temperature": 0.7, "max_tokens": 512}
    assert catalogue.rows[1].parameters == {}
    assert [dict(row.parameters) for row in catalogue.sets[0].rows] == [
        {"temperature": 0.7, "max_tokens": 512},
        {},
    ]


def test_history_tokens_is_for_engines_that_converse() -> None:
    rows = table("Category | history_tokens", "Conversational Chat | 500", "Translation | 500")
    (found,) = mistakes({}, {"Category/Area": "Translation"}, after=rows)
    assert "engine translation has no history_tokens" in str(found)
    chat = parsed({}, after=table("Category | history_tokens", "Conversational Chat | 500"))
    assert chat.rows[0].parameters == {"history_tokens": 500}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("temperature", "0"),
        ("temperature", "2"),
        ("max_tokens", "1"),
        ("top_p", "1"),
        ("top_k", "0"),
        ("repetition_penalty", "2"),
        ("presence_penalty", "-2"),
        ("frequency_penalty", "2.0"),
        ("seed", "4294967295"),
        ("history_tokens", "0"),
    ],
)
def test_the_bounds_themselves_are_allowed(name: str, text: str) -> None:
    catalogue = parsed({}, after=table(f"Category | {name}", f"Conversational Chat | {text}"))
    assert catalogue.rows[0].parameters == {name: float(text)}


@pytest.mark.parametrize(
    ("name", "text", "expectation"),
    [
        ("temperature", "2.1", "expected a number of at least 0 and at most 2, got '2.1'"),
        ("temperature", "-0.1", "expected a number of at least 0 and at most 2"),
        ("temperature", "warm", "expected a number of at least 0 and at most 2, got 'warm'"),
        ("temperature", "nan", "expected a number"),
        ("temperature", "1e400", "expected a number"),
        ("max_tokens", "0", "expected a whole number of at least 1 and at most 1e+06"),
        ("max_tokens", "1.5", "expected a whole number"),
        ("top_p", "0", "expected a number of more than 0 and at most 1"),
        ("top_k", "-1", "expected a whole number of at least 0"),
        ("repetition_penalty", "0", "expected a number of more than 0 and at most 2"),
        ("presence_penalty", "3", "expected a number of at least -2 and at most 2"),
        ("seed", "4294967296", "expected a whole number of at least 0 and less than"),
    ],
)
def test_a_value_beyond_the_bounds_of_a_request_is_refused(name: str, text: str, expectation: str) -> None:
    (mistake,) = mistakes({}, after=table(f"Category | {name}", f"Conversational Chat | {text}"))
    assert f": {name}: {expectation}" in mistake


def test_a_category_that_the_table_lacks_is_an_error_with_a_close_name() -> None:
    (mistake,) = mistakes({}, after=table("Category | seed", "Conversational Cat | 1"))
    assert (
        "expected a category of the table, got 'Conversational Cat' (did you mean 'conversational_chat'?)"
        in mistake
    )


def test_a_category_twice_and_an_unknown_parameter_are_errors() -> None:
    found = mistakes(
        {},
        after=table("Category | temprature", "Conversational Chat | 1", "conversational_chat | 1"),
    )
    assert "unknown column 'temprature' (did you mean 'temperature'?)" in found[0]
    assert "expected each category once, got 'conversational_chat' again" in found[1]


def test_parameters_of_a_row_that_is_wrong_itself_add_no_second_mistake() -> None:
    (mistake,) = mistakes({"Precision": "FP7"}, after=table("Category | seed", "Conversational Chat | 1"))
    assert ": Precision: " in mistake


def test_rows_of_dots_are_passed_over_and_short_rows_reported() -> None:
    (mistake,) = mistakes(
        {}, after=table("Category | seed | top_k", "... | ... | ...", "Conversational Chat | 1")
    )
    assert "row: expected 3 cells as in the header, got 2" in mistake
