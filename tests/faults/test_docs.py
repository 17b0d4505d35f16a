"""The page about faults and the tests of them say the same."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "faults.md"


def test_every_row_names_a_test_and_every_test_has_a_row() -> None:
    """In both directions, so that a row cannot promise what is not tested, nor a test prove what nobody is told."""
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    modules = (path for path in HERE.glob("test_*.py") if path != Path(__file__))
    there = {name for path in modules for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)}
    assert named == there


def test_every_row_ends_with_a_test() -> None:
    """A row without one would be a wish."""
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| (?!when|---)", line)]
    assert len(rows) > 40
    assert [row for row in rows if not re.search(r"`test_\w+` \|$", row)] == []
