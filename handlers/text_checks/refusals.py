"""The refusal of an option whose value its type alone could not refuse."""

from __future__ import annotations

from handlers.wire import RequestError


def bad_option(name: str, what: str) -> RequestError:
    """A 400 that names `options.<name>` and says `what` it may be."""
    return RequestError(f"option {name}: {what}", code="invalid_option", param=f"options.{name}")
