"""Probes of `conductor doctor`: Java, packages, memory, disk, ports, GPUs. Facts only, no judgement."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil

from conductor.client import GatewayClient
from conductor.doctor import TORCHSERVE_PORTS, Facts, Java
from conductor.project import Project
from conductor_admin.workers.torchserve_config import find_java
from conductor_core.catalogue import StayLoaded
from conductor_core.machine import Gpu, nvidia_gpus, usable_memory
from conductor_core.operator import OperatorSettings
from conductor_core.run_file import StartError
from conductor_core.runtimes import PINS, needs
from handlers.sandbox.confinement import lacking

_JAVA_VERSION = re.compile(r'version "(?:1\.)?(\d+)')
PROBE_WAIT_S = 30.0


def collect(settings: OperatorSettings, project: Project) -> Facts:
    """Collect the facts of this machine for this project."""
    sets = () if project.catalogue is None else project.catalogue.sets
    folders = (project.paths.models, Path(settings.state_dir))
    return Facts(
        python=sys.version_info[:2],
        java=java(os.environ),
        memory=usable_memory(),
        memory_available=psutil.virtual_memory().available,
        disk_free=disk_free(folders),
        port=settings.port,
        port_user=port_user(settings.host, settings.port),
        busy_ports=frozenset(port for port in TORCHSERVE_PORTS if is_taken("127.0.0.1", port)),
        gpus=gpus(),
        installed=installed(PINS),
        settings_faults=project.faults,
        needs=needs((row, one.runtime) for one in sets for row in one.rows),
        unconfined=lacking(),
        resident_memory=sum(
            (one.declared_memory or 0) * one.workers for one in sets if one.stay_loaded is StayLoaded.TRUE
        ),
    )


def java(environment: Mapping[str, str]) -> Java | None:
    """The Java that the gateway would run, with its major version."""
    try:
        path = find_java(environment)
    except StartError:
        return None
    try:
        answer = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=PROBE_WAIT_S)
    except (OSError, subprocess.TimeoutExpired):
        return Java(str(path), None)
    return Java(str(path), java_major(answer.stderr + answer.stdout))


def java_major(text: str) -> int | None:
    """The major version in the output of `java -version`; 8 for the old form "1.8.0_392"."""
    found = _JAVA_VERSION.search(text)
    return int(found[1]) if found else None


def gpus() -> tuple[Gpu, ...]:
    """Every GPU that the driver shows, also those that the installed torch cannot use."""
    return nvidia_gpus(os.environ)


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those `packages` that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def disk_free(folders: Iterable[Path]) -> dict[str, int]:
    """Free bytes at the place of each folder; of folders on one file system only the first is listed."""
    seen: dict[int, tuple[str, int]] = {}
    for folder in folders:
        there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
        seen.setdefault(there.stat().st_dev, (str(folder), shutil.disk_usage(there).free))
    return dict(seen.values())


def is_taken(host: str, port: int) -> bool:
    """True if a server could not listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def port_user(host: str, port: int) -> Literal["conductor", "other"] | None:
    """Kind of the program that listens on the gateway's port, None if it is free."""
    if port == 0 or not is_taken(host, port):
        return None
    with GatewayClient(host, port, read_timeout_s=PROBE_WAIT_S) as gateway:
        return "conductor" if gateway.is_up() else "other"
