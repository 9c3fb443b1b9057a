"""Every test begins in the same environment, whatever the shell it was started from has exported."""

from __future__ import annotations

import os

FOREIGN_PREFIXES = ("TS_", "CONDUCTOR_", "LOG_LOCATION", "METRICS_LOCATION")


def pytest_configure() -> None:
    """An activated environment, or a gateway in use, must not reach into the tests."""
    for name in [name for name in os.environ if name.startswith(FOREIGN_PREFIXES)]:
        del os.environ[name]
