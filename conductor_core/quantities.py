"""Parses amounts as people write them: memory in bytes, durations in seconds, memory budgets by device.

Decimal units (GB) are powers of 1000 and binary units (GiB) powers of 1024.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from conductor_core.issues import expected

MEMORY_EXPECTED = "a size such as ~8GB, 512MB or 1.5 GiB"
DURATION_EXPECTED = "a time such as 5m, 90s, 1h, 5 minutes, or never"

MAX_BYTES = 2**50
MAX_SECONDS = 10_000_000.0

_SCALE = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_UNIT = r"(?P<scale>[KMGT]?)(?P<binary>i?)B(?![A-Za-z0-9])"
# The lookbehind keeps "1,5 GB" from being read as 5 GB.
_SIZE = re.compile(
    rf"(?<![0-9.,])(?:{_NUMBER}\s*+(?:[KMGT]?i?B\s*+)?(?:[-–—~]|to)\s*+)?(?<![0-9.,])(?P<number>{_NUMBER})\s*+{_UNIT}",
    re.IGNORECASE,
)
_PART = re.compile(
    rf"(?P<number>{_NUMBER})\s*"
    r"(?P<unit>h(?:ours?|rs?)?|m(?:in(?:ute)?s?)?|s(?:ec(?:ond)?s?)?|d(?:ays?)?)(?![a-z])\s*",
    re.IGNORECASE,
)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_bytes(text: str) -> int:
    """Bytes of the largest size in `text` ("~2–3GB" is 3 GB); CellError if there is none."""
    sizes = []
    for match in _SIZE.finditer(text):
        base = 1024 if match["binary"] else 1000
        sizes.append(float(match["number"]) * float(base ** _SCALE[match["scale"].upper()]))
    largest = max(sizes, default=0)
    if not 0 < largest <= MAX_BYTES:
        raise expected(MEMORY_EXPECTED, text)
    return int(largest)


def format_bytes(amount: int) -> str:
    """`amount` bytes for display: "1.5 GB"; decimal units, at most one digit after the point."""
    value, unit = float(amount), "B"
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if value < 999.95:
            break
        if unit != "TB":
            value /= 1000
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"


def parse_duration(text: str) -> float:
    """Seconds in "5m", "1h30m" or "5 minutes"; "never" is infinite. CellError for anything else."""
    text = text.strip()
    if text.casefold() == "never":
        return math.inf
    position, total = 0, 0.0
    while match := _PART.match(text, position):
        total += float(match["number"]) * _SECONDS[match["unit"][0].lower()]
        position = match.end()
    if position == 0 or position != len(text) or total > MAX_SECONDS:
        raise expected(DURATION_EXPECTED, text)
    return total


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Bytes that models may use by device.

    `default` is for devices that are not in `devices` (`cpu`, `cuda:0`).
    """

    default: int | None = None
    devices: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> MemoryBudget:
        """Parses "6GB" or "cpu=6GB,cuda:0=20GB"; CellError for any other text."""
        if "=" not in text:
            return cls(parse_bytes(text))
        pairs = [part.partition("=") for part in text.lower().split(",")]
        devices = {device.strip(): parse_bytes(size) for device, _, size in pairs}
        if not all(re.fullmatch(r"cpu|cuda:[0-9]{1,2}", device) for device in devices):
            raise expected("a size for each of cpu and cuda:N", text)
        return cls(devices=devices)

    def of(self, device: str) -> int | None:
        """The budget of `device` in bytes; None if the operator set none."""
        return self.devices.get(device, self.default)
