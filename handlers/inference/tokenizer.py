"""Text to token ids and back, by the model folder's own tokenizer and chat template.

Needs `tokenizers`, not transformers: importing that takes seconds in every worker. Control tokens that stand
in a user's text stay text, as transformers' `sanitize_control_tokens` has it. A text is not the sum of its
tokens' texts (a tokenizer may drop the first space); positions in a text come from decoding it. NLLB marks a
language as `fra_Latn`, M2M100 as `__fr__`, mBART as `fr_XX`; a Marian model of one pair marks none.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers.decoders import DecodeStream

from handlers.inference.chat_template import ChatTemplate, Tools
from handlers.wire import Message

# tokenizers would use all cores for several texts at once, but the runtime needs the cores.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

SPACE = "\u2581"
"""The character that SentencePiece writes for a space inside a token."""

BYTE = re.compile("<0x([0-9A-F]{2})>")

LANGUAGE_MARK = re.compile(r"([a-z]{3}_[A-Z][a-z]{3})|__([a-z]{2,3})__|([a-z]{2}_[A-Z]{2})")
TRANSLATION_MODELS = frozenset({"m2m_100", "nllb-moe", "mbart", "marian"})

# Private-use characters around a control token in text from outside; removed from all text first.
OPEN, CLOSE = "\ue000", "\ue001"


class TokenBytes:
    """The bytes of single tokens of one tokenizer."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = {
            number: token.content for number, token in tokenizer.get_added_tokens_decoder().items()
        }
        self._bytes: dict[str, int] | None = None
        if tokenizer.decoder is not None:
            described: dict[str, Any] = json.loads(tokenizer.decoder.__getstate__())
            parts = described.get("decoders", [described])
            if any(part.get("type") == "ByteLevel" for part in parts):
                self._bytes = _byte_letters()

    def bytes_of(self, token: int) -> bytes:
        """UTF-8 of the token alone; empty for an unknown id."""
        if token in self._added:
            return self._added[token].encode()
        written = self._tokenizer.id_to_token(token) or ""
        if self._bytes is not None and all(letter in self._bytes for letter in written):
            return bytes(self._bytes[letter] for letter in written)
        if found := BYTE.fullmatch(written):
            return bytes([int(found[1], 16)])
        return written.replace(SPACE, " ").encode()


def _byte_letters() -> dict[str, int]:
    """The letter that byte-level tokenizers write for each byte: itself, or one from U+0100 upwards."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + i): byte for i, byte in enumerate(others)}


def language_tokens(tokenizer: tokenizers.Tokenizer, folder: Path) -> dict[str, int] | None:
    """Language codes to token ids, empty for a model of one pair, None for any other model."""
    if _read_json(folder / "config.json").get("model_type") not in TRANSLATION_MODELS:
        return None
    found = {}
    for number, token in tokenizer.get_added_tokens_decoder().items():
        if marked := LANGUAGE_MARK.fullmatch(token.content):
            found[next(code for code in marked.groups() if code)] = number
    return found


def language_pair(folder: Path) -> tuple[str, str] | None:
    """Source and target as a model of one pair names them: `en`, `deu`, or a family, `ROMANCE`."""
    config = _read_json(folder / "tokenizer_config.json")
    source, target = config.get("source_lang"), config.get("target_lang")
    return (source, target) if isinstance(source, str) and isinstance(target, str) else None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation rendered by the chat template, and a lower bound of its tokens."""

    text: str
    fewest: int


class TextTokenizer:
    """One model's tokenizer and chat template. Methods are safe to call from several threads."""

    def __init__(self, folder: Path) -> None:
        path = str(folder / "tokenizer.json")
        self._plain = tokenizers.Tokenizer.from_file(path)
        # A second one, since whether special tokens are matched is a property of the object, not of the call.
        self._literal = tokenizers.Tokenizer.from_file(path)
        self._literal.encode_special_tokens = True
        for tokenizer in (self._plain, self._literal):
            # What the file says of these is for training: all-MiniLM's fills every text up to 128 tokens.
            tokenizer.no_truncation()
            tokenizer.no_padding()
        config = _read_json(folder / "tokenizer_config.json")
        self._specials = {
            name: _token_text(config.get(name))
            for name in ("bos_token", "eos_token", "unk_token", "pad_token")
        }
        self._template = ChatTemplate(folder, config, self._specials)
        self._control = _control_pattern(self._plain, self._template.source)
        self.languages = language_tokens(self._plain, folder)
        self.pair = language_pair(folder)
        added = self._plain.get_added_tokens_decoder()
        self._added = {token.content: number for number, token in added.items()}
        # Tokens marked special are text to `_literal` anyway.
        self._unmarked = _behind_first_character(t.content for t in added.values() if not t.special)
        self.beginning = _beginning(self._plain)
        # In bytes; the spelling of a byte-level token is never shorter than its text. Computed here, because
        # no request should wait for it: 60 ms for 49,000 tokens.
        self._longest_token = max(len(token.encode()) for token in self._plain.get_vocab())
        self._newline = self._plain.encode("\n", add_special_tokens=False).ids

    def render_chat(self, messages: Sequence[Message], tools: Tools | None = None) -> Rendered:
        """The conversation in the model's format, up to the start of the assistant's turn, not tokenised.

        Raises RequestError 400 with the template's own message if the chat template refuses it.
        """
        text = self._template.render(messages, tools, self._mark)
        return Rendered(text, self.fewest_tokens(text.replace(OPEN, "").replace(CLOSE, "")))

    def encode_chat(self, messages: Sequence[Message], tools: Tools | None = None) -> list[int]:
        """Token ids of the conversation; raises as `render_chat`."""
        return self.encode_rendered(self.render_chat(messages, tools))

    def encode_rendered(self, rendered: Rendered) -> list[int]:
        """Token ids of a rendered conversation."""
        pieces = re.split(f"{OPEN}([^{OPEN}{CLOSE}]*+){CLOSE}", rendered.text)
        ids: list[int] = []
        for index, piece in enumerate(pieces):
            text = piece.replace(OPEN, "").replace(CLOSE, "")
            if text:
                ids += self._encode_piece(text, literal=index % 2 == 1, first=index == 0)
        return ids

    def encode_raw(self, text: str) -> list[int]:
        """Token ids of a text whose control tokens count as such, after the tokens that begin every text."""
        ids = list(_encoding(self._plain, text).ids)
        begun = ids[: len(self.beginning)] == self.beginning
        return ids if begun else [*self.beginning, *ids]

    def encode(self, text: str) -> list[int]:
        """Token ids of plain text; control tokens in it stay text."""
        return list(_encoding(self._literal, text).ids)

    def encode_whole(self, text: str, limit: int) -> tuple[list[int], bool]:
        """At most `limit` token ids, with the model's own tokens around the text.

        True if the text was cut.
        """
        encoding = _encoding(self._literal, text)
        room = max(0, limit - self._literal.num_special_tokens_to_add(is_pair=False))
        cut = len(encoding.ids) > room
        encoding.truncate(room)
        return list(self._literal.post_process(encoding).ids), cut

    def encode_source(self, text: str, language: str) -> list[int]:
        """Token ids of a text for a translation model: its language, the text, the end."""
        end = self._plain.token_to_id(self._specials["eos_token"])
        return [*self.language_ids(language), *self.encode(text), *([] if end is None else [end])]

    def language_ids(self, language: str) -> list[int]:
        """The token of a code of `languages`; empty for the empty code."""
        return [(self.languages or {})[language]] if language else []

    def control_id(self, token: str) -> int | None:
        """The id of a token that was added to the vocabulary; None if the model has no such token."""
        return self._added.get(token)

    def encode_bare(self, parts: Sequence[str | int]) -> list[int]:
        """Token ids of texts and of control tokens given as ids, after the tokens that begin every text.

        Control tokens in the texts stay text, including those that are not marked special.
        """
        ids = list(self.beginning)
        for part in parts:
            if isinstance(part, int):
                ids.append(part)
                continue
            # Each one is cut after its first character, since no tokenizer matches it across two calls.
            pieces = self._unmarked.split(part) if self._unmarked else [part]
            for text in [piece for piece in pieces if piece]:
                ids += self._encode_piece(text, literal=True, first=not ids)
        return ids

    def count(self, text: str) -> int:
        return len(self.encode(text))

    def fewest_tokens(self, text: str) -> int:
        """A lower bound of the text's tokens, without tokenising it; 0 if the normalizer may shorten it."""
        return 0 if self._plain.normalizer else len(text.encode()) // self._longest_token

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._plain.decode(list(ids), skip_special_tokens=True))

    def decoder(self, *, control: bool = False) -> Decoder:
        """A decoder for one text; `control` keeps control tokens in the text."""
        return Decoder(self._plain, control)

    @cached_property
    def spelling(self) -> TokenBytes:
        """The bytes of single tokens."""
        return TokenBytes(self._plain)

    def _mark(self, text: str) -> str:
        text = text.replace(OPEN, "").replace(CLOSE, "")
        return self._control.sub(f"{OPEN}\\g<0>{CLOSE}", text) if self._control else text

    def _encode_piece(self, text: str, *, literal: bool, first: bool) -> list[int]:
        tokenizer = self._literal if literal else self._plain
        if first:
            return list(_encoding(tokenizer, text).ids)
        # SentencePiece adds a space at the start of a string: add a newline first and remove it afterwards.
        ids = list(_encoding(tokenizer, "\n" + text).ids)
        if ids[: len(self._newline)] == self._newline:
            return ids[len(self._newline) :]
        return list(_encoding(tokenizer, text).ids)


class Decoder:
    """Turns the ids of one growing answer into pieces of text; a piece never ends inside a character."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, control: bool) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=not control)

    def feed(self, ids: Sequence[int]) -> str:
        """The text that is complete after these ids, often empty."""
        pieces = (self._stream.step(self._tokenizer, token) for token in ids)
        return "".join(piece for piece in pieces if piece)


def _encoding(tokenizer: tokenizers.Tokenizer, text: str) -> tokenizers.Encoding:
    # `encode` holds the interpreter's lock to its end, 0.9 s for 900 kB, and no other thread could run.
    (encoding,) = tokenizer.encode_batch_fast([text], add_special_tokens=False)
    return encoding


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def _token_text(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token or "")


def _control_pattern(tokenizer: tokenizers.Tokenizer, template: str) -> re.Pattern[str] | None:
    added = tokenizer.get_added_tokens_decoder().values()
    control = [
        token.content
        for token in added
        if token.special or (token.content in template and not token.content.isspace())
    ]
    # Longest first: a token that contains another one is matched whole.
    longest_first = sorted(control, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None


def _behind_first_character(tokens: Iterable[str]) -> re.Pattern[str] | None:
    longer = sorted(
        (token for token in tokens if len(token) > 1 and not token.isspace()), key=len, reverse=True
    )
    spots = [f"(?<={re.escape(token[0])})(?={re.escape(token[1:])})" for token in longer]
    return re.compile("|".join(spots)) if spots else None


def _beginning(tokenizer: tokenizers.Tokenizer) -> list[int]:
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a", add_special_tokens=True).ids
    starts = (at for at in range(len(whole)) if whole[at : at + len(bare)] == bare)
    return list(whole[: next(starts, 0)])
