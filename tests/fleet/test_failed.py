"""When an object that cannot be read is tried again, and when it is given up."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tailer.checkpoints import read_all
from tailer.local import Fault

if TYPE_CHECKING:
    from tests.fleet.conftest import World


@pytest.mark.parametrize("told_by", ["listing", "hint"])
def test_what_was_told_while_a_visit_was_failing_is_not_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch, told_by: str
) -> None:
    """It grew, or somebody said so, after the answer was asked for that says it cannot be read."""

    async def follow() -> None:
        world.append("a", b"0\n")
        world.server.faults.add(Fault("drop-header", key="a", bucket=world.bucket, count=1))
        interval = 0.1 if told_by == "listing" else 3600.0
        async with world.follow(world.group(list_interval=interval)) as fleet:
            fetch, told = fleet._reader.fetch, asyncio.Event()

            async def fetch_slowly(*arguments: object) -> object:
                try:
                    return await fetch(*arguments)  # type: ignore[arg-type]
                finally:
                    await told.wait()

            monkeypatch.setattr(fleet._reader, "fetch", fetch_slowly)
            await world.until(lambda: world.requests["fetch"] == 1)
            world.append("a", b"1\n")
            row = fleet._census.find(world.ref("a"))
            assert row is not None
            if told_by == "hint":
                assert fleet.wake(row.ref)
            await world.until(lambda: row.again)
            told.set()
            await world.shows("a", b"0\n1\n")

    asyncio.run(follow())


def test_what_cannot_be_read_to_the_end_of_its_partition_is_given_up_in_time_and_told(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its checkpoint stays: with a longer look-back it goes on there."""
    real, shift = time.time, 0.0

    def key() -> str:
        return time.strftime("%Y/%m/%d/%H/a", time.gmtime(time.time()))

    async def follow() -> None:
        nonlocal shift
        world.append(first := key(), b"0\n")
        group = world.group("%Y/%m/%d/%H/*", look_back=1800.0, keep_checkpoints=1.0)
        async with world.follow(group) as fleet:
            await world.shows(first, b"0\n")
            world.server.faults.add(Fault("drop-header", key=first, bucket=world.bucket))
            world.append(first, b"1\n")
            shift = 2 * 3600.0
            await world.until(lambda: fleet.status().objects["failed"] == 1)
            assert world.observer.released["failed"] == 0
            pruned = fleet._kept.pruned = float("-inf")
            await world.until(lambda: fleet._kept.pruned > pruned)
            assert fleet._leaving, "one that cannot be read does not have all others kept"
            await world.until(lambda: world.observer.released["failed"] == 1)
            assert sum(fleet.status().objects.values()) == 0
            assert fleet.status().lag == 0
            told = next(one for one in caplog.records if one.msg.startswith("given up"))
            assert (vars(told)["object"], vars(told)["offset"], vars(told)["size"]) == (str(world.ref(first)), 2, 4)
        assert [one.mark.delivered.offset for one in read_all(world.path)] == [2]
        world.server.faults.clear()
        async with world.follow(world.group("%Y/%m/%d/%H/*", look_back=86400.0)):
            await world.shows(first, b"0\n1\n")

    monkeypatch.setattr(time, "time", lambda: real() + shift)
    asyncio.run(follow())


def test_how_long_it_was_tried_is_counted_over_all_processes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """From when its partition was closed; each has a day at least."""
    real, shift, day = time.time, 0.0, 86400.0

    def key() -> str:
        return time.strftime("%Y/%m/%d/%H/a", time.gmtime(time.time()))

    async def follow() -> None:
        nonlocal shift
        world.append(first := key(), b"0\n")
        world.server.faults.add(Fault("drop-header", key=first, bucket=world.bucket))
        closed = (real() // 3600 + 1) * 3600 + 1800.0
        async with world.follow(world.group("%Y/%m/%d/%H/*", look_back=1800.0)) as fleet:
            await world.until(lambda: fleet.status().objects["failed"] == 1 and world.observer.listings)
        for days, expected in ((1, 1), (20, 20), (40, 29)):
            shift = days * day
            async with world.follow(world.group("%Y/%m/%d/%H/*", look_back=1800.0)) as fleet:
                listed = world.observer.listings
                await world.until(lambda fleet=fleet: fleet.status().objects["failed"] == 1 and fleet._leaving)
                await world.until(lambda listed=listed: world.observer.listings > listed)
                ((_, left),) = fleet._leaving.items()
                age = time.monotonic() - left
                assert age == pytest.approx(expected * day + (real() - closed if days < 40 else 0.0), abs=30.0)

    monkeypatch.setattr(time, "time", lambda: real() + shift)
    asyncio.run(follow())


@pytest.mark.parametrize("changed", [False, True], ids=["undisturbed", "over a change of the configuration"])
def test_what_waits_for_its_turn_in_a_sequence_is_not_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch, changed: bool
) -> None:
    real, shift = time.time, 0.0

    def folder() -> str:
        return time.strftime("%Y/%m/%d/%H/", time.gmtime(time.time()))

    async def follow() -> None:
        nonlocal shift
        keys = [f"{folder()}{name}" for name in ("app-1.log", "app-2.log")]
        for key in keys:
            world.append(key, b"0\n")
        held = world.sink.held = asyncio.Event()
        group = world.group("%Y/%m/%d/%H/*", look_back=1800.0, keep_checkpoints=0.2, sequence=True, poll_max=0.06)
        async with world.follow(group) as fleet:
            await world.until(lambda: world.sink.waiting == 1)
            shift = 2 * 3600.0
            await world.until(lambda: len(fleet._leaving) == 2)
            closed = time.monotonic()
            await world.until(lambda: time.monotonic() > closed + 0.5)
            pruned = fleet._kept.pruned = float("-inf")
            listed = world.observer.listings
            await world.until(lambda: world.observer.listings > listed + 2)
            assert fleet._kept.pruned == pruned, "what was read beside it is still to be known"
            assert world.observer.released["failed"] == 0
            if changed:
                await fleet.apply(replace(group, poll_max=0.07))
            world.sink.held = None
            held.set()
            for key in keys:
                await world.shows(key, b"0\n")
            await world.until(lambda: world.observer.released["old"] == 2)
        assert world.observer.released["failed"] == 0

    monkeypatch.setattr(time, "time", lambda: real() + shift)
    asyncio.run(follow())
