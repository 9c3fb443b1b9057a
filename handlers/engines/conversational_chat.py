"""Conversation: the persona speaks, and remembers as many turns as the context holds."""

from __future__ import annotations

from typing import ClassVar

from handlers.engines._conversation import ConversationEngine
from handlers.wire import GenerateRequest


class ConversationalChat(ConversationEngine):
    """A persona takes the place of the engine's own prompt."""

    name: ClassVar[str] = "conversational_chat"
    system_prompt: ClassVar[str] = "You are a helpful, friendly assistant. Answer clearly and to the point."

    def get_system_prompt(self, request: GenerateRequest) -> str:
        """The engine's prompt where neither a persona nor a system message was given."""
        given = request.system or any(turn.role == "system" for turn in request.turns)
        return "" if given else self.system_prompt
