"""Checks of mathematics: notation to SymPy without eval, recognised questions, and verdicts."""
