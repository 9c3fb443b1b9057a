"""Randomly initialised models of a few hundred kilobytes, with a byte-level tokenizer, saved as folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    M2M100Config,
    M2M100ForConditionalGeneration,
    NllbTokenizer,
)

PAD, EOS, SOURCE_LANGUAGE, TARGET_LANGUAGE = 0, 1, 2, 3
SPECIAL = ["<pad>", "</s>", "<src>", "<tgt>"]
VOCABULARY = 300


def tiny_llama(folder: Path) -> Path:
    """A causal model with 2,048 positions; its logits are spread enough for a varied greedy text."""
    torch.manual_seed(7)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            initializer_range=0.4,
            pad_token_id=PAD,
            bos_token_id=EOS,
            eos_token_id=EOS,
        )
    )
    return _save(model, folder)


def tiny_m2m100(folder: Path) -> Path:
    """An encoder-decoder model of NLLB's family with 128 positions; it starts its answers with <tgt>."""
    torch.manual_seed(7)
    model = M2M100ForConditionalGeneration(
        M2M100Config(
            vocab_size=VOCABULARY,
            d_model=64,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=128,
            decoder_ffn_dim=128,
            max_position_embeddings=128,
            init_std=0.4,
            pad_token_id=PAD,
            bos_token_id=EOS,
            eos_token_id=EOS,
            decoder_start_token_id=EOS,
        )
    )
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=EOS, forced_bos_token_id=TARGET_LANGUAGE
    )
    return _save(model, folder)


def tiny_nllb(folder: Path) -> Path:
    """NLLB with 128 positions: its own tokenizer class with all language codes, a token for each letter."""
    torch.manual_seed(7)
    letters = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,?!'"
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    tokenizer = NllbTokenizer(vocab={token: i for i, token in enumerate([*specials, *letters])})
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    model = M2M100ForConditionalGeneration(
        M2M100Config(
            vocab_size=len(tokenizer),
            d_model=64,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=4,
            decoder_attention_heads=4,
            encoder_ffn_dim=128,
            decoder_ffn_dim=128,
            max_position_embeddings=128,
            init_std=0.4,
            pad_token_id=pad,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=end,
            decoder_start_token_id=end,
        )
    )
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        pad_token_id=pad, eos_token_id=end, decoder_start_token_id=end
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_bert(folder: Path, **pooling: bool) -> Path:
    """An embedding model of 32 dimensions as sentence-transformers writes it, for texts of 24 tokens."""
    torch.manual_seed(7)
    model = BertModel(
        BertConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
            initializer_range=0.4,
            pad_token_id=PAD,
        )
    )
    _save(model, folder)
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    listed = [{"type": f"sentence_transformers.models.{name}", "path": path} for name, path in modules]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 24, "do_lower_case": true}')
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 48}')
    return folder


def byte_tokenizer() -> Tokenizer:
    """A tokenizer with a token for each byte, special tokens before and spare tokens after them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*SPECIAL, *alphabet, *(f"<extra{i}>" for i in range(VOCABULARY - len(SPECIAL) - len(alphabet)))]
    tokenizer = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([t for t in tokens if t.startswith("<") and len(t) > 1])
    return tokenizer


def _save(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    return folder
