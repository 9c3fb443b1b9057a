"""instructor: pydantic models out of answers, in its three ways of asking.

In JSON mode the schema is only in the prompt, and the demo model repeats it: the check is that each answer
was a JSON object, as `response_format` requires.
"""

from __future__ import annotations

import json

import instructor
from checks import BASE, CHAT, KEY, check, finish
from instructor.core import InstructorRetryException
from openai import OpenAI
from pydantic import BaseModel, Field


class City(BaseModel):
    """A city."""

    name: str = Field(max_length=20)
    country: str = Field(max_length=20)


def extract(mode: instructor.Mode) -> City:
    client = instructor.from_openai(OpenAI(base_url=BASE, api_key=KEY), mode=mode)
    return client.chat.completions.create(
        model=CHAT,
        messages=[{"role": "user", "content": "Paris is a city in France. Extract it."}],
        response_model=City,
        max_tokens=200,
        temperature=0,
        max_retries=2,
    )


for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
    with check(f"{mode.name} mode"):
        assert isinstance(extract(mode), City)

with check("JSON mode, a JSON object each time"):
    try:
        extract(instructor.Mode.JSON)
    except InstructorRetryException as error:
        for attempt in error.failed_attempts:
            assert isinstance(json.loads(attempt.completion.choices[0].message.content), dict)

finish()
