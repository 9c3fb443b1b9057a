"""How much memory the operator lets models take, on each device."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from conductor_core.issues import expected
from conductor_core.quantities import parse_bytes


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Bytes that models may take: `default` for devices that `devices` (`cpu`, `cuda:0`) lacks."""

    default: int | None = None
    devices: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> MemoryBudget:
        """Read "6GB", or "cpu=6GB,cuda:0=20GB"; CellError for anything else."""
        if "=" not in text:
            return cls(parse_bytes(text))
        pairs = [part.partition("=") for part in text.lower().split(",")]
        devices = {device.strip(): parse_bytes(size) for device, _, size in pairs}
        if not all(re.fullmatch(r"cpu|cuda:[0-9]{1,2}", device) for device in devices):
            raise expected("a size for each of cpu and cuda:N", text)
        return cls(devices=devices)

    def of(self, device: str) -> int | None:
        """The budget of `device`, None where the operator set none."""
        return self.devices.get(device, self.default)
