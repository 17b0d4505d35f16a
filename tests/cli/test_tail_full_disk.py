"""`-o` on a disk that is full for a while: said once, waited out, and nothing is missing."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import OssTail


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of the next so many writes each puts one byte down, then finds no room."""
    times = [0]
    write = os.pwrite

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        if not times[0]:
            return write(descriptor, data, offset)
        times[0] -= 1
        write(descriptor, data[:1], offset)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", pwrite)
    return times


def test_a_follow_goes_on_when_there_is_room(oss_tail: OssTail, tmp_path: Path, full: list[int]) -> None:
    address, path = oss_tail.renew("full/again", b"0123456789"), tmp_path / "mirror"
    full[0] = 3
    done = oss_tail.here(["-F", "-s", "0.05", "--exit-idle", "0.3", "-o", str(path), address])
    assert path.read_bytes() == b"0123456789"
    why = f"cannot write '{path}': No space left on device (it holds the first 0 bytes and can be continued)"
    assert done == (0, b"", f"oss-tail: '{address}': {why}; trying again\n")


def test_without_following_it_is_the_end_and_the_file_can_be_continued(
    oss_tail: OssTail, tmp_path: Path, full: list[int]
) -> None:
    address, path = oss_tail.renew("full/once", b"0123456789"), tmp_path / "mirror"
    full[0] = 1
    done = oss_tail.here(["-o", str(path), address])
    assert (done.status, path.read_bytes()) == (1, b"")
    assert "No space left on device" in done.stderr
    assert oss_tail.here(["-o", str(path), address]) == (0, b"", "")
    assert path.read_bytes() == b"0123456789"
