"""One request of openvino-genai from prompt to end, with restarts inside the library.

The library drops requests when a step can schedule none, and the runtime preempts requests that grew too
large. Such a request restarts without the client noticing it. If the answer depends on no other state of the
library, the tokens so far become part of the prompt. With such state (random draws of a seed, counts of
penalties, the position in a schema) they are generated again, compared and not sent twice.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from handlers.runtimes.base import SamplingPlan, Step
from handlers.runtimes.openvino.config import BLOCK_TOKENS, blocks_of, generation_config
from handlers.wire import RequestError

RETRY_S = 5.0
SEED_STRIDE = 0x9E3779B1
"""Changes the seed of a continuation, because the same seed would repeat the draws of the beginning."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A request's failure in its queue."""

    error: RequestError


@dataclass(eq=False, slots=True)
class OpenVinoJob:
    """One request. `number` is the order of arrival, `read` the number of its prompt tokens in the cache,
    `sent` all tokens sent so far; `overtaken` counts later requests that were admitted before it.
    """

    number: int
    prompt_ids: Sequence[int]
    plan: SamplingPlan
    eos: frozenset[int]
    echo: bool = False
    out: asyncio.Queue[Step | Failed] = field(default_factory=asyncio.Queue)
    handle: Any = None
    is_piece: bool = False
    cancelled: bool = False
    read: int = 0
    ending: int = 0
    overtaken: int = 0
    sent: list[int] = field(default_factory=list)
    _repeats: bool = False
    _repeated: int = 0
    _seeded: bool = False

    def __post_init__(self) -> None:
        self._seeded = self.plan.seed is not None and self.plan.temperature > 0
        if self.plan.seed is None:
            # Drawn once, so that an answer that is generated again is the same.
            self.plan = replace(self.plan, seed=secrets.randbits(32))

    @property
    def blocks(self) -> int:
        """The number of KV blocks that it needs now, plus one to grow."""
        return blocks_of(len(self.prompt_ids) + len(self.sent) + 1) + 1

    @property
    def ids(self) -> Sequence[int]:
        """The prompt for the library."""
        return self.prompt_ids if self._repeats else [*self.prompt_ids, *self.sent]

    @property
    def unread(self) -> int:
        """The number of tokens that the library must still read: at least one, for its logits."""
        return max(1, len(self.ids) - self.read)

    @property
    def config(self) -> Any:
        """The decoding configuration for `ids`."""
        plan = self.plan
        if self.sent and not self._repeats:
            seed = ((plan.seed or 0) + SEED_STRIDE * len(self.sent)) % 2**32
            plan = replace(plan, max_tokens=plan.max_tokens - len(self.sent), seed=seed)
        config = generation_config(plan, self.eos)
        config.echo = self.echo
        return config

    def begin_again(self, *, differently: bool = False) -> None:
        """Resets the library's state of the request; `differently` after a repetition gave another text."""
        self.handle, self.is_piece, self.read, self._repeated = None, False, 0, 0
        self._repeats = bool(self.sent) and self._has_state and not differently

    def take(self, ids: Sequence[int], log_probs: Sequence[float], reason: Any) -> Step | Failed | None:
        """The new part of the library's output as a step; None if there is none."""
        if reason == "stop" and ids and ids[-1] in self.eos:
            ids, log_probs = ids[:-1], log_probs[:-1]
        if self._repeats:
            known = self.sent[self._repeated :][: len(ids)]
            if list(ids[: len(known)]) != known or (reason and self._repeated + len(ids) < len(self.sent)):
                # Rounding decided a near tie differently. An answer with a schema cannot be continued from
                # its middle.
                if self.plan.json_schema is not None:
                    error = RequestError(
                        "the KV cache was needed for other requests, and the answer could not be repeated",
                        status=503,
                        type="server_error",
                        code="kv_cache_full",
                        retry_after_s=RETRY_S,
                    )
                    return Failed(error)
                self.handle.cancel()
                self.begin_again(differently=True)
                return None
            self._repeated += len(known)
            ids, log_probs = ids[len(known) :], log_probs[len(known) :]
            self._repeats = self._repeated < len(self.sent)
            if not ids and not reason:
                return None
        self.sent += ids
        return Step(ids, reason, log_probs)

    @property
    def _has_state(self) -> bool:
        plan = self.plan
        counts = plan.presence_penalty != 0 or plan.frequency_penalty != 0
        return self._seeded or counts or plan.json_schema is not None


def whole_blocks(tokens: int) -> int:
    """The largest number of tokens up to `tokens` that fills whole blocks."""
    return tokens // BLOCK_TOKENS * BLOCK_TOKENS
