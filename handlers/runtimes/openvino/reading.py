"""Order of prefill: prompts are read in pieces that fit into one step. Pure.

The library reads each prompt to its end, in the order of arrival: a conversation of 7,500 tokens would make
all later requests wait for 20 s. So it gets one piece of a prompt at a time, as a separate request; the
tokens before the piece come from the prefix cache.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

from handlers.runtimes.openvino.config import BLOCK_TOKENS, STEP_TOKENS
from handlers.runtimes.openvino.job import OpenVinoJob, whole_blocks

OLDEST_SHARE = BLOCK_TOKENS
"""Tokens of each step for the prompt that has waited longest, regardless of the number of short prompts."""


def pieces(reading: Sequence[OpenVinoJob], generating: int) -> list[tuple[OpenVinoJob, int]]:
    """The prompts that the next step reads and the number of tokens of each: the shortest remainder first.

    Each of the `generating` requests takes one token of the step. An echo cannot be read in pieces.
    """
    if not reading:
        return []
    oldest = min(reading, key=lambda job: job.number)
    share = min(OLDEST_SHARE, oldest.unread)
    left = max(BLOCK_TOKENS, STEP_TOKENS - generating) - share
    given: list[tuple[OpenVinoJob, int]] = []
    for job in sorted(reading, key=lambda job: (job.unread, job.number)):
        room = left + share if job is oldest else left
        count = job.unread if job.unread <= room or (job.echo and room > 0) else whole_blocks(room)
        if count > 0:
            given.append((job, count))
            left -= max(0, count - share if job is oldest else count)
    return given


class KnownPrefixes:
    """The prefixes of prompts that the library's prefix cache should hold: the latest `blocks` blocks.

    This is an estimate, because the library does not show its cache; an error only changes the order of
    steps.
    """

    def __init__(self, blocks: int) -> None:
        self._blocks = blocks
        self._chains: OrderedDict[int, None] = OrderedDict()

    def known(self, ids: Sequence[int]) -> int:
        """The number of tokens at the beginning of `ids` that were computed recently."""
        tokens = 0
        for chain in _chains(ids):
            if chain not in self._chains:
                break
            tokens += BLOCK_TOKENS
        return tokens

    def keep(self, ids: Sequence[int]) -> None:
        """Notes that `ids` were computed."""
        for chain in _chains(ids):
            self._chains[chain] = None
            self._chains.move_to_end(chain)
        while len(self._chains) > self._blocks:
            self._chains.popitem(last=False)


def _chains(ids: Sequence[int]) -> Iterator[int]:
    chain = 0
    for start in range(0, whole_blocks(len(ids)), BLOCK_TOKENS):
        chain = hash((chain, *ids[start : start + BLOCK_TOKENS]))
        yield chain
