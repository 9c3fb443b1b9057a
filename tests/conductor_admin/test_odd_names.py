"""Invalid names of categories: answered as unknown, never used as a path, log line or template."""

from __future__ import annotations

import logging
from urllib.parse import quote

import pytest

from conductor_admin.telemetry.logs import configure_logs
from tests.conductor_admin.gateway_rig import Rig
from tests.plain_logs import log_plainly

NAMES = {
    "a path": "../../etc/passwd",
    "an absolute path": "/etc/passwd",
    "escaped dots": "%2e%2e%2fetc",
    "a slash": "translation/x",
    "a NUL": "tran\x00slation",
    "10 kB": "x" * 10_000,
    "a line end": 'x\r\n{"event": "forged"}',
    "an escape code": "\x1b[31mred",
    "right to left": "\u202enoitalsnart",
    "another normal form": "traduc\u0327a\u0303o",
    "combining marks": "t" + "\u0301" * 5_000,
    "a template": "{{ ''.__class__ }}",
    "SQL": "' OR 1=1 --",
    "TorchServe's own": "token",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
async def test_an_odd_category_is_unknown_everywhere_and_begins_no_log_line(rig: Rig, name: str) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    close = configure_logs(rig.state.logs, "DEBUG")
    try:
        asked = await rig.client.post("/generate", json={"prompt": "canary-5a1e", "category": name})
        shown = await rig.client.get(f"/models/{quote(name, safe='')}")
        loaded = await rig.client.post(f"/admin/models/{quote(name, safe='')}/load")
    finally:
        close()
        root.handlers[:], root.level = before
        log_plainly()
    assert asked.status_code in (400, 404)
    assert {shown.status_code, loaded.status_code} <= {400, 404, 414, 431}
    assert "canary-5a1e" not in asked.text
    assert len(asked.text) < 1_000
    assert not rig.torchserve.registered
    lines = (rig.state.logs / "gateway.log").read_text().splitlines()
    assert all(line.startswith('{"') and '"event":"forged"' not in line for line in lines)


@pytest.mark.parametrize(
    "text", ["{{7*7}}", "{% for a in b %}x{% endfor %}", "\u202eabc\u0000", "a" + "\u0301" * 99]
)
async def test_a_prompt_reaches_the_worker_letter_by_letter(rig: Rig, text: str) -> None:
    assert (await rig.client.post("/generate", json={"prompt": text})).status_code == 200
    (asked,) = rig.torchserve.workers("conversational_chat")[0].requests
    assert asked["prompt"] == text
