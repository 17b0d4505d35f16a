"""For how long a checkpoint is kept of what is not followed any more."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tailer.checkpoints import Checkpoint, Checkpoints, read_all
from tailer.local import Fault
from tests.fleet.test_fleet import marks

if TYPE_CHECKING:
    from tests.fleet.conftest import World

DAY = 86400.0


class Days:
    """A clock that can be set forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = 0.0
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + self.passed * DAY)


@pytest.fixture
def days(monkeypatch: pytest.MonkeyPatch) -> Days:
    return Days(monkeypatch)


async def deliver(world: World) -> None:
    """An object, and forty days without a word of it."""
    world.append("app.log", b"0\n")
    async with world.follow():
        await world.shows("app.log", b"0\n")
    with Checkpoints.open(world.path, "web", owner="a test") as checkpoints:
        checkpoints.restore(
            Checkpoint(one.group, one.ref, one.mark, time.time() - 40 * DAY) for one in read_all(world.path)
        )


@pytest.mark.parametrize("how", ["restart", "reload"])
def test_an_object_that_rests_for_long_outlives_a_pattern_that_is_wrong_for_a_moment(
    world: World, how: str, days: Days
) -> None:
    async def follow() -> None:
        await deliver(world)
        batches, wrong = world.sink.batches, world.group("typo*.log", keep_checkpoints=30 * DAY)
        async with world.follow(wrong if how == "restart" else None) as fleet:
            await world.until(lambda: fleet.ready)
            if how == "reload":
                await fleet.apply(wrong)
                assert world.observer.released["config"] == 1
            fleet._kept.pruned = float("-inf")
            listings = world.observer.listings
            await world.until(lambda: world.observer.listings > listings + 2)
        assert marks(world).keys() == {"app.log"}
        days.passed += 29
        async with world.follow(wrong) as fleet:
            await world.until(lambda: fleet.ready)
        assert marks(world).keys() == {"app.log"}
        world.append("app.log", b"1\n")
        async with world.follow() as fleet:
            await world.shows("app.log", b"0\n1\n")
        assert world.sink.batches == batches + 1

    asyncio.run(follow())


def test_the_time_counts_from_when_it_was_last_followed(world: World, days: Days) -> None:
    """Also where that was for a moment, between two times of which it was not."""

    async def follow() -> None:
        await deliver(world)
        wrong = world.group("typo*.log", keep_checkpoints=30 * DAY)
        for passed, group, kept in (
            (0, wrong, True),
            (29, None, True),
            (29, wrong, True),
            (29, wrong, True),
            (2, wrong, False),
        ):
            days.passed += passed
            async with world.follow(group) as fleet:
                await world.until(lambda fleet=fleet: fleet.ready)  # type: ignore[misc]
            assert bool(marks(world)) is kept, f"{days.passed} days"

    asyncio.run(follow())


def test_another_object_of_the_same_size_is_known_after_a_reload_that_dropped_the_name_for_a_moment(
    world: World, days: Days
) -> None:
    """No listing worked since long before: to let go of an object is not to have looked at it."""

    async def follow() -> None:
        world.append("app.log", b"old\n")
        async with world.follow() as fleet:
            await world.shows("app.log", b"old\n")
            await world.until(lambda: fleet.status().uncommitted == 0)
            world.server.faults.add(Fault("status", status=403, code="AccessDenied", bucket=world.bucket))
            days.passed += 0.1
            await world.until(lambda: fleet.status().listing_error)
            world.renew("app.log", b"new\n")
            days.passed += 0.1
            await fleet.apply(world.group("typo*.log"))
            assert world.observer.released["config"] == 1
            await world.until(lambda: fleet.status().uncommitted == 0)
            await fleet.apply(world.group())
            world.server.faults.clear()
            await world.shows("app.log", b"new\n")

    asyncio.run(follow())


def test_a_pattern_that_is_mended_between_two_looks_at_the_checkpoints_has_followed_it(
    world: World, days: Days
) -> None:
    async def follow() -> None:
        await deliver(world)
        wrong = world.group("typo*.log", keep_checkpoints=30 * DAY)
        async with world.follow(wrong) as fleet:
            await world.until(lambda: fleet.ready)
            days.passed = 29
            await fleet.apply(world.group())
            await world.until(lambda: sum(fleet.status().objects.values()) == 1)
            await fleet.apply(wrong)
            days.passed = 31
            fleet._kept.pruned = float("-inf")
            await world.until(lambda: fleet._kept.pruned > 0)
        assert marks(world).keys() == {"app.log"}

    asyncio.run(follow())
