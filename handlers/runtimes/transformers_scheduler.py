"""The library's scheduler without its one standstill.

Where running answers outgrow the KV cache it puts the newest back to wait, and lets nobody in until a request
has finished. One that is cancelled does not count as finished (`continuous_api.py:569` in 5.23.0): when the
holder of the cache leaves, nothing runs, nothing can finish, and everybody waits for ever.
"""

from __future__ import annotations

from transformers.generation.continuous_batching.requests import RequestState
from transformers.generation.continuous_batching.scheduler import SCHEDULER_MAPPING, FIFOScheduler

SCHEDULER = "conductor"


class CancelledMakesRoom(FIFOScheduler):
    """First come, first served; a cancelled request lets those who wait in, as a finished one does."""

    def clear_cancelled_requests(self) -> list[RequestState]:
        """Called by the generation thread before it plans a step."""
        gone: list[RequestState] = super().clear_cancelled_requests()
        if gone:
            self.block_new_requests = False
        return gone


def register() -> None:
    """Make the scheduler known by its name, which is all that the library's configuration takes."""
    SCHEDULER_MAPPING[SCHEDULER] = CancelledMakesRoom
