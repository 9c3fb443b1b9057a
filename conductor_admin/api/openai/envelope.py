"""The envelope of all answers under /v1: id, time, names, headers, usage, log-probabilities, stream frames.

Knows OpenAI's envelopes and frames; the renderings of the routes fill them.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Generic, Self, TypeVar

import orjson
from starlette.requests import Request

from conductor_admin.api.fanout import ChoiceResult
from conductor_admin.api.openai.answers import AnswerDetails, ChoicesDetails
from conductor_admin.api.openai.bodies import Body, read_body
from conductor_admin.api.openai.jobs import Requester
from conductor_admin.api.responder import Rendering
from conductor_admin.api.targets import Target, target_of
from conductor_admin.auth.caller import caller_of
from conductor_admin.gateway import Gateway
from conductor_admin.planner import PlannedRequest
from conductor_core.catalogue import WorkerSet
from handlers.logprobs import Echo, Row
from handlers.long_records import ROWS, batches, one_list

_MOST_IGNORED = 32

LEAST_LOGPROB = -9999.0
"""Log-probability of an impossible token, because JSON has no infinity."""

Tokens = Iterable[Row]

B = TypeVar("B", bound=Body)


@dataclass(frozen=True, slots=True)
class Envelope:
    """One request that is being answered: its target, caller, and the time it came."""

    gateway: Gateway
    target: Target
    requester: Requester
    fingerprint: str
    created: int = field(default_factory=lambda: int(time.time()))

    def head(self, prefix: str, kind: str) -> dict[str, Any]:
        """Fields that every object of this exchange begins with."""
        return {
            "id": f"{prefix}-{self.requester.request_id}",
            "object": kind,
            "created": self.created,
            "model": self.target.name,
            "system_fingerprint": self.fingerprint,
        }


class EnvelopeRendering(Rendering, Generic[B]):
    """Rendering of a body under /v1."""

    def __init__(self, envelope: Envelope, body: B) -> None:
        self.envelope = envelope
        self.body = body

    @classmethod
    async def open(cls, gateway: Gateway, request: Request, body_type: type[B]) -> Self:
        """Read the body, and find its target. RequestError 400 for the body, 404 for an unknown model."""
        body = await read_body(request, body_type)
        caller = caller_of(request)
        target = await target_of(gateway, body.model, caller, body.asked)
        requester = Requester(caller, request.state.request_id)
        mark = fingerprint(gateway.catalogue.set_of(target.row.slug))
        return cls(Envelope(gateway, target, requester, mark), body)

    def headers(self, job: PlannedRequest) -> dict[str, str]:
        """Headers of the answer: category, model, reason of the choice, ignored fields and session."""
        row = self.envelope.target.row
        found = {
            "x-conductor-category": row.slug,
            "x-conductor-model": _printable(row.technical_model_name),
            "x-conductor-reason": _printable(self.envelope.target.reason or ""),
            "x-conductor-ignored": ", ".join(map(_printable, self.body.ignored[:_MOST_IGNORED])),
            **super().headers(job),
        }
        return {name: value for name, value in found.items() if value}


def fingerprint(worker_set: WorkerSet) -> str:
    """Hash of model, precision, runtime and device: it changes when one of them does."""
    first = worker_set.first
    text = f"{first.technical_model_name}|{first.precision.value}|{worker_set.runtime}|{worker_set.device}"
    return f"fp_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def conductor(outcome: ChoiceResult) -> dict[str, Any]:
    """Conductor's own fields of an answer: category, findings, timings and session."""
    session = outcome.job.session
    return {
        "category": outcome.job.row.slug,
        "findings": outcome.done.findings,
        "timings": outcome.done.timings.model_dump(),
        "session_id": session.id if session else None,
    }


def details(ended: Sequence[ChoiceResult]) -> AnswerDetails | ChoicesDetails:
    """Conductor's own fields of a whole answer, a list of them for several choices."""
    found = [AnswerDetails(**conductor(outcome)) for outcome in ended]
    return found[0] if len(found) == 1 else ChoicesDetails(choices=found)


def usage(outcomes: Sequence[ChoiceResult], choices: int) -> dict[str, int]:
    """Tokens of all answers; a prompt counts once, however many choices it has."""
    prompt = sum(outcome.done.usage.prompt_tokens for outcome in outcomes[::choices])
    completion = sum(outcome.done.usage.completion_tokens for outcome in outcomes)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _printable(text: str) -> str:
    return re.sub(r"[^\x20-\x7e]", "?", text[:200])


def chat_logprobs(tokens: Tokens) -> dict[str, Any]:
    """`choices[].logprobs` of a chat or a chunk; its list is already JSON text, for `orjson.dumps`."""
    lists = []
    for some in batches(tokens, ROWS):
        rows = [
            {
                **_logprob_entry(token),
                "top_logprobs": [_logprob_entry(other) for other in token.get("top", ())],
            }
            for token in some
        ]
        lists.append(orjson.dumps(rows))
    return {"content": one_list(lists), "refusal": None}


def _logprob_entry(token: Row) -> dict[str, Any]:
    return {"token": token["token"], "logprob": _finite(token["logprob"]), "bytes": token["bytes"]}


def completion_logprobs(tokens: Tokens, top: int, start: int, echo: Echo | None = None) -> dict[str, Any]:
    """`choices[].logprobs` of a completion or a chunk; its lists are already JSON text.

    `start` is the offset of the tokens in the choice's text, in characters; the prompt of `echo` comes before
    them.
    """
    prompt = echo.tokens if echo and echo.tokens is not None else ()
    placed = chain(((token, 0) for token in prompt), ((token, start) for token in tokens))
    parts = [_columns(some) for some in batches(placed, ROWS)]
    names, values, tops, offsets = (one_list(part[number] for part in parts) for number in range(4))
    return {
        "tokens": names,
        "token_logprobs": values,
        "top_logprobs": tops if top else None,
        "text_offset": offsets,
    }


def _columns(placed: list[tuple[Row, int]]) -> tuple[bytes, bytes, bytes, bytes]:
    values = [token["logprob"] for token, _ in placed]
    return (
        orjson.dumps([_token_name(token) for token, _ in placed]),
        orjson.dumps([None if value is None else _finite(value) for value in values]),
        orjson.dumps([_top_logprobs(token) for token, _ in placed]),
        orjson.dumps([start + token["offset"] for token, start in placed]),
    )


def _top_logprobs(token: Row) -> dict[str, float] | None:
    if token["logprob"] is None:
        return None
    found: dict[str, float] = {}
    for one in (*token.get("top", ()), token):
        value, name = _finite(one["logprob"]), _token_name(one)
        found[name] = max(value, found.get(name, value))
    return found


def _token_name(token: Row) -> str:
    """The token's text, or its bytes if they are not UTF-8: many such tokens share one text."""
    spelt = bytes(token["bytes"])
    try:
        spelt.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelt)
    return str(token["token"])


def _finite(value: float | None) -> float:
    return LEAST_LOGPROB if value is None or value < LEAST_LOGPROB else value


def frame(value: Mapping[str, Any]) -> bytes:
    """One server-sent event without a name."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def chunk(head: Mapping[str, Any], counts: bool, choices: Sequence[Mapping[str, Any]], **more: Any) -> bytes:
    """One chunk of a stream of choices; where usage is counted at the end, the others say null."""
    counted = {"usage": None} if counts else {}
    return frame({**head, "choices": choices, **counted, **more})
