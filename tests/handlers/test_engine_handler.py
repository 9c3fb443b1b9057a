"""The handler returns and sends the right parts of a batch, entry by entry."""

from __future__ import annotations

import warnings
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest

from handlers.wire import RequestError
from handlers.worker.requests import Record, error_record
from handlers.worker.torchserve_calls import TorchServeCall
from handlers.worker_config import WorkerConfig
from tests.handlers.test_worker_config import MAPPING

with warnings.catch_warnings():
    # TorchServe's package leaves a file of its own open when it is imported.
    warnings.simplefilter("ignore", ResourceWarning)
    from ts.context import Context, RequestProcessor

    from handlers import engine_handler

CONFIG = WorkerConfig.from_yaml(MAPPING)
DONE: Record = {"done": {"text": "t"}}
HTTP, GRPC = {"Host": "x"}, {"url_path": ""}


def answered(
    headers: list[dict[str, str]], *events: tuple[int, Record]
) -> tuple[list[bytes], Any, list[bytes]]:
    """The result of `_answer` for calls with these headers, the context afterwards, and the sent frames."""
    frames: list[bytes] = []
    context = Context("", "", None, len(headers), None, "")
    context.request_processor = [RequestProcessor(each) for each in headers]
    context.request_ids = {index: f"id{index}" for index in range(len(headers))}
    context.cl_socket = SimpleNamespace(sendall=frames.append)
    queue: SimpleQueue[tuple[int, Record]] = SimpleQueue()
    for event in events:
        queue.put(event)
    calls = [
        TorchServeCall(f"id{index}", CONFIG, engine_handler._takes_parts(context, index))
        for index in range(len(headers))
    ]
    return engine_handler._answer(calls, queue, context), context, frames


def test_a_lone_call_needs_no_frame() -> None:
    returned, context, frames = answered([HTTP], (0, {"delta": "t"}), (0, DONE))
    assert (len(returned), frames) == (1, [])
    assert context.get_response_headers(0) == {"content-type": "application/json"}


def test_a_finished_call_leaves_the_batch_in_a_frame_that_keeps_it_open() -> None:
    returned, context, (frame,) = answered([HTTP, HTTP], (1, DONE), (0, DONE))
    assert (frame.count(b"id1"), frame.count(b"id0")) == (3, 0)  # the answer names its id as well
    assert frame.count(b"true") == frame.count(b"false") == 1
    assert context.request_ids == {0: "id0"}
    assert (b'"id0"' in returned[0], returned[1]) == (True, b"")


def test_a_refused_call_leaves_with_its_own_status() -> None:
    refusal = error_record(RequestError("no", status=400))
    _, context, (frame,) = answered([HTTP, HTTP], (0, refusal), (1, DONE))
    assert frame.count(b"Bad Request") == 2
    assert b"false" not in frame
    assert context.get_response_status(1) == (200, "OK")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_call_over_grpc_gets_one_entry_with_the_last_of_its_batch(order: tuple[int, int]) -> None:
    returned, context, frames = answered([GRPC, HTTP], *((index, DONE) for index in order))
    assert context.get_response_headers(0)["ts_stream_next"] == "false"
    assert 0 in context.request_ids
    assert all(b"id0" not in frame for frame in frames)
    assert b'"id0"' in returned[0]
