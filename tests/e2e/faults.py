"""Helpers of the fault tests: a table of two models, look-ups of processes, waits with a limit."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar

import httpx2
import psutil

from archives.build_context import BuildContext
from conductor_core.paths import ProjectPaths, StateDir
from conductor_core.processes import is_alive
from conductor_core.settings.parser import parse_settings
from tests.demo import place_demo
from tests.serving import Serving

CHAT, VICTIM = "conversational_chat", "victim"
GREEDY = {"prompt": "Name a colour.", "temperature": 0.0, "max_tokens": 4}
LONG = {"prompt": "Write a very long story about a dragon.", "max_tokens": 4000, "temperature": 1.0}
HEADER = (
    "| Category/Area | Best Open Source Model | VRAM/RAM Requirements | Technical Model Name | Stay Loaded "
    "| Precision | Context |\n|---|---|---|---|---|---|---|\n"
)
WAIT_S = 90.0

Found = TypeVar("Found")


def write_settings(folder: Path, *, context: int = 4096) -> Path:
    """Write a table of a resident model and one on demand, with `context` tokens and its own file.

    Both files are the demo model, and so is what was made of them: to make it again takes half a minute each.
    """
    settings = folder / "SETTINGS.md"
    new = settings.with_suffix(".new")
    new.write_text(
        HEADER
        + "| Conversational Chat | SmolLM2 135M | ~0.2GB | `models/chat.gguf` | true | Q4_1 | 4096 |\n"
        + f"| Victim | SmolLM2 135M | ~0.2GB | `models/victim.gguf` | false | Q4_1 | {context} |\n",
        encoding="utf-8",
    )
    new.replace(settings)
    if not (folder / "models").exists():
        (folder / "models").mkdir()
        for row in parse_settings(settings.read_text(encoding="utf-8")).rows:
            place_demo(row.ref, BuildContext(ProjectPaths(settings)))
    return settings


def until(what: str, seen: Callable[[], Found | None], seconds: float = WAIT_S) -> Found:
    """The first value of `seen` that is neither None nor false."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := seen():
            return found
        time.sleep(0.02)
    raise AssertionError(f"no {what} within {seconds:g} s")


def torchserve_of(server: Serving) -> psutil.Process:
    """The JVM below the gateway."""

    def seen() -> psutil.Process | None:
        children = psutil.Process(server.process.pid).children(recursive=True)
        return next((child for child in children if child.name() == "java"), None)

    return until("TorchServe", seen)


def workers_of(server: Serving) -> list[int]:
    """Pids of the gateway's worker processes that are alive."""
    return [process.pid for process in server.workers()]


def new_worker(server: Serving, known: Collection[int], *, maps: str = "") -> int:
    """The first worker that is not `known`; with `maps`, once it has mapped a file of that name."""

    def seen() -> int | None:
        fresh = [pid for pid in workers_of(server) if pid not in known]
        return next((pid for pid in fresh if maps in mapped(pid)), None)

    return until(f"new worker with {maps or 'nothing'}", seen)


def mapped(pid: int) -> str:
    """The files that a process has mapped."""
    try:
        return Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return ""


@contextmanager
def at_work_on_each_new_worker(
    server: Serving, do: Callable[[int], None], *, maps: str = ""
) -> Iterator[list[int]]:
    """Call `do` once for each worker that appears during the block; yield the pids it was called with."""
    known, done, ends = set(workers_of(server)), [], Event()

    def watch() -> None:
        while not ends.wait(0.01):
            for pid in set(workers_of(server)) - known:
                if maps in mapped(pid):
                    known.add(pid)
                    done.append(pid)
                    do(pid)

    thread = Thread(target=watch)
    thread.start()
    try:
        yield done
    finally:
        ends.set()
        thread.join()


def registered(server: Serving, name: str) -> bool:
    """True if TorchServe knows a model of this name."""
    transport = httpx2.HTTPTransport(uds=str(StateDir.at(server.state).management_socket))
    with httpx2.Client(transport=transport, base_url="http://torchserve") as client:
        return client.get(f"/models/{name}").status_code == 200


def left_of(server: Serving, pids: Collection[int]) -> list[str]:
    """Remains of workers that should be gone: processes, and files of the run folder."""
    run = StateDir.at(server.state).run
    files = [str(file) for pid in pids for file in run.glob(f"{pid}.*")]
    return [*(f"process {pid}" for pid in pids if is_alive(pid)), *files]


def health(server: Serving, path: str = "/health") -> tuple[int, dict[str, Any]]:
    """Status and body of a health route."""
    with server.client() as client:
        answer = client.get(path)
    return answer.status_code, answer.json()


def ask(server: Serving, category: str = CHAT, **fields: Any) -> httpx2.Response:
    """Ask for one short answer."""
    with server.client() as client:
        return client.post("/generate", json={**GREEDY, "category": category, **fields})
