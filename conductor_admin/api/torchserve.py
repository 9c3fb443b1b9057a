"""`POST /predictions/...` and `GET /ping`: in the formats of TorchServe."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.api.fanout import ChoiceRecords
from conductor_admin.api.rendering import Generation, asked_logprobs
from conductor_admin.api.responder import respond
from conductor_admin.api.routing import LINES, Responses, new_router, reads
from conductor_admin.api.schemas import Generated, Ping, TorchserveErrorAnswer
from conductor_admin.gateway import Gateway
from conductor_admin.http.body import read_json
from conductor_admin.http.responses import JsonResponse, retry_header
from conductor_admin.lifecycle.worker_sets import is_ready
from handlers.wire import GenerateBody, RequestError

_TYPES = {
    "model_not_found": "ModelNotFoundException",
    "model_version_not_found": "ModelVersionNotFoundException",
}


class WorkerRecords(Generation):
    """A generation as the worker's own records, one a line."""

    media_type = "application/x-ndjson"

    def events(self, item: ChoiceRecords) -> bytes:
        if item.done is None:
            return item.block
        named = {"session_id": item.job.session.id} if item.job.session else {}
        return orjson.dumps({"done": {**item.done.to_json(), **asked_logprobs(item.done), **named}}) + b"\n"

    def failed(self, error: RequestError) -> bytes:
        return orjson.dumps(error.to_json()) + b"\n"

    def comment(self, text: str) -> bytes:
        return b""


def router(gateway: Gateway) -> APIRouter:
    """The routes over `gateway`."""
    routes = new_router()
    answers: Responses = {**LINES, 400: {"model": TorchserveErrorAnswer}}
    declared: Any = {
        "response_model": Generated,
        "responses": answers,
        "openapi_extra": reads(GenerateBody),
    }

    @routes.get("/ping", responses={500: {"model": Ping}})
    async def ping(response: Response) -> Ping:
        """Answer `Healthy`, or 500 `Unhealthy`, as TorchServe does."""
        healthy = is_ready(gateway.lifecycle.views(), gateway.lifecycle.torchserve_up)
        response.status_code = 200 if healthy else 500
        return Ping(status="Healthy" if healthy else "Unhealthy")

    @routes.post("/predictions/{category}", **declared)
    @routes.post("/predictions/{category}/{version}", **declared)
    @routes.post("/predictions/{category}/{version}/{engine}", **declared)
    async def predict(
        request: Request, category: str, version: str | None = None, engine: str | None = None
    ) -> Response:
        """Generate as `/generate` does; `stream: true` answers with the worker's records as lines."""
        opening = opened(request, category, version, engine)
        return await respond(gateway.dispatcher, request, opening, torchserve_error)

    async def opened(
        request: Request, category: str, version: str | None, engine: str | None
    ) -> WorkerRecords:
        body = await read_json(request, GenerateBody)
        if body.category not in (None, category):
            raise RequestError("category differs from the path", param="category", code="invalid_value")
        body = body.model_copy(update={"category": category, "engine": engine or body.engine})
        return WorkerRecords(gateway, request, body, streams=body.stream, version=version)

    return routes


def torchserve_error(error: RequestError) -> Response:
    """TorchServe's `{code, type, message}` beside the one error shape."""
    kind = _TYPES.get(error.code or "")
    if kind is None:
        kind = "BadRequestException" if error.status < 500 else "ServiceUnavailableException"
    body = {"code": error.status, "type": kind, "message": error.message, **error.to_json()}
    return JsonResponse(body, error.status, retry_header(error))
