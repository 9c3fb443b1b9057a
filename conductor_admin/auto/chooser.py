"""`auto`: chooses a prompt's category by rules, else by similarity of meaning, else the default row.

Rules come first. If none matches, the prompt's vector is compared with those of `examples`, made by
the table's own embedding row. The score of an engine is the mean of its two most similar phrases; it must
reach `NEAR` and lead by `LEAD`, otherwise the conversational row answers. Both figures were chosen
on 67 prompts with MiniLM-L6; nine in ten correct choices by meaning scored above 0.30.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import mul

from conductor_admin.auto.examples import EXAMPLES
from conductor_admin.auto.rules import by_rule
from conductor_core.catalogue import Row
from handlers.wire import RequestError

NEAR = 0.30
LEAD = 0.05
CHAT = "conversational_chat"
_READ_CHARS = 1000  # more than an embedding model reads of a text
_MOST_SIMILAR = 2

Vector = list[float]
Embed = Callable[[list[str]], Awaitable[list[Vector]]]


@dataclass(frozen=True, slots=True)
class CategoryChoice:
    """An engine, or None for the default row; `reason` is a short explanation."""

    engine: str | None
    reason: str


def scores(prompt: Vector, examples: Mapping[str, Sequence[Vector]]) -> dict[str, float]:
    """Similarity of each engine's examples to the prompt: mean of the best cosines, -1 to 1."""
    found = {}
    for engine, vectors in examples.items():
        similar = sorted((sum(map(mul, prompt, vector)) for vector in vectors), reverse=True)[:_MOST_SIMILAR]
        found[engine] = sum(similar) / len(similar)
    return found


def nearest(found: Mapping[str, float]) -> CategoryChoice:
    """The engine with the highest score, if it reaches NEAR and leads by LEAD; else no engine."""
    ranked = sorted(found.items(), key=lambda item: -item[1])
    engine, score = ranked[0]
    if score < NEAR:
        return CategoryChoice(None, f"default: no category is close ({engine} {score:.2f})")
    if len(ranked) > 1 and score - ranked[1][1] < LEAD:
        return CategoryChoice(
            None, f"default: {engine} {score:.2f} and {ranked[1][0]} {ranked[1][1]:.2f} are too close"
        )
    return CategoryChoice(engine, f"meaning: {engine} {score:.2f}")


class Chooser:
    """Chooses among rows; keeps the vectors of the examples for each version of the embedding model."""

    def __init__(self) -> None:
        self._examples: tuple[str, dict[str, list[Vector]]] | None = None

    async def choose(
        self, prompt: str, rows: Sequence[Row], embed: Embed | None, version: str
    ) -> tuple[Row, str]:
        """The row for `prompt` and the reason. `embed` is None if the table has no embedding row.

        `version` names the embedding model. If that model fails, the reason says so; nothing is raised.
        """
        able = {row.engine: row for row in reversed(rows)}
        for rule in by_rule(prompt[:_READ_CHARS]):
            if rule.engine in able:
                return able[rule.engine], f"rule: {rule.reason}"
        choice = await self._by_meaning(prompt[:_READ_CHARS], able, embed, version)
        return able.get(choice.engine or CHAT, rows[0]), choice.reason

    async def _by_meaning(
        self, prompt: str, able: Mapping[str, Row], embed: Embed | None, version: str
    ) -> CategoryChoice:
        if embed is None:
            return CategoryChoice(None, "default: no rule matches, and the table has no embedding row")
        try:
            if self._examples is None or self._examples[0] != version:
                made = iter(await embed([text for texts in EXAMPLES.values() for text in texts]))
                vectors = {name: [next(made) for _ in texts] for name, texts in EXAMPLES.items()}
                self._examples = (version, vectors)
            examples = self._examples[1]
            (vector,) = await embed([prompt])
        except RequestError as error:
            return CategoryChoice(
                None, f"default: no rule matches, and the embedding model is not available ({error.code})"
            )
        known = {engine: vectors for engine, vectors in examples.items() if engine in able}
        return (
            nearest(scores(vector, known))
            if known
            else CategoryChoice(None, "default: no category has examples")
        )
