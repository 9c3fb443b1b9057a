"""Embedding: a vector for each text, by the settings in the model's own files; no text is generated."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from handlers.engines.base import Attempt, BaseLLMEngine, EngineOptions, Model, read_options
from handlers.wire import GenerateRequest, RequestError, Sampling

MOST_INPUTS = 2048
Input = Annotated[str, Field(max_length=1_000_000)]


class EmbeddingOptions(EngineOptions):
    """`options` of this engine; without `inputs` the prompt is the only text."""

    inputs: Annotated[
        list[Input] | None,
        Field(
            min_length=1,
            max_length=MOST_INPUTS,
            description="texts to embed, one vector for each; default: the prompt",
        ),
    ] = None


class Embedding(BaseLLMEngine):
    """Findings: `embeddings`, `dimensions`, `truncated` (indices of texts that were cut), `warnings`."""

    name: ClassVar[str] = "embedding"
    system_prompt: ClassVar[str] = ""
    defaults: ClassVar[Sampling] = Sampling()
    options_type: ClassVar[type[EngineOptions]] = EmbeddingOptions
    reads_text: ClassVar[bool] = False
    run_findings: ClassVar[Mapping[str, Any]] = {
        "embeddings": None,
        "dimensions": None,
        "truncated": None,
        "warnings": [],
    }

    def accept(self, request: GenerateRequest) -> None:
        """Also refuses a conversation, and a request without any text."""
        super().accept(request)
        if request.messages is not None:
            raise RequestError(
                "the embedding engine takes options.inputs or a prompt, not a conversation",
                code="unsupported_conversation",
                param="messages",
            )
        if not _inputs(request):
            raise RequestError("there is no text to embed", code="empty_prompt", param="prompt")

    async def run(self, request: GenerateRequest, model: Model) -> AsyncGenerator[str | Attempt, None]:
        """Yields no text; the vectors are findings."""
        self.accept(request)
        made = await model.embed(_inputs(request))
        self.notes = {
            "embeddings": made.vectors,
            "dimensions": len(made.vectors[0]),
            "truncated": made.truncated,
            "warnings": [f"input {number} was cut to {made.max_tokens} tokens" for number in made.truncated],
        }
        return
        yield  # an async generator, as the base has it

    def check(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """No findings: only a run of the model makes vectors."""
        self.accept(request)
        return dict(self.run_findings)


def _inputs(request: GenerateRequest) -> list[str]:
    given = read_options(EmbeddingOptions, request).inputs
    return given if given is not None else [request.prompt] if request.prompt else []
