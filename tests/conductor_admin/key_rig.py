"""A gateway that requires keys, and the keys' texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx2

from tests.conductor_admin.gateway_rig import Rig


def bearer(text: str | None) -> dict[str, str]:
    """The header that carries a key."""
    return {} if text is None else {"authorization": f"Bearer {text}"}


@dataclass(frozen=True)
class Keys:
    """Texts of keys of the gateway in `rig`."""

    rig: Rig
    infer: str
    admin: str
    both: str
    revoked: str

    async def ask(self, method: str, path: str, text: str | None, **more: Any) -> httpx2.Response:
        return await self.rig.client.request(method, path, headers=bearer(text), **more)
