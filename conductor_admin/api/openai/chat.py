"""`POST /v1/chat/completions`, whole and in chunks.

A worker's record becomes one chunk for each delta of its choice; arguments of tool calls are streamed as they
are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.api.fanout import ChoiceRecords, ChoiceResult
from conductor_admin.api.openai.answers import (
    AssistantMessage,
    CallAnswer,
    CalledFunction,
    ChatChoice,
    ChatCompletionAnswer,
)
from conductor_admin.api.openai.bodies import Choosing, ResponseFormat, StreamOptions
from conductor_admin.api.openai.envelope import (
    Envelope,
    EnvelopeRendering,
    chat_logprobs,
    chunk,
    conductor,
    details,
    usage,
)
from conductor_admin.api.openai.jobs import PromptInput, plan_jobs
from conductor_admin.api.openai.messages import ChatMessage, text_of, turns
from conductor_admin.api.openai.tools import MAX_TOOLS, Offer, Tool, ToolChoice, call_id, offer
from conductor_admin.api.responder import DONE_EVENT, respond
from conductor_admin.api.routing import EVENTS, new_router, reads
from conductor_admin.api.schemas import Tokens
from conductor_admin.gateway import Gateway
from conductor_admin.planner import PlannedRequest
from handlers.off_loop import TURN, off_loop
from handlers.tool_calls.parser import Event, ParsedText, ToolCallParser, find_calls
from handlers.tool_calls.reader import CallArguments, CallStart
from handlers.wire import MAX_TOKENS_CEILING, WHOLE, Done, RequestError, Sampling

Delta = dict[str, Any]

_MAX_TOKENS = Field(ge=1, le=MAX_TOKENS_CEILING)


class ChoiceChunks:
    """State of one choice of a stream; `index` is its number."""

    def __init__(self, index: int, offer: Offer) -> None:
        self._index = index
        self._offer = offer
        self._parser = ToolCallParser(offer.names) if offer.names else None
        self._began = False
        self._called = False
        self._logprobs: list[dict[str, Any]] | None = None

    def record(self, record: dict[str, Any]) -> list[Delta]:
        """Entries of `choices` for one record of the worker."""
        if "delta" not in record:
            return []
        if "logprobs" in record:
            self._logprobs = self._logprobs or []
            self._logprobs += record["logprobs"]
        piece = record["delta"]
        deltas = self._events(self._parser.feed(piece)) if self._parser else [{"content": piece}]
        return self._entries(deltas)

    def end(self, done: Done) -> list[Delta]:
        """The remaining entries; the last one has the finish reason."""
        rest = self._events(self._parser.close()) if self._parser else []
        entries = self._entries(rest)
        return [*entries, *self._entries([{}], reason_of(done, called=self._called))]

    def _events(self, events: Iterable[Event]) -> list[Delta]:
        return [delta for event in events if (delta := self._delta(event)) is not None]

    def _delta(self, event: Event) -> Delta | None:
        if isinstance(event, ParsedText):
            return {"content": event.text}
        if event.index and not self._offer.several:
            return None
        self._called = True
        return {"tool_calls": [_call_delta(event)]}

    def _entries(self, deltas: list[Delta], reason: str | None = None) -> list[Delta]:
        entries: list[Delta] = []
        for delta in deltas:
            told, self._logprobs = self._logprobs, None
            entries.append(
                {
                    "index": self._index,
                    "delta": delta,
                    "logprobs": None if told is None else chat_logprobs(told),
                    "finish_reason": reason,
                }
            )
        if entries and not self._began:
            self._began = True
            role = {"role": "assistant", "content": ""}
            entries.insert(0, {"index": self._index, "delta": role, "logprobs": None, "finish_reason": None})
        return entries


def reason_of(done: Done, *, called: bool) -> str:
    """Finish reason: `length` for a cut answer, `tool_calls` for one with calls, else `stop`."""
    if done.finish_reason == "length":
        return "length"
    return "tool_calls" if called else "stop"


def _call_delta(event: CallStart | CallArguments) -> dict[str, Any]:
    if isinstance(event, CallArguments):
        return {"index": event.index, "function": {"arguments": event.text}}
    return {
        "index": event.index,
        "id": call_id(),
        "type": "function",
        "function": {"name": event.name, "arguments": ""},
    }


class ChatBody(Choosing):
    """Body of `/v1/chat/completions`."""

    refused: ClassVar[dict[str, tuple[Any, ...]]] = {
        "audio": (),
        "function_call": ("none", "auto"),
        "functions": ([],),
        "modalities": (["text"],),
        "reasoning_effort": ("none",),
        "verbosity": ("medium",),
        "web_search_options": (),
    }
    harmless: ClassVar[frozenset[str]] = frozenset(
        {
            *refused,
            "metadata",
            "prediction",
            "prompt_cache_key",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",
            "store",
        }
    )

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=10_000)]
    max_completion_tokens: Annotated[int, _MAX_TOKENS, WHOLE] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def offer(self) -> Offer:
        return offer([tool.function for tool in self.tools or ()], self.tool_choice, self.parallel_tool_calls)

    @property
    def names(self) -> dict[str, str]:
        """This body's names for fields that a worker may refuse."""
        made_by = "tool_choice" if self.offer.choice.is_forced else "response_format"
        return {"json_schema": made_by, "prompt": "messages", "category": "model"}

    @property
    def asked(self) -> str:
        """The last thing that the user says."""
        said = (text_of(m.content or ()) for m in reversed(self.messages) if m.role == "user")
        return next(said, "")

    @property
    def ignored(self) -> list[str]:
        """Names of fields that have no effect, those of `stream_options` last."""
        return [*super().ignored, *(self.stream_options.ignored if self.stream_options else ())]


class ChatCompletion(EnvelopeRendering[ChatBody]):
    """Renders the records of one chat completion as one answer or as chunks."""

    def __init__(self, envelope: Envelope, body: ChatBody) -> None:
        super().__init__(envelope, body)
        self.streams = bool(body.stream)
        self.names = body.names
        self._offer = body.offer
        self._choices = body.choices
        self._counts = bool(body.stream_options and body.stream_options.include_usage)
        self._chunk = partial(chunk, envelope.head("chatcmpl", "chat.completion.chunk"), self._counts)
        self._chunks = [ChoiceChunks(number, self._offer) for number in range(self._choices)]
        self._ended: list[ChoiceResult] = []

    async def plan(self) -> list[PlannedRequest]:
        envelope, body = self.envelope, self.body
        messages = await off_loop(TURN * len(body.messages), turns, body.messages)
        wire = {"tools": self._offer.definitions, "attempts": 1 if body.stream else 2}
        prompt_inputs = [PromptInput(wire, messages=messages)]
        sampling = _sampling(body, self._offer)
        return await plan_jobs(
            envelope.gateway, envelope.target, body, sampling, envelope.requester, prompt_inputs
        )

    def whole(self, ended: Sequence[ChoiceResult]) -> ChatCompletionAnswer:
        return ChatCompletionAnswer(
            **self.envelope.head("chatcmpl", "chat.completion"),
            choices=[self._choice(number, outcome) for number, outcome in enumerate(ended)],
            usage=Tokens(**usage(ended, self._choices)),
            conductor=details(ended),
        )

    def events(self, item: ChoiceRecords) -> bytes:
        """Chunks for new records of one choice."""
        choice = self._chunks[item.index]
        made = [self._chunk([entry]) for record in item.records for entry in choice.record(record)]
        if item.done is not None:
            *before, last = choice.end(item.done)
            ended = ChoiceResult(item.job, item.done)
            self._ended.append(ended)
            made += [
                *(self._chunk([entry]) for entry in before),
                self._chunk([last], conductor=conductor(ended)),
            ]
        return b"".join(made)

    def last(self) -> bytes:
        """The last events: usage if requested, then `[DONE]`."""
        if not self._counts:
            return DONE_EVENT
        return self._chunk([], usage=usage(self._ended, self._choices)) + DONE_EVENT

    def _choice(self, number: int, outcome: ChoiceResult) -> ChatChoice:
        done = outcome.done
        text, calls = find_calls(done.text, self._offer.names) if self._offer.names else (done.text, [])
        made = [
            CallAnswer(
                id=call_id(),
                type="function",
                function=CalledFunction(name=call.name, arguments=call.arguments),
            )
            for call in (calls if self._offer.several else calls[:1])
        ]
        content, calling = text or (None if made else ""), {"tool_calls": made} if made else {}
        return ChatChoice(
            index=number,
            message=AssistantMessage(role="assistant", content=content, refusal=None, **calling),
            logprobs=None if done.logprobs is None else chat_logprobs(done.logprobs),
            finish_reason=reason_of(done, called=bool(made)),
        )


def router(gateway: Gateway) -> APIRouter:
    """The route over `gateway`."""
    routes = new_router()

    @routes.post(
        "/v1/chat/completions",
        response_model=ChatCompletionAnswer,
        responses=EVENTS,
        openapi_extra=reads(ChatBody),
    )
    async def chat_completions(request: Request) -> Response:
        """Answer a conversation, in the form of OpenAI's chat completions."""
        return await respond(gateway.dispatcher, request, ChatCompletion.open(gateway, request, ChatBody))

    return routes


def _sampling(body: ChatBody, tools: Offer) -> Sampling:
    if body.top_logprobs and not body.logprobs:
        raise RequestError("top_logprobs requires logprobs", code="invalid_value", param="top_logprobs")
    asked = body.response_format.schema_of_answer if body.response_format else body.json_schema
    return body.sampling(
        max_tokens=body.max_completion_tokens or body.max_tokens,
        json_schema=tools.schema(asked),
    )
