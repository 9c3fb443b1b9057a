"""General reasoning: tasks without an engine of their own; the model thinks, then answers."""

from __future__ import annotations

from typing import ClassVar

from handlers.engines._conversation import ConversationEngine


class GeneralReasoning(ConversationEngine):
    """Asks for reasoning before the answer and leaves the rest to the request."""

    name: ClassVar[str] = "general_reasoning"
    system_prompt: ClassVar[str] = (
        "Work through the task step by step. State what you assume, then give the answer plainly."
    )
