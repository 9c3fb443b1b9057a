"""Request errors that name a field as the client's own request names it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.http.responses import error_response
from handlers.wire import RequestError


@contextmanager
def rename_error_params(names: Mapping[str, str]) -> Iterator[None]:
    """Replace the worker's name of a field in a RequestError by the client's; other names stay."""
    try:
        yield
    except RequestError as error:
        if error.param is None or error.param not in names:
            raise
        # All requests that wait for one load get the same error object: copy it, do not change it.
        told = copy.copy(error)
        told.param = names[error.param]
        raise told from error


async def query_error(request: Request, error: Exception) -> Response:
    """The answer 400 to a declared query parameter that is wrong."""
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    param = str(fault["loc"][-1])
    if fault["type"] == "literal_error":
        message = f"{param} is {fault['ctx']['expected'].replace(chr(39), '')}"
    else:
        message = fault["msg"].removeprefix("Value error, ")
    return error_response(RequestError(message, code="invalid_value", param=param))
