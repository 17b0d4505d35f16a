"""When a group is said to stand still: there are bytes to deliver, and none comes closer to it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tailer.core.options import Integrity
from tailer.errors import SinkError
from tailer.local import Fault

if TYPE_CHECKING:
    from tailer.core.events import Batch
    from tests.fleet.conftest import World


@pytest.mark.parametrize(
    "fault",
    [Fault("status", operation="GetObject", status=403, code="AccessDenied"), Fault("reset", operation="GetObject")],
    ids=["refused", "broken connections"],
)
def test_a_group_whose_objects_can_be_listed_and_none_be_read_stands_still(world: World, fault: Fault) -> None:
    """Though each of them counts as failed, and is no object that could be read."""

    async def follow() -> None:
        world.append("a", b"0\n")
        world.append("b", b"0\n")
        async with world.follow() as fleet:
            await world.until(lambda: fleet.status().delivered_bytes == 4)
            assert (fleet.status().stalled, fleet.problems(0.0)) == (0.0, [])
            world.server.faults.add(fault)
            world.append("a", b"1\n")
            await world.until(lambda: fleet.status().objects["failed"] == 1)
            await world.until(lambda: fleet.status().stalled > 0.1)
            (problem,) = fleet.problems(0.1)
            assert problem.startswith("group web: 2 bytes behind, nothing delivered for")
            world.server.faults.clear()
            world.append("a", b"2\n")
            await world.until(lambda: fleet.status().delivered_bytes == 8)
            await world.until(lambda: (fleet.status().stalled, fleet.problems(0.0)) == (0.0, []))

    asyncio.run(follow())


def test_an_object_that_cannot_be_read_while_others_are_is_its_own_trouble(world: World) -> None:
    async def follow() -> None:
        world.server.faults.add(
            Fault("status", operation="GetObject", bucket=world.bucket, key="bad", status=403, code="AccessDenied")
        )
        world.append("bad", b"0\n")
        async with world.follow() as fleet:
            await world.until(lambda: fleet.status().stalled > 0.0)
            world.append("good", b"0\n")
            await world.until(lambda: fleet.status().delivered_bytes == 2)
            await world.until(lambda: fleet.status().stalled == 0.0)
            assert fleet.status().objects["failed"] == 1
            assert fleet.status().oldest_unread > 0.0

    asyncio.run(follow())


def test_neither_is_a_chain_that_broke_nor_one_mirror_that_is_refused(world: World) -> None:
    def refuse(batch: Batch) -> None:
        if batch.object.key == "refused":
            raise SinkError("this one alone")

    world.sink.refuse = refuse

    async def follow() -> None:
        world.server.faults.add(Fault("flip-bit", operation="GetObject", key="broken", bucket=world.bucket, at=1))
        world.append("broken", b"0123456\n")
        world.append("refused", b"0\n")
        async with world.follow() as fleet:
            await world.until(lambda: fleet.status().objects["failed"] == 2)
            assert fleet.status().lag > 0
            assert fleet.status().stalled == 0.0

    asyncio.run(follow())


def test_what_is_proven_before_it_is_delivered_moves_while_it_is_fetched(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With integrity ``strict`` the first byte of a long object may be delivered after hours."""
    world.append("a", (b"x" * 63 + b"\n") * (20 << 14))

    async def follow() -> None:
        async with world.follow(world.group(integrity=Integrity.STRICT)) as fleet:
            fetch = fleet._reader.fetch
            stalled = []

            async def fetch_slowly(*arguments: object) -> object:
                await asyncio.sleep(0.05)
                try:
                    return await fetch(*arguments)  # type: ignore[arg-type]
                finally:
                    asyncio.get_running_loop().call_soon(lambda: stalled.append(fleet.status().stalled))

            monkeypatch.setattr(fleet._reader, "fetch", fetch_slowly)
            await world.until(lambda: fleet.status().delivered_bytes == 20 << 20)
            assert len(stalled) > 3
            assert max(stalled) < 0.05

    asyncio.run(follow())


def test_what_is_fetched_beside_a_batch_that_the_sink_does_not_take_comes_no_closer(world: World) -> None:
    """Nor does what was fetched before: of a strict object that is read again and again."""

    async def follow() -> None:
        world.append("a", b"0\n")
        held = world.sink.held = asyncio.Event()
        async with world.follow(world.group(integrity=Integrity.STRICT)) as fleet:
            await world.until(lambda: world.sink.waiting == 1)
            moved = fleet._tally.moved_when
            for name in "bcd":
                world.append(name, b"0\n")
            await world.until(lambda: world.sink.waiting == 4)
            assert fleet._tally.moved_when == moved
            world.sink.held = None
            held.set()
            await world.until(lambda: fleet.status().delivered_bytes == 8)
            world.server.faults.add(Fault("flip-crc", bucket=world.bucket, key="a"))
            world.append("a", b"1\n")
            await world.until(lambda: fleet.status().objects["failed"] == 1)
            moved, requests = fleet._tally.moved_when, world.requests["fetch"]
            row = fleet._census.find(world.ref("a"))
            assert row is not None
            fleet._enqueue(row)
            await world.until(lambda: world.requests["fetch"] > requests)
            assert fleet._tally.moved_when == moved

    asyncio.run(follow())
