"""The transformers side of a bench: its own continuous batching, nothing of this project.

A script of its own, run by path; the same JSON lines as `direct_openvino.py`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import torch
import transformers

library: Any = transformers  # its classes are untyped

DTYPES = {"FP32": torch.float32, "FP16": torch.float16}
RESULT_WAIT_S = 1.0
# Cache and batch as large as the worker's, so that they are no bottleneck. The library's default, its
# asynchronous mode, halves its speed on a CPU: compare with the better one.
CPU_SCHEDULER = {
    "page_size": 256,
    "num_blocks": 129,
    "max_batch_tokens": 512,
    "use_cuda_graph": False,
    "use_async_batching": False,
}
GPU_SCHEDULER = {"page_size": 256, "max_batch_tokens": 4096, "max_memory_percent": 0.4}


def load(setup: dict[str, Any]) -> Any:
    """The model, and its batching manager with the worker's thread count and a cache as large as its own."""
    torch.set_num_threads(setup["threads"])
    precision, device = setup["precision"], setup["device"]
    model = library.AutoModelForCausalLM.from_pretrained(
        setup["model"],
        dtype=DTYPES.get(precision, torch.bfloat16),
        quantization_config=quantization(precision),
        device_map={"": device} if device != "cpu" else None,
        local_files_only=True,
    ).eval()
    greedy = library.GenerationConfig(do_sample=False, eos_token_id=model.generation_config.eos_token_id)
    scheduler = CPU_SCHEDULER if device == "cpu" else GPU_SCHEDULER
    manager = model.init_continuous_batching(greedy, library.ContinuousBatchingConfig(**scheduler))
    manager.start()
    return manager


def quantization(precision: str) -> Any:
    """bitsandbytes' settings for 8-bit and 4-bit, None for the others."""
    if precision == "8-bit":
        return library.BitsAndBytesConfig(load_in_8bit=True)
    if precision == "4-bit":
        return library.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
    return None


def turn(manager: Any, number: int, prompts: list[list[int]], tokens: int) -> dict[str, Any]:
    """Answer all prompts at once; times are of the monotonic clock."""
    streams: dict[str, dict[str, Any]] = {}
    for index, ids in enumerate(prompts):
        key = f"{number}-{index}"
        streams[key] = {"start": time.monotonic(), "times": [], "prompt_tokens": len(ids), "tokens": 0}
        manager.add_request(list(ids), request_id=key, max_new_tokens=tokens, streaming=True)
    running = set(streams)
    ends = end_tokens(manager.generation_config.eos_token_id)
    while running:
        output = manager.get_result(timeout=RESULT_WAIT_S)
        if output is None:
            if not manager.is_running():
                raise RuntimeError("the generation thread has ended")
            continue
        note(output, streams[output.request_id], ends)
        if output.is_finished():
            running.discard(output.request_id)
    return {"streams": list(streams.values())}


def end_tokens(value: int | list[int] | None) -> set[int]:
    """The end tokens as a set."""
    return set() if value is None else set(value if isinstance(value, list) else [value])


def note(output: Any, stream: dict[str, Any], ends: set[int]) -> None:
    """Count the tokens so far without an end token, and the time if there is a new one."""
    made = len(output.generated_tokens)
    if made and output.generated_tokens[-1] in ends:
        made -= 1
    if made > stream["tokens"]:
        stream["tokens"] = made
        stream["times"].append(time.monotonic())


def main() -> None:
    """Serve turns until standard input ends."""
    # The library writes to standard output as well; the answers keep a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    manager = load(json.loads(sys.stdin.readline()))
    print(json.dumps({"ready": True}), file=answers)
    for number, line in enumerate(sys.stdin):
        request = json.loads(line)
        before = time.process_time()
        result = turn(manager, number, request["prompts"], request["tokens"])
        print(json.dumps({**result, "cpu_s": time.process_time() - before}), file=answers)
    manager.stop(block=True)


if __name__ == "__main__":
    main()
