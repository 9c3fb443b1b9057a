"""Keys that TorchServe requires with each call, read from its key file.

TorchServe makes new keys at each start and writes `key_file.json` (mode 0600) into its working directory. Two
of them expire: one for management, one for inference. The third never does, and is used to request new ones
of the other two.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import orjson

LIFETIME_MIN = 60.0
"""Lifetime of the two keys in minutes, TorchServe's own default. It could be years, but then a leaked key, as
in a memory dump, would give access to TorchServe for as long as it runs."""
_LARGEST_FILE = 4096


class TokenError(Exception):
    """The key file cannot be used; the message is one line without any key."""


@dataclass(frozen=True, slots=True)
class TorchServeKeys:
    """One generation of keys; `expires` is the Unix time at which the first of them expires."""

    management: str
    inference: str
    api: str
    expires: float

    def __repr__(self) -> str:  # a key must not get into a traceback or a log line
        return f"Keys(expires={self.expires:g})"

    def is_due(self, now: float, lifetime_min: float) -> bool:
        """True once half of the lifetime is over, which leaves the other half for failed attempts."""
        return now >= self.expires - lifetime_min * 60 / 2


def read_keys(file: Path) -> TorchServeKeys:
    """Read the keys in `file`. Raises TokenError if it is missing or incomplete."""
    try:
        with file.open("rb") as opened:
            found = orjson.loads(opened.read(_LARGEST_FILE))
        expiring = [found["management"], found["inference"]]
        times = [datetime.fromisoformat(key["expiration time"]) for key in expiring]
        management, inference, api = (key["key"] for key in (*expiring, found["API"]))
        if not all(isinstance(key, str) and key for key in (management, inference, api)):
            raise ValueError("a key is not a string")
        return TorchServeKeys(management, inference, api, min(time.timestamp() for time in times))
    except OSError as error:
        raise TokenError(f"{file.name} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TokenError(f"{file.name} is not a key file") from error
