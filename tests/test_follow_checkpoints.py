"""When the driver commits: a crash repeats no more than is promised, and nothing is ever stepped over."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path

import pytest

from tailer import errors
from tailer.core import crc64
from tailer.core.events import Batch, Event, Failed, Rewound
from tailer.core.options import Follow, Integrity, TailOptions
from tailer.core.position import Mark, ObjectRef, Position
from tailer.core.tail import Tail
from tailer.follow import COMMIT_BYTES, COMMIT_SECONDS, Follower
from tests.core.playing import REF, Service
from tests.model.world import World
from tests.test_follow import NAME, ONCE, Reader, Store, WorldReader, change, check, now, others, run


class Kept:
    """A `CheckpointStore` in memory. `full`: how many commits from now on are refused; `seconds`: what one takes."""

    def __init__(self, sink: Store | None = None, full: int = 0, seconds: float = 0.0) -> None:
        self.marks: list[Mark] = []
        self.times: list[float] = []
        self.sink = sink
        self.full = full
        self.refused = 0
        self.seconds = seconds

    async def commit(self, ref: ObjectRef, mark: Mark) -> None:
        assert ref == REF
        await asyncio.sleep(self.seconds)
        if self.full:
            self.full -= 1
            self.refused += 1
            raise errors.CheckpointError("the disk is full")
        self.keep(mark)

    def keep(self, mark: Mark) -> None:
        if self.sink is not None:
            assert (mark.delivered.generation, mark.delivered.offset) <= self.sink.expected, "ahead of the sink"
        self.marks.append(mark)
        self.times.append(now())

    @property
    def last(self) -> Mark:
        return self.marks[-1]


def follower(service: Service, sink: Store, kept: Kept, options: object = ONCE, **more: object) -> Follower:
    tail = Tail(REF, options, more.pop("mark", None), now=now())  # type: ignore[arg-type]
    reader = more.pop("reader", None) or Reader(service)
    return Follower(reader, tail, sink, clock=now, chance=lambda: 0.5, store=kept, **more)  # type: ignore[arg-type]


def test_a_reading_that_ends_has_committed_all_that_it_delivered() -> None:
    async def scene() -> None:
        service, sink = Service(b"x" * 95), Store()
        kept = Kept(sink)
        await follower(service, sink, kept).run()
        assert kept.marks == [Mark.at(Position(95, crc64.update(b"x" * 95)))]

    run(scene())


class Watched(Store):
    """A sink that notes how many bytes it ever had that no checkpoint told of."""

    kept: Kept
    furthest = 0

    async def write(self, batch: Batch) -> None:
        await super().write(batch)
        committed = self.kept.last.delivered.offset if self.kept.marks else 0
        self.furthest = max(self.furthest, batch.end - committed)


@pytest.mark.parametrize("seconds", [0.0, 0.3, 5.0])
@pytest.mark.parametrize(("most", "bound"), [(40, 40), (25, 20), (10, 10), (3, 10)])
def test_bytes_bound_what_a_crash_repeats_however_long_a_commit_takes(most: int, bound: int, seconds: float) -> None:
    """A batch has 10 bytes; one that is larger than the bound goes alone."""

    async def scene() -> None:
        service, sink = Service(b"x" * 950), Watched()
        kept = sink.kept = Kept(sink, seconds=seconds)
        await follower(service, sink, kept, commit_bytes=most).run()
        assert kept.last.delivered.offset == 950
        assert sink.furthest == bound if seconds else sink.furthest <= bound

    run(scene())


def test_the_bounds_are_those_that_the_page_states() -> None:
    page = " ".join((Path(__file__).parent.parent / "docs" / "checkpoints.md").read_text().split())
    assert f"never more than {COMMIT_BYTES >> 20} MiB" in page
    assert f"begins once a second and every {COMMIT_BYTES >> 21} MiB" in page
    assert COMMIT_SECONDS == 1.0


def test_delivery_goes_on_beside_a_commit() -> None:
    """A window every 0.1 s, and a commit that takes as long as three of them, after every second one."""

    async def scene() -> None:
        service, sink = Service(b"x" * 200), Store()
        kept = Kept(sink, seconds=0.3)
        reader = Reader(service, lambda _: 0.1)
        await follower(service, sink, kept, replace(ONCE, max_depth=1), reader=reader, commit_bytes=60).run()
        assert now() <= 20 * 0.1 + 2 * 0.3 + 0.01, "those at the end alone were waited for"
        assert len(kept.marks) >= 5

    run(scene())


class Broken(Kept):
    """A store with a mistake in it."""

    def keep(self, mark: Mark) -> None:
        raise ZeroDivisionError


@pytest.mark.parametrize("options", [ONCE, NAME])
def test_a_store_that_raises_what_it_must_not_ends_the_reading(options: TailOptions) -> None:
    """A commit beside the delivery is looked at like any other."""

    async def scene() -> None:
        service, sink = Service(b"x" * 95), Store()
        with pytest.raises(ZeroDivisionError):
            await follower(service, sink, Broken(), options, commit_bytes=20).run()
        assert not others()

    run(scene())


def test_time_bounds_what_a_crash_repeats() -> None:
    """A window every 0.4 s, a commit every second: never is there more than a second between two of them."""

    async def scene() -> None:
        service, sink = Service(b"x" * 95), Store()
        kept = Kept(sink)
        reader = Reader(service, lambda _: 0.4)
        options = replace(ONCE, max_depth=1)
        await follower(service, sink, kept, options, reader=reader).run()
        gaps = [later - earlier for earlier, later in zip(kept.times, kept.times[1:], strict=False)]
        assert len(kept.marks) >= 3
        assert all(gap <= 1.4 for gap in gaps)
        assert kept.last.delivered.offset == 95

    run(scene())


def test_an_answer_that_takes_long_holds_no_commit_up() -> None:
    async def scene() -> None:
        service, sink = Service(b"x" * 20), Store()
        kept = Kept(sink)
        reader = Reader(service, lambda range: 0.0 if range.start == 0 else 100.0)
        await follower(service, sink, kept, replace(ONCE, max_depth=1), reader=reader).run()
        assert [mark.delivered.offset for mark in kept.marks] == [10, 20]
        assert kept.times[0] <= 1.0

    run(scene())


def test_what_was_delivered_beside_a_slow_commit_is_committed_behind_it() -> None:
    """Though nothing comes any more that would remind of it."""

    async def scene() -> None:
        service, sink = Service(b"x" * 30), Store()
        kept = Kept(sink, seconds=5.0)
        reader = Reader(service, lambda range: {0: 0.0, 10: 2.0, 20: 100.0}[range.start])
        await follower(service, sink, kept, replace(ONCE, max_depth=1), reader=reader).run()
        assert [mark.delivered.offset for mark in kept.marks] == [10, 20, 30]
        assert kept.times[1] <= 11.0

    run(scene())


def test_what_was_delivered_is_committed_before_a_wait() -> None:
    async def scene() -> None:
        service, sink = Service(b"first"), Store()
        kept = Kept(sink)
        driver = follower(service, sink, kept, NAME)
        following = asyncio.create_task(driver.run())
        await asyncio.sleep(0.99)
        assert kept.last.delivered.offset == 5
        service.data = b"first second"
        await asyncio.sleep(5.0)
        assert kept.last.delivered.offset == 12
        count = len(kept.marks)
        await asyncio.sleep(50.0)
        assert len(kept.marks) == count, "an idle object costs no commit"
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    run(scene())


def test_a_cancelled_follow_has_committed_what_was_acknowledged() -> None:
    async def scene() -> None:
        service, sink = Service(b"x" * 1000), Store(delay=0.01)
        kept = Kept(sink)
        driver = follower(service, sink, kept)
        reading = asyncio.create_task(driver.run())
        await asyncio.sleep(0.105)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert reading.cancelled()
        assert kept.last == driver.tail.mark
        assert kept.last.delivered.offset == sum(len(batch.data) for batch in sink.batches) > 0

    run(scene())


def test_a_batch_that_the_sink_refused_is_not_committed() -> None:
    async def scene() -> None:
        service, sink = Service(b"x" * 95), Store(refuse_at=50)
        kept = Kept(sink)
        with pytest.raises(errors.SinkError, match="full"):
            await follower(service, sink, kept).run()
        assert kept.last.delivered.offset == 50

    run(scene())


class Dropping(Store):
    """A sink that looks at the checkpoint when it is told to drop something."""

    kept: Kept
    dropped = 0

    async def notice(self, event: Event) -> None:
        if isinstance(event, Rewound):
            self.dropped += 1
            assert self.kept.last.delivered.offset <= event.to
        await super().notice(event)


@pytest.mark.parametrize("integrity", [Integrity.CHAIN, Integrity.STRICT])
def test_a_rewound_mark_is_committed_before_the_sink_drops_what_it_voids(integrity: Integrity) -> None:
    """Or a crash in between would go on behind bytes that the sink has already dropped."""

    async def scene() -> int:
        chance = random.Random(3)
        sink = Dropping()
        kept = sink.kept = Kept(sink)
        world = World(chance, noise=0.4)
        options = replace(NAME, integrity=integrity, delimiter=b"\n", max_record=4, max_window=3)
        driver = Follower(
            WorldReader(world, chance), Tail(REF, options), sink, clock=now, chance=chance.random,
            store=kept, commit_seconds=0.0,
        )  # fmt: skip
        for _ in range(40):
            world.append()
        await asyncio.wait([asyncio.create_task(driver.catch_up())], timeout=200.0)
        return sink.dropped

    dropped = run(scene())
    assert dropped > 0 or integrity is Integrity.STRICT


def test_disk_full_then_free_again_a_follow_stands_still_and_goes_on() -> None:
    async def scene() -> None:
        service, sink = Service(b"x" * 95), Store()
        kept = Kept(sink, full=4)
        driver = follower(service, sink, kept, NAME, commit_bytes=20)
        following = asyncio.create_task(driver.run())
        await asyncio.sleep(0.1)
        assert sum(len(batch.data) for batch in sink.batches) <= 20, "no more is delivered than may be repeated"
        await asyncio.sleep(60.0)
        said = [event for event in sink.events if isinstance(event, Failed)]
        assert [event.attempt for event in said] == [1, 2, 3]
        assert said[0].delay < said[1].delay < said[2].delay
        assert kept.last.delivered.offset == 95
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    run(scene())


def test_disk_full_ends_a_one_shot_reading() -> None:
    async def scene() -> None:
        service, sink = Service(b"x" * 95), Store()
        kept = Kept(sink, full=100)
        with pytest.raises(errors.CheckpointError, match="disk is full"):
            await follower(service, sink, kept, commit_bytes=20).run()
        assert sum(len(batch.data) for batch in sink.batches) <= 20

    run(scene())


def test_what_ended_a_reading_is_not_hidden_by_a_commit_that_fails_as_well() -> None:
    async def scene() -> None:
        service, sink = Service(b"x" * 95), Store(refuse_at=15)
        with pytest.raises(errors.SinkError) as caught:
            await follower(service, sink, Kept(sink, full=100)).run()
        assert "disk is full" in caught.value.__notes__[0]

    run(scene())


def test_after_a_restart_the_stored_crc_must_still_prove_the_bytes_read_before_it() -> None:
    """The same length with other bytes in front is another object."""

    async def scene() -> None:
        service, sink = Service(b"a" * 40), Store()
        kept = Kept(sink)
        await follower(service, sink, kept).run()
        other = Service(b"b" * 40 + b"c" * 10)
        options = replace(NAME, follow=Follow.DESCRIPTOR)
        again = Store(kept.last)
        with pytest.raises(errors.ObjectReplaced):
            await follower(other, again, kept, options, mark=kept.last).run()
        assert again.batches == []

    run(scene())


async def life(seed: int, integrity: Integrity) -> None:
    """A world that changes, a driver that crashes at random moments, restarts from the store alone."""
    chance = random.Random(seed)
    world = World(chance, noise=chance.choice([0.0, 0.1]))
    world.append()
    options = replace(NAME, integrity=integrity, max_window=16)
    kept, sink = Kept(), Store()
    deadline = now() + 40.0
    while now() < deadline:
        mark = kept.marks[-1] if kept.marks else Mark()
        sink.expected = (mark.delivered.generation, mark.delivered.offset)
        held = sink.data.setdefault(mark.delivered.generation, bytearray())
        assert len(held) >= mark.delivered.offset, "bytes that no sink has were committed"
        assert (
            Position(mark.delivered.offset, crc64.update(held[: mark.delivered.offset]), mark.delivered.generation)
            == mark.delivered
        )
        store = Dying(kept, chance)
        driver = Follower(
            WorldReader(world, chance), Tail(REF, options, mark, now=now()), sink, clock=now, chance=chance.random,
            store=store, commit_bytes=64,
        )  # fmt: skip
        changing = asyncio.create_task(change(world, chance, deadline))
        following = asyncio.create_task(driver.run())
        await asyncio.wait([following], timeout=chance.choice([0.5, 3.0, 10.0]))
        store.dead = True  # a crash: nothing of this process happens any more, the commit on the way out neither
        following.cancel()
        changing.cancel()
        await asyncio.gather(following, changing, return_exceptions=True)
    check(world, sink, driver.tail.mark, strict=False)


class Dying:
    """A store that now and then keeps a mark without living to say so. `dead`: nothing is kept any more."""

    def __init__(self, kept: Kept, chance: random.Random) -> None:
        self._kept = kept
        self._chance = chance
        self.dead = False

    async def commit(self, ref: ObjectRef, mark: Mark) -> None:
        await asyncio.sleep(self._chance.choice([0.0, 0.1, 2.0]))
        if not self.dead:
            self._kept.keep(mark)
        if self.dead or self._chance.random() < 0.05:
            raise asyncio.CancelledError


@pytest.mark.parametrize("integrity", [Integrity.CHAIN, Integrity.STRICT])
@pytest.mark.parametrize("seed", range(10))
def test_crashes_at_random_lose_nothing(seed: int, integrity: Integrity) -> None:
    run(life(seed, integrity))


def test_batches_that_come_often_do_not_cost_a_commit_each() -> None:
    async def scene() -> int:
        service, sink = Service(b"0"), Store()
        kept = Kept(sink)
        driver = follower(service, sink, kept, replace(NAME, pace=replace(NAME.pace, fastest=0.01, slowest=0.01)))
        following = asyncio.create_task(driver.run())
        for length in range(2, 1000):
            await asyncio.sleep(0.01)
            service.data = b"0" * length
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        assert len(sink.batches) > 500
        return len(kept.marks)

    assert run(scene()) <= 13
