"""`POST /predictions/...` and `GET /ping`: in the formats of TorchServe."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.api.openapi import reads
from conductor_admin.api.rendering import error_line, lines, session_header, whole_answer
from conductor_admin.auth.caller import caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.http.body import read_json
from conductor_admin.http.responses import JsonResponse, StreamResponse, retry_header, until_left
from conductor_admin.lifecycle.worker_sets import is_ready
from handlers.wire import GenerateBody, RequestError

NDJSON = "application/x-ndjson"
_TYPES = {
    "model_not_found": "ModelNotFoundException",
    "model_version_not_found": "ModelVersionNotFoundException",
}


def router(gateway: Gateway) -> APIRouter:
    """The routes over `gateway`."""
    routes = APIRouter()

    @routes.get("/ping")
    async def ping() -> Response:
        """Answer `Healthy`, or 500 `Unhealthy`, as TorchServe does."""
        healthy = is_ready(gateway.lifecycle.views(), gateway.lifecycle.torchserve_up)
        return JsonResponse({"status": "Healthy" if healthy else "Unhealthy"}, 200 if healthy else 500)

    @routes.post("/predictions/{category}", openapi_extra=reads(GenerateBody))
    @routes.post("/predictions/{category}/{version}", openapi_extra=reads(GenerateBody))
    @routes.post("/predictions/{category}/{version}/{engine}", openapi_extra=reads(GenerateBody))
    async def predict(
        request: Request, category: str, version: str | None = None, engine: str | None = None
    ) -> Response:
        """Generate as `/generate` does; `stream: true` answers with the worker's records as lines."""
        try:
            body = await read_json(request, GenerateBody)
            return await _predict(gateway, request, _named(body, category, engine), version)
        except RequestError as error:
            return torchserve_error(error)

    return routes


def _named(body: GenerateBody, category: str, engine: str | None) -> GenerateBody:
    if body.category not in (None, category):
        raise RequestError("category differs from the path", param="category", code="invalid_value")
    return body.model_copy(update={"category": category, "engine": engine or body.engine})


async def _predict(gateway: Gateway, request: Request, body: GenerateBody, version: str | None) -> Response:
    job = await gateway.plan(body, request.state.request_id, caller_of(request), version=version)
    session = session_header(job)
    if body.stream:
        return StreamResponse(lines(gateway.dispatcher, job), NDJSON, error_line, torchserve_error, session)
    done = await until_left(request.receive, gateway.dispatcher.result(job))
    if done is None:
        return Response(status_code=499)
    return await whole_answer(job, done)


def torchserve_error(error: RequestError) -> Response:
    """TorchServe's `{code, type, message}` beside the one error shape."""
    kind = _TYPES.get(error.code or "")
    if kind is None:
        kind = "BadRequestException" if error.status < 500 else "ServiceUnavailableException"
    body = {"code": error.status, "type": kind, "message": error.message, **error.to_json()}
    return JsonResponse(body, error.status, retry_header(error))
