"""Information extraction: the answer is JSON of the given schema, or nothing."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field

from handlers.checks.text.json_answers import read_json
from handlers.engines.base import BaseLLMEngine, EngineOptions, Prepared, read_options
from handlers.wire import GenerateRequest, Sampling, bad_option

ANYTHING: dict[str, Any] = {"type": "object"}


class ExtractionOptions(EngineOptions):
    """`options` of this engine; without a `schema` any object will do."""

    json_schema: Annotated[
        dict[str, Any], Field(alias="schema", description="the JSON Schema that the answer must meet")
    ] = ANYTHING


class InformationExtraction(BaseLLMEngine):
    """The schema binds the decoding; the check holds the answer against it again."""

    name: ClassVar[str] = "information_extraction"
    system_prompt: ClassVar[str] = (
        "You extract information from the user's text as JSON. Take values from the text as they stand "
        "there; leave out or set to null what it does not say."
    )
    defaults: ClassVar[Sampling] = Sampling(max_tokens=1024, temperature=0.0)
    options_type: ClassVar[type[EngineOptions]] = ExtractionOptions
    libraries: ClassVar[tuple[str, ...]] = ("jsonschema", "referencing")

    def accept(self, request: GenerateRequest) -> None:
        """Also refuses what is no schema, with the path of the mistake."""
        super().accept(request)
        from jsonschema import Draft202012Validator, SchemaError

        try:
            Draft202012Validator.check_schema(_schema(request))
        except SchemaError as error:
            raise bad_option("schema", f"{error.message[:200]} at {error.json_path}") from error

    def prepare(self, request: GenerateRequest) -> Prepared:
        """The decoding is bound to the schema."""
        whole = super().prepare(request)
        sampling = whole.sampling.model_copy(update={"json_schema": _schema(request)})
        return Prepared(whole.messages, sampling)

    def check(self, request: GenerateRequest, text: str) -> dict[str, Any]:
        """`data`, null where the answer is cut, no JSON, or not of the schema."""
        self.accept(request)
        try:
            data = read_json(text)
        except ValueError:
            return {"data": None, "warnings": ["the answer is no JSON, or was cut"]}
        if wrong := _mistake(data, _schema(request)):
            return {"data": None, "warnings": [wrong]}
        return {"data": data, "warnings": []}

    def unknown(self, reason: str) -> dict[str, Any]:
        """No data: what could not be held against the schema is not called valid."""
        return {"data": None, "warnings": [reason]}


def _schema(request: GenerateRequest) -> dict[str, Any]:
    return read_options(ExtractionOptions, request).json_schema


def _mistake(data: Any, schema: dict[str, Any]) -> str | None:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    # A registry of its own: the default one would fetch a reference from the network.
    registry: Registry[Any] = Registry()
    try:
        found = best_match(Draft202012Validator(schema, registry=registry).iter_errors(data))
    except Unresolvable as error:
        return f"the schema refers to something outside itself: {error}"
    return f"not of the schema: {found.message[:200]} at {found.json_path}" if found else None
