"""The owner's token: how tools of a state directory prove to its gateway that they belong to the same user.

It lies in the run folder, which only that user can open, and is another one at each start of the gateway.
"""

from __future__ import annotations

import secrets

from conductor_core.files import read_bounded, write_whole
from conductor_core.paths import StateDir

_LONGEST = 1000


def write_owner_token(state: StateDir) -> str:
    """Make and keep a token for the gateway that has just taken the state directory."""
    token = f"cdo_{secrets.token_urlsafe(32)}"
    write_whole(state.owner_token, token.encode(), keep=False)
    return token


def owner_headers(state: StateDir) -> dict[str, str]:
    """Headers by which the gateway of `state` knows its owner; none where there is no token.

    For requests to that gateway alone: the token must reach no other address.
    """
    try:
        token = read_bounded(state.owner_token, _LONGEST).decode("ascii")
    except (OSError, UnicodeDecodeError):
        return {}
    return {"authorization": f"Bearer {token}"}
