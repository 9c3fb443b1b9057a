"""Length of the path of a warm request: a count of calls and modules of the gateway, not a time."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tests.conductor_admin import fake_torchserve
from tests.conductor_admin.gateway_rig import Rig
from tests.source_tree import PACKAGES, ROOT

MOST_CALLS = 257
MOST_MODULES = 50
"""Ceilings of today. A shorter path lowers them; the aim is 200 calls in 25 modules."""

OURS = tuple(f"{ROOT / package}/" for package in PACKAGES)


@contextmanager
def counted() -> Iterator[Counter[tuple[str, str]]]:
    """Count the calls of our functions in this thread, by module and name.

    A coroutine or generator counts once, however often it is resumed, and a comprehension is part of its
    function. Calls of the fake worker are those of another process.
    """
    calls: Counter[tuple[str, str]] = Counter()
    seen: set[FrameType] = set()

    def count(frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(OURS) or frame in seen:
            return
        seen.add(frame)
        if not code.co_name.endswith("comp>") and not is_of_worker(frame):
            calls[str(Path(code.co_filename).relative_to(ROOT)), code.co_qualname] += 1

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


def is_of_worker(frame: FrameType | None) -> bool:
    """True if the fake worker has called the function, at any distance."""
    while frame is not None:
        if frame.f_code.co_filename == fake_torchserve.__file__:
            return True
        frame = frame.f_back
    return False


async def test_a_warm_request_takes_a_short_path(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_torchserve, "BoundedProtocol", HttpToolsProtocol)
    for _ in range(3):
        assert (await rig.client.post("/generate", json={"prompt": "x"})).status_code == 200
    with counted() as calls:
        assert (await rig.client.post("/generate", json={"prompt": "x"})).status_code == 200
    modules = {module for module, _ in calls}
    told = "\n".join(f"{count} {module} {name}" for (module, name), count in sorted(calls.items()))
    print(calls.total(), len(modules))
    assert calls.total() <= MOST_CALLS, told
    assert len(modules) <= MOST_MODULES, sorted(modules)
