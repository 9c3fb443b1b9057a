"""The rendering of `/generate` and `/generate/stream`: one JSON object, or server-sent events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from starlette.requests import Request

from conductor_admin.api.fanout import ChoiceRecords, ChoiceResult
from conductor_admin.api.responder import DONE_EVENT, Rendering
from conductor_admin.api.schemas import Generated
from conductor_admin.auth.caller import caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.planner import PlannedRequest
from handlers.long_records import RawRows
from handlers.wire import Done, GenerateBody


class Generation(Rendering):
    """One generation in the gateway's own shapes; `version` is the archive that the client requires."""

    def __init__(
        self,
        gateway: Gateway,
        request: Request,
        body: GenerateBody,
        *,
        streams: bool,
        version: str | None = None,
    ) -> None:
        self.streams = streams
        self._gateway = gateway
        self._request = request
        self._body = body
        self._version = version

    async def plan(self) -> Sequence[PlannedRequest]:
        caller = caller_of(self._request)
        request_id = self._request.state.request_id
        return [await self._gateway.plan(self._body, request_id, caller, version=self._version)]

    def whole(self, ended: Sequence[ChoiceResult]) -> Generated:
        return generation_answer(ended[0].job, ended[0].done)

    def events(self, item: ChoiceRecords) -> bytes:
        if item.done is None:
            return sse_lines(item.block)
        return b"data: " + orjson.dumps(last_record(item.job, item.done)) + b"\n\n" + DONE_EVENT


def generation_answer(job: PlannedRequest, done: Done) -> Generated:
    """The body of `/generate`."""
    return Generated(**last_record(job, done), text=done.text, **asked_logprobs(done))


def asked_logprobs(done: Done) -> dict[str, Any]:
    """The log-probabilities as a field of the answer, if they were requested."""
    if done.logprobs is None:
        return {}
    return {"logprobs": done.logprobs.json() if isinstance(done.logprobs, RawRows) else done.logprobs}


def last_record(job: PlannedRequest, done: Done) -> dict[str, Any]:
    """Every field of `/generate` but the text."""
    return {
        "id": job.request.id,
        "category": job.row.slug,
        "model": done.model or job.row.technical_model_name,
        "finish_reason": done.finish_reason,
        "usage": {**done.usage.model_dump(), "total_tokens": done.usage.total_tokens},
        "timings": done.timings.model_dump(),
        "findings": done.findings,
        "session_id": job.session.id if job.session else None,
    }


def sse_lines(lines: bytes) -> bytes:
    """Turn whole NDJSON lines into one event each, unparsed: JSON has no raw line ends."""
    return b"data: " + lines[:-1].replace(b"\n", b"\n\ndata: ") + b"\n\n"
