"""Request errors that name a field as the client's own body names it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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
