"""Failures in the words of the client: a field is called what the client's own body calls it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from handlers.wire import RequestError


@contextmanager
def in_words_of(names: Mapping[str, str]) -> Iterator[None]:
    """Errors name the fields of the client's body instead of the worker's."""
    try:
        yield
    except RequestError as error:
        if error.param is None or error.param not in names:
            raise
        # One failed load is told to all who wait for it: the error itself stays as it is.
        told = copy.copy(error)
        told.param = names[error.param]
        raise told from error
