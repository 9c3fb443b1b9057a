"""Conversation: answers as the persona, with as many earlier turns as the context holds."""

from __future__ import annotations

from typing import ClassVar

from handlers.engines._conversation import ConversationEngine
from handlers.wire import GenerateRequest


class ConversationalChat(ConversationEngine):
    """A conversation engine whose prompt a persona replaces."""

    name: ClassVar[str] = "conversational_chat"
    system_prompt: ClassVar[str] = "You are a helpful, friendly assistant. Answer clearly and to the point."

    def get_system_prompt(self, request: GenerateRequest) -> str:
        """The engine's prompt if neither a persona nor a system message was given."""
        given = request.system or any(turn.role == "system" for turn in request.turns)
        return "" if given else self.system_prompt
