"""Folders of tiny translation models as in their repositories: SentencePiece files, no tokenizer.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import M2M100Config, M2M100ForConditionalGeneration, MarianConfig, MarianMTModel
from transformers.utils import sentencepiece_model_pb2_new as sentencepiece

LETTERS = "abcdefghijklmnopqrstuvwxyz.,"
WORDS = ["▁the", "▁cat", "▁sat", "he", "at", "ca"]
UNIGRAM, BPE = 1, 2
WIDTH: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
}
HEADS: dict[str, Any] = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}


def write_spm(path: Path, kind: int, pieces: list[str]) -> None:
    """Writes a SentencePiece model whose earlier pieces are more likely."""
    model = sentencepiece.ModelProto()  # type: ignore[attr-defined]
    for token in ("<unk>", "<s>", "</s>"):
        model.pieces.add(piece=token, score=0.0, type=2 if token == "<unk>" else 3)
    for number, token in enumerate(pieces, start=1):
        model.pieces.add(piece=token, score=-float(number), type=1)
    model.trainer_spec.model_type = kind
    model.trainer_spec.unk_id = 0
    path.write_bytes(model.SerializeToString())


def tiny_marian(folder: Path, extra: tuple[str, ...] = ()) -> Path:
    """An English to German model with 64 positions; only the target vocabulary has `extra` pieces."""
    folder.mkdir()
    pieces = [*WORDS, "▁", *LETTERS]
    write_spm(folder / "source.spm", UNIGRAM, pieces)
    write_spm(folder / "target.spm", UNIGRAM, [*extra, *pieces])
    vocabulary = ["</s>", "<unk>", *extra, *reversed(pieces), "<pad>"]
    _write(folder / "vocab.json", {token: number for number, token in enumerate(vocabulary)})
    _write(folder / "tokenizer_config.json", {"source_lang": "en", "target_lang": "de"})
    pad = len(vocabulary) - 1
    torch.manual_seed(7)
    config = MarianConfig(
        vocab_size=len(vocabulary),
        max_position_embeddings=64,
        pad_token_id=pad,
        eos_token_id=0,
        decoder_start_token_id=pad,
        init_std=0.4,
        **WIDTH,
        **HEADS,
    )
    return _save(MarianMTModel(config), folder)


def tiny_m2m100(folder: Path) -> Path:
    """A model with all hundred languages and 64 positions."""
    folder.mkdir()
    pieces = ["▁t", "he", "▁the", "at", "▁", *LETTERS]
    write_spm(folder / "sentencepiece.bpe.model", BPE, pieces)
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *pieces]
    _write(folder / "vocab.json", {token: number for number, token in enumerate(vocabulary)})
    torch.manual_seed(7)
    config = M2M100Config(
        vocab_size=len(vocabulary) + 108, max_position_embeddings=64, init_std=0.4, **WIDTH, **HEADS
    )
    return _save(M2M100ForConditionalGeneration(config), folder)


def _save(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value))
