"""Checks of answers: pure functions of texts, some of them with libraries that only the sandbox loads."""
