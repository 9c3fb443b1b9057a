"""Measures how a function's cost grows with the length of its text, by this thread's processor time."""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import thread_time

Run = Callable[[str], object]
Attack = Callable[[int], str]
"""A function from a length to a text of about that length."""

PATIENCE = 1.5
"""Most seconds of processor time for one text."""
STEEPEST = 8.0
"""Highest ratio of the costs of 4n and n: linear cost has 4, quadratic cost 16."""


class TooSlow(Exception):
    """A call was ended at its limit of processor time."""


@contextmanager
def _limited() -> Iterator[None]:
    # `re` checks for signals during a search, so that even an exponential pattern is ended.
    def end(*_: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGVTALRM, end)
    # The collector walks through all that pytest has imported, the oftener the more a call makes.
    gc.disable()
    signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        gc.enable()
        signal.signal(signal.SIGVTALRM, before)


def cost(run: Run, text: str, repeats: int = 1) -> float:
    """The least processor time of a few calls in seconds; TooSlow if one does not end."""
    least = PATIENCE
    for _ in range(repeats):
        with _limited():
            began = thread_time()
            run(text)
            least = min(least, thread_time() - began)
    return least


def fault(run: Run, attack: Attack, most: float = 15e-6, length: int | None = None) -> str | None:
    """The reason why `run` is not linear on `attack`; None if it is linear.

    `length` is the length of the measured text, by default chosen by its speed. `most` is the highest cost of
    a character in seconds: at 15 us a megabyte takes 15 seconds, linear or not.
    """
    try:
        cost(run, attack(64))  # an exponential function does not end
        if (short := cost(run, attack(1024))) > 5e-3 and (found := _measured(run, attack, 1024, most)):
            return found
        # Quadratic cost with steps of a nanosecond takes 130 ms at 16,384; slower code shows it at shorter
        # texts.
        size = length or (16384 if short < 4e-4 else 4096)
        text, fourth = attack(size), attack(size // 4)
        taken = cost(run, text)
        if taken < 3e-3:
            return None
        if taken < most * len(text) and taken < 6 * cost(run, fourth, 2) * len(text) / len(fourth) / 4:
            return None
        # One of two measurements may have been disturbed, so both have to fail.
        return _measured(run, attack, size, most) and _measured(run, attack, size, most)
    except TooSlow:
        return f"a text of at most 65,536 characters takes more than {PATIENCE} s"


def _measured(run: Run, attack: Attack, size: int, most: float) -> str | None:
    """The verdict on texts of lengths n, 2n and 4n, each by the least time of three calls."""
    texts = [attack(size), attack(2 * size), attack(4 * size)]
    first, second, third = (cost(run, text, 3) for text in texts)
    if third > most * len(texts[2]):
        return f"{third / len(texts[2]) * 1e6:.1f} us for each of {len(texts[2])} characters"
    if third > max(first, 2e-4) * STEEPEST and third > second > first:
        return f"{size} to {4 * size} characters take {third / max(first, 2e-4):.1f} times as long"
    return None
