"""Starts every test in the same environment, regardless of the variables of the shell.

In every test no step of an event loop may use 50 ms of its thread's processor time, nor may a step of a
gateway that the test uses.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.loop_steps import LoopHeldError, is_excepted, measure_everything, take_held
from tests.plain_logs import log_plainly
from tests.serving import RUNNING
from tests.signal_stack import signal_stack, use_signal_stack

FOREIGN_PREFIXES = ("TS_", "CONDUCTOR_", "LOG_LOCATION", "METRICS_LOCATION")


def pytest_configure() -> None:
    """Removes variables of an activated environment or a gateway in use; sets up logs and measurements."""
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
    """Fails a test with a too long step of an event loop, and names the step.

    Steps of fixtures before the test are not counted, because they serve no request.
    """
    take_held()
    yield
    held = take_held(besides=getattr(getattr(item, "function", None), "__qualname__", ""))
    elsewhere = [line for server in RUNNING for line in server.take_held()]
    if elsewhere or (held and not is_excepted(item.nodeid)):
        raise LoopHeldError(held, elsewhere)
