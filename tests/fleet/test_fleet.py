"""A group, followed from its listings to its sink over a real server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fleet.conftest import World


def test_a_group_is_followed_from_end_to_end(world: World) -> None:
    """What is there, what grows, what comes later; and each growth costs one GET, no HEAD."""

    async def play() -> None:
        world.append("a", b"one\n")
        world.append("deep/b", b"eins\n")
        async with world.follow() as fleet:
            await world.until(lambda: world.text("a") == b"one\n" and world.text("deep/b") == b"eins\n")
            world.append("a", b"two\n")
            world.append("c", b"un\n")
            await world.until(lambda: world.text("a") == b"one\ntwo\n" and world.text("c") == b"un\n")
            status = fleet.status()
            assert fleet.ready
            assert (status.lag, status.delivered_bytes, status.listing_error) == (0, 16, None)
            assert sum(status.objects.values()) == 3
        assert world.requests["head"] == 0
        assert world.sink.gaps == 0

    asyncio.run(play())
