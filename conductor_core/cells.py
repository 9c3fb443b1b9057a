"""What each column's text means: one short function per column, text in, value out.

Every function raises CellError saying what was expected. Relations between cells are `row_reader`'s.
"""

from __future__ import annotations

import re
from typing import Literal

from conductor_core.catalogue import ModelRef, Precision, RuntimeName, StayLoaded
from conductor_core.issues import CellError, expected
from conductor_core.model_refs import QUANTISATION, quantisation_in
from conductor_core.quantities import parse_bytes

PRECISION_EXPECTED = "one of FP32, FP16, BF16, 8-bit, 4-bit or the file's own"
LARGEST_CONTEXT = 10_000_000

_RUNTIMES: dict[str, RuntimeName | Literal["auto"]] = {
    "": "auto",
    "auto": "auto",
    "transformers": "transformers",
    "openvino": "openvino",
    "vllm": "vllm",
}
_PRECISIONS = {word.value.casefold(): word for word in Precision if word is not Precision.FILE}
_COUNT = re.compile(r"([0-9]{1,9}|[0-9]{1,3}(?:[,_][0-9]{3}){1,2})(k?)", re.IGNORECASE)


def parse_text(text: str) -> str:
    """Any text at all, but some."""
    if not text:
        raise expected("a name", text)
    return text


def parse_memory(text: str) -> int | None:
    """Bytes; None for an empty cell or a dash."""
    return None if text in {"", "-", "–", "—"} else parse_bytes(text)


def parse_stay_loaded(text: str) -> StayLoaded:
    """One of true, false, yield."""
    try:
        return StayLoaded(text.casefold())
    except ValueError:
        raise expected("true, false or yield", text) from None


def parse_precision(text: str) -> tuple[Precision, str | None]:
    """The precision, and for a file's own the quantisation that the cell names; an empty cell names none."""
    if not text:
        return Precision.FILE, None
    word = _PRECISIONS.get(text.casefold())
    if word is not None:
        return word, None
    if QUANTISATION.fullmatch(text):
        return Precision.FILE, text.upper()
    raise expected(PRECISION_EXPECTED, text)


def check_file_precision(ref: ModelRef, named: str | None) -> str | None:
    """The quantisation of the file, from its cell or its name; CellError where it cannot give `named`."""
    in_name = quantisation_in(ref)
    if named is None:
        return in_name
    if not ref.is_gguf:
        raise CellError(
            f"expected FP32, FP16, BF16, 8-bit, 4-bit or an empty cell, got {named!r}: "
            "only a GGUF file has such a quantisation, and this model is none"
        )
    if in_name is not None and in_name.removeprefix("UD-") != named.removeprefix("UD-"):
        raise CellError(
            f"expected {in_name} (the file's own), FP32, FP16, BF16, 8-bit or 4-bit, got {named!r}: "
            "the file cannot give it"
        )
    return in_name or named


def parse_workers(text: str) -> int:
    """1 to 64 processes; an empty cell is 1."""
    if not text:
        return 1
    if not re.fullmatch(r"[0-9]{1,2}", text) or not 1 <= int(text) <= 64:
        raise expected("a whole number from 1 to 64", text)
    return int(text)


def parse_runtime(text: str) -> RuntimeName | Literal["auto"]:
    """A runtime's name; an empty cell is auto."""
    try:
        return _RUNTIMES[text.casefold()]
    except KeyError:
        raise expected("auto, transformers, openvino or vllm", text) from None


def parse_device(text: str) -> str:
    """`auto`, `cpu`, `cuda` or `cuda:N`; an empty cell is auto."""
    device = text.casefold() or "auto"
    if not re.fullmatch(r"auto|cpu|cuda(:(0|[1-9][0-9]?))?", device):
        raise expected("auto, cpu, cuda or cuda:N", text)
    return device


def check_gpus(text: str) -> None:
    """One model on one device is all that this version does."""
    if text not in {"", "1"}:
        raise expected(
            "1 or an empty cell (several GPUs for one model are not available in this version)", text
        )


def parse_context(text: str) -> int | None:
    """Tokens ("8192", "8,192", "8k" of 1024); None for an empty cell: the model's own."""
    if not text:
        return None
    match = _COUNT.fullmatch(text)
    tokens = int(re.sub("[,_]", "", match[1])) * (1024 if match[2] else 1) if match else 0
    if not 1 <= tokens <= LARGEST_CONTEXT:
        raise expected("a number of tokens such as 8192 or 8k", text)
    return tokens
