"""A response item by item: the objects of `/v1/responses`, and the events that build them in a stream.

Knows items, content parts and the order of events. A whole answer is what its stream ends with.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import orjson

from conductor_admin.openai.tools import Offer, call_id
from handlers.tool_calls.parser import Event, Text, ToolCallParser
from handlers.tool_calls.reader import CallArguments, CallStart
from handlers.wire import Done, RequestError

Item = dict[str, Any]


class ResponseStream:
    """The state of one response: `head` are its fields that never change, `items` what it says so far."""

    def __init__(self, head: dict[str, Any], tools: Offer) -> None:
        self._head = head
        self._tools = tools
        self._parser = ToolCallParser(tools.names) if tools.names else None
        self._number = 0
        self._open: Item | None = None
        self._began = False
        self.items: list[Item] = []

    def text(self, piece: str) -> bytes:
        """The events that a piece of the model's text makes."""
        events: list[Event] = self._parser.feed(piece) if self._parser else [Text(piece)]
        return self._begin() + b"".join(self._said(event) for event in events)

    def end(self, done: Done, more: dict[str, Any]) -> bytes:
        """The last events; the response is then whole, with the fields of `more`."""
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
        if isinstance(event, Text):
            return self._words(event.text)
        if event.index and not self._tools.several:
            return b""
        return self._call(event) if isinstance(event, CallStart) else self._arguments(event)

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

    def _call(self, event: CallStart) -> bytes:
        item = {"type": "function_call", "id": f"fc_{uuid.uuid4().hex}", "call_id": call_id()}
        return self._close() + self._add({**item, "name": event.name, "arguments": ""})

    def _arguments(self, event: CallArguments) -> bytes:
        self.items[-1]["arguments"] += event.text
        return self._of_item("response.function_call_arguments.delta", delta=event.text)

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
