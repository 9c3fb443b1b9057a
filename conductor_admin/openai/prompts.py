"""Inputs of one text or many, as text or as token ids: the four forms of OpenAI's `prompt` and `input`."""

from __future__ import annotations

from typing import Any

from handlers.wire import MAX_PROMPT_CHARS

Prompt = str | tuple[int, ...]
MAX_PROMPTS = 128
MAX_TOKEN_ID = 2**31
MAX_IDS = 500_000
"""Of one prompt; parsing so many takes 25 ms, in which no other thread goes on."""

_TEXT = {"type": "string", "minLength": 1, "maxLength": MAX_PROMPT_CHARS}
_IDS = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": MAX_TOKEN_ID},
    "minItems": 1,
    "maxItems": MAX_IDS,
}


def _many(items: dict[str, Any], most: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


def texts_schema(most: int) -> dict[str, Any]:
    """The JSON schema of an input with up to `most` texts."""
    return {"anyOf": [_TEXT, _many(_TEXT, most)]}


PROMPT_SCHEMA = {
    "anyOf": [*texts_schema(MAX_PROMPTS)["anyOf"], _IDS, _many({"anyOf": [_TEXT, _IDS]}, MAX_PROMPTS)]
}


def read_prompts(value: Any, most: int = MAX_PROMPTS) -> list[Prompt]:
    """The prompts, in order; ValueError says what is wrong with them."""
    if isinstance(value, str):
        return [_text(value)]
    if not isinstance(value, list) or not value:
        raise ValueError("must be a text, token ids, or a list of either")
    if _is_id(value[0]):
        return [_ids(value)]
    if len(value) > most:
        raise ValueError(f"at most {most} prompts are taken at a time")
    return [_text(one) if isinstance(one, str) else _ids(one) for one in value]


def _text(value: str) -> str:
    if not value:
        raise ValueError("a text is empty")
    if len(value) > MAX_PROMPT_CHARS:
        raise ValueError(f"a text has more than {MAX_PROMPT_CHARS} characters")
    return value


def _ids(value: Any) -> tuple[int, ...]:
    if isinstance(value, list) and len(value) > MAX_IDS:
        raise ValueError(f"a prompt has more than {MAX_IDS} token ids")
    if not isinstance(value, list) or not value:
        raise ValueError("each prompt must be a text or token ids")
    if not all(_is_id(one) for one in value):
        raise ValueError(f"token ids are whole numbers from 0 to {MAX_TOKEN_ID}")
    return tuple(map(int, value))


def _is_id(value: Any) -> bool:
    whole = type(value) is int or (type(value) is float and value.is_integer())
    return whole and 0 <= value <= MAX_TOKEN_ID
