"""The gateway side of a bench: a light client in a process of its own.

Raw asyncio on purpose: the client shares the cores with the gateway that it measures. Reads JSON lines: first
{host, port, category}, then turns of {prompts: [messages], tokens}; writes a line for each. Trusts its own
gateway: no event spans two chunks of the body, so chunk headers are lines like any other.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, NamedTuple, cast

import orjson
import uvloop


class GatewayTarget(NamedTuple):
    """Address and category of the requests, and the headers that authenticate them."""

    host: str
    port: int
    category: str
    headers: dict[str, str]


class AnswerStream(asyncio.Protocol):
    """One request on one connection; records the time of each piece."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._rest = b""
        self.start = 0.0
        self.times: list[float] = []
        self.last: bytes = b""
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request at once, and start the clock."""
        self.start = time.monotonic()
        # uvloop's transports do not derive from asyncio's classes.
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        """Record pieces by their prefix; only the last record is parsed, after the end."""
        now = time.monotonic()
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b'data: {"delta"'):
                self.times.append(now)
            elif line.startswith((b"data: {", b"HTTP/1.1 ", b'{"error"')):
                self.last = line

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer, complete or not."""
        if not self.last.startswith(b"data: {") and self._rest.startswith(b'{"error"'):
            self.last = self._rest
        if not self.finished.done():
            self.finished.set_result(None)

    def result(self) -> dict[str, Any]:
        """The stream's times and counts, or `{"error"}` with the gateway's message."""
        if not self.last.startswith(b"data: {"):
            return {"error": self.last.decode(errors="replace")[:500] or "the gateway closed the connection"}
        record = orjson.loads(self.last[6:])
        if "error" in record:
            return {"error": record["error"]["message"]}
        usage = record["usage"]
        return {
            "start": self.start,
            "times": self.times,
            "prompt_tokens": usage["prompt_tokens"],
            "tokens": usage["completion_tokens"],
        }


def http_request(target: GatewayTarget, messages: list[dict[str, str]], tokens: int) -> bytes:
    """The bytes of one greedy streaming request."""
    body = orjson.dumps(
        {"messages": messages, "category": target.category, "max_tokens": tokens, "temperature": 0}
    )
    who = "".join(f"{name}: {value}\r\n" for name, value in target.headers.items())
    head = (
        f"POST /generate/stream HTTP/1.1\r\nHost: {target.host}:{target.port}\r\nConnection: close\r\n{who}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def turn(target: GatewayTarget, prompts: list[list[dict[str, str]]], tokens: int) -> dict[str, Any]:
    """Ask all prompts at once and wait for every answer."""
    loop = asyncio.get_running_loop()
    requests = [http_request(target, messages, tokens) for messages in prompts]
    opened = await asyncio.gather(
        *(
            loop.create_connection(lambda body=body: AnswerStream(body), target.host, target.port)  # type: ignore[misc]
            for body in requests
        )
    )
    streams = [stream for _, stream in opened]
    await asyncio.gather(*(stream.finished for stream in streams))
    return {"streams": [stream.result() for stream in streams]}


def main() -> None:
    """Serve turns until standard input ends."""
    target = GatewayTarget(**orjson.loads(sys.stdin.readline()))
    print(orjson.dumps({"ready": True}).decode(), flush=True)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for line in sys.stdin:
            request = orjson.loads(line)
            before = time.process_time()
            result = runner.run(turn(target, request["prompts"], request["tokens"]))
            print(orjson.dumps({**result, "cpu_s": time.process_time() - before}).decode(), flush=True)


if __name__ == "__main__":
    main()
