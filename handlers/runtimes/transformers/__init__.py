"""The transformers runtimes: causal, encoder-decoder and embedding models."""
