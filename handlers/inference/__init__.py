"""Inference: a request to text, by an engine, a loaded model, its template and its tokenizer."""
