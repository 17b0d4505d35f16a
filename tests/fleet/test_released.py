"""What is left of an object that is not followed any more: nothing, also where it was being read just then."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from tailer.errors import CrcMissing
from tailer.local import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

    from tailer.checkpoints import Checkpoint
    from tailer.core.position import ObjectRef
    from tests.fleet.conftest import World


def test_one_that_is_let_go_while_it_is_asked_for_is_no_lag(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer that tells how much it grew comes after the reload that does not name it any more."""

    async def follow() -> None:
        world.append("a.log", b"0\n")
        async with world.follow(world.group("*.log")) as fleet:
            await world.shows("a.log", b"0\n")
            fetch, answer = fleet._reader.fetch, asyncio.Event()

            async def fetch_slowly(*arguments: object) -> object:
                await answer.wait()
                return await fetch(*arguments)  # type: ignore[arg-type]

            monkeypatch.setattr(fleet._reader, "fetch", fetch_slowly)
            world.append("a.log", b"1\n")
            await world.until(lambda: fleet._under_way)
            await fleet.apply(world.group("other*.log"))
            world.append("a.log", b"2\n")
            answer.set()
            await world.until(lambda: not fleet._under_way)
            status = fleet.status()
            assert (status.lag, status.oldest_unread, sum(status.objects.values())) == (0, 0.0, 0)
            await fleet.apply(world.group("*.log"))
            await world.shows("a.log", b"0\n1\n2\n")
        assert world.sink.gaps == 0

    asyncio.run(follow())


def test_one_that_is_named_again_goes_on_where_the_visit_ended_that_was_under_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends, and its mark is kept, while the checkpoint as it was before is on its way."""

    async def follow() -> None:
        world.append("a.log", b"0\n")
        async with world.follow(world.group("*.log")) as fleet:
            await world.shows("a.log", b"0\n")
            await world.until(lambda: fleet.status().uncommitted == 0)
            held = world.sink.held = asyncio.Event()
            world.append("a.log", b"1\n")
            await world.until(lambda: world.sink.waiting == 1)
            await fleet.apply(world.group("other*.log"))
            find, was_read, go_on = fleet._kept._checkpoints.find, threading.Event(), threading.Event()

            def find_slowly(refs: Iterable[ObjectRef]) -> dict[ObjectRef, Checkpoint]:
                found = find(refs)
                was_read.set()
                assert go_on.wait(30)
                return found

            monkeypatch.setattr(fleet._kept._checkpoints, "find", find_slowly)
            await fleet.apply(world.group("*.log"))
            await world.until(was_read.is_set)
            world.sink.held = None
            held.set()
            await world.shows("a.log", b"0\n1\n")
            await world.until(lambda: fleet.status().uncommitted == 0)
            go_on.set()
            listings = world.observer.listings
            await world.until(lambda: world.observer.listings > listings + 1 and not fleet.status().lag)
        assert (world.sink.gaps, world.sink.repeated) == (0, 0)

    asyncio.run(follow())


def test_a_sequence_goes_on_though_the_end_of_one_was_never_read_and_it_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last record has no end, the visit that is to hand it on fails, and then nobody has it any more."""

    async def follow() -> None:
        world.append("app-1.log", b"one\nno end")
        async with world.follow(world.group("app-*.log", sequence=True, poll_max=0.06)) as fleet:
            await world.shows("app-1.log", b"one\n")
            fetch = fleet._reader.fetch

            async def fetch_in_vain(*arguments: object) -> object:
                if fleet._ending is not None and fleet._ending.ending:
                    world.server.store.delete(world.bucket, "app-1.log")
                    raise CrcMissing("it is not to be had")
                return await fetch(*arguments)  # type: ignore[arg-type]

            monkeypatch.setattr(fleet._reader, "fetch", fetch_in_vain)
            world.append("app-2.log", b"two\n")
            await world.until(lambda: world.observer.released["gone"] == 1)
            await world.shows("app-2.log", b"two\n")

    asyncio.run(follow())


def test_of_one_that_is_gone_it_is_said_what_was_never_proven(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def follow() -> None:
        world.append("a.log", b"0123456789abcde\n" * 200_000)
        world.append("b.log", b"0\n")
        broken = Fault("status", operation="GetObject", bucket=world.bucket, key="a.log", after=1)
        world.server.faults.add(broken)
        async with world.follow(world.group("*.log")) as fleet:
            await world.shows("b.log", b"0\n")
            await world.until(lambda: fleet.status().unproven)
            loose = fleet.status().unproven
            assert loose == len(world.text("a.log"))
            for key in ("a.log", "b.log"):
                world.server.store.delete(world.bucket, key)
            await world.until(lambda: world.observer.released["gone"] == 2)
        said = [one for one in caplog.messages if "never proven" in one]
        assert said == [f"is gone; of what was delivered, {loose} bytes were never proven"]

    try:
        asyncio.run(follow())
    finally:
        world.server.faults.clear()
