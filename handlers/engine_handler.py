"""The TorchServe handler of a worker, and the only module here that knows TorchServe.

TorchServe sends a batch and normally expects all its answers at once, so that every client waits for the
longest answer. It also accepts frames with a part of the batch, if one entry of the frame says that more
follows (`ts_stream_next`). So each finished answer is sent in a frame of its own; the last one is the return
value.
"""

from __future__ import annotations

import atexit
import logging
import os
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ts.context import Context, RequestProcessor
from ts.protocol.otf_message_handler import create_predict_response

from handlers.diagnostics.library_log import keep_small, log_folder, redirect_output
from handlers.diagnostics.library_text import hide_library_text
from handlers.diagnostics.tracebacks import TextFreeFormatter, log_failures_of_threads
from handlers.wire import RequestError
from handlers.worker.process import WorkerServer, leave_notice, watch_parent
from handlers.worker.requests import Record, RecordSource, error_record
from handlers.worker.torchserve_calls import TorchServeCall, TorchServePiece
from handlers.worker_config import WorkerConfig

# Results of a stopping criterion: TorchServe marks the entry as a part with more to come, as the last part,
# or not at all, which makes it a whole answer with a length.
MORE, END, WHOLE = False, True, None

Entry = tuple[str, bool | None, TorchServePiece]  # request id, mark, bytes for the client
Events = SimpleQueue[tuple[int, Record]]  # index in the batch, record


class EngineHandler:
    """Loads the runtime of one archive and answers its calls; an archive ships an empty subclass."""

    def load(self, config: WorkerConfig, on_fatal: Callable[[str], None]) -> RecordSource:
        """The generator of this worker."""
        from handlers.inference.generator import load_generator

        return load_generator(config, on_fatal)

    def initialize(self, context: Any) -> None:
        """Loads the model.

        RuntimeError has the error's last line, the log and the run folder have the rest.
        """
        config, restore = None, _keep
        named = os.environ.get("CONDUCTOR_RUN_DIR")
        run_dir = Path(named) if named else None
        try:
            config = WorkerConfig.from_yaml(context.model_yaml_config["conductor"])
            log = log_folder() / f"{config.set}-{os.getpid()}.log"
            restore = redirect_output(log)
            self._start(config, run_dir)
            keep_small(log)
        except Exception as error:  # the outermost frame of a load: TorchServe handles RuntimeError only
            last_line = traceback.format_exception_only(error)[-1].strip()
            traceback.print_exc()
            restore()
            if run_dir is not None:
                leave_notice(run_dir, config, last_line, traceback.format_exc())
            raise RuntimeError(last_line) from error

    def _start(self, config: WorkerConfig, run_dir: Path | None) -> None:
        # TorchServe's own lines, several for each call, are useless in this file.
        logging.getLogger().setLevel(logging.WARNING)
        for handler in logging.getLogger().handlers:
            handler.setFormatter(TextFreeFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        log_failures_of_threads()
        self.config = config
        self.worker = WorkerServer(config, self.load, run_dir)
        watch_parent(self.worker.end)
        self.worker.start()
        hide_library_text()  # after the libraries were loaded and have added their own handlers
        atexit.register(self.worker.leave)

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[bytes]:
        """Answers a batch: each call as soon as its answer is ready, with its own status."""
        events: Events = SimpleQueue()
        calls = []
        for index, parameters in enumerate(data):
            call = TorchServeCall(context.get_request_id(index), self.config, _takes_parts(context, index))
            calls.append(call)
            put = partial(_put, events, index)
            try:
                self.worker.submit(call.request(parameters), put)
            except RequestError as error:
                put(error_record(error))
        return _answer(calls, events, context)


def _keep() -> None:
    pass


def _put(events: Events, index: int, record: Record) -> None:
    events.put((index, record))


def _takes_parts(context: Any, index: int) -> bool:
    # HTTP/1.1 calls have a Host header; over gRPC a second entry for a unary call would kill the worker.
    return any(name.lower() == "host" for name in context.get_all_request_header(index))


def _answer(calls: list[TorchServeCall], events: Events, context: Any) -> list[bytes]:
    # The last answer, and those that cannot take parts, are what `handle` returns.
    kept: dict[int, TorchServePiece] = {}
    living = len(calls)
    while living:
        index, record = events.get()
        call = calls[index]
        piece = call.piece(record)
        if piece is None:
            continue
        living -= piece.last
        if piece.last and not (living and call.takes_parts):
            kept[index] = piece
            continue
        context.cl_socket.sendall(_frame(_entries(call, piece)))
        if piece.last:
            del context.request_ids[index]
    for index, piece in kept.items():
        _describe(context, index, piece)
        if calls[index].started or not calls[index].takes_parts:
            context.set_response_header(index, "ts_stream_next", "false")
    return [kept[index].body if index in kept else b"" for index in range(len(calls))]


def _entries(call: TorchServeCall, piece: TorchServePiece) -> list[Entry]:
    """The entries of a frame that sends one piece and keeps the batch open.

    The end of a stream closes the batch unless an entry of its frame says that more follows. For an answer
    that entry is the first half of the call's own answer. A refusal must be one whole entry to show its
    status, which ends the connection: the entry after it keeps the batch open and reaches no client.
    """
    if not piece.last:
        return [(call.id, MORE, piece)]
    nothing = replace(piece, body=b"")
    if piece.status >= HTTPStatus.BAD_REQUEST:
        return [(call.id, WHOLE, piece), (call.id, MORE, nothing)]
    return [(call.id, MORE, piece), (call.id, END, nothing)]


def _frame(entries: list[Entry]) -> bytearray:
    reply = Context("", "", None, len(entries), None, "")
    reply.request_processor = [RequestProcessor({}) for _ in entries]
    reply.stopping_criteria = [partial(_mark, mark) for _, mark, _ in entries]
    for index, (_, _, piece) in enumerate(entries):
        _describe(reply, index, piece)
    bodies = [piece.body for _, _, piece in entries]
    ids = {index: call_id for index, (call_id, _, _) in enumerate(entries)}
    frame: bytearray = create_predict_response(bodies, ids, "Prediction success", HTTPStatus.OK, reply)
    return frame


def _mark(mark: bool | None, body: bytes) -> bool | None:
    return mark


def _describe(context: Any, index: int, piece: TorchServePiece) -> None:
    context.set_response_status(piece.status, HTTPStatus(piece.status).phrase, index)
    context.set_response_content_type(index, piece.content_type)
