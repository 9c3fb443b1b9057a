"""Tests a JSON schema with openvino-genai's own grammar compiler, in a separate process.

A schema that the compiler refuses makes every later step of a pipeline raise, for all its requests, and
`validate()` does not detect it. So each schema first goes through a pipeline with a constant model and the
real tokenizer: the same compiler, no other requests, and at most a second.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from handlers.wire import RequestError

TIMEOUT_S = 1.0
START_TIMEOUT_S = 60.0
REMEMBERED = 256
PR_SET_PDEATHSIG = 1


class SchemaProbe:
    """Tests schemas in a child process, which is started at first use and replaced when it hangs or dies.

    One thread owns the child, because Linux ties `die_with_parent` to the thread that started it.
    """

    def __init__(self, folder: Path, vocabulary: int) -> None:
        self._arguments = (str(folder), str(vocabulary))
        self._child: subprocess.Popen[str] | None = None
        self._owner = ThreadPoolExecutor(1, "schema-probe")
        self._verdict = lru_cache(REMEMBERED)(self._ask)

    async def check(self, schema: dict[str, Any]) -> None:
        """Raises RequestError 400 with the compiler's reason if it refuses `schema` or takes over 1 s."""
        if _refers_elsewhere(schema):
            # The compiler would accept any value for it, and print the reference into the worker's log.
            raise _refused("a $ref must be '#' or begin with '#/'")
        text = json.dumps(schema, sort_keys=True)
        refusal = await asyncio.get_running_loop().run_in_executor(self._owner, self._verdict, text)
        if refusal:
            raise _refused(refusal)

    def close(self) -> None:
        """Ends the child."""
        self._owner.submit(self._end)
        self._owner.shutdown()

    def _ask(self, text: str) -> str:
        if self._child is None:
            self._child = subprocess.Popen(
                [sys.executable, "-m", __name__, *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # the compiler's output there repeats the schema
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            _line(self._child, START_TIMEOUT_S)
        child = self._child
        try:
            print(text, file=child.stdin, flush=True)
        except BrokenPipeError:
            answer: str | None = ""
        else:
            answer = _line(child, TIMEOUT_S)
        if not answer:
            # Raised and not returned: only the compiler's own verdicts are cached.
            self._end()
            raise _refused("the compiler crashed" if answer == "" else f"it took over {TIMEOUT_S:g} s")
        return str(json.loads(answer))

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
        self._child = None


def _refers_elsewhere(schema: dict[str, Any]) -> bool:
    """True if a `$ref` of `schema` refers outside of it."""
    left: list[Any] = [schema]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            reference = one.get("$ref")
            if isinstance(reference, str) and reference != "#" and not reference.startswith("#/"):
                return True
            left += one.values()
        elif isinstance(one, list):
            left += one
    return False


def _refused(reason: str) -> RequestError:
    return RequestError(
        f"json_schema cannot be compiled: {reason}", code="invalid_json_schema", param="json_schema"
    )


def _line(child: subprocess.Popen[str], timeout_s: float) -> str | None:
    """The child's next line; empty at its end, None if it takes too long."""
    assert child.stdout is not None
    ready, _, _ = select.select([child.stdout], [], [], timeout_s)
    return child.stdout.readline() if ready else None


def die_with_parent() -> None:
    """Makes Linux kill this process when the thread that started it ends.

    A stuck compiler would notice no closed pipe.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def constant_model(vocabulary: int) -> Any:
    """A stateless language model whose logits are zero everywhere; shape [batch, length, vocabulary]."""
    import numpy as np
    import openvino as ov
    from openvino import opset13 as ops

    def parameter(name: str, rank: int, dtype: Any) -> Any:
        node = ops.parameter([-1] * rank, dtype, name=name)
        node.output(0).tensor.set_names({name})
        return node

    ids = parameter("input_ids", 2, np.int64)
    rest = [parameter("attention_mask", 2, np.int64), parameter("position_ids", 2, np.int64)]
    beams = parameter("beam_idx", 1, np.int32)
    shape = ops.concat([ops.shape_of(ids), ops.constant(np.array([vocabulary], dtype=np.int64))], 0)
    logits = ops.broadcast(ops.constant(np.float32(0)), shape)
    logits.output(0).tensor.set_names({"logits"})
    return ov.Model([ops.result(logits)], [ids, *rest, beams], "constant")


def _compile(pipeline: Any, schema: str) -> str:
    import numpy as np
    import openvino as ov
    import openvino_genai as genai

    config = genai.GenerationConfig()
    config.max_new_tokens = 1
    config.set_eos_token_id(0)
    config.structured_output_config = genai.StructuredOutputConfig(json_schema=schema)
    try:
        pipeline.generate(ov.Tensor(np.array([[0]], dtype=np.int64)), config)
    except Exception as error:
        # The compiler's message begins with a build path and a line number; the reason follows the last ": ".
        return str(error).strip().splitlines()[0].split(": ", 1)[-1][:300] or "refused"
    return ""


def main(folder: str, vocabulary: str) -> None:
    """Answers each schema, a line of standard input, with a JSON string: empty, or the reason of refusal."""
    import openvino as ov
    import openvino_genai as genai

    die_with_parent()
    with tempfile.TemporaryDirectory() as temporary:
        ov.save_model(constant_model(int(vocabulary)), Path(temporary, "openvino_model.xml"))
        pipeline = genai.LLMPipeline(temporary, genai.Tokenizer(folder), "CPU", ATTENTION_BACKEND="SDPA")
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(_compile(pipeline, line)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
