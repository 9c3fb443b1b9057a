"""`conductor plan`, with a gateway and without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conductor import project as project_module
from conductor.commands import plan as plan_module
from conductor.commands.plan import plan_lines
from conductor_core.machine import Gpu, Machine
from tests.conductor.command_line import Invoke
from tests.conductor.fake_gateway import FakeGateway
from tests.source_tree import ROOT

GIB = 2**30
FITS = {
    "added": [], "rebuilt": [], "changed": [], "removed": [], "untouched": ["conversational_chat"],
    "warnings": [], "resident_fits": True, "memory": {"cpu": {"budget": 8 * 10**9, "resident": 10**9}},
    "sets": [], "corrections": [], "drains_first": [], "never_fits": [], "never_together": [],
}  # fmt: skip
ROW = "| {name} | Demo | ~{size}GB (Q4_1) | `demo/{name}.gguf` | {stays} | Q4_1 |\n"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """16 GiB of RAM and no GPU."""
    have(monkeypatch, Machine((), 16 * GIB))
    return monkeypatch


def have(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    for module in (project_module, plan_module):
        monkeypatch.setattr(module, "probe", lambda: machine)


def add(project: Path, *rows: str) -> None:
    with (project / "SETTINGS.md").open("a") as file:
        file.write("".join(rows))


def test_plan_says_what_changes_what_fits_and_what_is_never_together() -> None:
    found = {
        "added": ["poetry"],
        "rebuilt": ["chat", "code"],
        "changed": [],
        "removed": [],
        "untouched": ["legal"],
        "warnings": ["SETTINGS.md:9: skipped a row that has only dots or empty cells"],
        "resident_fits": False,
        "memory": {"cpu": {"budget": 8 * 10**9, "resident": 9 * 10**9}},
        "sets": [
            {
                "set": "chat",
                "device": "cpu",
                "declared": 8 * 10**9,
                "estimated": None,
                "peak": 9 * 10**9,
                "needed": 9 * 10**9,
            }
        ],
        "corrections": [
            {"category": "chat", "declared": 6 * 10**9, "peak": 9 * 10**9, "cell": "~9GB (FP16)"}
        ],
        "drains_first": ["chat"],
        "never_fits": [{"set": "maths", "device": "cpu", "needed": 7 * 10**9, "room": 10**9}],
        "never_together": [["chat", "poetry"]],
    }
    assert plan_lines(found) == [
        "added: poetry",
        "rebuilt: chat, code",
        "untouched: legal",
        "chat: 9 GB of cpu (declared 8 GB, measured 9 GB)",
        "resident on cpu: 9 GB of 8 GB",
        "the sets that stay loaded do not fit together",
        "never loaded: maths needs 7 GB of cpu, 1 GB is available beside the sets that stay loaded",
        "chat: is unloaded before its new version is loaded",
        "never loaded together: chat and poetry",
        "measured: chat needs 9 GB, not 6 GB; its VRAM/RAM Requirements cell should be ~9GB (FP16)",
        "warning: SETTINGS.md:9: skipped a row that has only dots or empty cells",
    ]


def test_a_running_gateway_is_asked(conductor: Invoke, gateway: FakeGateway) -> None:
    gateway.plan = FITS
    result = conductor("plan", "--port", str(gateway.port))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "untouched: conversational_chat\nresident on cpu: 1 GB of 8 GB\n"
    assert json.loads(conductor("plan", "--json", "--port", str(gateway.port)).stdout) == FITS


def test_a_file_is_asked_for_by_its_own_name(conductor: Invoke, gateway: FakeGateway, project: Path) -> None:
    gateway.plan = FITS
    (project / "SETTINGS.md").rename(project / "copy.md")
    assert conductor("plan", "copy.md", "--port", str(gateway.port)).exit_code == 0
    assert gateway.planned == ["copy.md"]


def test_mistakes_exit_2_with_their_places_whether_a_gateway_runs_or_not(
    conductor: Invoke, gateway: FakeGateway, project: Path
) -> None:
    broken = (project / "SETTINGS.md").read_text().replace("| true |", "| perhaps |")
    (project / "new.md").write_text(broken.replace("Q4_1 |\n", "much |\n"))
    gateway.plan = FITS
    for address in (["--port", str(gateway.port)], ["--port", "1"]):
        result = conductor("plan", "new.md", *address)
        assert (result.exit_code, result.stdout) == (2, "")
        places = [line.partition(": ")[0] for line in result.stderr.splitlines()]
        assert [place.rpartition(":")[0] for place in places] == ["new.md:5", "new.md:5", "new.md:6"]
    gateway.refusal = (400, "SETTINGS.md:5:82: Stay Loaded: expected true", "invalid_settings")
    result = conductor("plan", "--port", str(gateway.port))
    assert (result.exit_code, result.stderr) == (2, "SETTINGS.md:5:82: Stay Loaded: expected true\n")


def test_without_a_gateway_everything_is_added(
    conductor: Invoke, project: Path, machine: pytest.MonkeyPatch
) -> None:
    add(project, ROW.format(name="Poetry", size=1, stays="false"), "| ... | | | | | |\n")
    result = conductor("plan", "--port", "1")
    assert result.exit_code == 0
    assert result.stderr == "no gateway is running: this is the plan for a first start\n"
    assert result.stdout.splitlines() == [
        "added: conversational_chat, general_reasoning, poetry",
        "conversational_chat: 1 GB of cpu (declared 1 GB, estimated 1 GB)",
        "poetry: 1 GB of cpu (declared 1 GB, estimated 1 GB)",
        "resident on cpu: 1 GB of 15.5 GB",
        "warning: SETTINGS.md:7: poetry has no engine of its own and uses general_reasoning",
        "warning: SETTINGS.md:8: skipped a row that has only dots or empty cells",
    ]


def test_without_a_gateway_what_does_not_fit_is_said_and_exits_1(
    conductor: Invoke, project: Path, machine: pytest.MonkeyPatch
) -> None:
    names = {"Translation": 6, "Summarization": 6, "Coding": 9}
    add(project, *(ROW.format(name=name, size=size, stays="false") for name, size in names.items()))
    result = conductor("plan", "--port", "1", "--memory-budget", "9.5GB")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[5:8] == [
        "resident on cpu: 1 GB of 9.5 GB",
        "never loaded: coding needs 9 GB of cpu, 8.5 GB is available beside the sets that stay loaded",
        "never loaded together: translation and summarization",
    ]
    add(project, ROW.format(name="Writing", size=9, stays="true"))
    result = conductor("plan", "--port", "1", "--memory-budget", "9.5GB")
    assert result.exit_code == 1
    assert "the sets that stay loaded do not fit together" in result.stdout


def test_a_row_that_fits_nowhere_is_a_mistake_of_the_table(
    conductor: Invoke, project: Path, machine: pytest.MonkeyPatch
) -> None:
    add(project, ROW.format(name="Translation", size=60, stays="false"))
    result = conductor("plan", "--port", "1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith("needs 60 GB of memory, 15.5 GB is available\n")
    assert "SETTINGS.md:7:1: Device: translation: " in result.stderr


@pytest.mark.parametrize("size", [8, 24, 80])
def test_each_example_passes_on_its_gpu(
    conductor: Invoke, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    have(monkeypatch, Machine((Gpu(0, "GPU", size * GIB * 97 // 100, size * GIB),), 32 * GIB))
    result = conductor("plan", str(ROOT / "examples" / f"gpu-{size}gb.md"), "--port", "1")
    assert result.exit_code == 0, result.output
    assert "resident on cuda:0" in result.stdout
    assert "never loaded:" not in result.stdout
