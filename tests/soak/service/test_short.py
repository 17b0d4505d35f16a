"""The short form of ``make soak-service`` (docs/soak.md)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.soak.service.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

_SMALL = ["--objects=40", "--volatile=6", "--pause=3", "--churn=0.3", "--interval=0.5"]
_FAST = ["--duration=12", "--life=3", "--restart=6", "--reload=2", "--sample=0.5"]
# Seconds say nothing about slopes: only a leak with each turn would be seen.
_COARSE = ["--growth=96", "--more=100", "--grace=5"]


@pytest.mark.timeout(300)
def test_nothing_is_lost_doubled_or_wrong_though_the_service_is_killed_and_reloaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Kills of the service and of the server, reloads, replaced objects, faults; the table says what does not hold."""
    drawing = tmp_path / "drawing.svg"
    evidence = tmp_path / "evidence"
    evidence.mkdir()
    status = main([*_SMALL, *_FAST, *_COARSE, "--seed=1", f"--folder={evidence}", f"--plot={drawing}"])
    table = capsys.readouterr().out
    assert status == 0, table
    counts = re.findall(r"(\d+) kills of the service, (\d+) of the server, (\d+) reloads", table)[0]
    assert all(int(count) > 0 for count in counts), table
    assert drawing.read_text().count("<polyline") >= 6  # three of each process that lived long enough
    assert list(evidence.iterdir()) == []  # none is kept of a success
