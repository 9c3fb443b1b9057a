"""simonw's llm: its command with a model of extra-openai-models.yaml, as its documentation says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from checks import BASE, CHAT, KEY, check, finish

MODELS = f"""
- model_id: conductor
  model_name: {CHAT}
  api_base: {BASE}
  api_key_name: conductor
  supports_schema: true
  supports_tools: true
- model_id: conductor-maths
  model_name: mathematical_reasoning
  api_base: {BASE}
  api_key_name: conductor
  can_stream: false
"""
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}},
    "required": ["city"],
    "additionalProperties": False,
}
COMMAND = str(Path(sys.executable).with_name("llm"))


def llm(*arguments: str) -> str:
    """Output of the command, which must succeed."""
    done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


with tempfile.TemporaryDirectory() as folder:
    os.environ["LLM_USER_PATH"] = folder
    Path(folder, "extra-openai-models.yaml").write_text(MODELS, encoding="utf-8")
    limits = ("-o", "max_tokens", "60", "-o", "temperature", "0")
    with check("keys set"):
        llm("keys", "set", "conductor", "--value", KEY)
        assert "conductor" in llm("models")
    with check("prompt, streamed"):
        assert llm("-m", "conductor", *limits, "What is the capital of France?").strip()
    with check("prompt, not streamed"):
        assert llm("-m", "conductor-maths", *limits, "What is 2 + 2?").strip()
    with check("system and conversation"):
        llm("-m", "conductor", "-s", "Be brief.", *limits, "My name is Ada.")
        assert llm("-c", *limits, "What is my name?").strip()
    with check("schema"):
        text = llm("-m", "conductor", "--schema", json.dumps(SCHEMA), *limits, "Name a city.")
        assert json.loads(text).keys() == {"city"}
    with check("tool offered"):
        llm("-m", "conductor", "-T", "llm_version", *limits, "What is the version of llm?")

finish()
