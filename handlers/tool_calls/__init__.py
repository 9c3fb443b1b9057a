"""Tool calls: found in a model's text while it is written."""
