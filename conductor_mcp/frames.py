"""JSON-RPC frames of MCP: parsing, kinds, errors, and the HTTP headers of each.

Pure. The protocol has two eras: with a handshake and a session, or stateless, where each request has its
version under `_meta` and again in headers.
"""

from __future__ import annotations

import json
from typing import Any

from mcp.shared.inbound import (
    MCP_METHOD_HEADER,
    MCP_NAME_HEADER,
    MCP_PROTOCOL_VERSION_HEADER,
    NAME_BEARING_METHODS,
    encode_header_value,
)
from mcp_types import INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, PROTOCOL_VERSION_META_KEY

Frame = dict[str, Any]

ACCEPT = {"accept": "application/json, text/event-stream", "content-type": "application/json"}


class BadFrame(Exception):
    """A text that is no frame; `answer` is the JSON-RPC error frame for it."""

    def __init__(self, code: int, message: str, id: object = None) -> None:
        super().__init__(message)
        self.answer = error_frame(code, message, id)


def read_json(text: str | bytes) -> Any:
    """Parse a JSON text. Raises BadFrame -32700 if it is invalid."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadFrame(PARSE_ERROR, "Parse error: the text is not JSON") from error


def read_frame(value: Any) -> Frame:
    """Check that `value` is one frame. Raises BadFrame -32600 or -32602, with a valid id if it has one."""
    if not isinstance(value, dict):
        raise BadFrame(INVALID_REQUEST, "Invalid Request: a message must be a JSON object")
    is_answer = "method" not in value and ("result" in value or "error" in value)
    id_is_fine = "id" not in value or is_id(value["id"])
    answered = value["id"] if "id" in value and id_is_fine else None
    if not id_is_fine and not is_answer:
        raise BadFrame(INVALID_REQUEST, "Invalid Request: an id must be a string or an integer")
    if not is_answer and not isinstance(value.get("method"), str):
        raise BadFrame(INVALID_REQUEST, "Invalid Request: the method is missing", answered)
    params = value.get("params", {})
    if isinstance(params, list):
        raise BadFrame(INVALID_PARAMS, "Invalid params: MCP takes parameters by name, in an object", answered)
    if not isinstance(params, dict):
        raise BadFrame(INVALID_REQUEST, "Invalid Request: params must be an object", answered)
    name = NAME_BEARING_METHODS.get(value.get("method", ""), "")
    if not isinstance(params.get(name, ""), str):
        raise BadFrame(INVALID_PARAMS, f"Invalid params: {name} must be a string", answered)
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def is_id(value: object) -> bool:
    """True if MCP allows `value` as the id of a request."""
    return isinstance(value, str | int) and not isinstance(value, bool)


def is_request(frame: Frame) -> bool:
    """True if the frame is a request, which needs an answer."""
    return "method" in frame and "id" in frame


def error_frame(code: int, message: str, id: object = None, data: object = None) -> Frame:
    """Answer frame with an error."""
    error = {"code": code, "message": message} | ({} if data is None else {"data": data})
    return {"jsonrpc": "2.0", "id": id, "error": error}


def http_error(status: int, body: bytes, id: object) -> Frame:
    """Answer frame for an HTTP error: the server's own frame, else one made of its error body."""
    try:
        decoded = json.loads(body)
        error = decoded["error"]
        if "jsonrpc" in decoded:
            return {**decoded, "id": id}
        return error_frame(
            INTERNAL_ERROR, str(error["message"]), id, {"status": status, "code": error["code"]}
        )
    except (ValueError, KeyError, TypeError):
        return error_frame(INTERNAL_ERROR, f"the gateway answered {status}", id)


def version_of(frame: Frame) -> str | None:
    """Protocol version in the request's `_meta`; None in the handshake era."""
    meta = frame.get("params", {}).get("_meta")
    version = meta.get(PROTOCOL_VERSION_META_KEY) if isinstance(meta, dict) else None
    return version if isinstance(version, str) else None


def modern_headers(frame: Frame, version: str) -> dict[str, str]:
    """HTTP headers that repeat version, method and name of a stateless request."""
    headers = {MCP_PROTOCOL_VERSION_HEADER: version, MCP_METHOD_HEADER: frame["method"]}
    name = frame.get("params", {}).get(NAME_BEARING_METHODS.get(frame["method"], ""))
    if isinstance(name, str):
        headers[MCP_NAME_HEADER] = encode_header_value(name)
    return headers


def dumped(frame: Frame | list[Frame]) -> str:
    """A frame or a batch as JSON on one line."""
    return json.dumps(frame, separators=(",", ":"), ensure_ascii=False)
