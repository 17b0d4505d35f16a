"""A mirror that is killed while it holds bytes that are not proven: the next run makes it right, whatever they are."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tailer.local
from tailer.core import crc64
from tailer.core.events import Batch, Replaced, Rewound, Verified
from tailer.core.position import Mark, ObjectRef, Position
from tailer.errors import ObjectReplaced
from tailer.local import Fault
from tailer.sinks.file import FileMirror
from tailer.sinks.fsync import AT_CLOSE, EACH_BATCH, NEVER, Fsync
from tailer.sinks.rotated import RotatedMirror

if TYPE_CHECKING:
    from tailer.core.events import Event

REF = ObjectRef("b", "app.log")
OSS_TAIL = [sys.executable, "-c", "import sys; from tailer.cli.tail import main; sys.exit(main())"]
NOTE = "app.log%ok"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


def at(data: bytes) -> Position:
    """The end of `data`."""
    return Position(len(data), crc64.update(data))


def unproven(start: int, data: bytes) -> Batch:
    return Batch(REF, 0, start, start + len(data), data, verified=False)


def run(path: Path, *steps: Event) -> Mark:
    """Continue the mirror, take the steps, and let go of it, as a kill would. Gives where it began."""

    async def steps_in_order() -> Mark:
        mirror = FileMirror.open(path)
        try:
            mark = await mirror.resume()
            for step in steps:
                await (mirror.write(step) if isinstance(step, Batch) else mirror.notice(step))
            return mark
        finally:
            await mirror.close()

    return asyncio.run(steps_in_order())


def test_what_was_not_proven_counts_as_delivered_and_not_as_verified(path: Path) -> None:
    run(path, unproven(0, b"true"), Verified(at(b"true")), unproven(4, b"wrong"))
    assert run(path) == Mark(at(b"truewrong"), at(b"true"))


def test_the_note_stands_only_as_long_as_it_is_needed(path: Path) -> None:
    run(path, unproven(0, b"one"), unproven(3, b"two"))
    assert (path.parent / NOTE).read_bytes() == b"0 0\n"
    run(path, Verified(at(b"onetwo")))
    assert [found.name for found in path.parent.iterdir()] == ["app.log"]
    assert run(path) == Mark.at(at(b"onetwo"))


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("policy", [NEVER, AT_CLOSE, EACH_BATCH])
def test_the_note_is_on_the_disk_before_the_bytes_it_is_about_wherever_these_are_forced_there(
    path: Path, monkeypatch: pytest.MonkeyPatch, policy: Fsync, rotated: bool
) -> None:
    """Else a power cut could leave the bytes without the note, and then all of them count as proven."""
    done: list[str] = []
    fsync, pwrite = os.fsync, os.pwrite

    def noting_fsync(descriptor: int) -> None:
        done.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        fsync(descriptor)

    def noting_pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        done.append("write")
        return pwrite(descriptor, data, offset)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "pwrite", noting_pwrite)
    open_ = RotatedMirror.open if rotated else FileMirror.open

    async def write() -> None:
        mirror = open_(path, fsync=policy)
        await mirror.write(unproven(0, b"one"))
        await mirror.close()

    asyncio.run(write())
    note = "app.log%g0%ok" if rotated else NOTE
    before = done[: done.index("write")]
    assert before == ([] if policy is NEVER else [f"fsync {note}", f"fsync {path.parent.name}"])


def test_wrong_bytes_of_a_killed_run_are_cut_off_and_no_others(path: Path) -> None:
    path.write_bytes(b"mine")
    run(path, unproven(4, b"wrong"))
    run(path, Rewound(0, 4, 9), unproven(4, b"right"), Verified(at(b"mineright")))
    assert path.read_bytes() == b"mineright"


def test_what_was_there_before_is_still_never_cut(path: Path) -> None:
    path.write_bytes(b"mine")
    run(path, unproven(4, b"wrong"))
    with pytest.raises(ObjectReplaced, match="the 4 bytes of"):
        run(path, Replaced(1, "another"))
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize("note", [b"", b"4", b"2 7\n", b"400 7\n", b"nonsense\n"])
def test_a_note_that_is_torn_or_about_other_bytes_counts_for_nothing(path: Path, note: bytes) -> None:
    path.write_bytes(b"mine")
    (path.parent / NOTE).write_bytes(note)
    assert run(path) == Mark.at(at(b"mine"))


@pytest.mark.parametrize("before", [0, 500_000])
def test_killed_between_a_flipped_bit_and_its_proof(path: Path, before: int) -> None:
    """The real command, by kill -9: the next run says what is void, fetches it again, and ends with exit status 0."""
    data = os.urandom(6 << 20)
    with tailer.local.running(["demo"]) as server:
        environment = {**os.environ, **server.environment(), "HOME": str(path.parent), "NO_PROXY": "127.0.0.1"}
        command = [*OSS_TAIL, "-F", "-s", "0.1", "-o", str(path), "oss://demo/app.log"]
        server.store.append("demo", "app.log", 0, data[:before])
        subprocess.run([*command, "--once"], env=environment, check=True, timeout=60)
        server.store.append("demo", "app.log", before, data[before:])
        flip = Fault("flip-bit", operation="GetObject", at=before + 1000, count=1)
        server.faults.replace([flip, Fault("stall", operation="GetObject", after=1, seconds=60.0, at=100)])
        with subprocess.Popen(command, env=environment) as killed:
            deadline = time.monotonic() + 60
            while path.stat().st_size <= before and time.monotonic() < deadline:
                time.sleep(0.01)
            killed.kill()
        assert path.read_bytes() != data[: path.stat().st_size]
        server.faults.clear()
        done = subprocess.run([*command, "--once"], env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, path.read_bytes() == data) == (0, True), done.stderr
    assert f"bytes {before} to " in done.stderr
    assert not (path.parent / NOTE).exists()
