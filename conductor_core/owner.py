"""The owner's token: how tools of a state directory prove to its gateway that they belong to the same user.

It lies in the run folder, which only that user can open, and is another one at each start of the gateway.
"""

from __future__ import annotations

import os
import secrets

from conductor_core.paths import StateDir


def write_owner_token(state: StateDir) -> str:
    """Make and keep a token for the gateway that has just taken the state directory."""
    token = f"cdo_{secrets.token_urlsafe(32)}"
    unnamed = state.owner_token.with_suffix(".new")
    unnamed.unlink(missing_ok=True)
    with open(os.open(unnamed, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
        file.write(token)
    unnamed.replace(state.owner_token)
    return token


def owner_headers(state: StateDir) -> dict[str, str]:
    """Headers by which the gateway of `state` knows its owner; none where there is no token.

    For requests to that gateway alone: the token must reach no other address.
    """
    try:
        token = state.owner_token.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return {}
    return {"authorization": f"Bearer {token}"}
