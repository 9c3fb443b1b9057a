"""`POST /v1/responses`, the stateless part: the client sends the whole conversation each time."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.answers import answer_size
from conductor_admin.failures import json_answer
from conductor_admin.gateway import Gateway
from conductor_admin.openai.bodies import read_body
from conductor_admin.openai.exchange import Exchange, conductor, open_exchange
from conductor_admin.openai.jobs import Ask, plan_job
from conductor_admin.openai.responses_body import ResponsesBody, turns
from conductor_admin.openai.responses_events import ResponseStream
from conductor_admin.openai.runs import News, Outcome
from conductor_admin.openai.sse import EVENT_STREAM, events
from conductor_admin.openai.tools import Choice
from conductor_admin.openai.wording import in_words_of
from conductor_admin.openapi import reads
from conductor_admin.router import Job
from conductor_admin.streaming import StreamResponse, until_left
from handlers.off_loop import TURN, off_loop
from handlers.wire import Done, RequestError

NAMES = {
    "json_schema": "text.format",
    "prompt": "input",
    "messages": "input",
    "category": "model",
    "max_tokens": "max_output_tokens",
}


class Answering:
    """How the records of a job become the response, or the events that build it."""

    def __init__(self, exchange: Exchange, body: ResponsesBody, job: Job) -> None:
        self._job = job
        self.stream = ResponseStream(_head(exchange, body), body.offer)

    def events(self, item: News) -> bytes:
        """The events that the news of the job make."""
        said = b"".join(self.stream.text(r["delta"]) for r in item.records if r.get("delta"))
        return said if item.done is None else said + self.stream.end(item.done, self._more(item.done))

    def answer(self, done: Done) -> dict[str, Any]:
        """The whole response."""
        self.stream.text(done.text)
        self.stream.end(done, {})
        return self.stream.whole(done, self._more(done))

    def _more(self, done: Done) -> dict[str, Any]:
        return {"conductor": conductor(Outcome(self._job, done))}


def router(gateway: Gateway) -> APIRouter:
    """The route over `gateway`."""
    routes = APIRouter()

    @routes.post("/v1/responses", openapi_extra=reads(ResponsesBody))
    async def responses(request: Request) -> Response:
        """An answer to a conversation, as OpenAI's responses; nothing is stored."""
        body = await read_body(request, ResponsesBody)
        exchange = await open_exchange(gateway, request, body, body.asked)
        with in_words_of(NAMES):
            job = await _job(exchange, body)
            answering, headers = Answering(exchange, body, job), exchange.headers(job)
            if body.stream:
                pieces = events(gateway.generations, [job], answering.events, NAMES, bytes)
                failed = answering.stream.failed
                return StreamResponse(pieces, EVENT_STREAM, failed, more_headers=headers)
            done = await until_left(request.receive, gateway.generations.result(job))
        if done is None:
            return Response(status_code=499)
        return await json_answer(answer_size(done), lambda: answering.answer(done), headers)

    return routes


async def _job(exchange: Exchange, body: ResponsesBody) -> Job:
    if body.logprobs or body.top_logprobs:
        raise RequestError(
            "log-probabilities are told by /v1/chat/completions",
            code="unsupported_parameter",
            param="top_logprobs",
        )
    tools = body.offer
    sampling = body.sampling(
        max_tokens=body.max_output_tokens or body.max_tokens,
        json_schema=tools.schema(body.schema_of_answer),
    )
    messages = await off_loop(TURN * len(body.input), turns, body)
    ask = Ask({"tools": tools.told, "attempts": 1 if body.stream else 2}, messages=messages)
    return await plan_job(exchange.gateway, exchange.target, body, sampling, exchange.asker, ask)


def _head(exchange: Exchange, body: ResponsesBody) -> dict[str, Any]:
    """What the response repeats of its request."""
    form = body.text.format if body.text and body.text.format else None
    choice = body.tool_choice or Choice("auto")
    named = {"type": "function", "name": choice.name} if choice.name else choice.mode
    return {
        "id": f"resp_{exchange.asker.request_id}",
        "object": "response",
        "created_at": exchange.created,
        "model": exchange.target.name,
        "error": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": (body.model_extra or {}).get("metadata") or {},
        "parallel_tool_calls": body.offer.several,
        "previous_response_id": None,
        "store": False,
        "temperature": body.temperature,
        "text": {"format": form.model_dump(by_alias=True, exclude_none=True) if form else {"type": "text"}},
        "tool_choice": named,
        "tools": [tool.model_dump() for tool in body.tools or ()],
        "top_p": body.top_p,
        "truncation": "disabled",
        "user": body.user,
    }
