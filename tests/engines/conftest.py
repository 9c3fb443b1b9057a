"""The gateway rig, for tests that compare engines with `/check`."""

from __future__ import annotations

from tests.conductor_admin.conftest import make_rig, state

__all__ = ["make_rig", "state"]
