"""The repository's own SETTINGS.md with every row in use: two models in memory for all rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from conductor_core.settings.parser import parse_settings
from tests.demo import SETTINGS
from tests.serving import serving

pytestmark = pytest.mark.e2e

ROWS = [row.slug for row in parse_settings(SETTINGS.read_text(encoding="utf-8")).rows]
GB = 10**9
OPTIONS: dict[str, dict[str, Any]] = {
    "code_completion": {"prefix": "def add(a, b):\n    return", "filename": "sums.py"},
    "data_analysis": {"csv": "city,sales\nRome,10\nOslo,30\n"},
    "embedding": {"inputs": ["A cat.", "A dog."]},
    "information_extraction": {
        "schema": {"type": "object", "properties": {"n": {"enum": [1]}}, "required": ["n"]}
    },
    "legal_analysis": {"document": "1. Rent is due on Mondays."},
    "question_answering": {"passages": ["The bridge was opened in 1932."]},
    "text_classification": {"labels": ["good", "bad"]},
    "translation": {"source": "en", "target": "fr"},
}


def test_all_rows_in_use_hold_one_copy_of_each_model(tmp_path: Path) -> None:
    with serving(tmp_path / "state") as server, server.client() as client:
        for slug in ROWS:
            body = {
                "category": slug,
                "prompt": "What is 6 * 7?",
                "max_tokens": 8,
                "options": OPTIONS.get(slug, {}),
            }
            answer = client.post("/generate", json=body)
            assert answer.status_code == 200, f"{slug}: {answer.text}"
            checked = client.post("/check", json=_check(body, answer.json()["text"]))
            assert checked.json()["findings"].keys() == answer.json()["findings"].keys(), slug
        models = client.get("/models").json()["models"]
        counted = client.get("/stats").json()["categories"]
        held = {model["set"]: {worker["pid"] for worker in model["workers"]} for model in models}
        assert [model["category"] for model in models] == ROWS
        assert {model["state"] for model in models} == {"READY"}
        assert set(held) == {"conversational_chat", "embedding"}
        assert [len(pids) for pids in held.values()] == [1, 1]
        measured = {model["set"]: model["memory"]["measured"] for model in models}
        assert sum(measured.values()) < 2 * GB
        assert {slug: counted[slug]["generations"] for slug in ROWS} == dict.fromkeys(ROWS, 1)
        assert {process.pid for process in server.workers()} == set().union(*held.values())


def _check(body: dict[str, Any], text: str) -> dict[str, Any]:
    return {name: body[name] for name in ("category", "prompt", "options")} | {"text": text}
