"""Checks of answers by libraries: code, mathematics and tables, run in the sandbox."""
