"""`-o PATH --rotate-size SIZE` from the outside: segments that are the object, whatever ends a run."""

from __future__ import annotations

import os
import random
import signal
from typing import TYPE_CHECKING

import pytest

import tailer.local
from tailer.cli.options import parse
from tailer.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import OssTail

FOLLOW = ("-F", "-s", "0.02")


def segments(path: Path) -> list[bytes]:
    return [one.read_bytes() for one in sorted(path.parent.glob(f"{path.name}.*"))]


def test_segments_have_exactly_the_size_and_are_the_object(oss_tail: OssTail, tmp_path: Path) -> None:
    data, path = os.urandom(2500), tmp_path / "copy"
    address = oss_tail.renew("rotate", data)
    assert oss_tail.here(["--rotate-size=1K", "-o", str(path), address]) == (0, b"", "")
    assert [one.name for one in sorted(tmp_path.iterdir())] == [f"copy.{start:020}" for start in (0, 1024, 2048)]
    assert b"".join(segments(path)) == data


def test_a_replaced_object_has_segments_of_its_own(oss_tail: OssTail, tmp_path: Path) -> None:
    path, first, second = tmp_path / "copy", b"1" * 1500, b"2" * 1200
    address = oss_tail.renew("rotate-again", first)
    with oss_tail.following(*FOLLOW, "--rotate-size=1K", "-o", str(path), address) as running:
        running.wait_for(lambda: b"".join(segments(path)) == first)
        oss_tail.renew("rotate-again", second)
        running.wait_for(lambda: b"".join(segments(tmp_path / "copy%g1")) == second)
    assert b"".join(segments(path)) == first


def test_kill_9_at_any_moment_and_the_segments_are_the_object(oss_tail: OssTail, tmp_path: Path) -> None:
    """While it catches up over a slow line, and while it follows what is appended."""
    choose, path = random.Random(7), tmp_path / "copy"
    data = os.urandom(3 << 20)
    address = oss_tail.renew("rotate-kill", data)
    oss_tail.server.faults.add(tailer.local.Fault("slow", method="GET", rate=16e6))
    try:
        for _ in range(24):
            had, more = len(b"".join(segments(path))), os.urandom(choose.choice((100, 800_000)))
            with oss_tail.following(*FOLLOW, "--rotate-size=64K", "-o", str(path), address) as running:
                oss_tail.append("rotate-kill", more)
                data += more
                wanted = choose.randrange(had, len(data)) + 1
                running.wait_for(lambda: len(b"".join(segments(path))) >= wanted, 60.0)  # noqa: B023 - run at once
                running.process.send_signal(signal.SIGKILL)
                running.process.wait()
            assert data.startswith(b"".join(segments(path)))
    finally:
        oss_tail.server.faults.clear()
    assert oss_tail.here(["--rotate-size=64K", "-o", str(path), address]).status == 0
    assert b"".join(segments(path)) == data


@pytest.mark.parametrize("size", ["0", "x", "-1", "1T"])
def test_a_wrong_size_is_refused(size: str) -> None:
    with pytest.raises(UsageError, match="for '--rotate-size': a number of bytes"):
        parse(["-o", "copy", f"--rotate-size={size}", "x"])


@pytest.mark.parametrize("words", [["-o", "folder/"], []])
def test_it_needs_a_file(words: list[str]) -> None:
    with pytest.raises(UsageError, match="--rotate-size"):
        parse([*words, "--rotate-size=1M", "x"])
