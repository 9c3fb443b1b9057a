"""JSON bodies to checked models; a fault is a RequestError 400 that names the field and never its value.

One parse, strict: no repeated key, no NaN, no lone surrogate, UTF-8, bounded in depth and number of values.
"""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from handlers.json_bounds import CLIENT, Bounds, TooComplex, keys_of, shape_of
from handlers.wire import RequestError

MAX_NAME_CHARS = 100

M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], raw: bytes | bytearray | str | dict[str, Any], bounds: Bounds = CLIENT) -> M:
    """`raw` as a `model`; a dict is one that a lenient parser has read and is checked all the same."""
    value = _checked(raw, bounds) if isinstance(raw, dict) else read_value(raw, bounds)
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object", code="invalid_json")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise refusal(error) from error


def read_value(raw: bytes | bytearray | str, bounds: Bounds = CLIENT) -> Any:
    """The value of a JSON text; RequestError 400 `invalid_json` for what is not strict, or too much."""
    try:
        data = raw.encode() if isinstance(raw, str) else raw
        pairs = shape_of(data, bounds).pairs
        value = orjson.loads(data)
        keys = keys_of(value, bounds)
    except (orjson.JSONDecodeError, UnicodeEncodeError) as error:
        raise _no_json() from error
    except TooComplex as error:
        raise RequestError(str(error), code="invalid_json") from error
    if keys != pairs:
        # The parser keeps the last of the values of one key, so that fewer are left than were written.
        raise RequestError("the body names a key twice", code="invalid_json")
    return value


def _checked(value: dict[str, Any], bounds: Bounds) -> dict[str, Any]:
    try:
        keys_of(value, bounds)
        # Refuses what only a lenient parser lets through, lone surrogates above all.
        orjson.dumps(value)
    except TooComplex as error:
        raise RequestError(str(error), code="invalid_json") from error
    except orjson.JSONEncodeError as error:
        raise _no_json() from error
    return value


def _no_json() -> RequestError:
    return RequestError("the body is not valid JSON in UTF-8", code="invalid_json")


def refusal(error: ValidationError) -> RequestError:
    """The 400 that names the first field at fault, and never a value."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = ".".join(str(part) for part in fault["loc"])[:MAX_NAME_CHARS] or None
    if fault["type"] == "extra_forbidden":
        return RequestError(f"unknown field {param!r}", code="unknown_field", param=param)
    message = fault["msg"].removeprefix("Value error, ")
    return RequestError(f"{param}: {message}" if param else message, code="invalid_value", param=param)
