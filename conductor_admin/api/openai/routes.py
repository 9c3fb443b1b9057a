"""The routes of OpenAI's interface, and the bodies they read."""

from __future__ import annotations

from pydantic import BaseModel
from starlette.routing import BaseRoute

from conductor_admin.api.openai import chat, completions, embeddings, models, responses
from conductor_admin.api.openai.responses_body import ResponsesBody
from conductor_admin.gateway import Gateway

BODIES: tuple[type[BaseModel], ...] = (
    chat.ChatBody,
    completions.CompletionBody,
    embeddings.EmbeddingsBody,
    ResponsesBody,
)


def all_routes(gateway: Gateway) -> list[BaseRoute]:
    """All routes of OpenAI's interface over `gateway`."""
    modules = (models, chat, completions, embeddings, responses)
    return [route for module in modules for route in module.router(gateway).routes]
