"""What every body of OpenAI's interface has: decoding fields, extensions, and fields nobody here knows.

Knows shapes only. Fields that this server can do nothing with are either harmless, and accepted, or refused
by name where leaving them out would change the answer; what is not known at all is named in a header.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, WithJsonSchema
from starlette.requests import Request

from conductor_admin.body import read_json
from handlers.wire import WHOLE, RequestError, Sampling, Shape, Wishes

MAX_CHOICES = 8
MAX_STOPS = 16
_STOP = {"type": "string", "minLength": 1, "maxLength": 256}

ModelName = Annotated[str, Field(min_length=1, max_length=500)]


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
    """A piece of a larger shape; what it does not name is left alone."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)


class Body(Wishes):
    """A body; `refused` maps fields that would change the answer to the values that ask for nothing."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    refused: ClassVar[dict[str, tuple[Any, ...]]] = {}
    harmless: ClassVar[frozenset[str]] = frozenset()

    model: ModelName
    user: Annotated[str, Field(max_length=1_000)] | None = None

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
        """The decoding values that are given, those of `changed` instead of the body's own."""
        given = {name: getattr(self, name) for name in Sampling.model_fields}
        return Sampling.model_construct(**{**given, **changed})


class Choosing(Decoding):
    """A body that may ask for several answers to one prompt."""

    n: Annotated[int, Field(ge=1, le=MAX_CHOICES), WHOLE] | None = None

    @property
    def choices(self) -> int:
        return self.n or 1


class StreamOptions(Shape):
    """What a stream tells besides the answer; `usage` in every chunk is not told."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    include_usage: bool | None = None

    @property
    def ignored(self) -> list[str]:
        harmless = {"include_obfuscation"}
        return sorted(f"stream_options.{name}" for name in (self.model_extra or {}) if name not in harmless)


class JsonSchemaFormat(Part):
    """The `json_schema` of a response format; strict or not, the answer is held to it."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None


class ResponseFormat(Part):
    """How the answer's text is to be formed."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    @property
    def schema_of_answer(self) -> dict[str, Any] | None:
        """The schema that the answer is held to; RequestError 400 where a json_schema is missing."""
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
    """The body as a `kind`; RequestError 400 for what does not fit or cannot be honoured."""
    body = await read_json(request, kind)
    body.check_refused()
    return body
