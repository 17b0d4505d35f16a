"""Marks on their way into the checkpoints."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from tailer.checkpoints import Checkpoints
from tailer.core.position import Mark, ObjectRef, Position
from tailer.errors import CheckpointError, SinkError, TailerError
from tailer.fleet.marks import COMMIT_BYTES, Marks
from tests.fleet.conftest import Forgetful, Observed
from tests.garbage import collecting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

A, B = ObjectRef("bucket", "a"), ObjectRef("bucket", "b")


def at(offset: int) -> Mark:
    return Mark.at(Position(offset, 7))


async def ready() -> dict[ObjectRef, SinkError]:
    """Nothing has to be made safe."""
    return {}


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Checkpoints]:
    with Checkpoints.open(tmp_path / "state.db", "web", owner="a test") as kept:
        yield kept


def test_what_is_noted_is_kept_together(kept: Checkpoints) -> None:
    observed = Observed()

    async def note() -> None:
        marks = Marks(kept, ready, observed, "web")
        for offset in range(100):
            marks.note(A, at(offset), 1)
            marks.note(B, at(offset), 1)
        assert marks.latest(A) == at(99)
        assert marks.uncommitted > 0
        committing = asyncio.create_task(marks.run())
        while marks.uncommitted:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        committing.cancel()

    asyncio.run(note())
    assert {one.ref: one.mark for one in kept.all()} == {A: at(99), B: at(99)}
    assert observed.commits == 1


def test_delivery_stands_still_where_too_much_is_not_kept(kept: Checkpoints) -> None:
    async def note() -> None:
        marks = Marks(kept, ready, Observed(), "web")
        marks.note(A, at(1), 2 * COMMIT_BYTES)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await marks.room()
        await marks.flush()
        async with asyncio.timeout(5.0):
            await marks.room()

    asyncio.run(note())


def test_what_is_being_kept_is_not_kept_yet(kept: Checkpoints) -> None:
    """The bound holds while a commit is under way, and where it fails in the end."""

    async def note() -> None:
        going_on, fails = asyncio.Event(), True

        async def slowly() -> dict[ObjectRef, SinkError]:
            await going_on.wait()
            if fails:
                raise SinkError("no fsync")
            return {}

        async def has_room() -> bool:
            try:
                async with asyncio.timeout(0.02):
                    await marks.room()
            except TimeoutError:
                return False
            return True

        marks = Marks(kept, slowly, Observed(), "web")
        marks.note(A, at(1), COMMIT_BYTES)
        flushing = asyncio.create_task(marks.flush())
        await asyncio.sleep(0)
        assert await has_room()
        marks.note(A, at(2), COMMIT_BYTES)
        assert not await has_room()
        going_on.set()
        with pytest.raises(SinkError):
            await flushing
        assert not await has_room()
        fails = False
        await marks.flush()
        assert await has_room()

    asyncio.run(note())


def test_a_mark_that_is_kept_at_once_counts_until_it_is(kept: Checkpoints) -> None:
    async def keep() -> None:
        going_on = asyncio.Event()

        async def slowly() -> dict[ObjectRef, SinkError]:
            await going_on.wait()
            return {}

        marks = Marks(kept, slowly, Observed(), "web")
        keeping = asyncio.create_task(marks.keep(A, at(1)))
        await asyncio.sleep(0)
        assert marks.uncommitted > 0
        going_on.set()
        await keeping
        assert marks.uncommitted == 0

    asyncio.run(keep())


def test_a_commit_that_failed_leaves_nothing_to_the_collector(
    kept: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a disk is full for a night, that would be all the marks of each try."""

    def refuse(*_: object) -> None:
        raise CheckpointError("disk full")

    async def note() -> None:
        marks = Marks(kept, ready, Forgetful(), "web")
        monkeypatch.setattr(kept, "commit", refuse)
        with collecting() as left:
            for offset in range(3):
                marks.note(A, at(offset))
                with contextlib.suppress(CheckpointError):
                    await marks.flush()
            assert isinstance(marks.error, CheckpointError)
            marks.error = None
        assert left == []

    asyncio.run(note())


@pytest.mark.parametrize("error", [SinkError("no fsync"), CheckpointError("disk full")], ids=["sink", "checkpoint"])
def test_what_could_not_be_kept_is_noted_still(
    kept: Checkpoints, monkeypatch: pytest.MonkeyPatch, error: TailerError
) -> None:
    """And a newer mark is not overtaken by the one that failed."""

    async def note() -> None:
        async def sync() -> dict[ObjectRef, SinkError]:
            if isinstance(error, SinkError):
                raise error
            return {}

        marks = Marks(kept, sync, Observed(), "web")
        marks.note(A, at(5))
        if isinstance(error, CheckpointError):

            def refuse(*_: object) -> None:
                raise error

            monkeypatch.setattr(kept, "commit", refuse)
        with pytest.raises(type(error)):
            await marks.flush()
        assert marks.latest(A) == at(5)
        marks.note(A, at(3))
        monkeypatch.undo()
        marks.sync = ready
        await marks.flush()
        assert marks.uncommitted == 0

    asyncio.run(note())
    assert kept.load(A) == at(3)


def test_a_mark_that_goes_back_is_kept_at_once_and_not_undone(kept: Checkpoints) -> None:
    async def note() -> None:
        marks = Marks(kept, ready, Observed(), "web")
        marks.note(A, at(100), 100)
        await marks.keep(A, at(10))
        assert kept.load(A) == at(10)
        await marks.flush()

    asyncio.run(note())
    assert kept.load(A) == at(10)


def test_why_marks_are_not_kept_is_known_though_it_is_the_sink(kept: Checkpoints) -> None:
    async def note() -> None:
        async def sync() -> dict[ObjectRef, SinkError]:
            raise SinkError("no fsync")

        observer = Observed()
        marks = Marks(kept, sync, observer, "web")
        marks.note(A, at(5))
        with pytest.raises(SinkError):
            await marks.flush()
        assert isinstance(marks.error, SinkError)
        assert [(stage, str(error)) for stage, error in observer.errors] == [("deliver", "no fsync")]
        assert observer.commits == 0
        marks.sync = ready
        await marks.flush()
        assert (marks.error, observer.commits) == (None, 1)

    asyncio.run(note())


def test_of_what_may_not_be_on_the_disk_no_mark_is_kept_and_all_others_are(
    kept: Checkpoints, caplog: pytest.LogCaptureFixture
) -> None:
    """That is told once, and remembered."""

    async def note() -> None:
        unsafe: dict[ObjectRef, SinkError] = {}

        async def sync() -> dict[ObjectRef, SinkError]:
            return unsafe

        observer = Observed()
        marks = Marks(kept, sync, observer, "web")
        marks.note(A, at(5), 5)
        await marks.flush()
        unsafe[A] = SinkError("no fsync")
        for offset in (7, 9):
            marks.note(A, at(offset), 2)
            marks.note(B, at(offset), 2)
            await marks.flush()
            assert (kept.load(A), kept.load(B)) == (at(5), at(offset))
            assert (marks.latest(A), marks.latest(B)) == (at(offset), None)
        assert marks.unsafe == unsafe
        assert [stage for stage, _ in observer.errors] == ["deliver"]
        assert marks.uncommitted == 0

    asyncio.run(note())
    assert [record.message for record in caplog.records] == ["no mark of it is kept any more: no fsync"]
