"""An archive folder whose engine handler has a `ScriptedSource` as its model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import yaml

from handlers.wire import WIRE_VERSION

HANDLER = """\
from handlers.engine_handler import EngineHandler
from tests.handlers.scripted_source import ScriptedSource


class ScriptedHandler(EngineHandler):
    def load(self, config, on_fatal):
        {load}
"""
LOADS = "return ScriptedSource(on_fatal)"


def write_archive(
    folder: Path,
    name: str,
    *,
    load: str = LOADS,
    batch: int = 1,
    delay_ms: int = 1,
    version: str = "1.0",
) -> Path:
    """Write an unpacked archive that TorchServe registers by path; `load` is the body of the load hook."""
    archive = folder / name
    (archive / "MAR-INF").mkdir(parents=True)
    model = {
        "modelName": name,
        "handler": "scripted_handler.py",
        "modelVersion": version,
        "configFile": "model-config.yaml",
    }
    manifest = {"runtime": "python", "model": model, "archiverVersion": "0.12.0"}
    (archive / "MAR-INF" / "MANIFEST.json").write_bytes(orjson.dumps(manifest))
    (archive / "scripted_handler.py").write_text(HANDLER.format(load=load))
    config = {
        "minWorkers": 1,
        "maxWorkers": 1,
        "batchSize": batch,
        "maxBatchDelay": delay_ms,
        "responseTimeout": 86_400,
        "startupTimeout": 60,
        "conductor": _conductor(name, version),
    }
    (archive / "model-config.yaml").write_text(yaml.safe_dump(config))
    return archive


def _conductor(name: str, version: str) -> dict[str, Any]:
    return {
        "wire": WIRE_VERSION,
        "set": name,
        "version": version,
        "category": name,
        "engine": "any",
        "runtime": "scripted",
        "module": "tests.handlers.scripted_source",
        "refused": [],
        "kv_token_bytes": 0,
        "device": "cpu",
        "precision": "Q4_1",
        "weights": "scripted",
        "model_path": "/nowhere",
        "model": "Scripted",
        "system": "Be brief.",
        "parameters": {"temperature": 0.5},
    }
