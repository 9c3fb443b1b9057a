"""Tries a JSON schema on openvino-genai's own grammar compiler, in a process of its own.

A schema that the compiler refuses makes every later step of a pipeline raise, for all its requests, and
`validate()` does not notice. So each schema first goes through a pipeline whose model is one constant and
whose tokenizer is the real one: the same compiler, nothing to lose, and a second at most.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

from handlers.wire import RequestError

TIMEOUT_S = 1.0
START_TIMEOUT_S = 60.0
REMEMBERED = 256
PR_SET_PDEATHSIG = 1


class SchemaProbe:
    """Asks the child process, which is started at first use and replaced when it hangs or dies."""

    def __init__(self, folder: Path, vocabulary: int) -> None:
        self._arguments = (str(folder), str(vocabulary))
        self._child: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._verdicts: OrderedDict[str, str] = OrderedDict()

    async def check(self, schema: dict[str, Any]) -> None:
        """Raises RequestError 400 with the compiler's reason if it refuses `schema` or takes over 1 s."""
        text = json.dumps(schema, sort_keys=True)
        async with self._turn:
            if text not in self._verdicts:
                self._verdicts[text] = await self._ask(text)
                while len(self._verdicts) > REMEMBERED:
                    self._verdicts.popitem(last=False)
            refusal = self._verdicts[text]
        if refusal:
            raise RequestError(
                f"json_schema cannot be compiled: {refusal}", code="invalid_json_schema", param="json_schema"
            )

    def close(self) -> None:
        if self._child is not None and self._child.returncode is None:
            self._child.kill()
        self._child = None

    async def _ask(self, text: str) -> str:
        child = await self._started()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(text.encode() + b"\n")
            async with asyncio.timeout(TIMEOUT_S):
                line = await child.stdout.readline()
        except TimeoutError:
            line = json.dumps(f"the compiler took over {TIMEOUT_S:g} s").encode()
            self.close()
        except ConnectionError:
            line = b""
        if not line:
            self.close()
            return "the compiler crashed"
        return str(json.loads(line))

    async def _started(self) -> asyncio.subprocess.Process:
        if self._child is None or self._child.returncode is not None:
            self._child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                __name__,
                *self._arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            assert self._child.stdout is not None
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._child.stdout.readline()
        return self._child


def die_with_parent() -> None:
    """Has Linux kill this process when the thread that started it ends: a stuck compiler reads no pipe."""
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
        # The compiler's message begins with a build path and a line number; its sense follows the last ": ".
        return str(error).strip().splitlines()[0].split(": ", 1)[-1][:300] or "refused"
    return ""


def main(folder: str, vocabulary: str) -> None:
    """Answers each line of standard input, a schema, with a line: an empty JSON string or the refusal."""
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
