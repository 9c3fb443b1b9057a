"""Every test begins in the same environment, whatever the shell it was started from has exported.

In every test no step of an event loop may use 50 ms of its thread's processor time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.loop_steps import is_excepted, measure_everything, take_held
from tests.plain_logs import log_plainly
from tests.signal_stack import signal_stack, use_signal_stack

FOREIGN_PREFIXES = ("TS_", "CONDUCTOR_", "LOG_LOCATION", "METRICS_LOCATION")


def pytest_configure() -> None:
    """An activated environment, or a gateway in use, must not reach into the tests."""
    for name in [name for name in os.environ if name.startswith(FOREIGN_PREFIXES)]:
        del os.environ[name]
    log_plainly()
    measure_everything()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Put back the signal stack that a test, or what it lets go of, has replaced."""
    stack = signal_stack()
    yield
    use_signal_stack(stack)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fail a test in whose loop a step was too long, with the name of the step.

    What fixtures did before was building, and no request's.
    """
    take_held()
    yield
    held = take_held(besides=getattr(getattr(item, "function", None), "__qualname__", ""))
    assert not held or is_excepted(item.nodeid), f"held the event loop: {held}"
