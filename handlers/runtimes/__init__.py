"""Runtimes: adapters of inference libraries to one seam, token ids in and steps of token ids out."""
