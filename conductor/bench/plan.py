"""Plan of a bench: its measurements and their order; pure.

The two sides, the gateway and the library called directly, take turns; every round reverses their order, so
that neither always runs on the warmer machine. Both get the same prompts, and no prompt is repeated, because
a prefix cache would answer it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Side = Literal["gateway", "direct"]

SIDES: tuple[Side, Side] = ("gateway", "direct")
WARM_UP_TOKENS = 16

_SUBJECTS = (
    "a lighthouse keeper", "a river in spring", "an old railway", "the first harvest", "a lost letter",
    "a city under snow", "two rival bakers", "a broken clock", "a long voyage", "a quiet library",
)  # fmt: skip
_FORMS = ("story", "diary", "travel report", "radio play", "speech", "letter", "essay", "fairy tale")


@dataclass(frozen=True, slots=True)
class BenchTurn:
    """One side answering `streams` prompts at the same time."""

    streams: int
    round: int
    side: Side
    prompts: tuple[str, ...]
    tokens: int

    @property
    def is_warm_up(self) -> bool:
        return self.round < 0


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """Numbers of concurrent streams, rounds for each of them, and new tokens per answer."""

    streams: tuple[int, ...] = (1, 8, 32)
    rounds: int = 5
    tokens: int = 128

    def turns(self) -> Iterator[BenchTurn]:
        """Yield every turn in order; each number of streams begins with a short uncounted one per side."""
        for streams in self.streams:
            for side in SIDES:
                yield BenchTurn(streams, -1, side, prompts(-1, streams), min(self.tokens, WARM_UP_TOKENS))
            for number in range(self.rounds):
                for side in SIDES if number % 2 == 0 else SIDES[::-1]:
                    yield BenchTurn(streams, number, side, prompts(number, streams), self.tokens)


def prompts(number: int, streams: int) -> tuple[str, ...]:
    """Prompts of a round, equally long within a few tokens; each asks for a long text.

    The words that differ come first, so that the prompts share no prefix.
    """
    found = []
    for index in range(streams):
        subject = _SUBJECTS[(index + number + 1) % len(_SUBJECTS)]
        form = _FORMS[(index // len(_SUBJECTS) + number + 1) % len(_FORMS)]
        found.append(
            f"{number + 1}-{streams}-{index}: write a very long {form} about {subject}. Describe the place, "
            f"the people and the weather in many details, and do not stop before it has at least thousand "
            f"words."
        )
    return tuple(found)
