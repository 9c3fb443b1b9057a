"""Information extraction: the answer is JSON of the given schema, or nothing."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from handlers.checks.text.json_answers import read_json
from handlers.engines.base import BaseLLMEngine, EngineOptions, EnginePrompt, read_options
from handlers.wire import GenerateRequest, Sampling, bad_option

ANYTHING: dict[str, Any] = {"type": "object"}


class ExtractionOptions(EngineOptions):
    """`options` of this engine; without a `schema` any JSON object is accepted."""

    json_schema: Annotated[
        dict[str, Any],
        Field(alias="schema", description="JSON Schema for the answer; default: any JSON object"),
    ] = ANYTHING


class InformationExtraction(BaseLLMEngine):
    """Constrains the decoding to the schema, and validates the answer against it again."""

    name: ClassVar[str] = "information_extraction"
    system_prompt: ClassVar[str] = (
        "You extract information from the user's text as JSON. Take values from the text as they stand "
        "there; leave out or set to null what it does not say."
    )
    defaults: ClassVar[Sampling] = Sampling(max_tokens=1024, temperature=0.0)
    options_type: ClassVar[type[EngineOptions]] = ExtractionOptions
    libraries: ClassVar[tuple[str, ...]] = ("jsonschema", "referencing")

    def accept(self, request: GenerateRequest) -> None:
        """Also refuses an invalid schema, with the path of the mistake."""
        super().accept(request)
        from jsonschema import Draft202012Validator, SchemaError

        try:
            Draft202012Validator.check_schema(_schema(request))
        except SchemaError as error:
            raise bad_option("schema", f"{error.message[:200]} at {error.json_path}") from error

    def prepare(self, request: GenerateRequest) -> EnginePrompt:
        """The conversation, with decoding constrained to the schema."""
        whole = super().prepare(request)
        sampling = whole.sampling.model_copy(update={"json_schema": _schema(request)})
        return EnginePrompt(whole.messages, sampling)

    def check(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """The JSON value as `data`; null if the answer is cut off, not JSON, or does not match the schema."""
        self.accept(request)
        try:
            data = read_json(text)
        except ValueError:
            return {"data": None, "warnings": ["the answer is not valid JSON, or was cut off"]}
        if wrong := _mistake(data, _schema(request)):
            return {"data": None, "warnings": [wrong]}
        return {"data": data, "warnings": []}

    def unknown(self, reason: str) -> dict[str, Any]:
        """Findings without data, because data that was not validated must not look valid."""
        return {"data": None, "warnings": [reason]}


def _schema(request: GenerateRequest) -> dict[str, Any]:
    return read_options(ExtractionOptions, request).json_schema


def _mistake(data: Any, schema: dict[str, Any]) -> str | None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    # An empty registry: the default one would fetch references from the network.
    registry: Registry[Any] = Registry()
    try:
        found = best_match(Draft202012Validator(schema, registry=registry).iter_errors(data))
    except Unresolvable as error:
        return f"the schema refers to something outside itself: {error}"
    return f"does not match the schema: {found.message[:200]} at {found.json_path}" if found else None
