"""Report of a client's script: one line of JSON for each check, and an exit status at the end.

Knows no client: every script imports this file, each in an environment of its own.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

URL = os.environ["CONDUCTOR_URL"]
BASE = f"{URL}/v1"
KEY = os.environ["OPENAI_API_KEY"]
CHAT = "conversational_chat"
COUNT: Any = [
    {"role": "assistant" if number % 2 else "user", "content": said}
    for number, said in enumerate(("1, 2, 3,", "4, 5, 6,", "7, 8, 9,", "10, 11, 12,", "13, 14, 15,"))
]
"""Prompt whose greedy answer has no near tie, so that two requests agree."""
MATHS = "mathematical_reasoning"
SCORED = "scoring"
MODEL_FOLDER = os.environ["MODEL_FOLDER"]
"""Tokenizer and configuration of the model behind `SCORED`, for clients that need local ones."""

MARK = "checked: "
_failed: list[str] = []


@contextmanager
def check(name: str) -> Iterator[None]:
    """Run the block as one check; report its failure, and go on to the next check."""
    try:
        yield
    except Exception as error:  # whatever a client raises is what this check found
        traceback.print_exc()
        _failed.append(name)
        tell(name, f"{type(error).__name__}: {error}")
    else:
        tell(name, None)


def tell(name: str, failure: str | None) -> None:
    """Print one line for the runner."""
    print(MARK + json.dumps({"name": name, "failure": failure}), flush=True)


def finish() -> None:
    """Exit with the status of all checks."""
    sys.exit(1 if _failed else 0)
