"""The causal runtime on a tiny model: features side by side in one batch, cancel, hostile values, failure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from handlers.runtimes.base import RuntimeConfig, SamplingPlan
from handlers.runtimes.transformers.causal import TransformersRuntime, open_runtime
from handlers.runtimes.transformers.load import ModelLoadError
from handlers.wire import RequestError
from tests.handlers.runtime_calls import PATIENCE_S, ask, drain, leave_after_first_step, settled
from tests.handlers.tiny_models import EOS, VOCABULARY

PROMPT = [10, 20, 30, 40, 50]
NO_EOS = {EOS: -100.0}


@pytest.fixture(scope="module")
def folder(tiny_llama_folder: Path) -> Path:
    return tiny_llama_folder


@pytest.fixture(scope="module")
def runtime(folder: Path) -> Iterator[TransformersRuntime]:
    fatal: list[str] = []
    made = TransformersRuntime(RuntimeConfig(folder, "FP32", threads=2), fatal.append)
    yield made
    made.close()
    assert fatal == []


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def direct(model: Any, prompt: list[int], tokens: int, **settings: Any) -> list[int]:
    """The answer of `model.generate` without the end token."""
    output = model.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        max_new_tokens=tokens,
        **settings,
    )
    ids: list[int] = output[0, len(prompt) :].tolist()
    return ids[: ids.index(EOS)] if EOS in ids else ids


async def test_greedy_equals_generate_called_directly(runtime: TransformersRuntime, model: Any) -> None:
    for prompt in (PROMPT, [7], [100, 200] * 40):
        assert (await ask(runtime, prompt, 32)).ids == direct(model, prompt, 32)


async def test_repetition_penalty_equals_generate_called_directly(
    runtime: TransformersRuntime, model: Any
) -> None:
    answer = await ask(runtime, PROMPT, 32, repetition_penalty=1.5)
    assert answer.ids == direct(model, PROMPT, 32, repetition_penalty=1.5)
    assert answer.ids != direct(model, PROMPT, 32)


async def test_presence_and_frequency_penalties_are_taken_at_every_step(
    runtime: TransformersRuntime, model: Any
) -> None:
    expected: list[int] = []
    for _ in range(24):
        with torch.inference_mode():
            logits = model(torch.tensor([PROMPT + expected])).logits[0, -1]
        counts = torch.bincount(torch.tensor(expected, dtype=torch.long), minlength=VOCABULARY)
        logits = logits - 1.5 * counts - 1.0 * (counts > 0)
        logits[EOS] -= 100.0
        expected.append(int(logits.argmax()))
    penalties = {"frequency_penalty": 1.5, "presence_penalty": 1.0}
    assert (await ask(runtime, PROMPT, 24, logit_bias=NO_EOS, **penalties)).ids == expected
    assert (await ask(runtime, PROMPT, 24, logit_bias=NO_EOS)).ids != expected


async def test_requests_with_different_sampling_share_a_batch_without_touching_each_other(
    runtime: TransformersRuntime, model: Any
) -> None:
    plans: list[dict[str, Any]] = [
        {},
        {"temperature": 1.3, "seed": 11},
        {"temperature": 0.8, "top_k": 4, "top_p": 0.9, "seed": 12},
        {"repetition_penalty": 1.5},
        {"logit_bias": {77: 100.0}},
        {"temperature": 2.0, "seed": 13, "presence_penalty": 1.0},
    ]
    together = await asyncio.gather(*[ask(runtime, PROMPT, 24, **plan) for plan in plans])
    alone = [await ask(runtime, PROMPT, 24, **plan) for plan in plans]
    assert together[0].ids == direct(model, PROMPT, 24)
    assert together[4].ids == [77] * 24
    assert [a.ids for a in together] == [a.ids for a in alone]


async def test_a_seed_repeats_an_answer_and_no_seed_does_not(runtime: TransformersRuntime) -> None:
    hot: dict[str, Any] = {"temperature": 2.0, "logit_bias": NO_EOS}
    assert (await ask(runtime, PROMPT, seed=3, **hot)).ids == (await ask(runtime, PROMPT, seed=3, **hot)).ids
    assert (await ask(runtime, PROMPT, **hot)).ids != (await ask(runtime, PROMPT, **hot)).ids


async def test_the_end_token_stops_and_is_not_part_of_the_answer(runtime: TransformersRuntime) -> None:
    answer = await ask(runtime, PROMPT, 8, logit_bias={EOS: 100.0})
    assert (answer.ids, answer.reason) == ([], "stop")


async def test_max_tokens_ends_with_length_and_the_context_bounds_it(runtime: TransformersRuntime) -> None:
    answer = await ask(runtime, PROMPT, 5, logit_bias=NO_EOS)
    assert (len(answer.ids), answer.reason) == (5, "length")
    nearly_full = [9] * (runtime.context - 3)
    answer = await ask(runtime, nearly_full, 100, logit_bias=NO_EOS)
    assert (len(answer.ids), answer.reason) == (3, "length")


async def test_a_schema_gives_json_that_fits_it_beside_a_free_neighbour(
    runtime: TransformersRuntime, folder: Path, model: Any
) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["red", "green"]}, "size": {"type": "integer", "maximum": 9999}},
        "required": ["name", "size"],
        "additionalProperties": False,
    }
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    plans: list[dict[str, Any]] = [
        {},
        {"json_schema": schema},
        {"json_schema": schema, "temperature": 1.0, "seed": 4},
    ]
    free, greedy, sampled = await asyncio.gather(*[ask(runtime, PROMPT, 200, **plan) for plan in plans])
    for answer in (greedy, sampled):
        value = json.loads(tokenizer.decode(answer.ids))
        assert value["name"] in {"red", "green"}
        assert isinstance(value["size"], int)
        assert answer.reason == "stop"
    assert free.ids == direct(model, PROMPT, 200)


async def test_top_logprobs_come_with_the_steps(runtime: TransformersRuntime) -> None:
    answer = await ask(runtime, PROMPT, 6, top_logprobs=4, logit_bias=NO_EOS)
    (expected,) = await runtime.score(PROMPT, [answer.ids])
    assert answer.logprobs == pytest.approx(expected, abs=1e-4)
    assert [len(best) for best in answer.top_logprobs] == [4] * 6


async def test_score_equals_the_log_softmax_of_a_direct_forward_pass(
    runtime: TransformersRuntime, model: Any
) -> None:
    continuations = [[11], [60, 61, 62], [], *[[i, i + 1] for i in range(100, 120)]]
    scores = await runtime.score(PROMPT, continuations)
    for continuation, score in zip(continuations, scores, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([PROMPT + continuation])).logits[0].log_softmax(dim=-1)
        places = range(len(PROMPT) - 1, len(PROMPT) - 1 + len(continuation))
        expected = [float(logits[p, token]) for p, token in zip(places, continuation, strict=True)]
        assert score == pytest.approx(expected, abs=1e-4)


async def test_scoring_between_the_steps_of_others_leaves_them_alone(
    runtime: TransformersRuntime, model: Any
) -> None:
    answer, scores = await asyncio.gather(ask(runtime, PROMPT, 64), runtime.score(PROMPT, [[5, 6]]))
    assert answer.ids == direct(model, PROMPT, 64)
    assert len(scores[0]) == 2


async def test_leaving_a_stream_frees_its_slot_and_neighbours_finish(
    runtime: TransformersRuntime, model: Any
) -> None:
    neighbour = asyncio.create_task(ask(runtime, PROMPT, 100))
    await leave_after_first_step(runtime, [5, 6], max_tokens=1500, logit_bias=NO_EOS)
    assert (await neighbour).ids == direct(model, PROMPT, 100)
    await settled(runtime)
    assert runtime.stats().kv_usage == pytest.approx(0.0, abs=0.05)


async def test_a_request_cancelled_before_its_first_token_leaves_nothing_behind(
    runtime: TransformersRuntime,
) -> None:
    neighbour = asyncio.create_task(ask(runtime, PROMPT, 30))
    for delay in range(20):
        task = asyncio.create_task(ask(runtime, [8] * 1900, 100, logit_bias=NO_EOS))
        for _ in range(delay):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await neighbour).reason
    await settled(runtime)


async def test_more_requests_than_the_cache_holds_are_all_answered(folder: Path) -> None:
    small = TransformersRuntime(RuntimeConfig(folder, "FP32", context=600, memory=1), lambda _: None)
    try:
        answers = await asyncio.gather(*[ask(small, [40 + i], 560, logit_bias=NO_EOS) for i in range(8)])
        alone = await ask(small, [40], 560, logit_bias=NO_EOS)
    finally:
        small.close()
    assert [len(a.ids) for a in answers] == [560] * 8
    assert answers[0].ids == alone.ids


@pytest.mark.parametrize(
    ("prompt", "plan", "param"),
    [
        ([], {}, "prompt"),
        ([1] * 2048, {}, "prompt"),
        ([VOCABULARY], {}, "prompt"),
        ([-1], {}, "prompt"),
        (PROMPT, {"logit_bias": {VOCABULARY: 1.0}}, "logit_bias"),
        (PROMPT, {"json_schema": {"type": "banana"}}, "json_schema"),
        (PROMPT, {"json_schema": {"type": "string", "pattern": "("}}, "json_schema"),
        (PROMPT, {"json_schema": {"$ref": "#"}}, "json_schema"),
        (PROMPT, {"temperature": -1.0}, "temperature"),
        (PROMPT, {"repetition_penalty": 0.0}, "repetition_penalty"),
        (PROMPT, {"max_tokens": 0}, "max_tokens"),
    ],
)
async def test_a_hostile_value_is_refused_by_name_while_a_neighbour_finishes(
    runtime: TransformersRuntime, prompt: list[int], plan: dict[str, Any], param: str
) -> None:
    neighbour = asyncio.create_task(ask(runtime, PROMPT, 20))
    with pytest.raises(RequestError) as refused:
        await ask(runtime, prompt, **plan)
    assert (refused.value.status, refused.value.param) == (400, param)
    assert (await neighbour).reason


@pytest.mark.parametrize(
    "plan",
    [
        {"temperature": 0.0, "top_k": 1},
        {"temperature": 1e-300},
        {"temperature": 2.0, "top_k": 10**6, "top_p": 1e-12},
        {"repetition_penalty": 1e-3},
        {"presence_penalty": -2.0, "frequency_penalty": -2.0},
        {"logit_bias": dict.fromkeys(range(VOCABULARY), -100.0)},
        {"json_schema": {}},
    ],
)
async def test_an_extreme_but_legal_value_is_answered(
    runtime: TransformersRuntime, plan: dict[str, Any]
) -> None:
    assert (await ask(runtime, PROMPT, 12, **plan)).reason in {"stop", "length"}


async def test_a_failure_in_the_generation_thread_ends_all_requests_and_is_told_once(folder: Path) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    broken = TransformersRuntime(RuntimeConfig(folder, "FP32"), told.put_nowait)
    asks = [asyncio.create_task(ask(broken, PROMPT, 2000, logit_bias=NO_EOS)) for _ in range(3)]
    stream = broken.submit("first", PROMPT, SamplingPlan(max_tokens=2000, logit_bias=NO_EOS))
    await anext(stream)

    def fail(*_: Any, **__: Any) -> None:
        raise ArithmeticError("the step broke")

    broken._loaded.model.forward = fail
    for outcome in await asyncio.gather(*asks, return_exceptions=True):
        assert isinstance(outcome, RequestError)
        assert (outcome.status, outcome.code) == (500, "runtime_failed")
    with pytest.raises(RequestError, match="the step broke"):
        await asyncio.wait_for(drain(stream), PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S):
        assert await told.get() == "ArithmeticError: the step broke"
    with pytest.raises(RequestError) as late:
        await ask(broken, PROMPT)
    assert late.value.code == "runtime_failed"
    with pytest.raises(RequestError):
        await broken.score(PROMPT, [[1]])
    broken.close()
    assert told.empty()


async def test_closing_ends_running_requests(folder: Path) -> None:
    runtime = open_runtime(RuntimeConfig(folder, "BF16"), lambda line: None)
    stream = runtime.submit("r", PROMPT, SamplingPlan(max_tokens=2000, logit_bias=NO_EOS))
    await anext(stream)
    runtime.close()
    runtime.close()
    with pytest.raises(RequestError, match="runtime failed"):
        await asyncio.wait_for(drain(stream), PATIENCE_S)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"precision": "Q4_1"}, "Q4_1"), ({"precision": "FP32", "device": "cuda:99"}, "cuda:99")],
)
def test_what_cannot_be_loaded_is_one_line(folder: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelLoadError, match=message):
        TransformersRuntime(RuntimeConfig(folder, **values), lambda _: None)
