"""A partition that was closed, and is named again before all of it was delivered."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from tests.fleet.conftest import World


def test_what_is_named_again_goes_on_where_its_last_visit_stands(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A longer look-back opens an hour whose object is being delivered still: no byte comes twice, none is left."""
    real, shift = time.time, 0.0

    def key() -> str:
        return time.strftime("%Y/%m/%d/%H/a", time.gmtime(time.time()))

    async def follow() -> None:
        nonlocal shift
        options = {"poll_min": 10.0, "poll_max": 10.0}  # only the listings tell
        world.append(first := key(), b"0\n")
        async with world.follow(world.group("%Y/%m/%d/%H/*", look_back=1800.0, **options)) as fleet:
            await world.shows(first, b"0\n")
            held = world.sink.held = asyncio.Event()
            world.append(first, b"1\n")
            await world.until(lambda: world.sink.waiting == 1)
            shift = 2 * 3600.0
            listed = world.observer.listings
            await world.until(lambda: world.observer.listings > listed + 1)
            await fleet.apply(world.group("%Y/%m/%d/%H/*", look_back=86400.0, **options))
            await world.until(lambda: world.observer.discovered == 2)
            world.sink.held = None
            held.set()
            await world.shows(first, b"0\n1\n")
            await world.until(lambda: fleet.status().lag == 0)
            assert world.observer.released["old"] == 1
            assert sum(fleet.status().objects.values()) == 1
            world.append(first, b"2\n")
            await world.shows(first, b"0\n1\n2\n")
        assert world.sink.batches == 3
        assert world.sink.gaps == 0

    monkeypatch.setattr(time, "time", lambda: real() + shift)
    asyncio.run(follow())
