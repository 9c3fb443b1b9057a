"""Models of sessions and turns, shared by the database, the routes and running generations. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from handlers.wire import Message, Shape, Usage

MAX_TURNS = 4000
MAX_CHARS = 16_000_000
"""Limits of one session: its whole history goes to the worker with each request."""

_TITLE_CHARS = 60

TurnState = Literal["complete", "cancelled"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One stored turn: the user's text and the answer; times are Unix seconds.

    A `cancelled` turn holds the part that was sent before the client left or the generation failed.
    """

    number: int
    user: str
    assistant: str
    state: TurnState
    finish_reason: str
    usage: Usage
    model: str
    category: str
    created: float

    def to_json(self) -> dict[str, Any]:
        """The turn in an answer of `/sessions/{id}`."""
        return {
            "number": self.number,
            "user": self.user,
            "assistant": self.assistant,
            "state": self.state,
            "finish_reason": self.finish_reason,
            "usage": {**self.usage.model_dump(), "total_tokens": self.usage.total_tokens},
            "model": self.model,
            "category": self.category,
            "created": self.created,
        }


@dataclass(frozen=True, slots=True)
class Session:
    """A stored conversation; `owner` is the id of its key, `updated` the Unix time of its last turn."""

    id: str
    owner: str | None
    title: str
    persona: str | None
    category: str
    created: float
    updated: float
    turn_count: int = 0

    def to_json(self) -> dict[str, Any]:
        """The session in an answer of `/sessions`."""
        return {
            "id": self.id,
            "title": self.title,
            "persona": self.persona,
            "category": self.category,
            "created": self.created,
            "updated": self.updated,
            "turn_count": self.turn_count,
        }


class SessionChange(Shape):
    """Body of `PATCH /sessions/{session_id}`; missing fields stay. `persona` null is the default one."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    title: Annotated[str, Field(min_length=1, max_length=200)] = ""
    persona: Annotated[str, Field(max_length=200)] | None = None


@dataclass(frozen=True, slots=True)
class PastTurn:
    """Texts of a past turn, as the model gets them again."""

    user: str
    assistant: str

    def messages(self) -> list[Message]:
        return [Message(role="user", content=self.user), Message(role="assistant", content=self.assistant)]

    def __len__(self) -> int:
        return len(self.user) + len(self.assistant)


def title_of(prompt: str) -> str:
    """Title of a session: the first words of its prompt, on one line."""
    words = " ".join(prompt[: 20 * _TITLE_CHARS].split())
    if len(words) <= _TITLE_CHARS:
        return words or "(empty)"
    head = words[:_TITLE_CHARS]
    return f"{head[: head.rfind(' ')] if ' ' in head else head}…"
