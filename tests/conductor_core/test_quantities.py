"""Memory and time as people write them."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conductor_core.issues import CellError
from conductor_core.quantities import MAX_BYTES, format_bytes, parse_bytes, parse_duration


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("~8GB (FP16)", 8_000_000_000),
        ("512MB", 512_000_000),
        ("1.5 GiB", 1_610_612_736),
        ("24 GB VRAM", 24_000_000_000),
        ("~2–3GB", 3_000_000_000),
        ("2 - 3 GB", 3_000_000_000),
        ("2 to 3 gb", 3_000_000_000),
        ("800MB–1.2GB", 1_200_000_000),
        ("16GB VRAM / 32GB RAM", 32_000_000_000),
        ("~8GB (FP16), ~5GB (4-bit)", 8_000_000_000),
        (">= 6GB", 6_000_000_000),
        ("100 KB", 100_000),
        ("2TiB", 2 * 2**40),
        ("4096 B", 4096),
    ],
)
def test_a_size_is_the_largest_that_the_cell_names(text: str, amount: int) -> None:
    assert parse_bytes(text) == amount


@pytest.mark.parametrize(
    "text", ["", "8", "lots", "8 bits", "8GBX", "1,5 GB", "0 GB", "-", "GB", "9" * 400 + "GB", "2000 TB"]
)
def test_a_text_without_a_sensible_size_is_refused(text: str) -> None:
    with pytest.raises(CellError, match="expected a size such as"):
        parse_bytes(text)


@given(st.integers(1, MAX_BYTES))
def test_whole_bytes_are_read_back_exactly(amount: int) -> None:
    assert parse_bytes(f"{amount} B") == amount


@given(st.integers(1, MAX_BYTES // 2))
def test_a_printed_size_is_read_back_within_its_last_digit(amount: int) -> None:
    assert math.isclose(parse_bytes(format_bytes(amount)), amount, rel_tol=0.06)


@given(st.text())
def test_any_text_is_a_size_or_a_cell_error(text: str) -> None:
    with suppress(CellError):
        assert 0 < parse_bytes(text) <= MAX_BYTES


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000_000, "1 MB"), (8_053_063_680, "8.1 GB"), (10**16, "10000 TB")],
)
def test_sizes_are_printed_for_people(amount: int, text: str) -> None:
    assert format_bytes(amount) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", 300),
        ("90s", 90),
        ("1h", 3600),
        ("5 minutes", 300),
        ("1 Hour 30 min", 5400),
        ("1h30m", 5400),
        ("2 days", 172800),
        ("0s", 0),
        ("0.5h", 1800),
        ("Never", math.inf),
    ],
)
def test_times_have_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "m", "5x", "-5m", "5m later", "1 month", "9" * 400 + "h", "never ever"]
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(CellError, match="expected a time such as"):
        parse_duration(text)


@given(st.text(alphabet="0123456789.hmsd minutesor"))
def test_any_text_is_a_time_or_a_cell_error(text: str) -> None:
    with suppress(CellError):
        assert parse_duration(text) >= 0
