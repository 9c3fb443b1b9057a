"""Child process: makes tokenizer.json for Marian and M2M100, which have a SentencePiece model instead.

Their vocabulary renumbers the pieces, so that transformers' own converters do not fit, and its tokenizer
classes need the package sentencepiece. Imports transformers, so only `archives.convert_job` imports this
module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from google.protobuf.message import DecodeError
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import BPE, Unigram
from transformers.convert_slow_tokenizer import SpmConverter, generate_merges

from archives.errors import BuildError
from conductor_core.files import LARGEST_JSON, read_bounded

_NEVER = -1e6
"""Score per letter of a piece that is only for decoding: so low that any other segmentation is better."""
_LONGEST = 16
"""Most letters of such a piece that count, so that the sum of scores keeps enough precision."""
_UNIGRAM, _BPE = 1, 2
_SPECIAL = {"marian": ("eos", "unk", "pad"), "m2m_100": ("bos", "pad", "eos", "unk")}
_TEXTS = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>"}
_FILES = {"marian": "source.spm", "m2m_100": "sentencepiece.bpe.model"}

_M2M100 = (
    "af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha "
    "he hi hr ht hu hy id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne "
    "nl no ns oc or pa pl ps pt ro ru sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo "
    "xh yi yo zh zu "
)
"""Languages of `language_codes: m2m100` in the order of their token ids; no file lists them."""
_LANGUAGE_KEYS = ("additional_special_tokens", "extra_special_tokens")
"""Names of the setting in transformers up to 4, and from 5 on."""

FAMILIES = frozenset(_FILES)
"""The `model_type`s that are converted here."""


@dataclass(frozen=True, slots=True)
class _Parts:
    """Parts of a tokenizer. `vocabulary` maps pieces to ids; `languages` get the ids after it."""

    spm: Path
    vocabulary: Mapping[str, int]
    unknown: str
    languages: tuple[str, ...]


def convert_translation_tokenizer(source: Path, target: Path, family: str, name: str) -> None:
    """Writes tokenizer.json and tokenizer_config.json.

    BuildError if files of the folder are missing or invalid.
    """
    config = (
        _json(source / "tokenizer_config.json", name) if (source / "tokenizer_config.json").exists() else {}
    )
    specials = {f"{key}_token": _text(config, f"{key}_token", _TEXTS[key]) for key in _SPECIAL[family]}
    vocabulary = _vocabulary(source, family, name)
    if config.get("separate_vocabs") or (source / "target_vocab.json").exists():
        raise _unusable(name, "it has one vocabulary to read and another one to write")
    missing = sorted(set(specials.values()) - set(vocabulary))
    if missing:
        raise _unusable(name, f"its vocab.json lacks {', '.join(missing)}")
    languages = _languages(source, config, name) if family == "m2m_100" else ()
    marks = [token for token in vocabulary if token.startswith(">>") and token.endswith("<<")]
    if family != "m2m_100" and len(marks) > 1:
        raise _unusable(name, f"it writes several languages ({', '.join(marks[:3])}), chosen inside the text")
    parts = _Parts(source / _FILES[family], vocabulary, specials["unk_token"], languages)
    made = _converted(parts, name)
    made.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in specials.values()]
    )
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in languages])
    made.save(str(target / "tokenizer.json"))
    (target / "tokenizer_config.json").write_text(json.dumps({**config, **specials}, indent=2))


def _converted(parts: _Parts, name: str) -> Tokenizer:
    if not parts.spm.exists():
        raise _unusable(name, f"it has no {parts.spm.name}")
    try:
        return _Converter(parts).converted()
    except (ValueError, KeyError, DecodeError) as error:
        raise _unusable(name, f"its {parts.spm.name} cannot be read: {str(error).splitlines()[0]}") from error


class _Converter(SpmConverter):
    """transformers' converter with the token ids of the model's own vocabulary."""

    def __init__(self, parts: _Parts) -> None:
        super().__init__(SimpleNamespace(vocab_file=str(parts.spm)))  # type: ignore[no-untyped-call]
        self._parts = parts

    def tokenizer(self, proto: Any) -> Tokenizer:
        scores = {piece.piece: piece.score for piece in proto.pieces}
        vocabulary, unknown = dict(self._parts.vocabulary), self._parts.unknown
        if proto.trainer_spec.model_type == _UNIGRAM:
            scored = [
                (token, scores.get(token, _NEVER * min(len(token), _LONGEST)))
                for token in sorted(vocabulary, key=vocabulary.__getitem__)
            ]
            return Tokenizer(Unigram(scored, unk_id=vocabulary[unknown]))
        if proto.trainer_spec.model_type == _BPE:
            known = {token: score for token, score in scores.items() if token in vocabulary}
            merges = generate_merges(vocabulary, known)
            return Tokenizer(BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True))
        raise ValueError("it is neither a unigram nor a BPE model")


def _vocabulary(source: Path, family: str, name: str) -> dict[str, int]:
    if not (source / "vocab.json").exists():
        raise _unusable(name, "it has no vocab.json")
    vocabulary = _json(source / "vocab.json", name)
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise _unusable(name, "its vocab.json does not number its pieces from 0")
    return vocabulary


def _languages(source: Path, config: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The language tokens of M2M100 in the order of their ids."""
    specials = source / "special_tokens_map.json"
    places = [config, _json(specials, name) if specials.exists() else {}]
    listed = [place.get(key) for place in places for key in _LANGUAGE_KEYS]
    first = next((tokens for tokens in listed if isinstance(tokens, list) and tokens), None)
    if first is not None:
        return tuple(_text({"token": token}, "token", "") for token in first)
    if config.get("language_codes", "m2m100") != "m2m100":
        raise _unusable(name, "neither tokenizer_config.json nor special_tokens_map.json lists its languages")
    return tuple(f"__{code}__" for code in _M2M100.split())


def _text(config: Mapping[str, Any], key: str, default: str) -> str:
    value = config.get(key, default)
    return str(value["content"]) if isinstance(value, dict) else str(value or default)


def _json(path: Path, name: str) -> dict[str, Any]:
    try:
        value = json.loads(read_bounded(path, LARGEST_JSON))
    except ValueError as error:
        raise _unusable(name, f"its {path.name} is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise _unusable(name, f"its {path.name} is not a JSON object")
    return value


def _unusable(name: str, why: str) -> BuildError:
    return BuildError(
        f"{name} has no tokenizer.json, and none can be made of its files: {why}",
        "use a repository with a tokenizer.json, such as one of NLLB-200",
    )
