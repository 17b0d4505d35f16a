"""The fsync policies of `FileMirror`: what is on the disk when, and that no mark is kept beyond it."""

from __future__ import annotations

import asyncio
import os
import stat
from typing import TYPE_CHECKING

import pytest

from tailer.core.events import Batch, Replaced, Verified
from tailer.core.position import Mark, ObjectRef, Position
from tailer.errors import SinkError
from tailer.sinks.file import FileMirror
from tailer.sinks.fsync import AT_CLOSE, EACH_BATCH, NEVER, AfterSync, Fsync

if TYPE_CHECKING:
    from pathlib import Path

REF = ObjectRef("b", "k")


def batch(start: int, data: bytes, generation: int = 0) -> Batch:
    return Batch(REF, generation, start, start + len(data), data, verified=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """For each fsync the length of the file that is now on the disk, None for a folder."""
    found: list[int | None] = []
    fsync = os.fsync

    def noting(descriptor: int) -> None:
        status = os.fstat(descriptor)
        fsync(descriptor)
        found.append(status.st_size if stat.S_ISREG(status.st_mode) else None)

    monkeypatch.setattr(os, "fsync", noting)
    return found


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (NEVER, []),
        (AT_CLOSE, [30, None]),
        (EACH_BATCH, [10, None, 20, 30, 30]),
        (Fsync(bytes=15), [20, None, 30]),
        (Fsync(seconds=3600.0), [30, None]),
        (Fsync(seconds=3600.0, bytes=20), [20, None, 30]),
    ],
)
def test_each_policy_brings_to_the_disk_what_it_says_and_the_name_once(
    path: Path, synced: list[int | None], policy: Fsync, expected: list[int | None]
) -> None:
    """Three batches of ten bytes, and the end."""

    async def run() -> None:
        mirror = FileMirror.open(path, fsync=policy)
        for start in (0, 10, 20):
            await mirror.write(batch(start, b"0123456789"))
        await mirror.close()
        await mirror.close()

    asyncio.run(run())
    assert synced == expected


def test_after_a_time_it_is_on_the_disk_though_nothing_more_comes(path: Path, synced: list[int | None]) -> None:
    async def run() -> None:
        mirror = FileMirror.open(path, fsync=Fsync(seconds=0.01))
        await mirror.write(batch(0, b"12345"))
        async with asyncio.timeout(30):
            while not synced:  # noqa: ASYNC110 - the thread that syncs tells nobody
                await asyncio.sleep(0.001)
        await mirror.write(batch(5, b"67"))
        async with asyncio.timeout(30):
            while 7 not in synced:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.001)
        await mirror.close()

    asyncio.run(run())
    assert synced[0] == 5


def test_what_is_written_during_an_fsync_comes_under_the_next_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nothing more is written after it."""
    lengths: list[int] = []

    async def run() -> None:
        loop, begun, free = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

        def slow(descriptor: int) -> None:
            lengths.append(os.fstat(descriptor).st_size)
            loop.call_soon_threadsafe(begun.set)
            asyncio.run_coroutine_threadsafe(free.wait(), loop).result(30)

        mirror = FileMirror.open(path, fsync=Fsync(seconds=0.001))
        monkeypatch.setattr(os, "fsync", slow)
        await mirror.write(batch(0, b"12345"))
        await asyncio.wait_for(begun.wait(), 30)
        await mirror.write(batch(5, b"67"))
        await asyncio.sleep(0.01)  # the timer of the second write goes off while the first fsync is under way
        free.set()
        async with asyncio.timeout(30):
            while 7 not in lengths:  # noqa: ASYNC110 - the thread that syncs tells nobody
                await asyncio.sleep(0.001)
        await mirror.close()

    asyncio.run(run())
    assert lengths[0] == 5


def test_a_write_is_not_held_up_by_the_fsync_of_a_clock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is busy until the second batch was taken."""

    async def run() -> None:
        loop, begun, free = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

        def slow(_: int) -> None:
            loop.call_soon_threadsafe(begun.set)
            asyncio.run_coroutine_threadsafe(free.wait(), loop).result(30)

        mirror = FileMirror.open(path, fsync=Fsync(seconds=0.001))
        monkeypatch.setattr(os, "fsync", slow)
        await mirror.write(batch(0, b"12345"))
        await begun.wait()
        await mirror.write(batch(5, b"67"))
        free.set()
        await mirror.close()

    asyncio.run(run())
    assert path.read_bytes() == b"1234567"


@pytest.mark.parametrize("policy", [EACH_BATCH, AT_CLOSE, Fsync(seconds=0.001)])
def test_a_disk_that_refuses_is_one_line_and_never_silent(
    path: Path, monkeypatch: pytest.MonkeyPatch, policy: Fsync
) -> None:
    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    async def run() -> None:
        mirror = FileMirror.open(path, fsync=policy)
        monkeypatch.setattr(os, "fsync", refuse)
        try:
            await mirror.write(batch(0, b"12345"))
        finally:
            await mirror.close()

    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SinkError, match=r"^cannot sync '.*app.log': Input/output error$") as caught:
        asyncio.run(run())
    assert not caught.value.retriable
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_refusal_between_two_batches_comes_out_with_the_next_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def write_on(mirror: FileMirror) -> None:
        async with asyncio.timeout(30):
            for start in range(5, 1_000_000):
                await mirror.write(batch(start, b"x"))
                await asyncio.sleep(0)

    async def run() -> None:
        asked = asyncio.Event()
        loop = asyncio.get_running_loop()

        def refuse(_: int) -> None:
            loop.call_soon_threadsafe(asked.set)
            raise OSError(5, "Input/output error")

        mirror = FileMirror.open(path, fsync=Fsync(seconds=0.001))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse)
            await mirror.write(batch(0, b"12345"))
            await asked.wait()
            with pytest.raises(SinkError, match="cannot sync"):
                await write_on(mirror)
        await mirror.close()

    asyncio.run(run())


def test_a_new_generation_is_on_the_disk_before_the_old_one_goes(
    path: Path, synced: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes before the change of names, and the change itself after it."""
    replace, before = os.replace, []

    def noting(*names: str, **folders: int) -> None:
        before.extend(synced)
        replace(*names, **folders)

    async def run() -> None:
        mirror = FileMirror.open(path, fsync=Fsync(seconds=3600.0))
        await mirror.write(batch(0, b"old"))
        await mirror.notice(Verified(Position(3, 1)))
        await mirror.notice(Replaced(1, "x"))
        await mirror.write(batch(0, b"newer", 1))
        await mirror.notice(Verified(Position(5, 1)))
        assert (before, synced) == ([5], [5, None])
        await mirror.close()

    monkeypatch.setattr(os, "replace", noting)
    asyncio.run(run())


class Marks:
    """A store that notes what was on the disk when a mark was kept."""

    def __init__(self, synced: list[int | None]) -> None:
        self.kept: list[tuple[int, int | None]] = []
        self._synced = synced

    async def commit(self, ref: ObjectRef, mark: Mark) -> None:
        on_disk = max((size for size in self._synced if size is not None), default=None)
        self.kept.append((mark.delivered.offset, on_disk))


@pytest.mark.parametrize(("policy", "on_disk"), [(AT_CLOSE, 5), (Fsync(seconds=3600.0), 5), (NEVER, None)])
def test_no_mark_is_kept_beyond_the_disk(
    path: Path, synced: list[int | None], policy: Fsync, on_disk: int | None
) -> None:
    async def run() -> None:
        mirror = FileMirror.open(path, fsync=policy)
        store = AfterSync(marks, mirror)
        await mirror.write(batch(0, b"12345"))
        await store.commit(REF, Mark.at(Position(5, 1)))
        await mirror.close()

    marks = Marks(synced)
    asyncio.run(run())
    assert marks.kept == [(5, on_disk)]


def test_no_mark_is_kept_when_the_disk_refuses(
    path: Path, synced: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    async def run() -> None:
        mirror = FileMirror.open(path, fsync=AT_CLOSE)
        await mirror.write(batch(0, b"12345"))
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse)
            with pytest.raises(SinkError, match="Input/output error"):
                await AfterSync(marks, mirror).commit(REF, Mark.at(Position(5, 1)))
        await mirror.close()

    marks = Marks(synced)
    asyncio.run(run())
    assert marks.kept == []
