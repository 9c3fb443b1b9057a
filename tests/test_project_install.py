"""Locks, the installed packages, and the environment's `activate` script."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions, version
from pathlib import Path

import pytest

from tests.source_tree import ROOT

PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
ACTIVATOR = ROOT / ".ci/activate.py"
HASHED = ("requirements.lock", "requirements-java.lock", "requirements-mutants.lock")
LOCKS = ("requirements-torch.lock", *HASHED)
PINNED = re.compile(r"^([\w.-]+)==([^\s;]+)", re.MULTILINE)
ACTIVATE = 'deactivate () {\n    : "$@"\n}\ndeactivate nondestructive\n'


def pins(name: str) -> dict[str, str]:
    """Distribution -> version of one lock."""
    return {key.lower(): pin for key, pin in PINNED.findall((ROOT / name).read_text(encoding="utf-8"))}


def declared() -> list[str]:
    project = tomllib.loads(PYPROJECT)["project"]
    return [
        *project["dependencies"],
        *(need for extra in project["optional-dependencies"].values() for need in extra),
    ]


@pytest.mark.parametrize("need", declared())
def test_a_dependency_is_pinned_alike_everywhere_and_says_why(need: str) -> None:
    name, pin = need.split("==")
    locked = {name: pin for lock in LOCKS for name, pin in pins(lock).items()}
    assert locked[name.lower().partition("[")[0]].partition("+")[0] == pin
    reasons = re.findall(rf'"{re.escape(need)}".*# (.+)', PYPROJECT)
    assert reasons, f"{need} gives no reason"


def test_torch_is_the_cpu_build_outside_the_hashed_lock() -> None:
    assert pins("requirements-torch.lock") == {"torch": "2.13.0+cpu"}
    assert "torch" not in pins("requirements.lock")


def test_every_pin_of_the_hashed_locks_has_a_hash() -> None:
    for name in HASHED:
        blocks = re.split(r"\n(?=\S)", (ROOT / name).read_text(encoding="utf-8").strip())
        assert all("--hash=sha256:" in block for block in blocks)


def test_no_two_locks_pin_a_package_apart() -> None:
    main = pins("requirements.lock")
    for lock in LOCKS:
        assert {name: pin for name, pin in pins(lock).items() if main.get(name, pin) != pin} == {}


def test_what_is_installed_is_what_is_locked() -> None:
    for name, pin in pins("requirements.lock").items():
        assert version(name) == pin, name


def test_a_cpu_torch_brings_no_nvidia_cuda_or_triton_package() -> None:
    assert version("torch").startswith("2.13.0+")
    unwanted = [
        dist.name
        for dist in distributions()
        if dist.name.lower() == "triton"
        or dist.name.lower().startswith(("nvidia-", "cuda-", "pytorch-triton"))
    ]
    assert not (unwanted if version("torch").endswith("+cpu") else [])


def environment(tmp_path: Path, *options: str) -> Path:
    """An environment whose activate script the installer has changed."""
    activate = tmp_path / "bin" / "activate"
    activate.parent.mkdir(exist_ok=True)
    if not activate.exists():
        activate.write_text(ACTIVATE, encoding="utf-8")
    subprocess.run([sys.executable, str(ACTIVATOR), str(tmp_path), *options], check=True)
    return activate


def in_bash(script: str, **variables: str) -> list[str]:
    env = {"PATH": "/usr/bin:/bin", **variables}
    done = subprocess.run(["bash", "-euc", script], env=env, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


def test_activate_names_the_configuration_and_deactivate_takes_it_back(tmp_path: Path) -> None:
    activate = environment(tmp_path)
    show = 'echo "${TS_CONFIG_FILE-unset}"'
    lines = in_bash(f'. "{activate}"; {show}; . "{activate}"; {show}; deactivate; {show}')
    assert lines == [str(ROOT / "config.properties")] * 2 + ["unset"]


def test_deactivate_gives_back_the_value_of_before(tmp_path: Path) -> None:
    activate = environment(tmp_path)
    assert in_bash(f'. "{activate}"; deactivate; echo "$TS_CONFIG_FILE"', TS_CONFIG_FILE="mine") == ["mine"]


def test_installing_again_leaves_activate_as_it_is(tmp_path: Path) -> None:
    first = environment(tmp_path).read_bytes()
    assert environment(tmp_path).read_bytes() == first


def test_java_is_left_alone_where_the_machine_has_one(tmp_path: Path) -> None:
    assert in_bash(f'. "{environment(tmp_path)}"; echo "${{JAVA_HOME-unset}}"') == ["unset"]


def test_an_activate_script_of_another_kind_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "activate").write_text("true\n", encoding="utf-8")
    command = [sys.executable, str(ACTIVATOR), str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "install: no deactivate function in activate: make clean, then make install\n"


def test_a_machine_without_python_is_told_the_cure_in_one_line(tmp_path: Path) -> None:
    environ = {"PATH": "/usr/bin:/bin", "PYTHON": "no-such-python", "TORCH_INDEX": "cpu"}
    command = ["bash", str(ROOT / ".ci/install"), str(tmp_path / "venv")]
    done = subprocess.run(command, env=environ, check=False, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "install: Python 3.11 or newer with venv is needed: apt install python3.11-venv"
    )
    assert len(done.stderr.splitlines()) == 1
