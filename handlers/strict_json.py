"""Parses JSON bodies into validated models; a RequestError 400 names the wrong field and never its value.

The parser is strict: no repeated key, no NaN, no lone surrogate, UTF-8, bounded depth and number of values.
"""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from handlers.json_bounds import CLIENT, JsonBounds, TooComplex, keys_of, shape_of
from handlers.wire import RequestError

MAX_NAME_CHARS = 100

M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], raw: bytes | bytearray | str | dict[str, Any], bounds: JsonBounds = CLIENT) -> M:
    """`raw` as a `model`; a dict, which a lenient parser has read, is checked too.

    Raises RequestError 400.
    """
    if isinstance(raw, dict):
        try:
            keys_of(raw, bounds)
            # Refuses values that only a lenient parser accepts, such as lone surrogates.
            orjson.dumps(raw)
        except TooComplex as error:
            raise RequestError(str(error), code="invalid_json") from error
        except orjson.JSONEncodeError as error:
            raise _no_json() from error
    value = raw if isinstance(raw, dict) else read_value(raw, bounds)
    if not isinstance(value, dict):
        raise RequestError("the body must be a JSON object", code="invalid_json")
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise refusal(error) from error


def read_value(raw: bytes | bytearray | str, bounds: JsonBounds = CLIENT) -> Any:
    """The value of a JSON text.

    RequestError 400 `invalid_json` if it is not strict JSON or exceeds `bounds`.
    """
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
        # The parser keeps only the last value of a repeated key, so the value has fewer keys than the text.
        raise RequestError("the body names a key twice", code="invalid_json")
    return value


def _no_json() -> RequestError:
    return RequestError("the body is not valid JSON in UTF-8", code="invalid_json")


def refusal(error: ValidationError) -> RequestError:
    """The RequestError 400 that names the first wrong field and never a value."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    param = ".".join(str(part) for part in fault["loc"])[:MAX_NAME_CHARS] or None
    if fault["type"] == "extra_forbidden":
        return RequestError(f"unknown field {param!r}", code="unknown_field", param=param)
    message = fault["msg"].removeprefix("Value error, ")
    return RequestError(f"{param}: {message}" if param else message, code="invalid_value", param=param)
