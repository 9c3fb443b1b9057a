"""Disables hypothesis's deadline, because a busy machine is not a counterexample."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", settings.get_profile("untimed"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "untimed"))
