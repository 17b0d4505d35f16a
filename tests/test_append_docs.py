"""The page about appending names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "appending.md").read_text()


def test_the_page_names_tests_that_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    tests = (ROOT / "tests" / "test_append.py").read_text()
    assert len(named) >= 8
    assert {name for name in named if f"def {name}(" not in tests} == set()
