"""The runtimes that the contract tests run with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from conductor_core.catalogue import RuntimeName
from conductor_core.runtimes import RUNTIMES
from tests.contract.subject import PRECISION, Subject
from tests.demo import demo_folder


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=sorted(RUNTIMES))
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    name: RuntimeName = request.param
    made = Subject(name, demo_folder(name, PRECISION[name]))
    yield made
    made.runtime.close()
    assert not made.fatal
