"""One request of the causal runtime, from its arrival on, before the library hears of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from handlers.runtimes.transformers_decoding import RequestDecoding
from handlers.runtimes.transformers_flow import Flow
from handlers.runtimes.transformers_memory import pages


@dataclass(eq=False, slots=True)
class Asked:
    """`number` is the order of arrival, `key` the library's name for it; `overtaken` counts later ones that
    were let in before it.
    """

    number: int
    key: str
    prompt_ids: Sequence[int]
    decoding: RequestDecoding
    flow: Flow
    overtaken: int = 0

    @property
    def blocks(self) -> int:
        """Pages of the KV cache that it needs for its next token."""
        return pages(len(self.prompt_ids) + self.flow.tokens + 1)
