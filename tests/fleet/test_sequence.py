"""A group whose objects are one stream, over a real server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
