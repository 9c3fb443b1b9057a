"""Data analysis: statistics and charts of honest and hostile tables, and numbers that were not computed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest

from handlers.checks.tables.tables import read_csv
from handlers.checks.text.quotes import numbers_in, unsupported
from handlers.engines.registry import engine_class
from handlers.sandbox.checker import Checker
from handlers.wire import GenerateRequest, RequestError
from tests.test_engines import ScriptedModel

SALES = (
    "region,month,sales\nNorth,2024-01-01,100\nNorth,2024-02-01,200\nSouth,2024-01-01,50\nSouth,2024-02-01,\n"
)
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def checker() -> Iterator[Checker]:
    made = Checker()
    yield made
    made.close()


def asked(prompt: str = "What stands out?", **options: Any) -> GenerateRequest:
    return GenerateRequest(id="r", engine="data_analysis", prompt=prompt, options=options)


def column(findings: dict[str, Any], name: str) -> dict[str, Any]:
    return dict(next(one for one in findings["statistics"]["columns"] if one["name"] == name))


def test_figures_of_every_column_are_computed(checker: Checker) -> None:
    found = checker.check(asked(csv=SALES), "")
    assert (found["statistics"]["rows"], found["statistics"]["column_count"]) == (4, 3)
    sales = column(found, "sales")
    assert (sales["kind"], sales["count"], sales["missing"]) == ("number", 3, 1)
    assert (sales["min"], sales["max"], sales["median"], sales["sum"]) == (50, 200, 100, 350)
    assert (sales["q1"], sales["q3"]) == (75, 150)
    assert sales["mean"] == pytest.approx(350 / 3)
    assert sales["std"] == pytest.approx(76.3762615826)
    assert column(found, "region")["top"][0] == {"value": "North", "count": 2}
    assert column(found, "month")["min"] == "2024-01-01 00:00:00"
    (group,) = found["statistics"]["groups"]
    assert group["values"][0] == {"value": "North", "count": 2, "mean": 150, "sum": 300}


def test_numbers_that_go_together_are_named(checker: Checker) -> None:
    rows = [{"a": n, "b": -2 * n, "c": n % 2} for n in range(10)]
    found = checker.check(asked(table=rows, chart="none"), "")
    assert found["statistics"]["correlations"][0] == {"a": "a", "b": "b", "r": -1.0}


@pytest.mark.parametrize("kind", ["bar", "line", "scatter", "hist"])
def test_each_kind_of_chart_is_a_png(checker: Checker, kind: str) -> None:
    rows = {"columns": ["name", "x", "y"], "rows": [["a", 1, 2.5], ["b", 2, 3.5], ["a", 3, None]]}
    found = checker.check(asked(table=rows, chart=kind), "")
    assert base64.b64decode(found["chart"]).startswith(PNG)
    assert found["warnings"] == []


def test_a_chart_can_be_chosen_by_columns_or_left_out(checker: Checker) -> None:
    by_month = checker.check(asked(csv=SALES, chart="bar", x="month", y="sales"), "")["chart"]
    by_region = checker.check(asked(csv=SALES, chart="bar", x="region", y="sales"), "")["chart"]
    assert by_month != by_region
    assert checker.check(asked(csv=SALES, chart="none"), "")["chart"] is None


def test_a_chart_that_the_table_has_no_columns_for_is_explained(checker: Checker) -> None:
    found = checker.check(asked(csv="name\na\nb", chart="scatter"), "")
    assert found["chart"] is None
    assert "two columns of numbers" in found["warnings"][0]


def test_a_number_that_nobody_computed_is_flagged(checker: Checker) -> None:
    text = "1. The mean is 116.7, from 50 to 200.\n2. Sales rose by 37% to 4,000 in 2024."
    found = checker.check(asked(csv=SALES, chart="none"), text)
    assert found["unsupported_numbers"] == ["37%", "4,000"]


@pytest.mark.parametrize(
    ("text", "known", "left"),
    [
        ("about 1.2 million", [1_234_567.0], []),
        ("1.3 million", [1_234_567.0], ["1.3 million"]),
        ("3 m wide", [3.0], []),
        ("93 % of it", [0.93], []),
        ("fell by 5", [-5.0], []),
        ("2.5 or 3", [2.5], []),
        ("version v2 and Q1", [], []),
        ("1e999 and 6.02e23", [6.022e23], ["1e999"]),
        ("12,345.60 and 12.345", [12345.6], ["12.345"]),
    ],
)
def test_numbers_are_held_against_what_is_known(text: str, known: list[float], left: list[str]) -> None:
    assert unsupported(text, known) == left


def test_numbers_are_found_anywhere_in_a_value() -> None:
    assert sorted(numbers_in({"a": [1, "2 of 3", True, None], "b": {"c": 4.5}})) == [1, 2, 3, 4.5]


@pytest.mark.parametrize(
    ("options", "param", "what"),
    [
        ({"csv": ""}, "options.csv", "at least one row"),
        ({"csv": "a,b"}, "options.csv", "at least one row"),
        ({"csv": 'a,b\n"x,1\n'}, "options.csv", "line 2"),
        ({"csv": "a,b\n1,2,3"}, "options.csv", "line 2 has 3 cells"),
        ({"csv": "a\n" + "1\n" * 20_001}, "options.csv", "20000 rows"),
        ({"csv": ",".join("a" * 101) + "\n1"}, "options.csv", "100 columns"),
        ({"csv": "a\n" + "x" * 200_000}, "options.csv", "limit"),
        ({"csv": "a\n1", "table": [{"a": 1}]}, "options.table", "either csv or table"),
        ({"table": []}, "options.table", "at least one row"),
        ({"table": [1]}, "options.table", "list of objects"),
        ({"table": [{"a": [1]}]}, "options.table", "row 0"),
        ({"table": {"columns": ["a"]}}, "options.table", "columns and rows"),
        ({"table": {"columns": ["a"], "rows": [[1, 2]]}}, "options.table", "row 0"),
        ({"table": {"columns": [1], "rows": [[1]]}}, "options.table", "names"),
        ({"csv": "a\n1", "x": "b"}, "options.x", "one of the columns a"),
        ({"csv": "a\n1", "chart": "pie"}, "options.chart", "'hist'"),
    ],
)
def test_what_is_no_table_is_refused_by_its_option(options: dict[str, Any], param: str, what: str) -> None:
    with pytest.raises(RequestError, match=what) as refused:
        engine_class("data_analysis")().accept(asked(**options))
    assert (refused.value.status, refused.value.param) == (400, param)


@pytest.mark.parametrize(
    "csv",
    [
        "a\n1e999\n-1e999\n5",
        "a,b\n1e308,-1e308\n1e308,1e308\n1e308,-1e308\n",
        "a,b\nnan,inf\n=1+1,@SUM(A1)\n",
        "a,a,a (2)\n1,2,3\n",
        ",\n1,2\n",
        "$x_1$,\\frac{\n$\\alpha,1\n$,2\n",
        "日本,b\n東京,1\n大阪,2\n",
        "\ufeffa;b\n1,5;2\n2,5;3\n",
        "d\n2024-13-45\n0001-01-01T00:00:00+14:00\n",
        "a\x00,b\n1,2\n",
        "x\n7",
    ],
)
def test_a_hostile_table_gives_strict_json(checker: Checker, csv: str) -> None:
    found = checker.check(asked(csv=csv), "It is 5.")
    json.dumps(found, allow_nan=False)
    assert found["statistics"] is not None, found["warnings"]


def test_cells_are_told_apart_by_what_all_of_them_are(checker: Checker) -> None:
    csv = 'zip,flag,price,mixed\n01234,true,"1,200",1\n99999,false,3,x\n'
    found = checker.check(asked(csv=csv, chart="none"), "")
    assert [one["kind"] for one in found["statistics"]["columns"]] == ["text", "boolean", "number", "text"]
    assert column(found, "price")["max"] == 1200


def test_a_few_cells_that_are_no_numbers_are_told(checker: Checker) -> None:
    found = checker.check(asked(csv="a\n" + "1\n" * 19 + "about two\n", chart="none"), "")
    assert column(found, "a")["kind"] == "text"
    assert "1 of 20 cells are not numbers" in found["warnings"][0]


def test_names_are_unique_and_short_rows_are_filled() -> None:
    table = read_csv("a,a,\n1,2,3\n4\n")
    assert table.columns == ("a", "a (2)", "column 3")
    assert table.rows[1] == ["4", None, None]
    assert len(table.warnings) == 2


def test_only_the_ends_of_lines_that_csv_knows_end_a_row() -> None:
    table = read_csv('a,b\r\n"1\n2",x\u2028y\r\n\r\n3,z\x0b\r\n,\r\n')
    assert table.rows == [["1\n2", "x\u2028y"], ["3", "z\x0b"]]


def test_a_large_table_stays_within_the_limits_of_a_check(checker: Checker) -> None:
    rows = "\n".join(f"{n},{n * 0.37:.3f},{'xyz'[n % 3]},2024-01-{n % 28 + 1:02d}" for n in range(20_000))
    found = checker.check(asked(csv=f"n,v,c,d\n{rows}"), "")
    assert found["statistics"]["rows"] == 20_000
    assert found["chart"] is not None


async def told(prompt: str, context: int = 1000, **options: Any) -> tuple[str, dict[str, Any]]:
    """The last message to the model, and the engine's notes."""
    model = ScriptedModel("fine")
    model.context = context
    engine = engine_class("data_analysis")()
    engine.load_model(model)
    await engine.generate(asked(prompt, **options))
    return model.asked[0][0][-1].content, engine.notes


async def test_the_model_is_told_figures_and_not_the_table() -> None:
    question, notes = await told("Which region is ahead?", csv=SALES)
    assert "'sales' by 'region': 'North': mean 150, sum 300" in question
    assert question.endswith("Question: Which region is ahead?")
    assert "North,2024" not in question
    assert notes == {}


async def test_figures_that_do_not_fit_the_context_are_left_out_and_told() -> None:
    question, notes = await told("Why?", context=40, csv=SALES)
    assert "The table has 4 rows" in question
    assert notes["figures_left_out"] > 0
    assert len(question.split()) < 40


async def test_a_table_may_stand_in_a_fence_of_the_question() -> None:
    question, _ = await told(f"What is this?\n```csv\n{SALES}```")
    assert "'sales' (number)" in question


async def test_without_a_table_the_question_is_asked_as_it_is() -> None:
    question, _ = await told("Which test suits paired samples?")
    assert question == "Which test suits paired samples?"
    found = engine_class("data_analysis")().check(asked(), "A paired t-test.")
    assert found["statistics"] is None
    assert "options.csv" in found["warnings"][0]


async def test_a_table_that_could_not_be_analysed_in_time_is_an_error() -> None:
    class Stopped(Checker):
        async def findings(self, request: GenerateRequest, text: str) -> dict[str, Any]:
            return engine_class("data_analysis")().unchecked(request, text, "the check was stopped")

    stopped = Stopped()
    engine = engine_class("data_analysis")(stopped)
    engine.load_model(ScriptedModel("fine"))
    with pytest.raises(RequestError, match="was stopped"):
        await engine.generate(asked(csv=SALES))
    stopped.close()
