"""Requests and answers of `/predictions` without the gateway: the body and the answer of `/generate`.

Pure: turns bodies into requests and records into pieces of an answer. `handlers.engine_handler` sends frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from handlers.strict_json import parse
from handlers.wire import GenerateBody, GenerateRequest, RequestError
from handlers.worker.requests import Record, is_last
from handlers.worker_config import WorkerConfig

JSON = "application/json"
NDJSON = "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class TorchServePiece:
    """A part of one call's answer, or all of it; only the `status` of the first part is used."""

    body: bytes
    last: bool
    status: int = 200
    content_type: str = JSON


@dataclass(slots=True)
class TorchServeCall:
    """One call of a batch and the state of its answer.

    `takes_parts` is True if the transport can send an answer in parts, `started` if a part was sent.
    """

    id: str
    config: WorkerConfig
    takes_parts: bool = True
    streams: bool = False
    started: bool = False

    def request(self, parameters: dict[str, Any]) -> GenerateRequest:
        """The request in TorchServe's `parameters`; RequestError 400 if they are wrong."""
        body = _body(parameters)
        self.streams = body.stream and self.takes_parts
        if body.category not in (None, self.config.category):
            raise RequestError(
                f"this archive serves {self.config.category!r} only",
                param="category",
                code="wrong_category",
            )
        engine = body.engine or self.config.engine
        own = self.config.options if engine == self.config.engine else {}
        return GenerateRequest(
            id=self.id,
            engine=engine,
            prompt=body.asked_prompt,
            messages=None if body.messages is None else list(body.messages),
            system=self.config.system,
            sampling=body.sampling.over(self.config.sampling),
            options={**own, **body.options},
        )

    def piece(self, record: Record) -> TorchServePiece | None:
        """The piece for `record` to send to the client; None for a record that only a stream sends."""
        if "error" in record and not self.started:
            return TorchServePiece(_public(record), last=True, status=record["error"]["status"])
        if self.streams:
            self.started = self.started or not is_last(record)
            return TorchServePiece(_public(record) + b"\n", is_last(record), content_type=NDJSON)
        if "done" in record:
            answer = {
                "id": self.id,
                "category": self.config.category,
                "model": self.config.model,
                **record["done"],
            }
            return TorchServePiece(orjson.dumps(answer), last=True)
        return None


def _public(record: Record) -> bytes:
    if "error" in record:
        shown = ("message", "type", "param", "code")
        return orjson.dumps({"error": {name: record["error"][name] for name in shown}})
    return orjson.dumps(record)


def _body(parameters: dict[str, Any]) -> GenerateBody:
    raw = parameters.get("body")
    if raw is None:
        raise RequestError("a JSON body with content-type: application/json is required", code="invalid_json")
    body = parse(GenerateBody, raw)
    for name in ("session", "session_id", "persona"):
        if getattr(body, name) is not None:
            raise RequestError(
                f"{name} needs the gateway; this is a TorchServe without one", param=name, code="gateway_only"
            )
    return body
