"""What single tokens say: their bytes, which may be half a character, and their text.

A text is not the sum of its tokens' texts (a tokenizer may drop the first space); positions in a text come
from decoding it.
"""

from __future__ import annotations

import json
import re
from typing import Any

import tokenizers

SPACE = "\u2581"
"""How SentencePiece writes a space inside a token."""

BYTE = re.compile("<0x([0-9A-F]{2})>")


class Spelling:
    """The tokens of one tokenizer."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = {
            number: token.content for number, token in tokenizer.get_added_tokens_decoder().items()
        }
        self._bytes = _byte_letters() if _is_byte_level(tokenizer) else None

    def bytes_of(self, token: int) -> bytes:
        """UTF-8 of the token alone; nothing for an id that the tokenizer does not know."""
        if token in self._added:
            return self._added[token].encode()
        written = self._tokenizer.id_to_token(token) or ""
        if self._bytes is not None and all(letter in self._bytes for letter in written):
            return bytes(self._bytes[letter] for letter in written)
        if found := BYTE.fullmatch(written):
            return bytes([int(found[1], 16)])
        return written.replace(SPACE, " ").encode()


def _is_byte_level(tokenizer: tokenizers.Tokenizer) -> bool:
    if tokenizer.decoder is None:
        return False
    described: dict[str, Any] = json.loads(tokenizer.decoder.__getstate__())
    parts = described.get("decoders", [described])
    return any(part.get("type") == "ByteLevel" for part in parts)


def _byte_letters() -> dict[str, int]:
    """The letter that byte-level tokenizers write for each byte: itself, or one from U+0100 upwards."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}
