"""The page about the SDKs names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "interop.md"


def test_the_page_names_every_test() -> None:
    """And no other."""
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    modules = (path for path in HERE.glob("test_*.py") if path != Path(__file__))
    there = {name for path in modules for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)}
    assert named == there
