"""Takes the code out of a Markdown answer: fenced blocks with their language tags.

Reads lines only; `handlers.checks.code.syntax` checks the code.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_BLOCKS = 100
_OPEN = re.compile(r"^(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`]*)$")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block.

    `tag` is the first word after the opening fence; a block that was cut off is not `closed`.
    """

    tag: str
    code: str
    closed: bool = True


def blocks(text: str) -> list[Block]:
    """The fenced blocks of `text` in order, at most `MAX_BLOCKS`.

    The indent of the fence is removed from the code.
    """
    found: list[Block] = []
    lines = iter(text.splitlines())
    for line in lines:
        opening = _OPEN.match(line)
        if opening is None:
            continue
        fence, body, closed = opening["fence"], [], False
        for inner in lines:
            stripped = inner.strip()
            if len(stripped) >= len(fence) and set(stripped) == {fence[0]}:
                closed = True
                break
            body.append(inner.removeprefix(opening["indent"]))
        words = opening["info"].replace("{", " ").replace("}", " ").split()
        tag = words[0].lstrip(".").partition(":")[0].partition(",")[0] if words else ""
        found.append(Block(tag, "\n".join(body) + "\n" if body else "", closed))
        if len(found) == MAX_BLOCKS:
            break
    return found
