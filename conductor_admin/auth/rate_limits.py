"""Rate limits: requests and tokens per minute and running generations of each key; `x-ratelimit` headers.

Counts are kept in memory on a monotonic clock; a restart clears them. Requests are counted when they begin,
tokens when a generation ends: a running generation is never cut off.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from conductor_admin.auth.caller import Caller
from handlers.wire import RequestError

WINDOW_S = 60.0
_STREAM_RETRY_S = 1.0

Clock = Callable[[], float]


class _Window:
    """Sliding window: amounts of the last WINDOW_S seconds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._amounts: deque[tuple[float, int]] = deque()
        self._used = 0

    @property
    def used(self) -> int:
        now = self._clock()
        while self._amounts and self._amounts[0][0] <= now:
            self._used -= self._amounts.popleft()[1]
        return self._used

    def add(self, amount: int) -> None:
        self._amounts.append((self._clock() + WINDOW_S, amount))
        self._used += amount

    def seconds_until(self, most: int) -> float:
        """Seconds until no more than `most` is used."""
        left, until = self.used, self._clock()
        for ends, amount in self._amounts:
            if left <= most:
                break
            left, until = left - amount, ends
        return max(0.0, until - self._clock())


class _Use:
    def __init__(self, clock: Clock) -> None:
        self.requests = _Window(clock)
        self.tokens = _Window(clock)
        self.running = 0


class Meter:
    """Counts the tokens of one generation."""

    def __init__(self) -> None:
        self.tokens = 0

    def relayed(self, lines: bytes) -> None:
        """Count pieces of an answer as one token each, in case the client leaves before the end."""
        self.tokens += lines.count(b"\n")

    def ended(self, total_tokens: int) -> None:
        """Set the worker's own count, which includes the prompt."""
        self.tokens = total_tokens


class Quotas:
    """The use of all keys; `clock` gives monotonic seconds."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._uses: defaultdict[str, _Use] = defaultdict(lambda: _Use(clock))

    @contextmanager
    def admitted(self, caller: Caller) -> Iterator[Meter]:
        """Count one generation of the caller during the block. Raises 429 `rate_limit_exceeded` before it."""
        meter = Meter()
        if caller.key_id is None:
            yield meter
            return
        use = self._uses[caller.key_id]
        _refuse(caller, use)
        use.requests.add(1)
        use.running += 1
        try:
            yield meter
        finally:
            use.running -= 1
            use.tokens.add(meter.tokens)

    def headers(self, caller: Caller) -> dict[str, str]:
        """The caller's limits and what is left of them, as OpenAI's `x-ratelimit` headers."""
        if caller.key_id is None:
            return {}
        use, rate_limit = self._uses[caller.key_id], caller.rate_limit
        return {
            **_headers_of("requests", rate_limit.requests_per_minute, use.requests),
            **_headers_of("tokens", rate_limit.tokens_per_minute, use.tokens),
        }


def _refuse(caller: Caller, use: _Use) -> None:
    rate_limit = caller.rate_limit
    if rate_limit.streams is not None and use.running >= rate_limit.streams:
        raise _exceeded(f"this key may run {rate_limit.streams} generations at a time", _STREAM_RETRY_S)
    for what, most, window in (
        ("requests", rate_limit.requests_per_minute, use.requests),
        ("tokens", rate_limit.tokens_per_minute, use.tokens),
    ):
        if most is not None and window.used >= most:
            raise _exceeded(f"this key may use {most} {what} per minute", window.seconds_until(most - 1))


def _exceeded(message: str, retry_after_s: float) -> RequestError:
    return RequestError(
        message,
        status=429,
        type="rate_limit_error",
        code="rate_limit_exceeded",
        retry_after_s=retry_after_s,
    )


def _headers_of(what: str, most: int | None, window: _Window) -> dict[str, str]:
    if most is None:
        return {}
    return {
        f"x-ratelimit-limit-{what}": str(most),
        f"x-ratelimit-remaining-{what}": str(max(0, most - window.used)),
        f"x-ratelimit-reset-{what}": f"{window.seconds_until(0):.3f}s",
    }
