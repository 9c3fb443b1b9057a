"""JSON bodies to checked models; a fault is a RequestError 400 that names the field and never its value."""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from handlers.wire import RequestError

MAX_NAME_CHARS = 100

M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], raw: bytes | bytearray | str | dict[str, Any]) -> M:
    """`raw` as a `model`; a dict is one that a lenient parser has read and is checked all the same."""
    try:
        # The round trip refuses what only Python's own parser lets through, lone surrogates above all.
        value = orjson.loads(raw if not isinstance(raw, dict) else orjson.dumps(raw))
    except (orjson.JSONDecodeError, orjson.JSONEncodeError) as error:
        raise RequestError("the body is not valid JSON in UTF-8", code="invalid_json") from error
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object", code="invalid_json")
    try:
        return model.model_validate(value if not isinstance(raw, dict) else raw)
    except ValidationError as error:
        raise refusal(error) from error


def refusal(error: ValidationError) -> RequestError:
    """The 400 that names the first field at fault, and never a value."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = ".".join(str(part) for part in fault["loc"])[:MAX_NAME_CHARS] or None
    if fault["type"] == "extra_forbidden":
        return RequestError(f"unknown field {param!r}", code="unknown_field", param=param)
    message = fault["msg"].removeprefix("Value error, ")
    return RequestError(f"{param}: {message}" if param else message, code="invalid_value", param=param)
