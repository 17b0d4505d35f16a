"""The page about the SDKs names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.interop.conftest import SDKS

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "interop.md"


def test_the_page_names_every_test() -> None:
    """And no other."""
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    modules = (path for path in HERE.glob("test_*.py") if path != Path(__file__))
    there = {name for path in modules for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)}
    assert named == there


def test_the_table_has_a_row_for_every_sdk() -> None:
    """And one each for `ossutil` and `ossfs`."""
    rows = re.findall(r"^\| `[\w.:-]+` \(", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == len(SDKS) + 2


def test_the_table_names_the_modules_of_go_that_are_built() -> None:
    """In their versions."""
    modules = re.findall(r"github.com/aliyun/(\S+) v([\d.]+)", (HERE / "drivers/go/go.mod").read_text())
    rows = re.findall(r"^\| `([\w-]+)` \(Go\)[^|]* \| ([\d.]+),", PAGE.read_text(), re.MULTILINE)
    assert sorted(modules) == sorted(rows) != []
