"""Data analysis: computes statistics and a chart from the table; the model describes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from itertools import accumulate
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from handlers.checks.tables.tables import DataTable, fenced_table, lines_of, read_csv, read_table
from handlers.checks.text.quotes import numbers_in, unsupported
from handlers.engines.base import Attempt, BaseLLMEngine, EngineOptions, EnginePrompt, Model, read_options
from handlers.wire import GenerateRequest, Message, RequestError, Sampling, bad_option

NO_TABLE = "there is no table: give one as options.csv or options.table, or in a fence marked csv"
SHARE_OF_CONTEXT = 2
"""The statistics take at most this fraction (1/n) of the model's context."""


class AnalysisOptions(EngineOptions):
    """`options` of this engine."""

    csv: Annotated[
        str | None,
        Field(max_length=2_000_000, description="table as CSV; its first line names the columns"),
    ] = None
    table: Annotated[
        list[Any] | dict[str, Any] | None,
        Field(description="table as a list of objects, or as an object with columns and rows"),
    ] = None
    chart: Annotated[
        Literal["auto", "bar", "line", "scatter", "hist", "none"], Field(description="kind of chart")
    ] = "auto"
    x: Annotated[
        str | None, Field(description="column for the horizontal axis; default: chosen from the data")
    ] = None
    y: Annotated[
        str | None, Field(description="numeric column for the vertical axis; default: chosen from the data")
    ] = None


class DataAnalysis(BaseLLMEngine):
    """Findings: `statistics`, `chart` (PNG, base64), `unsupported_numbers` of the answer, `warnings`."""

    name: ClassVar[str] = "data_analysis"
    system_prompt: ClassVar[str] = (
        "You are a careful data analyst. You are given figures that were computed from a table. Answer from "
        "them alone, say which figure each statement rests on, and compute no new ones."
    )
    defaults: ClassVar[Sampling] = Sampling(max_tokens=768, temperature=0.2, top_p=0.95)
    options_type: ClassVar[type[EngineOptions]] = AnalysisOptions
    run_findings: ClassVar[Mapping[str, Any]] = {"figures_left_out": 0}
    libraries: ClassVar[tuple[str, ...]] = (
        "handlers.checks.tables.table_statistics",
        "handlers.checks.tables.chart",
    )

    @classmethod
    def load_libraries(cls) -> None:
        """Also draws once, because matplotlib reads its fonts at the first drawing."""
        super().load_libraries()
        rows = {"rows": [["a", 1], ["b", 2]], "columns": ["x", "y"]}
        cls().check(GenerateRequest(id="", engine=cls.name, prompt="", options={"table": rows}), "")

    def accept(self, request: GenerateRequest) -> None:
        """Also refuses a text that is not a table, and chart columns that the table does not have."""
        super().accept(request)
        table, options = _table(request), read_options(AnalysisOptions, request)
        for option, name in (("x", options.x), ("y", options.y)):
            if table is not None and name is not None and name not in table.columns:
                raise bad_option(option, f"expected one of the columns {', '.join(table.columns)[:500]}")

    def prepare(self, request: GenerateRequest) -> EnginePrompt:
        """The conversation; the fact `has_table` is True if statistics of a table belong into it."""
        has_table = (
            bool(request.options.keys() & {"csv", "table"}) or fenced_table(_asked(request)) is not None
        )
        return replace(super().prepare(request), facts={"has_table": has_table})

    def check(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """Statistics and chart of the request's table, and the numbers of `text` that are not in them."""
        table, options = _table(request), read_options(AnalysisOptions, request)
        if table is None:
            return self.unknown(NO_TABLE)
        # pandas and matplotlib take 100 MB, so only the checker process loads them.
        from handlers.checks.tables.chart import ChartRequest, draw
        from handlers.checks.tables.columns import columns_of
        from handlers.checks.tables.table_statistics import statistics_of

        columns = columns_of(table)
        statistics, told = statistics_of(columns, len(table.rows))
        chart, about_chart = draw(columns, ChartRequest(options.chart, options.x, options.y))
        of_columns = [warning for column in columns for warning in column.warnings]
        return {
            "statistics": statistics,
            "chart": chart,
            "unsupported_numbers": unsupported(text, [*numbers_in(statistics), *numbers_in(_asked(request))]),
            **self.run_findings,
            "warnings": [*table.warnings, *of_columns, *told, *about_chart],
        }

    def unknown(self, reason: str) -> dict[str, Any]:
        """Findings without statistics, and so without unsupported numbers."""
        nothing = dict.fromkeys(("statistics", "chart", "unsupported_numbers"))
        return {**nothing, **self.run_findings, "warnings": [reason]}

    async def run(self, request: GenerateRequest, model: Model) -> AsyncGenerator[str | Attempt, None]:
        """Pieces of the model's description of the statistics."""
        prepared = await self.prepared(request)
        if prepared.facts["has_table"]:
            bare = request.model_copy(update={"options": {**request.options, "chart": "none"}})
            found = await self.findings(bare, "")
            if found["statistics"] is None:
                raise RequestError(found["warnings"][0], code="not_analysed", param="options")
            prepared = await asyncio.to_thread(self._with_figures, prepared, found["statistics"], model)
        async with aclosing(model.stream(prepared.messages, prepared.sampling)) as pieces:
            async for piece in pieces:
                yield piece

    def _with_figures(self, prepared: EnginePrompt, statistics: dict[str, Any], model: Model) -> EnginePrompt:
        """The conversation with the statistics before its last question, as many as fit into the context."""
        every = lines_of(statistics)
        sizes = accumulate(model.count(line) + 1 for line in every)
        room = model.context // SHARE_OF_CONTEXT
        lines = [line for line, size in zip(every, sizes, strict=True) if size <= room] or every[:1]
        if left := len(every) - len(lines):
            self.notes["figures_left_out"] = left
        *before, last = prepared.messages
        question = last.content.strip() or "Describe what the figures say."
        told = Message(role=last.role, content="\n".join(["Figures:", *lines, "", f"Question: {question}"]))
        return EnginePrompt([*before, told], prepared.sampling)


def _asked(request: GenerateRequest) -> list[str]:
    return [turn.content for turn in request.turns if turn.role == "user"]


def _table(request: GenerateRequest) -> DataTable | None:
    options = read_options(AnalysisOptions, request)
    if options.csv is not None and options.table is not None:
        raise bad_option("table", "expected either csv or table")
    if options.csv is not None:
        return read_csv(options.csv)
    if options.table is not None:
        return read_table(options.table)
    fenced = fenced_table(_asked(request))
    return None if fenced is None else read_csv(fenced, "csv")
