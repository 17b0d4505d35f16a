"""Sizes and times as people write them."""

from __future__ import annotations

import pytest

from tailer.core.units import parse_size, parse_time


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("64K", 64 << 10),
        ("64KiB", 64 << 10),
        ("64MiB", 64 << 20),
        ("2G", 2 << 30),
        ("64kB", 64_000),
        ("64KB", 64_000),
        ("64MB", 64_000_000),
        ("1GB", 10**9),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1.5M", "64m", "64 MiB", "64k", "1Mi", "KiB", "1T", "٣", "9" * 16, "1\n"])
def test_what_is_no_size(text: str) -> None:
    assert parse_size(text) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("0s", 0.0), ("1.5s", 1.5), ("30 s", 30.0), ("5m", 300.0), ("2h", 7200.0), ("7d", 604800.0)],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "-5s", "5M", "5 minutes", "1e3s", "nan", "1h30m", "٣s", "5s\n", ".5s"])
def test_what_is_no_time(text: str) -> None:
    assert parse_time(text) is None
