"""No text of a prompt or an answer is in any file of the state folder but the sessions database.

One real server is driven through every route and engine with marked text: right, wrong, as large as each
documented limit allows, and while workers and checks are killed. No allowed input ends as 500.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import psutil
import pytest

from tests.e2e.test_every_row import OPTIONS, ROWS
from tests.serving import Serving, serving

pytestmark = [pytest.mark.e2e, pytest.mark.proof, pytest.mark.timeout(900)]

MARK = "kanarf00dbeef"
"""Mark that is repeated in every sent text, so that any fragment of a text contains it."""

LIMIT = 4_000_000
PLAIN: dict[str, Any] = {"content-type": "text/plain"}
PATIENCE_S = 3
"""Seconds after which a client leaves, because a long document is read in thousands of parts."""

CHAT = "conversational_chat"
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
MCP_HEADERS = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}


def marked(characters: int) -> str:
    """A marked text of exactly that many characters."""
    return (f"{MARK} " * (characters // len(MARK) + 1))[:characters]


class Driven:
    """A server, the requests that it got, and its answers."""

    def __init__(self, server: Serving, client: httpx2.Client) -> None:
        self.server = server
        self.client = client
        self.failed: list[str] = []
        self.said: list[str] = []

    def post(
        self,
        path: str,
        body: object = None,
        *,
        raw: bytes | None = None,
        leaves: bool = False,
        **headers: str,
    ) -> Any:
        """Post a request; return the answer as JSON, or None. Records a 500. `leaves` limits the wait."""
        content = raw if raw is not None else orjson.dumps(body)
        try:
            answer = self.client.post(
                path,
                content=content,
                headers={"content-type": "application/json", **headers},
                timeout=PATIENCE_S if leaves else 120,
            )
        except httpx2.ReadTimeout:  # a document that is read in parts: its client leaves
            return None
        if answer.status_code == 500:
            sent = "" if raw is not None else str({k: str(v)[:40] for k, v in dict(body or {}).items()})  # type: ignore[call-overload]
            self.failed.append(f"{path} {sent}: {answer.text[:200]}")
        try:
            value = answer.json()
        except ValueError:
            return None
        if isinstance(value, dict) and isinstance(value.get("text"), str):
            self.said.append(value["text"])
        return value

    def worker(self) -> psutil.Process:
        """The process of the chat row's worker."""
        model = self.server.wait_for_model(CHAT, state="READY")
        return psutil.Process(model["workers"][0]["pid"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Driven, Path]:
    """The state folder of a server that was driven and has ended."""
    state = tmp_path_factory.mktemp("canary") / "state"
    with serving(state) as server:
        server.wait_until_ready()
        with server.client() as client:
            driven = Driven(server, client)
            for drive in (engines, limits, openai, mistakes, mcp, sessions, administration, kills):
                drive(driven)
    return driven, state


def test_no_allowed_input_ends_as_500(folder: tuple[Driven, Path]) -> None:
    driven, _ = folder
    assert not driven.failed


def test_no_text_stands_in_any_file(folder: tuple[Driven, Path]) -> None:
    driven, state = folder
    files = [path for path in [*state.rglob("*"), driven.server.log] if path.is_file()]
    assert any(path.name == "gateway.log" for path in files)
    assert any(path.name.startswith(f"{CHAT}-") for path in files), "no log of a worker was looked at"
    texts = [text[:60] for text in driven.said if len(text.strip()) >= 20]
    assert texts
    wanted = [MARK, *texts, *(orjson.dumps(text)[1:-1].decode() for text in texts)]
    found = [
        f"{path.relative_to(state.parent)}: {text!r}"
        for path in files
        if not path.name.startswith("sessions.db")
        for content in [path.read_bytes().decode("utf-8", "replace")]
        for text in wanted
        if text in content
    ]
    assert not found


def test_the_sessions_database_is_where_kept_texts_are(folder: tuple[Driven, Path]) -> None:
    """Check of the search itself: it finds stored turns, which are meant to be there."""
    _, state = folder
    kept = b"".join(path.read_bytes() for path in state.glob("sessions.db*"))
    assert MARK.encode() in kept


def engines(driven: Driven) -> None:
    """Ask every row once for a whole answer, once for a stream, and for a check."""
    for slug in ROWS:
        options = {name: _with_mark(value) for name, value in OPTIONS.get(slug, {}).items()}
        body = {"category": slug, "prompt": f"What is 6 * 7? {MARK}", "max_tokens": 24, "options": options}
        answer = driven.post("/generate", body)
        driven.post("/generate/stream", body)
        driven.post(f"/predictions/{slug}", {**body, "stream": True})
        for text in (
            str(answer.get("text")),
            f'{{"{MARK}": [',
            f"```{MARK}\n$$\\frac{{{MARK}}}{{",
            f"[@{MARK}",
        ):
            driven.post("/check", {"category": slug, "prompt": MARK, "options": options, "text": text})


def limits(driven: Driven) -> None:
    """Send every text option, prompt and message at its longest."""
    fields = {"max_tokens": 4, "max_wait_s": 60}
    passages = [marked(900_000)] * 5
    asked: list[dict[str, Any]] = [
        {"category": "question_answering", "prompt": MARK, "options": {"passages": passages}}
    ]
    for slug in ROWS:
        turns = [{"role": role, "content": marked(LIMIT // 2)} for role in ("system", "system", "user")]
        asked += [{"category": slug, "prompt": marked(LIMIT)}, {"category": slug, "messages": turns}]
        described = driven.client.get(f"/models/{slug}").json()["options"]
        for name, schema in described["properties"].items():
            for value in _longest(schema, described.get("$defs", {})):
                options = {**OPTIONS.get(slug, {}), name: value}
                asked.append({"category": slug, "prompt": MARK, "options": options})
                checked = {"category": slug, "prompt": MARK, "options": options, "text": MARK}
                driven.post("/check", checked, leaves=True)
    for body in asked:
        driven.post("/generate", {**body, **fields}, leaves=True)


def openai(driven: Driven) -> None:
    """Call the five routes of /v1, with tool calls, several parts and several system messages."""
    chat = {"model": CHAT, "max_tokens": 8}
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": f'{{"a": "{MARK}"}}'}}
    many = {
        "role": "assistant",
        "tool_calls": [call] * 128,
        "function_call": {"name": "old", "arguments": MARK},
    }
    part = {"type": "text", "text": marked(2_100_000)}
    huge = {"type": "function", "function": {"name": "look", "description": marked(1_000_000)}}
    turns: list[list[dict[str, Any]]] = [
        [{"role": "user", "content": MARK}, many, {"role": "user", "content": MARK}],
        [{"role": "user", "content": [part, part]}],
        [{"role": "system", "content": marked(2_100_000)}] * 2 + [{"role": "user", "content": MARK}],
        [{"role": "user", "content": MARK}],
    ]
    for messages, tools, stream in itertools.product(turns, (None, [TOOL], [huge]), (False, True)):
        driven.post("/v1/chat/completions", {**chat, "messages": messages, "tools": tools, "stream": stream})
    for stream in (False, True):
        driven.post(
            "/v1/completions", {**chat, "prompt": MARK, "stream": stream, "logprobs": 2, "echo": True}
        )
        driven.post("/v1/completions", {**chat, "prompt": MARK, "suffix": marked(LIMIT), "stream": stream})
        driven.post("/v1/responses", {"model": CHAT, "input": MARK, "instructions": MARK, "stream": stream})
        driven.post(
            "/v1/responses", {"model": "auto", "input": f"Translate to French: {MARK}", "stream": stream}
        )
    schema = {"type": "object", "properties": {MARK: {"type": "string", "pattern": f"({MARK}"}}}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    driven.post("/v1/chat/completions", {**chat, "messages": turns[3], "response_format": form})
    driven.post("/v1/embeddings", {"model": "embedding", "input": [MARK, marked(1_000_000)]})


def mistakes(driven: Driven) -> None:
    """Send bad bodies to every route: no JSON, wrong types, unknown fields, deep nesting, incomplete ones."""
    document = driven.client.get("/openapi.json").json()
    paths = [path for path, methods in document["paths"].items() if "post" in methods and "admin" not in path]
    for path in [*(path.replace("{category}", CHAT) for path in paths), "/mcp"]:
        if "{" in path:
            continue
        for raw in (
            MARK.encode(),
            f'{{"prompt": "{MARK}'.encode(),
            b"[" * 10_000 + MARK.encode(),
            f'{{"prompt": "{MARK}", "prompt": "{MARK}"}}'.encode(),
            f'"{MARK}\\ud800"'.encode(),
            b"\xff" + MARK.encode(),
            f'{{"model": ["{MARK}"], "prompt": ["{MARK}"], "messages": "{MARK}", "input": 5}}'.encode(),
            f'{{"{MARK}": "{MARK}", "category": "{MARK}", "options": {{"{MARK}": 1}}, "text": 5}}'.encode(),
            f'{{"prompt": "a", "json_schema": {{"{MARK}": 1, "type": "{MARK}"}}, "stop": "{MARK}"}}'.encode(),
        ):
            driven.post(path, raw=raw)
            driven.post(path, raw=raw, **PLAIN)
    host, port = driven.client.base_url.host, driven.client.base_url.port
    for cut in (b'{"prompt": "', MARK.encode() * 1000):
        _half(
            host,
            port or 80,
            b"POST /generate HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 99999999\r\n\r\n" + cut,
        )
        _half(host, port or 80, b"POST /generate " + cut)


def mcp(driven: Driven) -> None:
    """Call every tool with marked arguments, valid and invalid."""
    begun = driven.client.post("/mcp", json=_frame("initialize", _HELLO), headers=MCP_HEADERS)
    headers = {**MCP_HEADERS, "mcp-session-id": begun.headers["mcp-session-id"]}
    driven.client.post(
        "/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=headers
    )
    listed = _events(driven.client.post("/mcp", json=_frame("tools/list", {}), headers=headers))
    tools = listed["result"]["tools"]
    assert tools
    for tool in tools:
        if "unload" in tool["name"] or "reload" in tool["name"]:
            continue
        names = tool["inputSchema"].get("properties", {})
        for value in (MARK, [MARK], {MARK: MARK}, 5):
            arguments = {name: value for name in names if name not in ("category", "session_id")}
            driven.client.post(
                "/mcp",
                json=_frame("tools/call", {"name": tool["name"], "arguments": arguments}),
                headers=headers,
            )
        required: dict[str, Any] = dict.fromkeys(tool["inputSchema"].get("required", []), MARK)
        if "max_tokens" in names:
            required["max_tokens"] = 8
        answer = driven.client.post(
            "/mcp", json=_frame("tools/call", {"name": tool["name"], "arguments": required}), headers=headers
        )
        assert answer.status_code == 200, tool["name"]
    for method in ("resources/read", "prompts/get", "completion/complete", MARK):
        driven.client.post(
            "/mcp", json=_frame(method, {"uri": MARK, "name": MARK, "arguments": {}}), headers=headers
        )


def sessions(driven: Driven) -> None:
    """Store, change and read a conversation."""
    first = driven.post("/generate", {"prompt": f"Say {MARK}", "session": "new", "max_tokens": 16})
    driven.post("/generate", {"prompt": MARK, "session_id": first["session_id"], "max_tokens": 16})
    driven.client.patch(f"/sessions/{first['session_id']}", json={"title": MARK})
    driven.client.patch(f"/sessions/{first['session_id']}", json={"persona": MARK, MARK: MARK})
    assert driven.client.get(f"/sessions/{first['session_id']}").status_code == 200


def administration(driven: Driven) -> None:
    """Call every route that shows requests."""
    for path in ("/requests", "/stats", "/metrics", "/models", "/health", "/sessions"):
        assert driven.client.get(path).status_code == 200
    driven.post("/admin/plan", {"settings": MARK})


def kills(driven: Driven) -> None:
    """Drop a client, kill a busy checker, and kill a worker in its stream."""
    long = {"prompt": f"Tell a long story about {MARK}.", "max_tokens": 2000, "temperature": 1}
    with driven.client.stream("POST", "/generate/stream", json=long) as answer:
        next(answer.iter_lines())
    gateway = psutil.Process(driven.server.process.pid)
    for process in (gateway, driven.worker()):
        for child in process.children(recursive=True):
            if "checker" in " ".join(child.cmdline()):
                child.kill()
    driven.post("/check", {"category": "mathematical_reasoning", "prompt": MARK, "text": f"\\boxed{{{MARK}"})
    driven.post("/generate", {"category": "mathematical_reasoning", "prompt": f"What is 2 + 2? {MARK}"})
    worker = driven.worker()
    with (
        contextlib.suppress(httpx2.HTTPError),
        driven.client.stream("POST", "/generate/stream", json=long) as answer,
    ):
        lines = answer.iter_lines()
        next(lines)
        os.kill(worker.pid, signal.SIGKILL)
        assert any("worker_died" in line for line in lines)
    driven.post("/generate", {"prompt": MARK, "max_tokens": 4})


_HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": MARK, "version": "1"}}


def _frame(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def _events(answer: httpx2.Response) -> dict[str, Any]:
    data = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    return dict(orjson.loads(data[-1] if data else answer.content))


def _with_mark(value: object) -> object:
    if isinstance(value, list) and all(isinstance(item, str) and len(item) > 4 for item in value):
        return [f"{item} {MARK}" for item in value]
    return value


def _longest(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[object]:
    """Longest values of a schema's string forms."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    for form in schema.get("anyOf", [schema]):
        if form.get("type") == "string" and "enum" not in form and "const" not in form:
            yield marked(form.get("maxLength", LIMIT))
        if form.get("type") == "array" and form.get("items", {}).get("type") == "string":
            each = form["items"].get("maxLength", 1000)
            yield [f"{n} {marked(each)}"[:each] for n in range(min(form.get("maxItems", 10), LIMIT // each))]


def _half(host: str, port: int, request: bytes) -> None:
    """Send only half of a request."""
    import socket

    with socket.create_connection((host, port), 10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(65536)
