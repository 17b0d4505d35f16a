"""The page about appending names tests that exist, and the whole table of the service's documentation."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "appending.md").read_text()
NAMED = set(re.findall(r"`(test_\w+)`", PAGE))
TABLE = set(re.findall(r"^def (test_\w+)", (ROOT / "tests" / "test_append_table.py").read_text(), re.MULTILINE))


def test_the_page_names_tests_that_exist() -> None:
    files = ["test_append.py", "test_appender.py", "cli/test_append.py", "cli/test_append_follow.py"]
    tests = "".join((ROOT / "tests" / name).read_text() for name in files)
    assert not [name for name in NAMED - TABLE if f"def {name}(" not in tests]


def test_the_page_has_every_row_of_the_table() -> None:
    assert len(TABLE) > 20
    assert not TABLE - NAMED
