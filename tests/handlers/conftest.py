"""Folders of tiny models, built once per session."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_llama_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.handlers.tiny_models import tiny_llama

    return tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


@pytest.fixture(scope="session")
def tiny_m2m100_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.handlers.tiny_models import tiny_m2m100

    return tiny_m2m100(tmp_path_factory.mktemp("tiny-m2m100"))


@pytest.fixture(scope="session")
def tiny_nllb_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.handlers.tiny_models import tiny_nllb

    return tiny_nllb(tmp_path_factory.mktemp("tiny-nllb"))
