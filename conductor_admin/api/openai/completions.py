"""`POST /v1/completions`: continues texts or token ids; `echo` returns the prompt as well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter
from pydantic import Field, PlainValidator, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from conductor_admin.api.fanout import ChoiceRecords, ChoiceResult
from conductor_admin.api.openai.answers import TextChoice, TextCompletionAnswer
from conductor_admin.api.openai.bodies import (
    PROMPT_SCHEMA,
    Choosing,
    Prompt,
    StreamOptions,
    read_prompts,
)
from conductor_admin.api.openai.envelope import (
    Envelope,
    EnvelopeRendering,
    chunk,
    completion_logprobs,
    conductor,
    details,
    usage,
)
from conductor_admin.api.openai.jobs import PromptInput, plan_jobs
from conductor_admin.api.responder import DONE_EVENT, respond
from conductor_admin.api.routing import EVENTS, new_router, reads
from conductor_admin.api.schemas import Tokens
from conductor_admin.gateway import Gateway
from conductor_admin.planner import PlannedRequest
from handlers.logprobs import Echo, Row
from handlers.wire import MAX_PROMPT_CHARS, MAX_TOKENS_CEILING, WHOLE, RequestError, Sampling

FIM_ENGINE = "code_completion"
DEFAULT_TOKENS = 16
"""OpenAI's default of `max_tokens`, used for a model without an engine; engines have their own default."""

NAMES = {
    "json_schema": "response_format",
    "top_logprobs": "logprobs",
    "category": "model",
    "prompt_ids": "prompt",
    "options.suffix": "suffix",
}


class CompletionBody(Choosing):
    """Body of `/v1/completions`."""

    refused: ClassVar[dict[str, tuple[Any, ...]]] = {}
    harmless: ClassVar[frozenset[str]] = frozenset({"metadata", "service_tier", "store"})

    prompt: Annotated[list[Prompt], PlainValidator(read_prompts), WithJsonSchema(PROMPT_SCHEMA)]
    max_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS_CEILING), WHOLE] | None = None
    # The chat interface asks with a flag, this one with a number.
    logprobs: Annotated[int, Field(ge=0, le=5), WHOLE] | None = None  # type: ignore[assignment]
    echo: bool | None = None
    best_of: Annotated[int, Field(ge=1, le=8), WHOLE] | None = None
    suffix: Annotated[str, Field(max_length=MAX_PROMPT_CHARS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def asked(self) -> str:
        """The first text."""
        return next((prompt for prompt in self.prompt if isinstance(prompt, str)), "")

    @property
    def ignored(self) -> list[str]:
        """Names of fields that have no effect, those of `stream_options` last."""
        return [*super().ignored, *(self.stream_options.ignored if self.stream_options else ())]


class TextCompletion(EnvelopeRendering[CompletionBody]):
    """Renders the records of one request's jobs as one answer or as chunks."""

    names = NAMES

    def __init__(self, envelope: Envelope, body: CompletionBody) -> None:
        super().__init__(envelope, body)
        self.streams = bool(body.stream)
        self._head = envelope.head("cmpl", "text_completion")
        self._counts = bool(body.stream_options and body.stream_options.include_usage)
        self._chunk = partial(chunk, self._head, self._counts)
        self._echoed: dict[int, int] = {}
        self._ended: dict[int, ChoiceResult] = {}

    async def plan(self) -> list[PlannedRequest]:
        envelope, body = self.envelope, self.body
        asked = _with_suffix(body, envelope)
        if body.session or body.session_id is not None:
            raise RequestError(
                "sessions are for conversations only", code="invalid_value", param="session_id"
            )
        sampling = _sampling(asked, raw=envelope.target.raw or bool(body.echo))
        prompt_inputs = [_ask(prompt, asked) for prompt in asked.prompt]
        return await plan_jobs(
            envelope.gateway, envelope.target, asked, sampling, envelope.requester, prompt_inputs
        )

    def whole(self, ended: Sequence[ChoiceResult]) -> TextCompletionAnswer:
        choices = [
            TextChoice(
                index=number,
                text=(one.echo.text if one.echo else "") + one.done.text,
                logprobs=self._logprobs(one.done.logprobs or (), one.echo),
                finish_reason=one.done.finish_reason,
            )
            for number, one in enumerate(ended)
        ]
        return TextCompletionAnswer(
            **self._head,
            choices=choices,
            usage=Tokens(**usage(ended, self.body.choices)),
            conductor=details(ended),
        )

    def events(self, item: ChoiceRecords) -> bytes:
        """Chunks for new records of one choice."""
        made = [part for record in item.records for part in self._chunks(item.index, record)]
        if item.done is not None:
            ended = self._ended[item.index] = ChoiceResult(item.job, item.done)
            last = self._choice(item.index, "", None, item.done.finish_reason)
            made.append(self._chunk([last], conductor=conductor(ended)))
        return b"".join(made)

    def last(self) -> bytes:
        """The last events: usage if requested, then `[DONE]`."""
        if not self._counts:
            return DONE_EVENT
        ended = [self._ended[number] for number in sorted(self._ended)]
        return self._chunk([], usage=usage(ended, self.body.choices)) + DONE_EVENT

    def _chunks(self, index: int, record: dict[str, Any]) -> list[bytes]:
        if "prompt" in record:
            echo = Echo("").with_more(record["prompt"])
            self._echoed[index] = self._echoed.get(index, 0) + len(echo.text)
            return [self._chunk([self._choice(index, echo.text, self._logprobs((), echo), None)])]
        if "delta" not in record:
            return []
        told = self._logprobs(record.get("logprobs", ()), None, self._echoed.get(index, 0))
        return [self._chunk([self._choice(index, record["delta"], told, None)])]

    def _logprobs(
        self, tokens: Iterable[Row], echo: Echo | None, start: int | None = None
    ) -> dict[str, Any] | None:
        if self.body.logprobs is None:
            return None
        before = len(echo.text) if echo else 0
        return completion_logprobs(tokens, self.body.logprobs, before if start is None else start, echo)

    def _choice(
        self, index: int, text: str, logprobs: dict[str, Any] | None, reason: str | None
    ) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}


def router(gateway: Gateway) -> APIRouter:
    """The route over `gateway`."""
    routes = new_router()

    @routes.post(
        "/v1/completions",
        response_model=TextCompletionAnswer,
        responses=EVENTS,
        openapi_extra=reads(CompletionBody),
    )
    async def completions(request: Request) -> Response:
        """Continue the prompts, in the form of OpenAI's completions."""
        opening = TextCompletion.open(gateway, request, CompletionBody)
        return await respond(gateway.dispatcher, request, opening)

    return routes


def _ask(prompt: Prompt, body: CompletionBody) -> PromptInput:
    wire: dict[str, Any] = {"attempts": 1 if body.stream else 2}
    if body.echo:
        wire |= {"bare": True, "echo": True, "no_answer": body.max_tokens == 0}
    if isinstance(prompt, str):
        return PromptInput(wire, prompt=prompt)
    return PromptInput(wire, prompt_ids=list(prompt))


def _sampling(body: CompletionBody, *, raw: bool) -> Sampling:
    if body.best_of is not None and body.best_of != body.choices:
        raise RequestError("best_of must equal n", code="unsupported_parameter", param="best_of")
    if body.max_tokens == 0 and not body.echo:
        raise RequestError("max_tokens 0 requires echo", code="invalid_value", param="max_tokens")
    asked = body.max_tokens or (None if body.max_tokens is None else 1)
    return body.sampling(
        max_tokens=DEFAULT_TOKENS if asked is None and raw else asked,
        logprobs=None if body.logprobs is None else True,
        top_logprobs=body.logprobs or None,
    )


def _with_suffix(body: CompletionBody, envelope: Envelope) -> CompletionBody:
    """Move prompt and `suffix` into the options of the engine that fills the middle.

    Raises RequestError 400 for another engine and for anything but one text.
    """
    if not body.suffix:
        return body
    engine = None if envelope.target.raw else envelope.target.row.engine
    if engine != FIM_ENGINE or body.echo or len(body.prompt) != 1 or not isinstance(body.prompt[0], str):
        raise RequestError(
            f"suffix requires a single prompt and a category whose engine is {FIM_ENGINE}",
            code="unsupported_parameter",
            param="suffix",
        )
    options = {"prefix": body.prompt[0], "suffix": body.suffix, **body.options}
    return body.model_copy(update={"options": options})
