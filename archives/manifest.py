"""MAR-INF/MANIFEST.json by model_archiver's own classes, with a fixed date for reproducible builds."""

from __future__ import annotations

import json
import re

from model_archiver.model_archiver_config import ModelArchiverConfig
from model_archiver.model_archiver_error import ModelArchiverError
from model_archiver.model_packaging_utils import ModelExportUtils

from archives.errors import BuildError

MANIFEST = "MAR-INF/MANIFEST.json"
CONFIG = "model-config.yaml"
CREATED = "01/01/1980 00:00:00"
"""The first date that a zip member can have."""


def handler_name(model: str) -> str:
    """The stub's file name: TorchServe imports it by basename, so it is an identifier of its own kind."""
    return re.sub(r"[^A-Za-z0-9_]", "_", model) + "_handler.py"


def manifest_json(name: str, version: str, handler: str) -> bytes:
    """The manifest of the model `name`; BuildError for a name that TorchServe refuses."""
    check_model_name(name)
    config = ModelArchiverConfig(model_name=name, handler=handler, version=version, config_file=CONFIG)
    values = json.loads(ModelExportUtils.generate_manifest_json(config))
    return json.dumps({**values, "createdOn": CREATED}, indent=2).encode()


def check_model_name(name: str) -> None:
    """BuildError where the archiver's own rule refuses `name`."""
    try:
        ModelExportUtils.check_model_name_regex_or_exit(name)
    except ModelArchiverError as error:
        raise BuildError(f"{name!r} is no model name of TorchServe", "use letters, digits, _ - .") from error
