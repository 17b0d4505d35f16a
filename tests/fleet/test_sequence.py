"""A group whose objects are one stream, over a real server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tailer.checkpoints import Checkpoints
from tailer.core.position import Mark

if TYPE_CHECKING:
    import pytest

    from tailer.core.events import Batch
    from tests.fleet.conftest import World


def test_the_objects_come_one_after_the_other_as_people_count(world: World) -> None:
    """Though a listing has 10 before 2; over a restart, and what grew meanwhile comes in spite of its turn."""
    came: list[bytes] = []

    def note(batch: Batch) -> None:
        came.extend(bytes(batch.data).split())

    world.sink.refuse = note
    names = [f"app-{number}.log" for number in range(1, 16)]

    def lines() -> list[bytes]:
        return [name.encode() for name in names]

    async def play() -> None:
        group = world.group("app-*.log", sequence=True, poll_max=0.06)
        for name in names[:12]:
            world.append(name, name.encode() + b"\n")
        async with world.follow(group):
            await world.until(lambda: came == lines()[:12])
            world.append(names[11], b"more\n")
            await world.until(lambda: came[12:] == [b"more"])
            world.append(names[12], lines()[12] + b"\n")
            await world.until(lambda: came[13:] == lines()[12:13])
        came.clear()
        world.append(names[4], b"late\n")
        world.append(names[13], lines()[13] + b"\n")
        world.append(names[12], b"last\n")
        async with world.follow(group):
            await world.until(lambda: len(came) >= 3)
            assert came == [b"late", b"last", lines()[13]]
        assert world.sink.gaps == 0

    asyncio.run(play())


def test_one_that_is_only_to_begin_at_byte_0_was_not_begun(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """With `start = "end"` that may be all that is kept of an object that came later."""
    came: list[bytes] = []
    world.sink.refuse = lambda batch: came.extend(bytes(batch.data).split())
    for name in ("app-9.log", "app-10.log"):
        world.append(name, name.encode() + b"\n")
    with Checkpoints.open(world.path, "web", owner="a test") as kept:
        kept.commit({world.ref("app-10.log"): Mark()})

    async def play() -> None:
        async with world.follow(world.group("app-*.log", sequence=True, poll_max=0.06)):
            await world.until(lambda: len(came) == 2)

    asyncio.run(play())
    assert came == [b"app-9.log", b"app-10.log"]
    assert "order" not in caplog.text
