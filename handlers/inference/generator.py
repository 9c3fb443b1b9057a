"""Answers a request with records, by its engine or by the model alone; the last record is a summary.

The worker's socket and TorchServe's own API both send these records; neither knows engines or models. Without
an engine the answer continues a conversation by the chat template alone, or a raw prompt.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from importlib import import_module
from typing import Any

from handlers.engines.base import Attempt, BaseLLMEngine
from handlers.engines.registry import engine_class, load_engines
from handlers.inference.decoding_plan import Refused
from handlers.inference.model import LoadedModel, RequestModel
from handlers.inference.output import TextPiece
from handlers.inference.tokenizer import TextTokenizer
from handlers.logprobs import Echo, Row
from handlers.runtimes.base import OpenRuntime
from handlers.sandbox.checker import Checker
from handlers.sandbox.fair_queue import QueueBounds
from handlers.wire import Done, GenerateRequest, RequestError, Sampling, Timings
from handlers.worker_config import WorkerConfig

BARE_DEFAULTS = Sampling(temperature=1.0)
"""Decoding defaults without an engine: the model's own distribution."""

Record = dict[str, Any]
CHECKS = QueueBounds(waiting=2048, own_waiting=1024)
"""Bounds of a worker's checks.

The gateway admits fewer requests, and a waiting check holds only its own answer.
"""


async def raw_events(request: GenerateRequest, model: RequestModel) -> AsyncGenerator[Echo | str, None]:
    """The prompt if the request asks for it (`echo`), then pieces of the answer."""
    sampling = request.sampling.over(BARE_DEFAULTS)
    if request.messages is not None:
        async with aclosing(model.stream(request.messages, sampling)) as pieces:
            async for piece in pieces:
                yield piece
        return
    ids = await model.prompt_ids(request.prompt_ids or request.prompt or "")
    if request.echo:
        yield await model.echo(ids, sampling)
    if request.no_answer:
        model.count_prompt(len(ids))
        return
    async with aclosing(model.resume(ids, sampling)) as pieces:
        async for piece in pieces:
            yield piece


class Generator:
    """Answers requests by any engine with one worker's model."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._checker = Checker(bounds=CHECKS)
        self.runtime = model.runtime

    async def records(self, request: GenerateRequest) -> AsyncGenerator[Record, None]:
        """Records `{"delta"}` and `{"attempt"}` as they are made, then `{"done"}`; raises RequestError.

        Closing the generator cancels the generation at the runtime's next step.
        """
        engine = engine_class(request.engine)(self._checker)
        model = self._model.for_request(request.id, request.tools)
        engine.load_model(model)
        answer = _Answer(request.sampling)
        async with aclosing(_events(engine, request, model)) as events:
            async for event in events:
                yield answer.record(event)
        findings = {}
        if not request.is_raw and not request.tools:
            findings = await engine.conclude(request, answer.text)
        yield {"done": _done(model, {**findings, **engine.notes}, answer)}


class _Answer:
    """Collects the answer and makes its records."""

    def __init__(self, sampling: Sampling) -> None:
        self._with_logprobs = bool(sampling.logprobs or sampling.top_logprobs)
        self._pieces: list[str] = []
        self._rows: list[Row] = []

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def logprobs(self) -> list[Row] | None:
        return self._rows if self._with_logprobs else None

    def record(self, event: str | Attempt | Echo) -> Record:
        if isinstance(event, Attempt):
            self._pieces.clear()
            self._rows.clear()
            return {"attempt": event.number}
        if isinstance(event, Echo):
            return {"prompt": {"text": event.text, "tokens": event.tokens}}
        self._pieces.append(event)
        if not self._with_logprobs:
            return {"delta": str(event)}
        rows = _rows_of(event)
        self._rows += rows
        return {"delta": str(event), "logprobs": rows}


def _rows_of(event: str) -> list[Row]:
    if isinstance(event, TextPiece) and event.logprobs is not None:
        return event.logprobs
    raise RequestError(
        "this category's engine changes the model's text, so log-probabilities are not available; "
        "use the model without an engine",
        code="unsupported_parameter",
        param="logprobs",
    )


def _events(
    engine: BaseLLMEngine, request: GenerateRequest, model: RequestModel
) -> AsyncGenerator[str | Attempt | Echo, None]:
    if request.is_raw:
        return raw_events(request, model)
    if request.tools and not engine.converses:
        return _conversation(engine, request, model)
    return engine.generate_stream(request)


async def _conversation(
    engine: BaseLLMEngine, request: GenerateRequest, model: RequestModel
) -> AsyncGenerator[str, None]:
    """The answer to the unchanged turns, for a request with tools."""
    prepared = await engine.prepared(request, "converse")
    async with aclosing(model.stream(prepared.messages, prepared.sampling)) as pieces:
        async for piece in pieces:
            yield piece


def load_generator(config: WorkerConfig, on_fatal: Callable[[str], None]) -> Generator:
    """Loads the weights that `config` names into its runtime; blocks until they are loaded."""
    engine_class(config.engine)
    load_engines()  # now, while no event loop waits: rows of every engine may share these weights
    # By name: a worker imports its own runtime's libraries only.
    open_runtime: OpenRuntime = import_module(config.module).open_runtime
    runtime = open_runtime(config.runtime_config, on_fatal)
    refused = Refused(config.runtime, config.refused)
    return Generator(LoadedModel(runtime, TextTokenizer(config.model_path), refused))


def _done(model: RequestModel, findings: dict[str, Any], answer: _Answer) -> Record:
    timings = Timings(first_token_s=model.first_token_s, total_s=model.total_s)
    done = Done(
        finish_reason=model.finish_reason,
        usage=model.usage,
        timings=timings,
        findings=findings,
        text=answer.text,
        logprobs=answer.logprobs,
    )
    return done.to_json()
