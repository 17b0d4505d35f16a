"""SECURITY.md points at tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "SECURITY.md").read_text()


def test_every_promise_has_a_test_that_is_there() -> None:
    promised = PAGE[PAGE.index("| promise | test |") : PAGE.index("## Limits")]
    rows = [line for line in promised.splitlines()[2:] if line.startswith("|")]
    assert len(rows) > 10
    for row in rows:
        tests = re.findall(r"`(tests/[\w/.]+)`", row.rpartition(" | ")[2])
        assert tests, row
        assert [test for test in tests if not (ROOT / test).is_file()] == []


def test_the_limits_are_those_of_the_code() -> None:
    from tailer.oss import direct, messages

    limits = PAGE[PAGE.index("## Limits") : PAGE.index("## What is not")]
    for text, value in {
        "16 KiB; 16 interim answers": (direct._MAX_HEAD, direct._MAX_INTERIM) == (16 << 10, 16),
        "1 KiB a line, 64 trailers": (direct._MAX_LINE, direct._MAX_TRAILERS) == (1 << 10, 64),
        "its first 64 KiB are looked at": messages.MAX_ERROR_BODY == 64 << 10,
        "16 MiB, 100,000 elements": (messages.MAX_LIST_BODY, messages._MAX_ELEMENTS) == (16 << 20, 100_000),
        "16 levels": messages._MAX_DEPTH == 16,
        "64 KiB in one tag": messages._MAX_PIECE == 64 << 10,
        "an hour": messages._MAX_WAIT == 3600,
    }.items():
        assert text in limits
        assert value, text
