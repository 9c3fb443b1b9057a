"""Bases of the project's models: no value in the text of an error, and on the wire no guessing at types.

Two readings that pydantic's strict mode has no word for are here too.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator


class Shape(BaseModel):
    """The base of all models: the text of an error about one never shows the value at fault.

    Such a text may end in a log, and the values are prompts and answers.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _let_others_run(cls, value: Any) -> Any:
        # pydantic keeps the interpreter's lock, for 110 ms over 16,000 calls of tools. A call of Python is
        # where another thread may take it: 0.2 us for each value of the model.
        return value


class Strict(Shape):
    """The base of the shapes on the wire: strict, frozen, finite."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _whole(value: object) -> object:
    # To JSON, and to clients whose only number is a float, 5.0 is a whole number.
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Stands after an integer's bounds, which a JSON schema would not show otherwise."""


def no_number(value: object) -> object:
    """Refuses numbers where `"new"`, true or false is meant."""
    # To Python, and so to a Literal, 1 is True.
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError('Input should be "new", true or false')
    return value
