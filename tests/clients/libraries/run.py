"""Runs unmodified client libraries against one gateway with a key, and prints the results.

`run.py NAME ...` runs only those. Each client has a script with its checks. The model is small and often
wrong, so the scripts check forms, streams and errors, and answers only if log-probabilities must be right.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT))

from tests.clients.libraries.environments import PLACE, Client, command, install  # noqa: E402
from tests.clients.mcp.run import node_folder  # noqa: E402
from tests.demo import demo_folder  # noqa: E402
from tests.serving import serving  # noqa: E402

MARK = "checked: "
LIMIT_S = 1200
CLIENTS = (
    Client("openai", "openai_python.txt", "openai_python.py"),
    Client("openai", "openai_node.json", "openai_node.mjs"),
    Client("langchain-openai", "langchain.txt", "langchain_chat.py"),
    Client("litellm", "litellm.txt", "litellm_sdk.py"),
    Client("llm", "llm.txt", "llm_command.py"),
    Client("lm-eval", "lm_eval.txt", "lm_eval_command.py"),
    Client("guidellm", "guidellm.txt", "guidellm_command.py"),
    Client("instructor", "instructor.txt", "instructor_client.py"),
    Client("pydantic-ai-slim", "pydantic_ai.txt", "pydantic_ai_agent.py"),
    Client("fastmcp", "fastmcp.txt", "fastmcp_client.py"),
    Client("langchain-mcp-adapters", "langchain_mcp.txt", "langchain_mcp.py"),
)
Line = tuple[str, str, str, str]


def lines(client: Client, node: Path, environment: dict[str, str]) -> list[Line]:
    """Run the client's script; return one line for each of its checks."""
    name = f"{client.package} (npm)" if client.is_node else client.package
    version = install(client, node)
    done = subprocess.run(
        command(client, node),
        env={**os.environ, **environment, "CLIENT_FOLDER": str(client.folder)},
        cwd=client.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    client.folder.with_suffix(".log").write_text(done.stdout, encoding="utf-8")
    told = [json.loads(line[len(MARK) :]) for line in done.stdout.splitlines() if line.startswith(MARK)]
    found = [(name, version, one["name"], _result(one["failure"])) for one in told]
    if done.returncode and all(line[3] == "ok" for line in found):
        found.append((name, version, "the script", f"FAILED: exit {done.returncode}: {done.stdout[-300:]}"))
    return found


def _result(failure: str | None) -> str:
    return "ok" if failure is None else "FAILED: " + " ".join(failure.split())[:300]


def show(found: list[Line]) -> None:
    """Print the table."""
    table = [("client", "version", "what was run", "result"), *found]
    widths = [max(len(line[column]) for line in table) for column in range(3)]
    for line in table:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=False))
        print(" | ".join((*cells, line[3])))


def new_key(state: Path) -> str:
    """Make a key with the scope infer only, as an operator does."""
    made = subprocess.run(
        [sys.executable, "-m", "conductor.cli", "keys", "create", "clients", "--scope", "infer"],
        env={**os.environ, "CONDUCTOR_STATE_DIR": str(state)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout.strip()


def main(names: list[str]) -> int:
    """Run the clients; the exit status is 0 if every check has passed."""
    PLACE.mkdir(exist_ok=True)
    node = node_folder()
    wanted = [client for client in CLIENTS if not names or client.folder.name in names]
    found: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="ct-") as folder:
        place = Path(folder)
        (ROOT / "models").mkdir(exist_ok=True)
        (place / "models").symlink_to(ROOT / "models")
        settings = Path(shutil.copy(HERE / "SETTINGS.md", place))
        key = new_key(place / "s")
        with serving(place / "s", settings=settings) as server:
            server.wait_until_ready()
            tokenizer = str(demo_folder("openvino"))
            environment = {"CONDUCTOR_URL": server.url, "OPENAI_API_KEY": key, "MODEL_FOLDER": tokenizer}
            for client in wanted:
                print("running", client.folder.name, flush=True)
                found += lines(client, node, environment)
    show(found)
    return int(any(line[3] != "ok" for line in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
