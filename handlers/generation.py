"""Answers a request with records: finds the engine by name, runs it, and sums up at the end.

The worker's socket and TorchServe's own API both read these records; neither knows engines or models.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from handlers.checker import Checker
from handlers.engines.base import Attempt
from handlers.engines.registry import engine_class
from handlers.model import LoadedModel, RequestModel
from handlers.runtimes.base import Runtime, RuntimeConfig
from handlers.tokenizer import TextTokenizer
from handlers.wire import Done, GenerateRequest, Timings
from handlers.worker_config import WorkerConfig

Record = dict[str, Any]


class Generator:
    """One worker's model behind all engines."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._checker = Checker()
        self.runtime = model.runtime

    async def records(self, request: GenerateRequest) -> AsyncGenerator[Record, None]:
        """`{"delta"}` and `{"attempt"}` as they come, at last `{"done"}`; raises RequestError.

        Closing it cancels the generation at the runtime's next step.
        """
        engine = engine_class(request.engine)(self._checker.findings)
        model = self._model.for_request(request.id)
        engine.load_model(model)
        pieces: list[str] = []
        async with aclosing(engine.generate_stream(request)) as events:
            async for event in events:
                if isinstance(event, Attempt):
                    pieces.clear()
                    yield {"attempt": event.number}
                else:
                    pieces.append(event)
                    yield {"delta": event}
        text = "".join(pieces)
        findings = {**await engine.findings(request, text), **engine.notes}
        yield {"done": _done(model, findings, text)}


def load_generator(config: WorkerConfig, on_fatal: Callable[[str], None]) -> Generator:
    """Loads the weights that `config` names into its runtime; blocks until they are loaded."""
    runtime = _load_runtime(config.runtime, config.runtime_config, on_fatal)
    return Generator(LoadedModel(runtime, TextTokenizer(config.model_path)))


def _load_runtime(name: str, config: RuntimeConfig, on_fatal: Callable[[str], None]) -> Runtime:
    # Imported here: a worker imports its own runtime's libraries only.
    if name == "openvino":
        from handlers.runtimes.openvino_runtime import OpenVinoRuntime

        return OpenVinoRuntime(config, on_fatal)
    if name == "transformers":
        from handlers.runtimes.transformers_runtime import open_runtime

        return open_runtime(config, on_fatal)
    raise ValueError(f"there is no runtime {name!r}")


def _done(model: RequestModel, findings: dict[str, Any], text: str) -> Record:
    timings = Timings(first_token_s=model.first_token_s, total_s=model.total_s)
    done = Done(
        finish_reason=model.finish_reason, usage=model.usage, timings=timings, findings=findings, text=text
    )
    return done.model_dump(mode="json")
