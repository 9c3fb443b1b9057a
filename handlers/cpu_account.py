"""The account that pays for the processor time of the current context.

Those who handle requests set it, and tasks and threads that a request starts inherit it. A worker has none.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol


class CpuAccount(Protocol):
    """An account that pays for processor time."""

    def charge(self, seconds: float) -> None:
        """Take `seconds` of processor time; called on the loop's thread."""


cpu_account: ContextVar[CpuAccount | None] = ContextVar("cpu_account", default=None)
"""The account that pays for what the current context does; None if nobody does."""


def charge(seconds: float) -> None:
    """Charge processor time that was used outside the loop's thread; must be called on the loop's thread."""
    account = cpu_account.get()
    if account is not None:
        account.charge(seconds)
