"""Prompts whose greedy answer the demo model is sure of, for tests that compare one answer with another.

Two ways to one answer, or two batches it was made in, round differently, and a token that is nearly as likely
as the first may come first in one of them. `tests/contract/test_runtimes_logprobs.py` measures that none is.
"""

from __future__ import annotations

COUNTED = ("1, 2, 3,", "4, 5, 6,", "7, 8, 9,", "10, 11, 12,", "13, 14, 15,")
CONVERSATION = [
    {"role": "assistant" if number % 2 else "user", "content": said} for number, said in enumerate(COUNTED)
]
TEXT = " ".join(COUNTED)
"""The same without a template."""
