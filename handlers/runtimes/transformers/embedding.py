"""Runtime for embedding models: batched forward passes, pooled to one vector of length 1 for each text.

One thread runs all batches. Texts that arrive during a batch wait for the next one. A batch has texts of
similar length, from any clients, and a limit of tokens, padding included.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import traceback
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import torch

from handlers.runtimes.base import RuntimeConfig, RuntimeStats, SamplingPlan, Step
from handlers.runtimes.sentence_modules import read_modules
from handlers.runtimes.transformers.checks import check_ids, runtime_failed
from handlers.runtimes.transformers.load import load_headless
from handlers.runtimes.transformers.score import padded
from handlers.wire import RequestError

BATCH_TOKENS = 8192
POOL_TEXTS = 256
"""Texts that are sorted by length together; texts of a later request wait for no more than these."""
STOP_SECONDS = 30.0
DIGITS = 8


def pooled(states: torch.Tensor, mask: torch.Tensor, poolings: Sequence[str]) -> torch.Tensor:
    """Float32 vectors of length 1, one row per text; a row has `width` numbers for each pooling.

    `states` is (texts, tokens, width); `mask` is (texts, tokens) with 1 for tokens and 0 for padding.
    """
    states = states.float()
    parts = [_POOL[name](states, mask) for name in poolings]
    return torch.nn.functional.normalize(torch.cat(parts, dim=1), dim=1)


def _first(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return states[:, 0]


def _last(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return states[torch.arange(len(states)), mask.sum(dim=1) - 1]


def _mean(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def _max(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return states.masked_fill(mask.unsqueeze(-1) == 0, float("-inf")).amax(dim=1)


_POOL: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cls": _first,
    "last": _last,
    "mean": _mean,
    "max": _max,
}


@dataclass(slots=True)
class TokenisedText:
    """One text to embed, and the future of its vector."""

    ids: Sequence[int]
    vector: Future[list[float]] = field(default_factory=Future)


class EmbeddingRuntime:
    """A model of `AutoModel` with its pooling. `context` and `max_tokens` are both the limit of one text."""

    def __init__(self, config: RuntimeConfig, on_fatal: Callable[[str], None]) -> None:
        self._modules = read_modules(config.model_path)
        self._model = load_headless(config)
        self._on_fatal = on_fatal
        text = self._model.config.get_text_config()
        longest = self._modules.max_tokens or text.max_position_embeddings
        self.context = self.max_tokens = min(config.context or longest, longest)
        self.vocabulary = text.vocab_size
        self.dimensions = text.hidden_size * len(self._modules.poolings)
        self.lower_case = self._modules.lower_case
        self._inbox: queue.Queue[TokenisedText | None] = queue.Queue()
        self._running = 0
        self._fatal: str | None = None
        self._thread = threading.Thread(target=self._serve, name="transformers-embedding", daemon=True)
        self._thread.start()

    async def embed(self, inputs: Sequence[Sequence[int]]) -> list[list[float]]:
        """See `Embedder`. RequestError 400 for an input without tokens or with too many."""
        for ids in inputs:
            if not 0 < len(ids) <= self.max_tokens:
                raise RequestError(
                    f"an input has {len(ids)} tokens, this model takes 1 to {self.max_tokens}", param="inputs"
                )
            check_ids(ids, self.vocabulary, "inputs")
        texts = [TokenisedText(ids) for ids in inputs]
        for text in texts:
            self._inbox.put(text)
        if self._fatal is not None or not self._thread.is_alive():
            raise runtime_failed(self._fatal or "the model was closed")
        return list(await asyncio.gather(*(asyncio.wrap_future(text.vector) for text in texts)))

    async def submit(
        self, request_id: str, prompt_ids: Sequence[int], plan: SamplingPlan
    ) -> AsyncGenerator[Step, None]:
        """Not supported; `handlers.inference.model` refuses such requests before."""
        raise runtime_failed("an embedding model cannot generate text")
        yield  # makes it an async generator, as `Runtime` requires

    async def score(
        self, prompt_ids: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Not supported, as `submit`."""
        raise runtime_failed("an embedding model cannot generate text")

    async def read(self, prompt_ids: Sequence[int], top_logprobs: int) -> Step:
        """Not supported, as `submit`."""
        raise runtime_failed("an embedding model cannot generate text")

    def stats(self) -> RuntimeStats:
        """Counts of texts, not of requests: those in the current batch and those that wait."""
        return RuntimeStats(running=self._running, waiting=self._inbox.qsize())

    def close(self) -> None:
        """Ends the thread after its current batch. May be called again."""
        self._inbox.put(None)
        self._thread.join(STOP_SECONDS)

    def _serve(self) -> None:
        texts: list[TokenisedText] | None = []
        try:
            while (texts := self._gather()) is not None:
                for batch in batches(texts):
                    self._embed(batch)
            self._fail("the model was closed", [])
        except Exception as error:  # the outermost loop: the library may raise any exception
            self._fatal = traceback.format_exception_only(error)[-1].strip()
            self._fail(self._fatal, texts or [])
            self._on_fatal(self._fatal)

    def _gather(self) -> list[TokenisedText] | None:
        """The texts that wait now; blocks until there is one. None after `close`."""
        first = self._inbox.get()
        if first is None:
            return None
        texts = [first]
        while len(texts) < POOL_TEXTS and not self._inbox.empty():
            text = self._inbox.get_nowait()
            if text is None:
                self._inbox.put(None)
                break
            texts.append(text)
        return texts

    def _embed(self, batch: Sequence[TokenisedText]) -> None:
        living = [text for text in batch if text.vector.set_running_or_notify_cancel()]
        if not living:
            return
        self._running = len(living)
        try:
            vectors = self._vectors([text.ids for text in living])
        except Exception as error:
            for text in living:
                text.vector.set_exception(runtime_failed(str(error)))
            raise
        finally:
            self._running = 0
        for text, vector in zip(living, vectors, strict=True):
            text.vector.set_result(vector)

    def _vectors(self, rows: Sequence[Sequence[int]]) -> list[list[float]]:
        device = self._model.device
        mask = padded([[1] * len(row) for row in rows], device)
        with torch.inference_mode():
            states = self._model(padded(rows, device), attention_mask=mask).last_hidden_state
            vectors = pooled(states, mask, self._modules.poolings)
        # Eight decimals are finer than float32 and half as long in JSON.
        rounded: list[list[float]] = vectors.double().round(decimals=DIGITS).tolist()
        return rounded

    def _fail(self, cause: str, begun: Sequence[TokenisedText]) -> None:
        waiting: list[TokenisedText | None] = [text for text in begun if not text.vector.done()]
        while not self._inbox.empty():
            waiting.append(self._inbox.get_nowait())
        for text in waiting:
            if text is not None and text.vector.set_running_or_notify_cancel():
                text.vector.set_exception(runtime_failed(cause))


def batches(texts: Sequence[TokenisedText], tokens: int = BATCH_TOKENS) -> list[list[TokenisedText]]:
    """`texts` sorted by length, in batches of at most `tokens` tokens with padding.

    A longer text is alone.
    """
    made: list[list[TokenisedText]] = []
    for text in sorted(texts, key=lambda text: len(text.ids), reverse=True):
        if made and (len(made[-1]) + 1) * len(made[-1][0].ids) <= tokens:
            made[-1].append(text)
        else:
            made.append([text])
    return made
