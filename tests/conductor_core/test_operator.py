"""Operator settings from variables and options."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conductor_core.issues import CellError
from conductor_core.operator import OperatorError, operator_settings
from conductor_core.quantities import MemoryBudget


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("CONDUCTOR_")]:
        monkeypatch.delenv(name)


def test_the_defaults_are_those_of_the_design() -> None:
    found = operator_settings()
    assert (found.host, found.port) == ("127.0.0.1", 8000)
    assert (found.state_dir, found.settings) == (Path(".conductor"), Path("SETTINGS.md"))
    assert (found.load_timeout, found.first_token_timeout, found.token_timeout) == (300, 120, 60)
    assert found.send_timeout == 30
    assert (found.max_wait, found.queue_size, found.create_key) == (300, 512, False)
    assert found.memory_budget.of("cpu") is None


def test_variables_are_read_and_options_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDUCTOR_PORT", "9000")
    monkeypatch.setenv("CONDUCTOR_LOG_LEVEL", "debug")
    monkeypatch.setenv("CONDUCTOR_CREATE_KEY", "1")
    monkeypatch.setenv("CONDUCTOR_TOKEN_TIMEOUT", "90")
    monkeypatch.setenv("CONDUCTOR_MAX_WAIT", "5m")
    found = operator_settings(port=9001, host=None)
    assert (found.port, found.host, found.log_level, found.create_key) == (9001, "127.0.0.1", "DEBUG", True)
    assert (found.token_timeout, found.max_wait) == (90, 300)


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("PORT", "abc", "CONDUCTOR_PORT: expected a whole number from 0 to 65535, got 'abc'"),
        ("PORT", "65536", "CONDUCTOR_PORT: expected a whole number from 0 to 65535, got '65536'"),
        ("HOST", "", "CONDUCTOR_HOST: expected a host name or address, got ''"),
        ("LOAD_TIMEOUT", "soon", "CONDUCTOR_LOAD_TIMEOUT: expected a time such as 90, 90s or 5m, got 'soon'"),
        (
            "LOAD_TIMEOUT",
            "never",
            "CONDUCTOR_LOAD_TIMEOUT: expected a time such as 90, 90s or 5m, got 'never'",
        ),
        ("MAX_WAIT", "nan", "CONDUCTOR_MAX_WAIT: expected a time such as 90, 90s or 5m, got 'nan'"),
        (
            "MEMORY_BUDGET",
            "lots",
            "CONDUCTOR_MEMORY_BUDGET: expected a size such as 6GB, or cpu=6GB,cuda:0=20GB, got 'lots'",
        ),
        ("CREATE_KEY", "maybe", "CONDUCTOR_CREATE_KEY: expected 1 or 0, got 'maybe'"),
        (
            "LOG_LEVEL",
            "loud",
            "CONDUCTOR_LOG_LEVEL: expected one of debug, info, warning, error, critical, got 'LOUD'",
        ),
        ("QUEUE_SIZE", "0", "CONDUCTOR_QUEUE_SIZE: expected a whole number from 1 to 100000, got '0'"),
    ],
)
def test_a_bad_value_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, line: str
) -> None:
    monkeypatch.setenv(f"CONDUCTOR_{name}", value)
    with pytest.raises(OperatorError) as caught:
        operator_settings()
    assert str(caught.value) == line


def test_a_bad_option_is_named_as_an_option() -> None:
    with pytest.raises(OperatorError, match=r"^--queue-size: expected a whole number"):
        operator_settings(queue_size=-1)


def test_all_bad_values_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDUCTOR_PORT", "x")
    monkeypatch.setenv("CONDUCTOR_QUEUE_SIZE", "x")
    with pytest.raises(OperatorError) as caught:
        operator_settings()
    assert len(str(caught.value).splitlines()) == 2


def test_a_memory_budget_is_for_all_devices_or_for_named_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDUCTOR_MEMORY_BUDGET", "cpu=6GB, CUDA:0=20GiB")
    budget = operator_settings().memory_budget
    assert (budget.of("cpu"), budget.of("cuda:0"), budget.of("cuda:1")) == (6 * 10**9, 20 * 2**30, None)
    assert MemoryBudget.parse("6GB").of("cuda:3") == 6 * 10**9


@pytest.mark.parametrize("text", ["", "cpu=", "tpu=6GB", "cpu=6GB,", "6GB,cpu=1GB", "=6GB"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(CellError, match="expected a size"):
        MemoryBudget.parse(text)


def test_loading_may_take_longer_for_larger_models() -> None:
    found = operator_settings()
    assert found.load_timeout_for(None) == 300
    assert found.load_timeout_for(10 * 10**9) == 500
