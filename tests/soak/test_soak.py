"""The two-minute form of ``make soak`` (docs/soak.md)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.soak.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

# Two minutes say nothing about the slope of memory: only a leak of a window at a time would be seen.
COARSE = ["--growth=48", "--grace=5"]


@pytest.mark.timeout(420)
def test_nothing_is_lost_doubled_or_wrong_though_everything_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Over 40 kills of consumers and 6 of the server, all faults on; the table says which promise does not hold."""
    short = ["--kills=42", "--restarts=6", "--duration=84", "--exit-idle=5", *COARSE]
    status = main([*short, f"--folder={tmp_path}"])
    table = capsys.readouterr().out
    assert status == 0, table
    kills, restarts = map(int, re.findall(r"(\d+) kills of 3 consumers, (\d+) of the server", table)[0])
    assert kills >= 42
    assert restarts >= 6
    assert list(tmp_path.iterdir()) == []  # no evidence is kept of a success
