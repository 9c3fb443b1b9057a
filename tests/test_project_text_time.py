"""No function over text of users or models takes more than linear time on any text.

Every public function of the checks that takes a text is measured, or listed with the reason why it is not; so
are readers of streams, whose texts arrive in pieces, and each engine's check and prepare.
"""

from __future__ import annotations

import ast
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from conductor_admin.api.openai.chat import ChoiceChunks
from conductor_admin.api.openai.tools import ChosenTool, Function, Offer
from conductor_admin.auto.rules import by_rule
from conductor_core.settings.tables import cell_spans
from handlers.checks.code import blocks
from handlers.checks.code import languages as code_languages
from handlers.checks.code.endings import BlockReader, overlap
from handlers.checks.maths import answers, notation, values
from handlers.checks.maths.problem import _question
from handlers.checks.tables import tables
from handlers.checks.text import bibliography, json_answers, languages, quotes, sentences, translations
from handlers.checks.text.bibliography import CitedWork
from handlers.engines import _documents, _translation
from handlers.engines.registry import engine_class
from handlers.inference.output import StopStrings
from handlers.tool_calls.parser import ToolCallParser, find_calls
from handlers.wire import GenerateRequest, RequestError
from handlers.worker.coalescing import _merged
from tests.engines.engine_cases import OPTIONS
from tests.growth import Run, fault
from tests.pattern_attacks import Text
from tests.source_tree import ROOT

BESIDE_CHECKS = ("_documents.py", "_fill_in_middle.py", "_translation.py")
"""Modules of engines that parse texts."""
UNITS = (
    " ", "\n", "a", "1", "a ", "a\n", " \n", "a. B ", '"a b c" ', "(A, 2020) ", "[1-999]", "x = 1, ", "```\n",
    "```json\n", "\\(", "$", "\\frac{", "{", "[", '{"a":', "a,b\n", '"', "1. a\n", "translate to ", "\u4e2d",
    "\\cite[", "<tool_call>", "a: ", "…", "1.5 % ",
)  # fmt: skip
"""Repeated parts of documents that are made to be slow."""


def documents_of(before: str = "") -> list[Text]:
    return [Text(before, unit, "") for unit in UNITS]


def fits(text: str) -> bool:
    return len(text) <= 200


def in_pieces(feed: Callable[[str], object], text: str) -> None:
    """Gives a text to a reader as a model does, four characters at a time."""
    for at in range(0, len(text), 4):
        feed(text[at : at + 4])


def both(function: Callable[[str, str], object]) -> Run:
    return lambda text: function(text, text)


def refused(function: Callable[[str], object], *errors: type[Exception]) -> Run:
    """Runs a function that may refuse the text, if it does so quickly."""

    def run(text: str) -> None:
        with suppress(*errors):
            function(text)

    return run


def all_of(function: Callable[[str], Iterator[Any] | Sequence[Any]]) -> Run:
    return lambda text: list(function(text))


def looked_up(text: str) -> None:
    source = quotes.SourceText(text)
    for quote in quotes.affordable([text[: len(text) // 2], "b c d", text[-50:] + " b"] * 3, len(text)):
        source.locate(quote)


def completed(text: str) -> None:
    reader = BlockReader(text, text)
    in_pieces(reader.feed, text)
    reader.flush()


def stepped(coroutine: Any) -> None:
    """Runs a coroutine that never waits."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


def one_line(text: str) -> None:
    async def pieces() -> AsyncIterator[str]:
        for at in range(0, len(text), 40):
            yield text[at : at + 40]

    async def read() -> None:
        async for _ in _translation.one_line(pieces()):
            pass

    stepped(read())


REFERENCES = [CitedWork("doe20", ("doe",), "2020", "", {})]
DRIVEN: dict[str, Run] = {
    "text.bibliography.find_citations": lambda text: bibliography.find_citations(text, REFERENCES),
    "text.bibliography.written_dois": bibliography.written_dois,
    "text.bibliography.is_doi": bibliography.is_doi,
    "engines._documents.clauses": _documents.clauses,
    "text.json_answers.read_json": refused(json_answers.read_json, ValueError),
    "text.json_answers.read_items": json_answers.read_items,
    "text.languages.language_code": languages.language_code,
    "text.languages.individual": languages.individual,
    "text.languages.is_same_language": both(languages.is_same_language),
    "text.quotes.unsupported": lambda text: quotes.unsupported(text, [1.0, 2.0]),
    "text.quotes.SourceText.__init__": quotes.SourceText,
    "text.quotes.SourceText.locate": looked_up,
    "text.quotes.affordable": looked_up,
    "text.quotes.quotations": quotes.quotations,
    "text.sentences.packed": lambda text: list(sentences.packed(list(text), fits)),
    "tables.tables.fenced_table": lambda text: tables.fenced_table([text]),
    "tables.tables.read_csv": refused(tables.read_csv, RequestError),
    "engines._translation.one_line": one_line,
    "engines._translation.read_task": lambda text: _translation._in_words(text),
    "text.translations.untranslated_spans": both(translations.untranslated_spans),
    "code.blocks.blocks": blocks.blocks,
    "code.endings.BlockReader.__init__": completed,
    "code.endings.BlockReader.feed": completed,
    "code.endings.overlap": both(overlap),
    "code.languages.of_name": code_languages.of_name,
    "code.languages.of_file": code_languages.of_file,
    "code.languages.of_content": code_languages.of_content,
    "code.languages.of_mention": code_languages.of_mention,
    "maths.answers.candidates": answers.candidates,
    "maths.answers.clean": answers.clean,
    "maths.problem.recognise": _question,
    "maths.notation.plain": refused(notation.plain, notation.NotMaths),
    "maths.notation.tokens": refused(notation.tokens, notation.NotMaths),
    "maths.values.asks_for_rounding": values.asks_for_rounding,
}
"""Functions over texts, each called as the project calls it."""

_SYMPY = "SymPy: at most 2,000 characters of notation reach it, in the checker process, which ends at 2 s"
_CODE = "a code of a language or a name of ours, never a text"
EXCEPT: dict[str, str] = {
    "text.bibliography.read_bibliography": "bibtexparser and citeproc: the checker process ends them at 2 s",
    "engines._documents.room_for": "counts tokens: the tokenizer's time",
    "engines._documents.parts": "counts tokens, and pysbd; `packed` and `clauses` are driven",
    "engines._documents.item_list": "asks the model; `read_items` is driven",
    "text.languages.english_name": _CODE,
    "text.languages.short_code": _CODE,
    "text.languages.known_as": _CODE,
    "text.languages.detect_language": "lingua: it is given 4,000 characters",
    "text.languages.is_other_language": "lingua: it is given 4,000 characters",
    "text.sentences.sentences": "pysbd: windows of 4,000 characters, 0.2 ms each character",
    "text.sentences.segments": "pysbd, as `sentences`",
    "tables.tables.lines_of": "at most 100 columns",
    "tables.tables.read_table": "values of the request's JSON, at most 200,000 cells",
    "tables.tables.check_size": "numbers",
    "engines._translation.TranslationPieces.pieces": "asks the model",
    "engines._translation.language_marks": _CODE,
    "text.translations.translation_warnings": "lingua; `untranslated_spans` is driven",
    "engines._fill_in_middle.Family.parts": "puts texts side by side",
    "engines._fill_in_middle.family_of": "tokens of ours",
    "code.syntax.syntax_error": "tree-sitter: the checker process ends it at 2 s",
    "maths.notation.number": _SYMPY,
    "maths.notation.apply": _SYMPY,
    "maths.calculus.recognise": _SYMPY,
    "maths.compare.same_rounded": _SYMPY,
    "maths.equations.recognise": _SYMPY,
    "maths.intervals.interval": _SYMPY,
    "maths.named.recognise": _SYMPY,
    "maths.parser.parse": _SYMPY,
    "maths.verdict.judge": _SYMPY,
}
"""Reasons why functions are not measured."""


def functions_over_text() -> set[str]:
    """Public functions and methods of the checks with a parameter of texts."""
    paths = [*(ROOT / "handlers/checks").rglob("*.py")]
    paths += [ROOT / "handlers/engines" / name for name in BESIDE_CHECKS]
    return {f"{path.parent.name}.{path.stem}.{name}" for path in paths for name in _over_text(path)}


def _over_text(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            members = [(f"{node.name}.", member) for member in node.body]
        else:
            members = [("", node)]
        for of, function in members:
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            notes = [one.annotation for one in (*function.args.args, *function.args.kwonlyargs)]
            words = {one.id for note in notes if note for one in ast.walk(note) if isinstance(one, ast.Name)}
            hidden = (of + function.name).startswith("_") or (
                function.name.startswith("_") and function.name != "__init__"
            )
            if words & {"str", "GenerateRequest"} and not hidden:
                yield of + function.name


def test_every_function_over_text_is_driven_or_named() -> None:
    there = functions_over_text()
    assert there == DRIVEN.keys() | EXCEPT.keys()
    assert not DRIVEN.keys() & EXCEPT.keys()
    assert all(EXCEPT.values())


@pytest.mark.parametrize("name", DRIVEN)
def test_a_function_over_text_is_linear(name: str) -> None:
    faults = {attack: fault(DRIVEN[name], attack, most=60e-6, length=16384) for attack in documents_of()}
    assert not {attack: how for attack, how in faults.items() if how}


def stopped(stop: str) -> Run:
    def run(text: str) -> None:
        in_pieces(StopStrings([stop] * 4).feed, text)

    return run


def offered(text: str) -> None:
    chunks = ChoiceChunks(0, Offer((Function(name="a"),), ChosenTool("auto")))
    in_pieces(lambda piece: chunks.record({"delta": piece, "logprobs": [{}]}), text)


READERS: dict[str, Run] = {
    "stop strings": stopped(" " * 255 + "b"),
    "stop strings of letters": stopped("a" * 256),
    "whole answer with calls": lambda text: find_calls(text, ["a"]),
    "answer with calls in pieces": lambda text: in_pieces(ToolCallParser(["a"]).feed, text),
    "call with long arguments": lambda text: find_calls(
        '<tool_call>{"name": "a", "arguments": {"b":' + text, ["a"]
    ),
    "call after long arguments": lambda text: find_calls('{"parameters": "' + text, ["a"]),
    "joined records": lambda text: _merged([{"delta": sign, "logprobs": [{}]} for sign in text]),
    "rules": by_rule,
    "cells of a line": cell_spans,
}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_of_growing_text_is_linear(name: str) -> None:
    faults = {attack: fault(READERS[name], attack, most=60e-6, length=16384) for attack in documents_of()}
    assert not {attack: how for attack, how in faults.items() if how}


def test_what_is_slow_is_refused() -> None:
    def grown(text: str) -> None:
        whole: tuple[str, ...] = ()
        for sign in text:
            whole = (*whole, sign)

    def compared(text: str) -> None:
        for at in range(len(text)):
            text[at:].isalpha()

    assert fault(grown, Text("", "a", ""))
    assert fault(compared, Text("", "a", ""), length=16384)
    assert fault(list, Text("", "a", ""), length=16384) is None


SLOW_LIBRARIES = {
    "mathematical_reasoning": _SYMPY,
    "data_analysis": "pandas and matplotlib",
    "translation": "lingua and langcodes",
    "scientific_research": "bibtexparser and citeproc",
    "code_generation": "tree-sitter and Python's own parser",
}
"""Engines whose check runs a slow library; the checker process ends it after 2 s."""


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_an_engine_prepares_and_checks_in_linear_time(name: str) -> None:
    engine = engine_class(name)()

    def prepared(text: str) -> None:
        request = GenerateRequest(id="r", engine=name, prompt=text)
        engine.prepare(request)
        if name not in SLOW_LIBRARIES:
            engine.check(request, text)

    run = refused(prepared, RequestError)
    faults = {attack: fault(run, attack, most=60e-6, length=16384) for attack in documents_of()}
    assert not {attack: how for attack, how in faults.items() if how}
