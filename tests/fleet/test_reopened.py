"""A partition that was closed, and is named again before all of it was delivered."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
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


@pytest.mark.parametrize("look_back", [1800.0, 3600.0], ids=["the same look-back", "another one"])
def test_what_was_not_read_to_the_end_of_its_partition_is_read_by_the_next_process(
    world: World, monkeypatch: pytest.MonkeyPatch, look_back: float
) -> None:
    """The sink was away for longer than partitions stay open: of those objects no listing tells any more."""
    real, shift = time.time, 0.0

    def key(name: str) -> str:
        return time.strftime(f"%Y/%m/%d/%H/{name}", time.gmtime(time.time()))

    async def follow() -> None:
        nonlocal shift
        world.append(begun := key("begun"), b"0\n")
        group = world.group("%Y/%m/%d/%H/*", look_back=1800.0)
        async with world.follow(group):
            await world.shows(begun, b"0\n")
        held = world.sink.held = asyncio.Event()
        async with world.follow(group, drain=None) as fleet:
            world.append(begun, b"1\n")
            world.append(new := key("new"), b"2\n")
            await world.until(lambda: world.sink.waiting == 2)
            shift = 5 * 3600.0
            await world.until(lambda: len(fleet._leaving) == 2)
            listed = world.observer.listings
            await world.until(lambda: world.observer.listings > listed + 1)
        world.sink.held = None
        held.set()
        async with world.follow(world.group("%Y/%m/%d/%H/*", look_back=look_back)) as fleet:
            await world.shows(begun, b"0\n1\n")
            await world.shows(new, b"2\n")
            await world.until(lambda: world.observer.released["old"] >= 2)
            await world.until(lambda: not fleet._leaving)
            listed = world.observer.listings
            await world.until(lambda: world.observer.listings > listed + 1)
        requests = world.requests["list_objects"]
        async with world.follow(group):
            listed = world.observer.listings
            await world.until(lambda: world.observer.listings > listed)
            assert world.requests["list_objects"] <= 4 < requests, "what is read is not listed again"
        assert world.sink.gaps == 0

    monkeypatch.setattr(time, "time", lambda: real() + shift)
    asyncio.run(follow())
