"""Checks of code: languages, fenced blocks, syntax and the end of a completion."""
