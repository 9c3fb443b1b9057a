"""lm-eval: its command on a sample that lies here, one task written by chat and one of scored choices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from checks import BASE, CHAT, MODEL_FOLDER, SCORED, check, finish

TASKS = Path(__file__).parent / "lm_eval_tasks"
SAMPLES = 8
TOKENIZER = f"tokenizer={MODEL_FOLDER},tokenizer_backend=huggingface"


def score(task: str, metric: str, model: str, arguments: str, *more: str) -> float:
    """The metric of a task over all of its samples."""
    with tempfile.TemporaryDirectory() as results:
        command = [str(Path(sys.executable).with_name("lm_eval")), "run", "--model", model, "--tasks", task]
        command += ["--include_path", str(TASKS), "--model_args", arguments, "--output_path", results, *more]
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": results}
        done = subprocess.run(
            command, cwd=TASKS, env=offline, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        (file,) = Path(results).rglob("results_*.json")
        told = json.loads(file.read_text(encoding="utf-8"))
    assert told["n-samples"][task]["effective"] == SAMPLES
    found = float(told["results"][task][metric])
    print(task, model, metric, found)
    return found


with check("local-chat-completions, written"):
    arguments = f"model={CHAT},base_url={BASE}/chat/completions,num_concurrent=4"
    found = score(
        "capitals_written", "exact_match,named", "local-chat-completions", arguments, "--apply_chat_template"
    )
    assert 0 <= found <= 1

# The model knows capitals: with wrongly read log-probabilities the score would be near one in four.
for form, fields, more in (
    ("token ids", "num_concurrent=4", ()),
    ("texts", "num_concurrent=1,tokenized_requests=False", ()),
    ("batches of token ids", "num_concurrent=1", ("--batch_size", "8")),
):
    with check(f"local-completions, choices, {form}"):
        arguments = f"model={SCORED},base_url={BASE}/completions,{TOKENIZER},{fields}"
        assert score("capitals_choice", "acc,none", "local-completions", arguments, *more) > 0.5

finish()
