"""A visit leaves nothing behind that only the cyclic garbage collector would find, whatever went wrong in it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tailer.local import Fault
from tests.fleet.conftest import Forgetful
from tests.garbage import collecting

if TYPE_CHECKING:
    from tests.fleet.conftest import World

FAULTS = {
    "refused": (Fault("status", operation="GetObject", probability=0.5),),
    "reset": (Fault("reset", operation="GetObject", probability=0.5),),
    "cut": (Fault("cut", at=100, operation="GetObject", probability=0.5),),
    "another range": (Fault("ignore-range", operation="GetObject", probability=0.5),),
    "wrong bytes": (Fault("flip-bit", at=5, operation="GetObject", count=10),),
    "no listing": (
        Fault("status", operation="ListObjects*", count=10),
        Fault("reset", operation="ListObjects*", count=3),
    ),
}


@pytest.mark.parametrize("wrong", ["nothing", *FAULTS])
def test_visits_leave_nothing_to_the_collector(world: World, wrong: str) -> None:
    """In a service that is what grows between two of its runs: thousands of visits, with what they had in hand."""
    keys = [f"{number}.log" for number in range(10)]
    world.observer = observer = Forgetful()

    async def follow() -> None:
        for key in keys:
            world.append(key, b"one\n")
        async with world.follow() as fleet:
            await world.until(lambda: world.sink.batches == len(keys))
            await world.until(lambda: fleet.status().lag == 0)
            world.server.faults.replace(FAULTS.get(wrong, ()))
            with collecting() as left:
                for turn in range(1, 4):
                    for key in keys:
                        world.append(key, b"more\n" * 200)
                    await world.until(lambda turn=turn: all(len(world.text(key)) == 4 + 1000 * turn for key in keys))
                if wrong == "no listing":
                    await world.until(lambda: observer.events["discover"])
            assert left == []
            assert (world.server.faults.injected > before) == (wrong != "nothing")

    before = world.server.faults.injected
    try:
        asyncio.run(follow())
    finally:
        world.server.faults.clear()
