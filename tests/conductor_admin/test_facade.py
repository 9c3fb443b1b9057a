"""Another HTTP protocol, like Anthropic's Messages: its bodies, its rendering, its route and its scope.

The facade below uses what all interfaces share and nothing of a particular one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

import httpx2
import orjson
import pytest
from fastapi import APIRouter
from pydantic import ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.api import responder
from conductor_admin.api.fanout import ChoiceRecords, ChoiceResult
from conductor_admin.api.responder import Rendering, respond
from conductor_admin.api.targets import Target, target_of
from conductor_admin.app import create_app
from conductor_admin.auth import access
from conductor_admin.auth.caller import caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.http.body import read_json
from conductor_admin.http.responses import JsonResponse, retry_header
from conductor_admin.planner import PlannedRequest
from handlers.wire import GenerateInput, Message, RequestError, Shape
from tests.conductor_admin.fake_torchserve import SocketServer, done
from tests.conductor_admin.gateway_rig import Rig
from tests.loop_steps import own_work

PATH = "/v1/messages"
NAMES = {"category": "model", "prompt": "messages"}


class AskedTurn(Shape):
    """A turn of the conversation."""

    role: Literal["user", "assistant"]
    content: str


class MessagesBody(Shape):
    """Body of `/v1/messages`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    model: str
    max_tokens: int
    messages: list[AskedTurn]
    stream: bool = False


class MessagesRendering(Rendering):
    """Renders one message whole or as events."""

    names = NAMES

    def __init__(self, gateway: Gateway, request: Request, body: MessagesBody, target: Target) -> None:
        self.streams = body.stream
        self._gateway = gateway
        self._request = request
        self._body = body
        self._target = target
        self._began = False

    async def plan(self) -> Sequence[PlannedRequest]:
        turns = [Message(role=turn.role, content=turn.content) for turn in self._body.messages]
        body = GenerateInput(category=self._target.row.slug, messages=turns, max_tokens=self._body.max_tokens)
        caller, request_id = caller_of(self._request), self._request.state.request_id
        return [await self._gateway.plan(body, request_id, caller)]

    def whole(self, ended: Sequence[ChoiceResult]) -> object:
        answer = ended[0].done
        return {
            "id": f"msg_{ended[0].job.request.id}",
            "type": "message",
            "role": "assistant",
            "model": self._target.name,
            "content": [{"type": "text", "text": answer.text}],
            "stop_reason": stop_reason(answer.finish_reason),
            "usage": {"output_tokens": answer.usage.completion_tokens},
        }

    def events(self, item: ChoiceRecords) -> bytes:
        made = b"" if self._began else event("message_start", message={"id": f"msg_{item.job.request.id}"})
        self._began = True
        for record in item.records:
            made += event("content_block_delta", delta={"type": "text_delta", "text": record["delta"]})
        if item.done is not None:
            made += event("message_delta", delta={"stop_reason": stop_reason(item.done.finish_reason)})
        return made

    def last(self) -> bytes:
        return event("message_stop")

    def failed(self, error: RequestError) -> bytes:
        return event("error", error=fault(error))

    def comment(self, text: str) -> bytes:
        return event("ping")


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + orjson.dumps({"type": kind, **fields}) + b"\n\n"


def stop_reason(finish_reason: str) -> str:
    return "max_tokens" if finish_reason == "length" else "end_turn"


def fault(error: RequestError) -> dict[str, Any]:
    kind = "not_found_error" if error.status == 404 else error.type
    return {"type": kind, "message": f"{error.param}: {error.message}" if error.param else error.message}


def refused(error: RequestError) -> Response:
    return JsonResponse({"type": "error", "error": fault(error)}, error.status, retry_header(error))


def router(gateway: Gateway) -> APIRouter:
    routes = APIRouter()

    async def opened(request: Request) -> MessagesRendering:
        body = await read_json(request, MessagesBody)
        target = await target_of(gateway, body.model, caller_of(request), body.messages[-1].content)
        return MessagesRendering(gateway, request, body, target)

    @routes.post(PATH)
    async def messages(request: Request) -> Response:
        """Answer a conversation, in the form of Anthropic's Messages."""
        return await respond(gateway.dispatcher, request, opened(request), refused)

    return routes


@pytest.fixture
async def client(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the gateway with the facade among its routes."""
    monkeypatch.setattr(access, "ROUTE_SCOPES", {**access.ROUTE_SCOPES, PATH: "infer"})
    with own_work("builds an application and a client"):
        server = SocketServer(create_app(rig.gateway, router(rig.gateway).routes))
        http = httpx2.AsyncClient(timeout=10, trust_env=False)
    await server.start()
    http.base_url = httpx2.URL(f"http://127.0.0.1:{server.port}")
    try:
        async with http:
            yield http
    finally:
        await server.stop()


def asking(**fields: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": "count"}]
    return {"model": "conversational_chat", "max_tokens": 9, "messages": turns, **fields}


def kinds(text: str) -> list[str]:
    return [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]


async def test_a_whole_answer(rig: Rig, client: httpx2.AsyncClient) -> None:
    answer = await client.post(PATH, json=asking())
    assert answer.status_code == 200
    assert answer.json()["content"] == [{"type": "text", "text": "one two three"}]
    assert answer.json()["stop_reason"] == "end_turn"
    assert answer.headers["cache-control"] == "no-store"
    assert rig.torchserve.workers("conversational_chat")[0].requests[-1]["sampling"]["max_tokens"] == 9


async def test_a_streamed_answer(client: httpx2.AsyncClient) -> None:
    answer = await client.post(PATH, json=asking(stream=True))
    assert answer.headers["content-type"].startswith("text/event-stream")
    data = [orjson.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    said = [one["delta"]["text"] for one in data if one["type"] == "content_block_delta"]
    assert "".join(said) == "one two three"
    assert (data[0]["type"], data[-2]["type"], data[-1]["type"]) == (
        "message_start",
        "message_delta",
        "message_stop",
    )


async def test_an_idle_stream_says_so_in_the_words_of_the_protocol(
    rig: Rig, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responder, "LOADING_S", 0.05)
    rig.torchserve.may_load.clear()
    async with client.stream("POST", PATH, json=asking(stream=True)) as answer:
        lines = answer.aiter_lines()
        assert await anext(lines) == "event: ping"
        rig.torchserve.may_load.set()
        rest = "\n".join([line async for line in lines])
    assert kinds(rest)[-1] == "message_stop"


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    ("body", "status", "kind", "param"),
    [
        ({"max_tokens": "many"}, 400, "invalid_request_error", "max_tokens"),
        ({"model": "nothing_like_it"}, 404, "not_found_error", "model"),
    ],
)
async def test_an_error_has_the_shape_and_the_names_of_the_protocol(
    client: httpx2.AsyncClient, body: dict[str, Any], status: int, kind: str, param: str, streams: bool
) -> None:
    answer = await client.post(PATH, json=asking(**body, stream=streams))
    assert answer.status_code == status
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == kind
    assert answer.json()["error"]["message"].startswith(f"{param}: ")


async def test_a_stream_that_fails_ends_with_an_error_of_the_protocol(
    rig: Rig, client: httpx2.AsyncClient
) -> None:
    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        yield {"delta": "one"}
        yield {"error": {"message": "too long", "status": 400, "param": "prompt"}}

    rig.torchserve.script = script
    answer = await client.post(PATH, json=asking(stream=True))
    assert kinds(answer.text) == ["message_start", "content_block_delta", "error"]
    assert '"messages: too long"' in answer.text


@pytest.mark.parametrize("streams", [False, True])
async def test_a_client_that_leaves_ends_its_generation(
    rig: Rig, client: httpx2.AsyncClient, streams: bool
) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def script(request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        began.set()
        try:
            await asyncio.Event().wait()
            yield done("never")
        finally:
            ended.set()

    rig.torchserve.script = script
    asked = asyncio.create_task(client.post(PATH, json=asking(stream=streams)))
    async with asyncio.timeout(5):
        await began.wait()
        asked.cancel()
        await ended.wait()
    await rig.until(lambda: rig.lifecycle.view("conversational_chat").in_flight == 0)
