"""The page about bad input and the tests of it say the same."""

from __future__ import annotations

import re
from pathlib import Path

from tests.cli.test_tail_bad_input import CASES, FAULTS

TESTS = Path(__file__).parents[1]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (TESTS.parent / "docs" / "bad-input.md").read_text().splitlines()
    if re.match(r"\| (?!input|---)", line)
]


def test_every_row_ends_with_a_test_that_is_there() -> None:
    """So that no row promises what is not tested."""
    tests = {
        name for path in TESTS.rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    assert len(ROWS) > 60
    assert {row[-1] for row in ROWS} - {f"`{name}`" for name in tests} == set()


def test_every_case_has_a_row_with_its_exit_status() -> None:
    """What the command refuses, and how it then ends, is what the page says, in the same order."""
    cases = [(name, str(case.status)) for name, case in CASES.items()]
    cases += [(name, str(status)) for name, (_, status, _) in FAULTS.items()]
    rows = [(row[0], row[2]) for row in ROWS if row[-1] in ("`test_refused`", "`test_service_that_goes_wrong`")]
    assert rows == cases


def test_every_row_gives_an_exit_status() -> None:
    assert {row[2] for row in ROWS} == {"0", "1", "2", "3", "-"}
