"""`-o PATH --rotate-size SIZE` from the outside: segments that are the object, whatever ends a run."""

from __future__ import annotations

import errno
import os
import random
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tailer.local
from tailer.cli.options import parse
from tailer.core.position import ObjectRef
from tailer.errors import UsageError
from tailer.sinks.names import mirrored_object, segments_path
from tailer.sinks.rotated import segment_paths

if TYPE_CHECKING:
    from collections.abc import Callable

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


def test_it_needs_a_mirror() -> None:
    with pytest.raises(UsageError, match="--rotate-size needs --output PATH"):
        parse(["--rotate-size=1M", "x"])


def test_below_a_folder_each_object_has_its_segments(oss_tail: OssTail, tmp_path: Path) -> None:
    """Also those whose names look like segments, or like folders, of the others; the next run goes on with all."""
    zeros = "0" * 20
    keys = ("a", "a/b", f"a.{zeros}", f"a.{zeros}/c", f"a.{zeros}.{zeros}", "%/x//y", "é" * 500)
    contents = {key: os.urandom(1500 + len(key)) for key in keys}
    for _ in range(2):
        for key in keys:
            oss_tail.append(f"many/{key}", contents[key])
        options = ["--rotate-size=1K", "-o", f"{tmp_path}/all/"]
        assert oss_tail.here([*options, "oss://bucket/many/"]) == (0, b"", "")
        for key in keys:
            whole = oss_tail.server.store.read("bucket", f"many/{key}")
            path = segments_path(tmp_path / "all", ObjectRef("bucket", f"many/{key}"))
            assert b"".join(one.read_bytes() for one in segment_paths(path).values()) == whole
    assert len(segment_paths(tmp_path / "all" / "bucket" / "many" / "a")) == 3
    paths = [one for one in (tmp_path / "all").rglob("*") if one.is_file()]
    assert sorted(str(mirrored_object(tmp_path / "all", one.with_suffix("")).key) for one in paths) == sorted(
        f"many/{key}" for key in keys for _ in range(-(-2 * (1500 + len(key)) // 1024))
    )


@pytest.mark.parametrize("end", ["", "/"])
def test_a_full_disk_is_waited_out(
    oss_tail: OssTail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Inside a segment, and where the next one should begin."""
    address, path = oss_tail.renew("rotate-full", bytes(range(200)) * 20), tmp_path / "copy"
    left, write, open_ = [2, 2], os.pwrite, os.open

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        if left[0] and offset == 0 and len(data) == 1024:
            left[0] -= 1
            write(descriptor, data[:100], offset)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data, offset)

    def create(name: str, flags: int, *rest: int, **named: int) -> int:
        if left[1] and str(name).endswith("2048") and flags & os.O_CREAT:
            left[1] -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return open_(name, flags, *rest, **named)

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "open", create)
    done = oss_tail.here([*FOLLOW, "--exit-idle=0.3", "--rotate-size=1K", "-o", f"{path}{end}", address])
    where = path / "bucket" / "rotate-full" if end else path
    assert (done.status, done.stdout, left) == (0, b"", [0, 0])
    why = f"cannot write '{where}': No space left on device (it holds the first 0 bytes and can be continued)"
    assert done.stderr == f"oss-tail: '{address}': {why}; trying again\n"
    assert b"".join(segments(where)) == bytes(range(200)) * 20


@pytest.fixture
def small_disk(mounted: Callable[[str], Path]) -> Path:
    """A file system of 128 KiB, half of it taken by the file ``other``."""
    disk = mounted("size=128k")
    (disk / "other").write_bytes(bytes(64 << 10))
    return disk


@pytest.mark.parametrize("options", [["--rotate-size=20K"], []], ids=["segments", "one file"])
def test_a_disk_that_is_really_full(oss_tail: OssTail, small_disk: Path, options: list[str]) -> None:
    """Not followed: one line, and what fits is there whole. Followed: it goes on as soon as there is room."""
    data, key = os.urandom(100_000), f"small-disk-{len(options)}"
    address, path = oss_tail.renew(key, data[:1000]), small_disk / "copy"

    def mirrored() -> bytes:
        return b"".join(one.read_bytes() for one in sorted(small_disk.glob("copy*")))

    assert oss_tail.here([*options, "-o", str(path), address]) == (0, b"", "")
    oss_tail.append(key, data[1000:])
    done = oss_tail.here([*options, "-o", str(path), address])
    line = f"cannot write '{path}': No space left on device (it holds the first 1000 bytes and can be continued)"
    assert done == (1, b"", f"oss-tail: {line}\n")
    assert mirrored() == data[:1000]
    with oss_tail.following(*FOLLOW, *options, "-o", str(path), address) as running:
        running.wait_for_words(f"{line}; trying again")
        (small_disk / "other").unlink()
        running.wait_for(lambda: mirrored() == data, 30.0)
        assert running.stderr.count("\n") == 1


@pytest.mark.parametrize("before", [0, 500_000])
def test_killed_between_a_flipped_bit_and_its_proof(oss_tail: OssTail, tmp_path: Path, before: int) -> None:
    """As for one file: the next run says what is void, takes those segments back, and fetches what belongs there."""
    data, path = os.urandom(6 << 20), tmp_path / "copy"
    address, key = f"oss://bucket/rotate-flip-{before}", f"rotate-flip-{before}"
    options = ["--rotate-size=64K", "-o", str(path), address]
    oss_tail.renew(key, data[:before])
    assert oss_tail.here(options).status == 0
    oss_tail.append(key, data[before:])
    flip = tailer.local.Fault("flip-bit", operation="GetObject", at=before + 1000, count=1)
    stall = tailer.local.Fault("stall", operation="GetObject", after=1, seconds=60.0, at=100)
    oss_tail.server.faults.replace([flip, stall])
    try:
        with oss_tail.following(*FOLLOW, *options) as running:
            running.wait_for(lambda: len(b"".join(segments(path))) > before + 1000, 60.0)
            running.process.kill()
            running.process.wait()
    finally:
        oss_tail.server.faults.clear()
    left = b"".join(segments(path))
    assert left != data[: len(left)]
    done = oss_tail.here(options)
    assert (done.status, b"".join(segments(path)) == data) == (0, True)
    assert f"bytes {before} to " in done.stderr
    assert [one.name for one in tmp_path.glob("*%*")] == []


def test_a_folder_where_the_first_segment_belongs_is_one_line(oss_tail: OssTail, tmp_path: Path) -> None:
    address, path = oss_tail.renew("rotate-folder", b"1\n"), tmp_path / "copy"
    first = Path(f"{path}.{0:020}")
    first.mkdir()
    done = oss_tail.here(["--rotate-size=1K", "-o", str(path), address])
    why = f"cannot mirror to '{first}': is a directory (move it away or mirror to another path)"
    assert done == (1, b"", f"oss-tail: {why}\n")
    path.mkdir()
    done = oss_tail.here(["--rotate-size=1K", "-o", str(path), address])
    assert done == (1, b"", f"oss-tail: cannot mirror to '{path}': is a directory (end it with / to mirror into it)\n")
    assert list(path.iterdir()) == []
