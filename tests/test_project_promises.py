"""Every promise has tests."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from tests.requirements import PROMISES
from tests.source_tree import test_functions as all_tests

NAMES = sorted(name.removeprefix("tests/") for name in all_tests())


@pytest.mark.parametrize("promise", PROMISES)
def test_every_pattern_of_a_promise_matches_a_test(promise: str) -> None:
    patterns = PROMISES[promise].tests
    assert patterns
    assert not [one for one in patterns if not any(fnmatchcase(name, one) for name in NAMES)]
