"""Fields common to all bodies of OpenAI's interface: decoding, extensions, unsupported and unknown fields.

Knows shapes only. An unsupported field is accepted if ignoring it cannot change the answer, else refused by
name; unknown fields are listed in a response header. `prompt` and `input` have four forms: one text, several
texts, one list of token ids, several lists.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema
from starlette.requests import Request

from conductor_admin.http.body import read_json
from handlers.wire import MAX_PROMPT_CHARS, WHOLE, GatewayOptions, RequestError, Sampling, Shape

MAX_CHOICES = 8
MAX_STOPS = 16
_STOP = {"type": "string", "minLength": 1, "maxLength": 256}

ModelName = Annotated[str, Field(min_length=1, max_length=500)]

Prompt = str | tuple[int, ...]
MAX_PROMPTS = 128
MAX_TOKEN_ID = 2**31
MAX_IDS = 500_000
"""Token ids of one prompt; parsing so many takes 25 ms, in which no other thread runs."""

_TEXT = {"type": "string", "minLength": 1, "maxLength": MAX_PROMPT_CHARS}
_IDS = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": MAX_TOKEN_ID},
    "minItems": 1,
    "maxItems": MAX_IDS,
}


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Stop = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=256)]] | None,
    Field(max_length=MAX_STOPS),
    BeforeValidator(_as_list),
    WithJsonSchema(
        {"anyOf": [_STOP, {"type": "array", "items": _STOP, "maxItems": MAX_STOPS}, {"type": "null"}]}
    ),
]


class Part(Shape):
    """A part of a body; unknown fields in it are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)


class Body(GatewayOptions):
    """A body; `refused` maps unsupported fields to the values that are still accepted."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    refused: ClassVar[dict[str, tuple[Any, ...]]] = {}
    harmless: ClassVar[frozenset[str]] = frozenset()

    model: ModelName
    user: Annotated[str, Field(max_length=1_000)] | None = None

    @property
    def asked(self) -> str:
        """The text by which `auto` chooses."""
        raise NotImplementedError

    @property
    def ignored(self) -> list[str]:
        """Names of fields that have no effect, sorted."""
        known = self.refused.keys() | self.harmless
        return sorted((self.model_extra or {}).keys() - known)

    def check_refused(self) -> None:
        """Raise RequestError 400 for a known field that this server cannot honour."""
        for name, value in (self.model_extra or {}).items():
            if name in self.refused and value is not None and value not in self.refused[name]:
                raise RequestError(f"{name} is not supported here", code="unsupported_parameter", param=name)


class Decoding(Sampling, Body):
    """A body that generates; `top_k`, `repetition_penalty` and `json_schema` are extensions."""

    stop: Stop = None

    def sampling(self, **changed: Any) -> Sampling:
        """The body's decoding values, overridden by `changed`."""
        given = {name: getattr(self, name) for name in Sampling.model_fields}
        return Sampling.model_construct(**{**given, **changed})


class Choosing(Decoding):
    """A body that may ask for several answers to one prompt."""

    n: Annotated[int, Field(ge=1, le=MAX_CHOICES), WHOLE] | None = None

    @property
    def choices(self) -> int:
        return self.n or 1


class StreamOptions(Shape):
    """Options of a stream; `include_usage` adds a last chunk with the usage."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    include_usage: bool | None = None

    @property
    def ignored(self) -> list[str]:
        harmless = {"include_obfuscation"}
        return sorted(f"stream_options.{name}" for name in (self.model_extra or {}) if name not in harmless)


class JsonSchemaFormat(Part):
    """The `json_schema` of a response format; the answer always follows it, strict or not."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(Part):
    """Form of the answer's text: free, a JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    @property
    def schema_of_answer(self) -> dict[str, Any] | None:
        """JSON schema of the answer, None for free text; RequestError 400 if json_schema is missing."""
        if self.type == "text":
            return None
        if self.type == "json_object":
            return {"type": "object"}
        if self.json_schema is None:
            raise RequestError(
                "response_format of type json_schema needs json_schema",
                code="invalid_value",
                param="response_format.json_schema",
            )
        return self.json_schema.schema_ or {"type": "object"}


B = TypeVar("B", bound=Body)


async def read_body(request: Request, kind: type[B]) -> B:
    """Read the body as a `kind`; RequestError 400 if it is invalid or has an unsupported field."""
    body = await read_json(request, kind)
    body.check_refused()
    return body


def _many(items: dict[str, Any], most: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most}


def texts_schema(most: int) -> dict[str, Any]:
    """The JSON schema of an input with up to `most` texts."""
    return {"anyOf": [_TEXT, _many(_TEXT, most)]}


PROMPT_SCHEMA = {
    "anyOf": [*texts_schema(MAX_PROMPTS)["anyOf"], _IDS, _many({"anyOf": [_TEXT, _IDS]}, MAX_PROMPTS)]
}


def read_prompts(value: Any, most: int = MAX_PROMPTS) -> list[Prompt]:
    """Check and return the prompts, in order. Raises ValueError."""
    if isinstance(value, str):
        return [_read_text(value)]
    if not isinstance(value, list) or not value:
        raise ValueError("must be a string, token ids, or a list of either")
    if _is_id(value[0]):
        return [_read_ids(value)]
    if len(value) > most:
        raise ValueError(f"at most {most} prompts are accepted at a time")
    return [_read_text(one) if isinstance(one, str) else _read_ids(one) for one in value]


def _read_text(value: str) -> str:
    if not value:
        raise ValueError("a prompt is empty")
    if len(value) > MAX_PROMPT_CHARS:
        raise ValueError(f"a prompt has more than {MAX_PROMPT_CHARS} characters")
    return value


def _read_ids(value: Any) -> tuple[int, ...]:
    if isinstance(value, list) and len(value) > MAX_IDS:
        raise ValueError(f"a prompt has more than {MAX_IDS} token ids")
    if not isinstance(value, list) or not value:
        raise ValueError("each prompt must be a string or token ids")
    if not all(_is_id(one) for one in value):
        raise ValueError(f"token ids must be integers from 0 to {MAX_TOKEN_ID}")
    return tuple(map(int, value))


def _is_id(value: Any) -> bool:
    whole = type(value) is int or (type(value) is float and value.is_integer())
    return whole and 0 <= value <= MAX_TOKEN_ID
