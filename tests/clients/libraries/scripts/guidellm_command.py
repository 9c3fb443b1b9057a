"""guidellm: a short run of its command over chat, and one over completions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from checks import CHAT, KEY, MODEL_FOLDER, URL, check, finish

REQUESTS = 6


def benchmark(path: str, profile: str) -> None:
    """Run a benchmark; every request must be answered with the requested number of tokens."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder, "benchmarks.json")
        command = [str(Path(sys.executable).with_name("guidellm")), "run", "--profile", profile]
        backend = {
            "kind": "openai_http",
            "target": URL,
            "model": CHAT,
            "api_key": KEY,
            "request_format": path,
        }
        tokenizer = {"kind": "huggingface_auto", "model": MODEL_FOLDER}
        data = {"kind": "synthetic_text", "prompt_tokens": 32, "output_tokens": 16}
        command += ["--backend", json.dumps(backend), "--tokenizer", json.dumps(tokenizer)]
        command += ["--data", json.dumps(data), "--constraint", f"kind=max_requests,count={REQUESTS}"]
        command += ["--output", f"kind=json,path={results}", "--disable-console-interactive"]
        offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            command, cwd=folder, env=offline, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        (run,) = json.loads(results.read_text(encoding="utf-8"))["benchmarks"]
    total = run["metrics"]["request_totals"]
    print(path, total)
    assert (total["successful"], total["errored"]) == (REQUESTS, 0)


for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses"):
    with check(path):
        benchmark(path, "kind=concurrent,streams=2")

finish()
