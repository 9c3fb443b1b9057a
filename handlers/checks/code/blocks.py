"""Takes the code out of a Markdown answer: fenced blocks with their language tags.

Reads lines only; whether the code is right is `handlers.checks.code.syntax`'s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_BLOCKS = 100
_OPEN = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`]*)$")


@dataclass(frozen=True, slots=True)
class Block:
    """`tag` is the first word behind the opening fence; an unclosed block is one that was cut off."""

    tag: str
    code: str
    closed: bool = True


def blocks(text: str) -> list[Block]:
    """The fenced blocks of `text` in order, at most `MAX_BLOCKS`; an indented fence takes its indent off."""
    found: list[Block] = []
    lines = iter(text.splitlines())
    for line in lines:
        opening = _OPEN.match(line)
        if opening is None:
            continue
        body, closed = [], False
        for inner in lines:
            if _closes(inner, opening["fence"]):
                closed = True
                break
            body.append(inner.removeprefix(opening["indent"]))
        found.append(Block(_tag(opening["info"]), "\n".join(body) + "\n" if body else "", closed))
        if len(found) == MAX_BLOCKS:
            break
    return found


def _closes(line: str, fence: str) -> bool:
    stripped = line.strip()
    return len(stripped) >= len(fence) and set(stripped) == {fence[0]}


def _tag(info: str) -> str:
    words = info.replace("{", " ").replace("}", " ").split()
    return words[0].lstrip(".").partition(":")[0].partition(",")[0] if words else ""
