"""Prompts with a clear greedy answer of the demo model, for tests that compare one answer with another.

Different computations of one answer round differently, so a token that is nearly as likely as the first one
may win in one of them. `tests/contract/test_runtimes_logprobs.py` checks that there is no such token.
"""

from __future__ import annotations

COUNTED = ("1, 2, 3,", "4, 5, 6,", "7, 8, 9,", "10, 11, 12,", "13, 14, 15,")
CONVERSATION = [
    {"role": "assistant" if number % 2 else "user", "content": said} for number, said in enumerate(COUNTED)
]
TEXT = " ".join(COUNTED)
"""The same prompt without a template."""
