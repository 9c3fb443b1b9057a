"""`POST /v1/responses`, the stateless part: the client sends the whole conversation each time.

A response is built item by item, with the events of a stream. A whole answer is the final state of that
stream.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.api.fanout import ChoiceRecords, ChoiceResult
from conductor_admin.api.openai.answers import ResponseAnswer
from conductor_admin.api.openai.envelope import Envelope, EnvelopeRendering, conductor
from conductor_admin.api.openai.jobs import PromptInput, plan_job
from conductor_admin.api.openai.responses_body import ResponsesBody, turns
from conductor_admin.api.openai.tools import ChosenTool, Offer, call_id
from conductor_admin.api.responder import respond
from conductor_admin.api.routing import EVENTS, new_router, reads
from conductor_admin.gateway import Gateway
from conductor_admin.planner import PlannedRequest
from handlers.off_loop import TURN, off_loop
from handlers.tool_calls.parser import Event, ParsedText, ToolCallParser
from handlers.tool_calls.reader import CallStart
from handlers.wire import Done, RequestError

Item = dict[str, Any]

NAMES = {
    "json_schema": "text.format",
    "prompt": "input",
    "messages": "input",
    "category": "model",
    "max_tokens": "max_output_tokens",
}


class ResponseStream:
    """State of one response: `head` has the constant fields, `items` the output so far."""

    def __init__(self, head: dict[str, Any], tools: Offer) -> None:
        self._head = head
        self._tools = tools
        self._parser = ToolCallParser(tools.names) if tools.names else None
        self._number = 0
        self._open: Item | None = None
        self._began = False
        self.items: list[Item] = []

    def text(self, piece: str) -> bytes:
        """Events for a piece of the model's text."""
        events: list[Event] = self._parser.feed(piece) if self._parser else [ParsedText(piece)]
        return self._begin() + b"".join(self._said(event) for event in events)

    def end(self, done: Done, more: dict[str, Any]) -> bytes:
        """The last events; the very last has the whole response, with the fields of `more`."""
        rest = self._parser.close() if self._parser else []
        said = self._begin() + b"".join(self._said(event) for event in rest)
        cut = done.finish_reason == "length"
        said += self._close("incomplete" if cut else "completed")
        kind = "response.incomplete" if cut else "response.completed"
        return said + self._event(kind, response=self.whole(done, more))

    def whole(self, done: Done, more: dict[str, Any]) -> dict[str, Any]:
        """The whole response."""
        cut = done.finish_reason == "length"
        counts = done.usage
        return {
            **self._head,
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": self.items,
            "usage": {
                "input_tokens": counts.prompt_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": counts.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": counts.total_tokens,
            },
            **more,
        }

    def failed(self, error: RequestError) -> bytes:
        """The last event of a response that failed."""
        return self._event("error", code=error.code, message=error.message, param=error.param)

    def _begin(self) -> bytes:
        if self._began:
            return b""
        self._began = True
        started = {
            **self._head,
            "status": "in_progress",
            "incomplete_details": None,
            "output": [],
            "usage": None,
        }
        return b"".join(
            self._event(kind, response=started) for kind in ("response.created", "response.in_progress")
        )

    def _said(self, event: Event) -> bytes:
        if isinstance(event, ParsedText):
            return self._words(event.text)
        if event.index and not self._tools.several:
            return b""
        if isinstance(event, CallStart):
            item = {"type": "function_call", "id": f"fc_{uuid.uuid4().hex}", "call_id": call_id()}
            return self._close() + self._add({**item, "name": event.name, "arguments": ""})
        self.items[-1]["arguments"] += event.text
        return self._of_item("response.function_call_arguments.delta", delta=event.text)

    def _words(self, text: str) -> bytes:
        said = b""
        if self._open is None or self._open["type"] != "message":
            said = self._close() + self._add(
                {"type": "message", "id": f"msg_{uuid.uuid4().hex}", "role": "assistant", "content": []}
            )
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            said += self._of_part("response.content_part.added", part=part)
            self.items[-1]["content"].append(part)
        self.items[-1]["content"][0]["text"] += text
        return said + self._of_part("response.output_text.delta", delta=text, logprobs=[])

    def _add(self, item: Item) -> bytes:
        self.items.append({**item, "status": "in_progress"})
        self._open = self.items[-1]
        return self._event("response.output_item.added", output_index=len(self.items) - 1, item=self._open)

    def _close(self, status: str = "completed") -> bytes:
        if self._open is None:
            return b""
        item, self._open = self._open, None
        said = b"".join(self._done_parts(item))
        item["status"] = status
        return said + self._event("response.output_item.done", output_index=len(self.items) - 1, item=item)

    def _done_parts(self, item: Item) -> Iterator[bytes]:
        if item["type"] == "message":
            part = item["content"][0]
            yield self._of_part("response.output_text.done", text=part["text"], logprobs=[])
            yield self._of_part("response.content_part.done", part=part)
        else:
            yield self._of_item(
                "response.function_call_arguments.done", name=item["name"], arguments=item["arguments"]
            )

    def _of_part(self, kind: str, **fields: Any) -> bytes:
        return self._of_item(kind, content_index=0, **fields)

    def _of_item(self, kind: str, **fields: Any) -> bytes:
        return self._event(kind, item_id=self.items[-1]["id"], output_index=len(self.items) - 1, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = orjson.dumps({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"


class Responding(EnvelopeRendering[ResponsesBody]):
    """Renders the records of a job as the response or as the events that build it."""

    names = NAMES

    def __init__(self, envelope: Envelope, body: ResponsesBody) -> None:
        super().__init__(envelope, body)
        self.streams = bool(body.stream)

    async def plan(self) -> list[PlannedRequest]:
        envelope, body = self.envelope, self.body
        if body.logprobs or body.top_logprobs:
            raise RequestError(
                "log-probabilities are available from /v1/chat/completions",
                code="unsupported_parameter",
                param="top_logprobs",
            )
        tools = body.offer
        self._stream = ResponseStream(_head(envelope, body), tools)
        sampling = body.sampling(
            max_tokens=body.max_output_tokens or body.max_tokens,
            json_schema=tools.schema(body.schema_of_answer),
        )
        messages = await off_loop(TURN * len(body.input), turns, body)
        wire = {"tools": tools.definitions, "attempts": 1 if body.stream else 2}
        prompt_input = PromptInput(wire, messages=messages)
        return [
            await plan_job(
                envelope.gateway, envelope.target, body, sampling, envelope.requester, prompt_input
            )
        ]

    def whole(self, ended: Sequence[ChoiceResult]) -> ResponseAnswer:
        done = ended[0].done
        self._stream.text(done.text)
        self._stream.end(done, {})
        return ResponseAnswer(**self._stream.whole(done, {"conductor": conductor(ended[0])}))

    def events(self, item: ChoiceRecords) -> bytes:
        if item.done is not None:
            return self._stream.end(item.done, {"conductor": conductor(ChoiceResult(item.job, item.done))})
        return b"".join(self._stream.text(r["delta"]) for r in item.records if r.get("delta"))

    def failed(self, error: RequestError) -> bytes:
        return self._stream.failed(error)


def router(gateway: Gateway) -> APIRouter:
    """The route over `gateway`."""
    routes = new_router()

    @routes.post(
        "/v1/responses",
        response_model=ResponseAnswer,
        responses=EVENTS,
        openapi_extra=reads(ResponsesBody),
    )
    async def responses(request: Request) -> Response:
        """Answer a conversation, in the form of OpenAI's responses; nothing is stored."""
        return await respond(gateway.dispatcher, request, Responding.open(gateway, request, ResponsesBody))

    return routes


def _head(envelope: Envelope, body: ResponsesBody) -> dict[str, Any]:
    """Fields of the response before it has output, many of them repeated from the request."""
    form = body.text.format if body.text and body.text.format else None
    choice = body.tool_choice or ChosenTool("auto")
    named = {"type": "function", "name": choice.name} if choice.name else choice.mode
    return {
        "id": f"resp_{envelope.requester.request_id}",
        "object": "response",
        "created_at": envelope.created,
        "model": envelope.target.name,
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
