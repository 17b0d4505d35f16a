"""docs/sinks.md is true: its rows name tests that exist, and its example works."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from tailer.core.events import Batch, Event, Gone
from tailer.core.position import ObjectRef

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "sinks.md").read_text()


def test_every_row_of_a_promise_names_a_test_that_is_there() -> None:
    rows = [line for line in PAGE.partition("## What events mean")[0].splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith(("| ---", "| sink |", "| when |"))]
    assert len(promises) > 15
    there = {
        name for path in TESTS.rglob("test_*.py") for name in re.findall(r"^def (test_\w+)", path.read_text(), re.M)
    }
    for row in promises:
        named = re.search(r"`(test_\w+)` \|$", row)
        assert named is not None, row
        assert named[1] in there, row


def test_the_sink_of_ones_own_is_one(tmp_path: Path) -> None:
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    names: dict[str, type] = {"Batch": Batch, "Event": Event}  # type: ignore[dict-item]
    exec(compile(code, "docs/sinks.md", "exec"), names)

    async def run() -> None:
        sink = names["Uppercase"](str(tmp_path / "out"))
        await sink.write(Batch(ObjectRef("b", "k"), 0, 0, 4, memoryview(b"one\n"), verified=True))
        await sink.notice(Gone(0, 4))
        await sink.close()

    asyncio.run(run())
    assert (tmp_path / "out").read_bytes() == b"ONE\n"
