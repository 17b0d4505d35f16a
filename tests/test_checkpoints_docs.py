"""docs/checkpoints.md: every row of what happens names a test that is there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "checkpoints.md"


def test_every_row_names_a_test_that_is_there() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if "`test_" in line or line.endswith("| the same |")]
    named = re.findall(r"`(test_\w+)`", "\n".join(rows))
    sources = "\n".join(path.read_text() for path in TESTS.rglob("test_*checkpoint*.py"))
    assert len(rows) >= 9
    assert [name for name in named if f"def {name}(" not in sources] == []
