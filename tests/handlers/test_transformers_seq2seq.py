"""The sequence-to-sequence runtime on a tiny model of NLLB's family."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForSeq2SeqLM

from handlers.runtimes.base import RuntimeConfig, SamplingPlan
from handlers.runtimes.transformers.causal import open_runtime
from handlers.runtimes.transformers.seq2seq import Seq2SeqRuntime
from handlers.wire import RequestError
from tests.handlers.runtime_calls import PATIENCE_S, ask, drain, leave_after_first_step, settled
from tests.handlers.tiny_models import EOS, SOURCE_LANGUAGE, TARGET_LANGUAGE, VOCABULARY

PROMPT = [SOURCE_LANGUAGE, 40, 50, 60, EOS]
OTHER = [SOURCE_LANGUAGE, 90, EOS]
NO_EOS = {EOS: -100.0}


@pytest.fixture(scope="module")
def folder(tiny_m2m100_folder: Path) -> Path:
    return tiny_m2m100_folder


@pytest.fixture(scope="module")
def runtime(folder: Path) -> Iterator[Seq2SeqRuntime]:
    fatal: list[str] = []
    made = open_runtime(RuntimeConfig(folder, "FP32", threads=2), fatal.append)
    assert isinstance(made, Seq2SeqRuntime)
    yield made
    made.close()
    assert fatal == []


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32)


def direct(model: Any, prompt: list[int], tokens: int, language: int = TARGET_LANGUAGE) -> list[int]:
    """The answer of `model.generate` after the language token, without the end token."""
    output = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        num_beams=1,
        max_new_tokens=tokens + 1,
        forced_bos_token_id=language,
    )
    ids: list[int] = output[0, 2:].tolist()
    return ids[: ids.index(EOS)] if EOS in ids else ids


async def test_greedy_equals_generate_called_directly(runtime: Seq2SeqRuntime, model: Any) -> None:
    for prompt in (PROMPT, OTHER):
        assert (await ask(runtime, prompt, 20)).ids == direct(model, prompt, 20)


async def test_rows_of_one_batch_keep_their_own_length_language_and_sampling(
    runtime: Seq2SeqRuntime, model: Any
) -> None:
    answers = await asyncio.gather(
        ask(runtime, PROMPT, 20),
        ask(runtime, OTHER, 3, logit_bias=NO_EOS),
        ask(runtime, OTHER, 12, prefix_ids=(SOURCE_LANGUAGE,)),
        ask(runtime, PROMPT, 12, logit_bias={77: 500.0}),
        ask(runtime, PROMPT, 12, temperature=1.5, seed=3),
    )
    assert answers[0].ids == direct(model, PROMPT, 20)
    assert (len(answers[1].ids), answers[1].reason) == (3, "length")
    assert answers[2].ids == direct(model, OTHER, 12, SOURCE_LANGUAGE)
    assert answers[3].ids == [77] * 12
    assert answers[4].ids == (await ask(runtime, PROMPT, 12, temperature=1.5, seed=3)).ids


async def test_a_schema_gives_json_that_fits_it(runtime: Seq2SeqRuntime, folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    answer = await ask(runtime, PROMPT, 60, json_schema={"enum": ["one", "two"]})
    assert json.loads(tokenizer.decode(answer.ids)) in {"one", "two"}
    assert answer.reason == "stop"


async def test_logprobs_leave_out_the_language_and_equal_the_score(runtime: Seq2SeqRuntime) -> None:
    answer = await ask(runtime, PROMPT, 5, top_logprobs=2, logit_bias=NO_EOS)
    (score,) = await runtime.score(PROMPT, [answer.ids])
    assert answer.logprobs == pytest.approx(score, abs=1e-3)


async def test_score_equals_the_log_softmax_of_a_direct_forward_pass(
    runtime: Seq2SeqRuntime, model: Any
) -> None:
    scores = await runtime.score(PROMPT, [[70, 71, 72], [], [80]])
    decoder = torch.tensor([[EOS, TARGET_LANGUAGE, 70, 71, 72]])
    with torch.inference_mode():
        logits = model(torch.tensor([PROMPT]), decoder_input_ids=decoder).logits[0].log_softmax(dim=-1)
    expected = [float(logits[1 + place, token]) for place, token in enumerate([70, 71, 72])]
    assert scores[0] == pytest.approx(expected, abs=1e-3)
    assert [len(score) for score in scores] == [3, 0, 1]


async def test_leaving_a_stream_ends_its_row_and_the_neighbour_finishes(
    runtime: Seq2SeqRuntime, model: Any
) -> None:
    neighbour = asyncio.create_task(ask(runtime, PROMPT, 40))
    await leave_after_first_step(runtime, OTHER, max_tokens=120, logit_bias=NO_EOS)
    assert (await neighbour).ids == direct(model, PROMPT, 40)
    await settled(runtime)


@pytest.mark.parametrize(
    ("prompt", "plan", "param"),
    [
        ([], {}, "prompt"),
        ([9] * 128, {}, "prompt"),
        ([VOCABULARY], {}, "prompt"),
        (PROMPT, {"prefix_ids": (VOCABULARY,)}, "prefix_ids"),
        (PROMPT, {"json_schema": {"type": "banana"}}, "json_schema"),
    ],
)
async def test_a_hostile_value_is_refused_by_name(
    runtime: Seq2SeqRuntime, prompt: list[int], plan: dict[str, Any], param: str
) -> None:
    with pytest.raises(RequestError) as refused:
        await ask(runtime, prompt, **plan)
    assert (refused.value.status, refused.value.param) == (400, param)
    assert (await ask(runtime, PROMPT, 4)).reason


async def test_a_failure_ends_all_requests_and_is_told_once(folder: Path) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    broken = Seq2SeqRuntime(RuntimeConfig(folder, "FP32"), told.put_nowait)

    def fail(*_: Any, **__: Any) -> None:
        raise ArithmeticError("the step broke")

    broken._model.forward = fail
    outcomes = await asyncio.gather(ask(broken, PROMPT), ask(broken, OTHER), return_exceptions=True)
    for outcome in outcomes:
        assert isinstance(outcome, RequestError)
        assert (outcome.status, outcome.code) == (500, "runtime_failed")
    async with asyncio.timeout(PATIENCE_S):
        assert await told.get() == "ArithmeticError: the step broke"
    with pytest.raises(RequestError, match="the step broke"):
        await ask(broken, PROMPT)
    broken.close()
    assert told.empty()


async def test_closing_ends_running_and_later_requests(folder: Path) -> None:
    runtime = Seq2SeqRuntime(RuntimeConfig(folder, "FP32"), lambda _: None)
    stream = runtime.submit("r", PROMPT, SamplingPlan(max_tokens=120, logit_bias=NO_EOS))
    await anext(stream)
    runtime.close()
    with pytest.raises(RequestError, match="runtime failed"):
        await asyncio.wait_for(drain(stream), PATIENCE_S)
    with pytest.raises(RequestError):
        await ask(runtime, PROMPT)
