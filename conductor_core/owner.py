"""The owner's token, by which local tools prove to the gateway that they belong to the same user.

It is in the run folder, which only that user can open, and changes at each start of the gateway.
"""

from __future__ import annotations

import secrets

from conductor_core.files import read_bounded, write_whole
from conductor_core.paths import StateDir

_LONGEST = 1000


def write_owner_token(state: StateDir) -> str:
    """Makes and stores a token for the gateway that has just locked the state directory."""
    token = f"cdo_{secrets.token_urlsafe(32)}"
    write_whole(state.owner_token, token.encode(), keep=False)
    return token


def owner_headers(state: StateDir) -> dict[str, str]:
    """Headers that identify the owner to the gateway of `state`; empty if there is no token.

    Send them to that gateway only: the token must reach no other address.
    """
    try:
        token = read_bounded(state.owner_token, _LONGEST).decode("ascii")
    except (OSError, UnicodeDecodeError):
        return {}
    return {"authorization": f"Bearer {token}"}
