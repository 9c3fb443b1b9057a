"""What may be remembered of an engine's findings: what the checks concluded, and not a word of any text."""

from __future__ import annotations

from typing import Any

_CONCLUSIONS = frozenset({"verified", "mode", "language", "attempts", "words", "dimensions"})
"""Findings whose value is a word of ours or a count; any other text or number may be the answer itself."""

_MOST = 32
_SHOWN = 40


def conclusions(findings: dict[str, Any]) -> dict[str, Any]:
    """`findings` with sizes in the place of texts, lists and numbers that may be part of an answer."""
    return {name: _conclusion(name, value) for name, value in list(findings.items())[:_MOST]}


def _conclusion(name: str, value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    if name in _CONCLUSIONS and isinstance(value, str | int | float):
        return value[:_SHOWN] if isinstance(value, str) else value
    if isinstance(value, str):
        return {"characters": len(value)}
    if isinstance(value, list | dict):
        return {"items": len(value)}
    return {"number": True}
