"""Hypothesis strategies for each engine's valid options and likely answers; a model that gives an answer.

A new engine needs a line in `OPTIONS` and one in `ANSWERS`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, get_args

from hypothesis import strategies as st

from handlers.checks.code.languages import Name
from handlers.checks.text.bibliography import CSL_STYLES
from handlers.checks.text.legal_terms import REGULATIONS, Area
from handlers.checks.text.legal_terms import Task as LegalTask
from handlers.engines.base import ControlToken
from handlers.engines.code_generation import TEMPLATES
from handlers.engines.creative_writing import Form, View
from handlers.engines.mathematical_reasoning import ADVICE
from handlers.engines.scientific_research import INSTRUCTIONS as RESEARCH
from handlers.wire import Message, Sampling
from tests.test_engines import ScriptedModel

BIBTEX = "@book{kn68, title={Art}, author={Knuth, D.}, year={1968}, doi={10.1000/182}}"
CONTRACT = "1. The tenant pays rent on Mondays.\n\n2. Either party may end this with 30 days' notice."
SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
CSV = "city,sales\nRome,10\nOslo,30\n"
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)


def _some(**options: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=options)


def _choice(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


def _text() -> st.SearchStrategy[str]:
    return WORDS.filter(bool)


OPTIONS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "code_completion": _some(
        prefix=WORDS, suffix=WORDS, language=_choice(*get_args(Name)), filename=_choice("a.py", "b.rs", "c")
    ),
    "code_generation": _some(language=_choice(*get_args(Name)), template=_choice(*TEMPLATES)),
    "conversational_chat": _some(history_tokens=st.integers(0, 100)),
    "creative_writing": _some(
        form=_choice(*get_args(Form)),
        tone=_text(),
        length=_choice("short", "medium", "long", 10, 300),
        point_of_view=_choice(*get_args(View)),
        continue_from=_text(),
    ),
    "data_analysis": _some(csv=_choice(CSV), chart=_choice("bar", "none"), x=_choice("city")).filter(
        lambda given: "csv" in given or "x" not in given
    ),
    "embedding": _some(inputs=st.lists(WORDS, min_size=1, max_size=3)),
    "general_reasoning": _some(history_tokens=st.integers(0, 100)),
    "information_extraction": _some(schema=_choice(SCHEMA, {}, {"type": "array"})),
    "legal_analysis": _some(
        task=_choice(*get_args(LegalTask)),
        document=_choice(CONTRACT, "Nothing."),
        area=_choice(*get_args(Area)),
        jurisdiction=_text(),
        regulation=_choice(*REGULATIONS, "Rent is due monthly."),
    ).filter(lambda given: given.get("task") != "compliance" or "regulation" in given),
    "mathematical_reasoning": _some(
        context=_choice(*ADVICE),
        format=_choice("text", "latex"),
        expected=_choice("42", "x = 2", "\\pi", "?"),
    ),
    "question_answering": _some(passages=st.lists(_text(), min_size=1, max_size=3)),
    "scientific_research": _some(
        task=_choice(*RESEARCH), bibliography=_choice(BIBTEX), style=_choice(*CSL_STYLES)
    ),
    "summarization": _some(
        document=_choice(CONTRACT, "A text."),
        length=_choice("short", "medium", "long"),
        style=_choice("paragraph", "bullets", "headline", "executive"),
    ),
    "text_classification": st.one_of(
        st.just({}), _some(multiple=st.booleans()).map(lambda given: {"labels": ["good", "bad"], **given})
    ),
    "translation": _some(
        source=_choice("en", "German"),
        target=_choice("fr", "deu_Latn", "English"),
        register=_choice("formal", "informal"),
        inputs=st.lists(WORDS, min_size=1, max_size=3),
    ).filter(lambda given: "inputs" not in given or "target" in given),
}

ANSWERS: dict[str, tuple[str, ...]] = {
    "code_completion": ("return a + b\n\n\ndef other():\n", "    x = 1"),
    "code_generation": ("```py\ndef f(:\n```", "```\nint main() {}\n```", "print(1)"),
    "conversational_chat": ("Hello.",),
    "creative_writing": ("an old silent pond\na frog jumps into the pond\nsplash",),
    "data_analysis": ("The mean is 20, the growth 7 %.",),
    "embedding": ("",),
    "general_reasoning": ("So it is.",),
    "information_extraction": ('{"name": "Ada"}', '{"name": 1}', '{"name": "A', "[1]"),
    "legal_analysis": ('{"items": [{"quote": "pays rent on Sundays"}]}', 'It says "30 days\' notice".'),
    "mathematical_reasoning": ("Final answer: 41", "\\boxed{42}", "x = 2"),
    "question_answering": ('It says "so it is" in [1].', "No idea."),
    "scientific_research": ("Known [@kn68], guessed [@roe99], see doi:10.1/x.",),
    "summarization": ("In 1999 it was so.",),
    "text_classification": ("good",),
    "translation": ("Pourquoi ?", "Warum?"),
}


class OneAnswer(ScriptedModel):
    """Answers every prompt with the same text, character by character."""

    first_token_s: float | None = None
    total_s = 0.0

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    async def stream(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[str, None]:
        for character in self._text:
            yield character

    async def complete(
        self, parts: Sequence[str | ControlToken], sampling: Sampling, ends: Sequence[str] = ()
    ) -> AsyncGenerator[str, None]:
        for character in self._text:
            yield character
