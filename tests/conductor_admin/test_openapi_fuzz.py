"""Every operation of /openapi.json under generated requests: every answer is one that the document allows."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from requests import Session
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from handlers.engines.registry import engine_class
from handlers.wire import GenerateRequest, RequestError
from handlers.worker.requests import error_record
from tests.conductor_admin.fake_torchserve import three_words
from tests.conductor_admin.gateway_rig import OWNER_TOKEN, MakeRig, Rig

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
MODES = {"right": GenerationMode.POSITIVE, "wrong": GenerationMode.NEGATIVE}
CATEGORIES = ("conversational_chat", "legal_analysis", "translation")
UNAVAILABLE = {503, 504}
"""Statuses that the document names and that are no defects."""
TOO_LARGE = 413


async def document(rig: Rig) -> dict[str, Any]:
    return dict((await rig.client.get("/openapi.json")).json())


async def test_every_operation_says_what_it_answers(rig: Rig) -> None:
    said = await document(rig)
    empty = [
        f"{method.upper()} {path} {kind}"
        for path, found in said["paths"].items()
        for method, operation in found.items()
        for kind, content in success(operation).items()
        if not described(said, content["schema"])
    ]
    assert empty == []
    assert all(success(operation) for found in said["paths"].values() for operation in found.values())


def success(operation: dict[str, Any]) -> dict[str, Any]:
    """Content of the successful answers, by type."""
    return {
        kind: content
        for status, answer in operation["responses"].items()
        if status.startswith("2")
        for kind, content in answer["content"].items()
    }


def described(said: dict[str, Any], schema: dict[str, Any]) -> bool:
    """False for a schema that allows any object or any value."""
    if "$ref" in schema:
        schema = said["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema.get("type") == "string" or bool(schema.get("properties"))


async def test_every_reference_of_the_document_leads_somewhere(rig: Rig) -> None:
    said = await document(rig)
    schemathesis.openapi.from_dict(said).validate()
    for reference in set(references(said)):
        place = said
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def references(value: Any) -> list[str]:
    """Every `$ref` below a value."""
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for one in value.values() for found in references(one)]
    return [found for one in value for found in references(one)] if isinstance(value, list) else []


@pytest.mark.parametrize("mode", MODES)
async def test_generated_requests_get_what_the_document_says(make_rig: MakeRig, mode: str) -> None:
    await fuzz(make_rig, mode, 12)


@pytest.mark.proof
@pytest.mark.parametrize("mode", MODES)
async def test_many_generated_requests_get_what_the_document_says(make_rig: MakeRig, mode: str) -> None:
    await fuzz(make_rig, mode, 200)


async def worded(body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Refuse wrong options as a real worker does, else answer."""
    request = GenerateRequest.model_validate(body)
    try:
        engine_class(request.engine)().accept(request)
    except RequestError as error:
        yield error_record(error)
        return
    async for record in three_words(body):
        yield record


async def fuzz(make_rig: MakeRig, mode: str, examples: int) -> None:
    """Call each operation `examples` times, with existing keys and categories half of the time."""
    async with make_rig(max_wait_s=1.0) as rig:
        rig.torchserve.script = worded
        schema = schemathesis.openapi.from_dict(await document(rig))
        seen: Counter[int] = Counter()
        for found in schema.get_all_operations():
            assert isinstance(found, Ok)
            operation = found.ok()
            if mode == "right" or operation.body or operation.query:
                await asyncio.to_thread(ask, rig.url, operation, MODES[mode], examples, seen)
        assert (await rig.client.post("/generate", json={"prompt": "x"})).status_code in (200, 401)
        assert seen[200] or mode == "wrong"


def ask(url: str, operation: Any, mode: GenerationMode, examples: int, seen: Counter[int]) -> None:
    """Call one operation; fail at the first answer that the document does not allow."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), known=st.sampled_from((None, *CATEGORIES)))
    def run(case: Any, known: str | None) -> None:
        if known is not None and "category" in case.path_parameters:
            case.path_parameters["category"] = known
        with Session() as session:
            session.trust_env = False
            answer = case.call(
                base_url=url, session=session, headers={"authorization": f"Bearer {OWNER_TOKEN}"}, timeout=30
            )
        seen[answer.status_code] += 1
        checks = [*CHECKS]
        # A 500 of /ping is TorchServe's own status for not ready.
        if answer.status_code not in UNAVAILABLE and operation.path != "/ping":
            checks.append(not_a_server_error)
        # A text beyond its `maxLength` may exceed the body's limit first: 413 is a refusal too.
        if mode is GenerationMode.NEGATIVE and known is None and answer.status_code != TOO_LARGE:
            checks.append(negative_data_rejection)
        case.validate_response(answer, checks=checks)

    run()
