"""`POST /v1/embeddings`: vectors of texts, by a category whose engine is `embedding`."""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, ClassVar, Literal

import orjson
from fastapi import APIRouter
from pydantic import Field, PlainValidator, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.api.fanout import ChoiceResult
from conductor_admin.api.openai.answers import (
    EmbeddingAnswer,
    EmbeddingDetails,
    EmbeddingsAnswer,
    EmbeddingUsage,
)
from conductor_admin.api.openai.bodies import Body, Prompt, read_prompts, texts_schema
from conductor_admin.api.openai.envelope import EnvelopeRendering
from conductor_admin.api.openai.jobs import PromptInput, plan_job
from conductor_admin.api.responder import respond
from conductor_admin.api.routing import new_router, reads
from conductor_admin.gateway import Gateway
from conductor_admin.planner import PlannedRequest
from handlers.wire import WHOLE, RequestError, Sampling

ENGINE = "embedding"
MOST_INPUTS = 2048
NAMES = {"prompt": "input", "options.inputs": "input", "inputs": "input", "category": "model"}


class EmbeddingsBody(Body):
    """Body of `/v1/embeddings`."""

    harmless: ClassVar[frozenset[str]] = frozenset({"metadata"})

    input: Annotated[
        list[Prompt],
        PlainValidator(partial(read_prompts, most=MOST_INPUTS)),
        WithJsonSchema(texts_schema(MOST_INPUTS)),
    ]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1, le=1_000_000), WHOLE] | None = None

    @property
    def asked(self) -> str:
        """The first text."""
        return self.texts[0]

    @property
    def texts(self) -> list[str]:
        """The inputs; RequestError 400 for token ids, which mean nothing without the client's tokenizer."""
        texts = [one for one in self.input if isinstance(one, str)]
        if len(texts) < len(self.input):
            raise RequestError(
                "input must be text: token ids of another tokenizer are not supported "
                "(langchain: check_embedding_ctx_length=False)",
                code="unsupported_parameter",
                param="input",
            )
        return texts


class Embedding(EnvelopeRendering[EmbeddingsBody]):
    """Renders the vectors of one job."""

    names = NAMES

    async def plan(self) -> list[PlannedRequest]:
        envelope, body, target = self.envelope, self.body, self.envelope.target
        if target.row.engine != ENGINE:
            able = [row.slug for row in envelope.gateway.catalogue.rows if row.engine == ENGINE]
            raise RequestError(
                f"{target.name} does not make embeddings; {', '.join(able) or 'no category'} does",
                code="unsupported_model",
                param="model",
            )
        # An embedding model has no use without its engine: its technical name asks for the same.
        target = replace(target, raw=False)
        asked = body.model_copy(update={"options": {**body.options, "inputs": body.texts}})
        prompt_input = PromptInput({"engine": ENGINE}, prompt=body.texts[0])
        return [await plan_job(envelope.gateway, target, asked, Sampling(), envelope.requester, prompt_input)]

    def whole(self, ended: Sequence[ChoiceResult]) -> EmbeddingsAnswer:
        done, target = ended[0].done, self.envelope.target
        findings = dict(done.findings)
        vectors = [cut(vector, self.body.dimensions) for vector in findings.pop("embeddings")]
        told = packed if self.body.encoding_format == "base64" else written
        usage = EmbeddingUsage(prompt_tokens=done.usage.prompt_tokens, total_tokens=done.usage.total_tokens)
        return EmbeddingsAnswer(
            object="list",
            data=[
                EmbeddingAnswer(object="embedding", index=number, embedding=told(vector))
                for number, vector in enumerate(vectors)
            ],
            model=target.name,
            usage=usage,
            conductor=EmbeddingDetails(category=target.row.slug, findings=findings),
        )


def router(gateway: Gateway) -> APIRouter:
    """The route over `gateway`."""
    routes = new_router()

    @routes.post("/v1/embeddings", response_model=EmbeddingsAnswer, openapi_extra=reads(EmbeddingsBody))
    async def embeddings(request: Request) -> Response:
        """Embed each text, in the form of OpenAI's embeddings."""
        return await respond(gateway.dispatcher, request, Embedding.open(gateway, request, EmbeddingsBody))

    return routes


def cut(vector: Sequence[float], dimensions: int | None) -> Sequence[float]:
    """The first `dimensions` numbers, scaled to length 1; RequestError 400 if there are fewer."""
    if dimensions is None or dimensions == len(vector):
        return vector
    if dimensions > len(vector):
        raise RequestError(
            f"the model's vectors have {len(vector)} dimensions", code="invalid_value", param="dimensions"
        )
    kept = vector[:dimensions]
    length = math.hypot(*kept) or 1.0
    return [value / length for value in kept]


def written(vector: Sequence[float]) -> orjson.Fragment:
    """The vector as JSON, one vector at a time because orjson holds the interpreter's lock."""
    return orjson.Fragment(orjson.dumps(vector))


def packed(vector: Sequence[float]) -> str:
    """The vector as base64 of little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
