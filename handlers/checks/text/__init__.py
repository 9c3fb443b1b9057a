"""Checks of plain text: quotes, citations, languages, sentences and JSON."""
