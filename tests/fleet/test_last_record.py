"""A last record without an end, of an object that gets no more bytes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from tailer.core.events import Batch
    from tailer.core.position import ObjectRef
    from tests.fleet.conftest import World


def test_it_is_handed_on_when_the_partition_is_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real, shift = time.time, 0.0

    def key() -> str:
        return time.strftime("%Y/%m/%d/%H/a", time.gmtime(time.time()))

    async def follow() -> None:
        nonlocal shift
        world.append(first := key(), b"0\nno end")
        async with world.follow(world.group("%Y/%m/%d/%H/*", look_back=1800.0)) as fleet:
            await world.shows(first, b"0\n")
            shift = 2 * 3600.0
            await world.until(lambda: world.observer.released["old"] == 1)
            assert world.text(first) == b"0\nno end"
            assert fleet.status().unproven == 0
        assert world.sink.gaps == 0

    monkeypatch.setattr(time, "time", lambda: real() + shift)
    asyncio.run(follow())


def test_it_comes_before_the_next_of_a_sequence(world: World) -> None:
    came: list[bytes] = []

    def note(batch: Batch) -> None:
        came.append(bytes(batch.data))

    world.sink.refuse = note

    async def play() -> None:
        world.append("app-1.log", b"one\nno end")
        async with world.follow(world.group("app-*.log", sequence=True, poll_max=0.06)):
            await world.until(lambda: came == [b"one\n"])
            world.append("app-2.log", b"two\n")
            await world.until(lambda: len(came) == 3)
            world.append("app-2.log", b"three\n")
            world.append("app-3.log", b"four\n")
            await world.until(lambda: len(came) == 5)
        assert came == [b"one\n", b"no end", b"two\n", b"three\n", b"four\n"]
        assert world.sink.gaps == 0

    asyncio.run(play())


def test_another_object_that_comes_just_then_is_read_before_the_next_of_a_sequence(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[bytes] = []
    world.sink.refuse = lambda batch: came.append(bytes(batch.data))

    async def play() -> None:
        world.append("app-1.log", b"one\nno end")
        async with world.follow(world.group("app-*.log", sequence=True, poll_max=0.06)) as fleet:
            await world.until(lambda: came == [b"one\n"])
            row, fetch = fleet._census.find(world.ref("app-1.log")), fleet._reader.fetch
            renewed = False

            async def fetch_too_late(ref: ObjectRef, *arguments: object) -> object:
                nonlocal renewed
                if row is not None and row.ending and not renewed:
                    renewed = True
                    world.renew("app-1.log", b"another\n" * 3)
                return await fetch(ref, *arguments)  # type: ignore[arg-type]

            monkeypatch.setattr(fleet._reader, "fetch", fetch_too_late)
            world.append("app-2.log", b"two\n")
            await world.until(lambda: b"two\n" in came)
        assert came == [b"one\n", b"another\n" * 3, b"two\n"]

    asyncio.run(play())


def test_an_object_that_goes_just_then_is_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real, shift = time.time, 0.0

    def key() -> str:
        return time.strftime("%Y/%m/%d/%H/a", time.gmtime(time.time()))

    async def follow() -> None:
        nonlocal shift
        world.append(first := key(), b"0\nno end")
        async with world.follow(world.group("%Y/%m/%d/%H/*", look_back=1800.0)) as fleet:
            await world.shows(first, b"0\n")
            fetch = fleet._reader.fetch

            async def fetch_too_late(*arguments: object) -> object:
                world.server.store.delete(world.bucket, first)
                return await fetch(*arguments)  # type: ignore[arg-type]

            monkeypatch.setattr(fleet._reader, "fetch", fetch_too_late)
            shift = 2 * 3600.0
            await world.until(lambda: sum(world.observer.released.values()) == 1)
            assert world.text(first) == b"0\n"
            assert sum(fleet.status().objects.values()) == 0

    monkeypatch.setattr(time, "time", lambda: real() + shift)
    asyncio.run(follow())
