"""The page about faults and the tests of them say the same."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parent
PAGE = TESTS.parent / "docs" / "faults.md"
TOLD = ("faults", "regressions")
"""The folders of which every test has a row."""


def _named() -> set[str]:
    return set(re.findall(r"`(test_\w+)`", PAGE.read_text()))


def _tests(*folders: str) -> set[str]:
    modules = (path for folder in folders for path in (TESTS / folder).rglob("test_*.py") if path != Path(__file__))
    return {name for path in modules for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)}


def test_every_row_names_a_test_that_is_there() -> None:
    """So that no row promises what is not tested."""
    assert _named() - _tests(".") == set()


def test_every_test_of_a_fault_has_a_row() -> None:
    """So that no test proves what nobody is told."""
    assert _tests(*TOLD) - _named() == set()


def test_every_row_ends_with_a_test() -> None:
    """A row without one would be a wish."""
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| (?!when|what others|---)", line)]
    assert len(rows) > 60
    assert [row for row in rows if not re.search(r"`test_\w+` \|$", row)] == []
