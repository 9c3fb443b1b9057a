"""What a client's script tells: one line of JSON for each thing that it tried, and an exit status at the end.

Knows no client: it is the only file here that every one of them imports, in environments of their own.
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
"""Its greedy answer has no near tie, so that two requests for it agree."""
MATHS = "mathematical_reasoning"
SCORED = "scoring"
MODEL_FOLDER = os.environ["MODEL_FOLDER"]
"""The tokenizer and configuration of the model behind `SCORED`, for clients that want one of their own."""

MARK = "checked: "
_failed: list[str] = []


@contextmanager
def check(name: str) -> Iterator[None]:
    """Run the block as one check; its failure is told, and the next check is run."""
    try:
        yield
    except Exception as error:  # whatever a client raises is what this check found
        traceback.print_exc()
        _failed.append(name)
        tell(name, f"{type(error).__name__}: {error}")
    else:
        tell(name, None)


def tell(name: str, failure: str | None) -> None:
    """One line for the runner."""
    print(MARK + json.dumps({"name": name, "failure": failure}), flush=True)


def finish() -> None:
    """End the process."""
    sys.exit(1 if _failed else 0)
