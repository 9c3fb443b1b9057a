"""The openvino side of a bench: openvino-genai and its own step loop, nothing of this project.

A script of its own, run by path. Reads JSON lines: first {model, threads, precision, device}, then turns of
{prompts: [[token ids]], tokens}; writes a line for each. Works on token ids only: no template, no text.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np
import openvino
import openvino_genai


def load(setup: dict[str, Any]) -> Any:
    """The pipeline on the converted model, with the worker's thread count and a cache as large as its own."""
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = 1
    scheduler.enable_prefix_caching = True
    properties = {"INFERENCE_NUM_THREADS": setup["threads"]}
    return openvino_genai.ContinuousBatchingPipeline(setup["model"], scheduler, "CPU", properties)


def greedy(pipeline: Any, tokens: int) -> Any:
    """Greedy decoding with the model's own end tokens."""
    config = pipeline.get_config()
    config.do_sample = False
    config.max_new_tokens = tokens
    return config


def ends(config: Any) -> set[int]:
    """The model's end tokens, which are not part of an answer."""
    return set(config.stop_token_ids) | {config.eos_token_id}


def turn(pipeline: Any, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
    """Answer all prompts at once; times are of the monotonic clock."""
    config, streams, handles = greedy(pipeline, tokens), [], []
    end_tokens = ends(config)
    for number, ids in enumerate(prompts):
        start = time.monotonic()
        tensor = openvino.Tensor(np.array([ids], dtype=np.int64))
        handles.append(pipeline.add_request(number, tensor, config))
        streams.append({"start": start, "times": [], "prompt_tokens": len(ids), "tokens": 0})
    while pipeline.has_non_finished_requests():
        pipeline.step()
        now = time.monotonic()
        for handle, stream in zip(handles, streams, strict=True):
            read(handle, stream, now, end_tokens)
    return {"streams": streams}


def read(handle: Any, stream: dict[str, Any], now: float, end_tokens: set[int]) -> None:
    """Record the tokens that the last step made."""
    if not handle.can_read():
        return
    for output in handle.read().values():
        made = [token for token in output.generated_ids if token not in end_tokens]
        stream["tokens"] += len(made)
        if made:
            stream["times"].append(now)


def main() -> None:
    """Serve turns until standard input ends."""
    # The library writes to standard output as well; the answers keep a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    pipeline = load(json.loads(sys.stdin.readline()))
    print(json.dumps({"ready": True}), file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        before = time.process_time()
        result = turn(pipeline, request["prompts"], request["tokens"])
        print(json.dumps({**result, "cpu_s": time.process_time() - before}), file=answers)


if __name__ == "__main__":
    main()
