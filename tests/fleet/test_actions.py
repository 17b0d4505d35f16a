"""Whatever happens, over real sockets: every object is delivered whole, and the marks tell the truth."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from tailer.checkpoints import read_all
from tailer.core import crc64
from tailer.errors import SinkBusy
from tailer.local import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from tailer.core.events import Batch
    from tailer.fleet import Fleet
    from tests.fleet.conftest import World

KEYS = [f"{folder}{number}.log" for folder in ("", "deep/") for number in range(6)]
STEPS = 120


class Play:
    """Does one thing after another to a bucket and to the fleet that follows it."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.content: dict[str, bytes] = {}
        self.sealed: set[str] = set()
        self.stack = AsyncExitStack()
        self.fleet: Fleet | None = None
        world.sink.refuse = self.refuse
        self.refusing = False

    def refuse(self, batch: Batch) -> None:
        if self.refusing and self.chance.random() < 0.5:
            raise SinkBusy("not now")

    def some(self) -> bytes:
        lines = (
            self.chance.randbytes(self.chance.choice([3, 60, 4000])).hex() for _ in range(self.chance.randint(1, 9))
        )
        return "".join(f"{line}\n" for line in lines).encode()

    def append(self) -> None:
        key = self.chance.choice(KEYS)
        if key not in self.sealed:
            data = self.some()
            self.world.append(key, data)
            self.content[key] = self.content.get(key, b"") + data

    def replace(self) -> None:
        key = self.chance.choice(KEYS)
        self.content[key] = self.some()
        self.sealed.discard(key)
        self.world.renew(key, self.content[key])

    def grow_and_replace_alike(self) -> None:
        """Another object of the very same length."""
        key = self.chance.choice([*self.content, *KEYS])
        if len(old := self.content.get(key, b"")) > 1 and key not in self.sealed:
            self.content[key] = bytes(self.chance.choices(b"xyz", k=len(old) - 1)) + b"\n"
            self.world.renew(key, self.content[key])

    def delete(self) -> None:
        key = self.chance.choice(KEYS)
        self.world.server.store.delete(self.world.bucket, key)
        self.content.pop(key, None)
        self.sealed.discard(key)

    def seal(self) -> None:
        key = self.chance.choice(KEYS)
        if key in self.content and key not in self.sealed:
            self.world.server.store.seal(self.world.bucket, key, len(self.content[key]))
            self.sealed.add(key)

    def mood(self) -> None:
        self.refusing = not self.refusing

    def weather(self) -> None:
        bucket = self.world.bucket
        faults = [
            Fault("status", status=503, probability=0.3, bucket=bucket),
            Fault("reset", probability=0.2, bucket=bucket),
            Fault("cut", at=100, probability=0.2, bucket=bucket),
            Fault("flip-bit", at=50, probability=0.1, bucket=bucket),
        ]
        self.world.server.faults.replace(self.chance.sample(faults, self.chance.randint(0, 2)))

    async def reload(self) -> None:
        assert self.fleet is not None
        interval = self.chance.choice([0.05, 0.1, 0.2])
        await self.fleet.apply(self.world.group("**", list_interval=interval))

    async def name_fewer(self) -> None:
        """The others are let go, whatever is under way for them, until the next reload of the other kind."""
        assert self.fleet is not None
        await self.fleet.apply(self.world.group(self.chance.choice(["*.log", "deep/*", "**[0-2].log"])))

    async def crash(self) -> None:
        await self.stack.aclose()
        self.fleet = await self.stack.enter_async_context(self.world.follow(drain=None))

    async def run(self) -> None:
        await self.crash()
        actions: list[tuple[int, Callable[[], object]]] = [
            (60, self.append), (6, self.replace), (4, self.grow_and_replace_alike), (5, self.delete), (2, self.seal),
            (5, self.mood), (4, self.weather), (6, self.reload), (6, self.name_fewer), (3, self.crash),
        ]  # fmt: skip
        weights = [weight for weight, _ in actions]
        for _ in range(STEPS):
            done = self.chance.choices(actions, weights)[0][1]()
            if asyncio.iscoroutine(done):
                await done
            await asyncio.sleep(self.chance.choice([0, 0, 0.01, 0.05]))
        self.refusing = False
        self.world.server.faults.clear()
        await self.reload()
        await self.settle()
        assert self.fleet is not None
        await self.world.until(lambda: self.fleet and not self.fleet.status().lag)
        assert await self.fleet.drain(10.0) == 0
        await self.stack.aclose()

    async def settle(self) -> None:
        def is_settled() -> bool:
            return all(self.world.text(key) == data for key, data in self.content.items())

        try:
            await self.world.until(is_settled)
        except TimeoutError:
            behind = {key for key, data in self.content.items() if self.world.text(key) != data}
            pytest.fail(
                f"not delivered: {behind}; {self.fleet and self.fleet.objects(20)}; {self.world.observer.errors[-5:]}"
            )


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_every_object_is_delivered_whole(world: World, seed: int) -> None:
    play = Play(world, seed)
    asyncio.run(play.run())
    assert (world.sink.gaps, world.sink.repeated) == (0, 0)
    marks = {one.ref.key: one.mark for one in read_all(world.path)}
    for key, data in play.content.items():
        position = marks[key].delivered
        assert (position.offset, position.crc64) == (len(data), crc64.update(data)), key
        assert marks[key].verified == position
