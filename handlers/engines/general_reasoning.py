"""Any task without an engine of its own: think, then answer."""

from __future__ import annotations

from typing import ClassVar

from handlers.engines._conversation import ConversationEngine


class GeneralReasoning(ConversationEngine):
    """Asks for an orderly answer and leaves the rest to the request."""

    name: ClassVar[str] = "general_reasoning"
    system_prompt: ClassVar[str] = (
        "Work through the task step by step. State what you assume, then give the answer plainly."
    )
