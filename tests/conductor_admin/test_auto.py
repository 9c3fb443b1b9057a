"""The choice of a category for a prompt: by rules, else by meaning, else the default row."""

from __future__ import annotations

import dataclasses

import pytest

from conductor_admin.auto.chooser import LEAD, NEAR, Chooser, nearest, scores
from conductor_admin.auto.examples import EXAMPLES
from conductor_admin.auto.rules import RULES, by_rule
from conductor_core.catalogue import Row
from conductor_core.settings.page import ROW_COLUMNS
from conductor_core.settings.parser import parse_settings
from handlers.engines.registry import engine_names
from handlers.wire import RequestError

COLUMNS = ROW_COLUMNS.required
TABLE = f"\n| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"


def rows_of(*categories: str) -> list[Row]:
    lines = "".join(f"| {name} | M | ~1GB | `org/model` | false | BF16 |\n" for name in categories)
    return list(parse_settings(TABLE + lines).rows)


ROWS = rows_of("Conversational Chat", "Code Generation", "Translation", "Mathematical Reasoning")


@pytest.mark.parametrize(
    ("prompt", "engine"),
    [
        ("Translate to French: the cat sleeps", "translation"),
        ("please translate this text into Spanish: I write a function", "translation"),
        ("How do I say 'thank you' in Korean?", "translation"),
        ("Übersetze diesen Satz ins Englische", "translation"),
        ("What is 12 * 17?", "mathematical_reasoning"),
        ("2+2", "mathematical_reasoning"),
        ("Solve x^2 - 5x + 6 = 0", "mathematical_reasoning"),
        ("What's the standard deviation of 2, 4, 4, 6?", "mathematical_reasoning"),
        ("def area(radius):", "code_completion"),
        ("import numpy as np\n\ndef mean(xs):", "code_completion"),
        ("Write a regex that matches email addresses", "code_generation"),
        ("Could you write a small Java program that prints primes?", "code_generation"),
        ("Write me a poem about the sea", "creative_writing"),
        ("Tell a story about a robot", "creative_writing"),
        ("Summarize the following text: Bees are", "summarization"),
        ("tl;dr of this page", "summarization"),
        ("Is the sentiment of this positive or negative?", "text_classification"),
        ("Extract all the dates from this letter", "information_extraction"),
        ("Based on the context, when did it end?", "question_answering"),
    ],
)
def test_a_prompt_that_leaves_no_doubt_is_chosen_by_a_rule(prompt: str, engine: str) -> None:
    assert by_rule(prompt)[0].engine == engine


@pytest.mark.parametrize(
    "prompt",
    [
        "Hi there!",
        "I was born in 1984 - how old am I in cat years?",
        "What does import tax mean?",
        "from Paris import duties",
        "class of 1990 reunion ideas",
        "public transport in Berlin",
        "Can you build trust in a team?",
        "What is the capital of Norway?",
        "Make a list of books about history",
        "",
    ],
)
def test_a_prompt_that_only_looks_like_a_task_meets_no_rule(prompt: str) -> None:
    assert by_rule(prompt) == []


def test_rules_name_engines_that_exist() -> None:
    assert {rule.engine for rule in RULES} <= set(engine_names())


def test_a_score_is_the_mean_of_the_two_most_similar_examples() -> None:
    assert scores([1.0, 0.0], {"a": [[0.8, 0.6], [0.6, 0.8], [0.0, 1.0]]}) == {"a": pytest.approx(0.7)}


@pytest.mark.parametrize(
    ("found", "engine"),
    [
        ({"a": NEAR, "b": NEAR - LEAD - 0.01}, "a"),
        ({"a": NEAR - 0.01, "b": 0.0}, None),
        ({"a": 0.6, "b": 0.6 - LEAD / 2}, None),
        ({"a": 0.9}, "a"),
    ],
)
def test_nothing_is_chosen_below_the_threshold_or_without_a_lead(
    found: dict[str, float], engine: str | None
) -> None:
    choice = nearest(found)
    assert choice.engine == engine
    assert choice.reason.startswith("meaning: a" if engine else "default: ")


class Embedder:
    """Vectors of two dimensions: examples of translation point to one side, all others to the other."""

    def __init__(self, prompt: list[float]) -> None:
        self.calls: list[int] = []
        self._prompt = prompt

    async def __call__(self, texts: list[str]) -> list[list[float]]:
        self.calls.append(len(texts))
        if len(texts) == 1:
            return [self._prompt]
        return [[1.0, 0.0] if text in EXAMPLES["translation"] else [0.0, 1.0] for text in texts]


async def test_a_prompt_without_a_rule_goes_where_its_meaning_is_nearest() -> None:
    embed = Embedder([0.9, 0.1])
    row, reason = await Chooser().choose("Bonjour, que veut dire cela?", ROWS, embed, "1")
    assert (row.slug, reason) == ("translation", "meaning: translation 0.90")


async def test_examples_are_embedded_once_for_a_version_of_the_model() -> None:
    chooser, embed = Chooser(), Embedder([0.9, 0.1])
    for version in ("1", "1", "2"):
        await chooser.choose("Bonjour", ROWS, embed, version)
    assert [count for count in embed.calls if count > 1] == [sum(map(len, EXAMPLES.values()))] * 2


async def test_a_tie_is_answered_by_the_conversational_row() -> None:
    row, reason = await Chooser().choose("Bonjour", ROWS, Embedder([0.7, 0.7]), "1")
    assert row.slug == "conversational_chat"
    assert reason.startswith("default: ")


async def test_a_rule_for_a_category_that_the_table_lacks_does_not_count() -> None:
    row, reason = await Chooser().choose("Write me a poem about the sea", ROWS, None, "")
    assert (row.slug, reason.split(":")[0]) == ("conversational_chat", "default")


async def test_an_embedding_model_that_fails_fails_no_request() -> None:
    async def failing(texts: list[str]) -> list[list[float]]:
        raise RequestError("no memory", status=503, code="insufficient_memory")

    row, reason = await Chooser().choose("Hello", ROWS, failing, "1")
    assert row.slug == "conversational_chat"
    assert "insufficient_memory" in reason


async def test_without_a_conversational_row_the_first_one_answers() -> None:
    row, _ = await Chooser().choose("Hello", rows_of("Translation", "Summarization"), None, "")
    assert row.slug == "translation"


async def test_a_row_with_the_engine_of_a_category_is_chosen_under_its_own_name() -> None:
    (row,) = rows_of("Homework")
    homework = dataclasses.replace(row, engine="mathematical_reasoning")
    chosen, _ = await Chooser().choose("2+2", [*ROWS[:1], homework], None, "")
    assert chosen.slug == "homework"
