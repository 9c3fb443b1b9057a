"""Checks of answers as texts: quotes, citations, languages, JSON and their like."""
