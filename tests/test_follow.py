"""The driver: a scripted reader on one side, a scripted sink on the other, and a clock that nobody waits for."""

from __future__ import annotations

import asyncio
import random
import tempfile
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tailer import errors, follow
from tailer.core import crc64
from tailer.core.events import (
    Appeared,
    Batch,
    Event,
    Failed,
    Gone,
    Replaced,
    Rewound,
    Sealed,
    Truncated,
    Verified,
)
from tailer.core.options import Follow, Integrity, TailOptions
from tailer.core.position import Link, Mark, ObjectMeta, ObjectRef, Position
from tailer.core.schedule import Pace
from tailer.core.tail import Tail
from tailer.follow import Follower, Window
from tests.core.playing import FORMER, LATTER, REF, Service, flip_crc, flip_data, refused, then
from tests.model.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from tailer.core.ranges import ByteRange

MIB = 1 << 20
NAME = TailOptions(follow=Follow.NAME, retry=True, max_window=10, max_depth=4, pace=Pace(1.0, 4.0, 3))
ONCE = replace(NAME, follow=Follow.NO, retry=False)
STRICT = replace(NAME, integrity=Integrity.STRICT)


class TimelessLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._really_select, self._selector.select = self._selector.select, self._jump

    def time(self) -> float:
        return self.now

    def _jump(self, timeout: float | None = None) -> Any:
        ready = self._really_select(0)
        if timeout is None and not ready:
            raise RuntimeError("everybody waits for somebody else")
        if not ready:
            self.now += timeout or 0.0
        return ready


def run(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=TimelessLoop) as runner:
        return runner.run(main)


def now() -> float:
    return asyncio.get_running_loop().time()


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]


class Reader:
    """An `ObjectReader` over a scripted service; `latency` gives the seconds that a window takes."""

    def __init__(self, service: Service, latency: Callable[[ByteRange], float] = lambda _: 0.0) -> None:
        self.service = service
        self.latency = latency
        self.in_flight = self.most_in_flight = self.fetched = self.heads = 0
        self.came: list[int] = []

    async def head(self, ref: ObjectRef) -> ObjectMeta:
        self.heads += 1
        await asyncio.sleep(0)
        return self.service.head()

    async def fetch(self, ref: ObjectRef, range: ByteRange) -> Window:
        self.fetched += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.latency(range))
            window = Window(*self.service.get(range))
            self.came.append(window.start)
            return window
        finally:
            self.in_flight -= 1


class Store:
    """A sink that keeps each generation, checks that nothing is out of order, and may be slow or refuse."""

    def __init__(self, mark: Mark | None = None, *, delay: float = 0.0, refuse_at: int | None = None) -> None:
        at = (mark or Mark()).delivered
        self.data: dict[int, bytearray] = {at.generation: bytearray(at.offset)}
        self.expected = (at.generation, at.offset)
        self.batches: list[Batch] = []
        self.events: list[Event] = []
        self.delay = delay
        self.refuse_at = refuse_at
        self.written = asyncio.Event()

    async def write(self, batch: Batch) -> None:
        assert (batch.generation, batch.start) == self.expected, "a gap or an overlap"
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.refuse_at is not None and batch.end > self.refuse_at:
            raise errors.SinkError("full")
        held = self.data.setdefault(batch.generation, bytearray())
        held[batch.start :] = batch.data
        self.expected = (batch.generation, batch.end)
        self.batches.append(batch)
        self.written.set()

    async def notice(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Rewound):
            self.expected = (event.generation, event.to)
        elif isinstance(event, Replaced | Truncated | Appeared):
            self.expected = (event.generation, 0)

    async def close(self) -> None:
        raise AssertionError("a sink is closed by whoever opened it")

    def told(self, *kinds: type) -> list[type]:
        return [type(event) for event in self.events if isinstance(event, kinds)]


class Scene:
    """One follower between a reader and a store."""

    def __init__(
        self,
        data: bytes | None,
        options: TailOptions = NAME,
        mark: Mark | None = None,
        *,
        latency: Callable[[ByteRange], float] = lambda _: 0.0,
        links: tuple[Link, ...] = (),
        **sink: Any,
    ) -> None:
        self.service = Service(data)
        self.reader = Reader(self.service, latency)
        self.store = Store(mark, **sink)
        self.tail = Tail(REF, options, mark, now=now(), links=links)
        self.follower = Follower(self.reader, self.tail, self.store, clock=now, chance=lambda: 0.5)

    def held(self, generation: int = 0) -> bytes:
        return bytes(self.store.data.get(generation, b""))


def marked(data: bytes) -> Mark:
    return Mark.at(Position(len(data), crc64.update(data)))


# --- the way of the bytes


def test_parallel_windows_are_delivered_in_order_whichever_comes_first() -> None:
    data = bytes(range(200))

    async def main() -> None:
        scene = Scene(data, ONCE, latency=lambda asked: 1.0 if asked.start // 10 % 2 else 3.0)
        await scene.follower.run()
        assert scene.held() == data
        assert scene.reader.most_in_flight > 1
        assert scene.reader.came != sorted(scene.reader.came)
        assert scene.tail.mark == marked(data)
        assert not others()

    run(main())


def test_a_slow_sink_bounds_what_is_fetched_ahead() -> None:
    """Back-pressure: while a batch is being written, no fetch is begun, and those under way are few."""

    async def main() -> None:
        scene = Scene(bytes(1000), ONCE, delay=100.0)
        running = asyncio.create_task(scene.follower.run())
        for _ in range(20):
            await scene.store.written.wait()
            scene.store.written.clear()
            assert scene.reader.fetched <= len(scene.store.batches) + NAME.max_depth
        await running
        assert scene.held() == bytes(1000)

    run(main())


def test_events_reach_the_sink_in_order_with_the_batches() -> None:
    async def main() -> None:
        scene = Scene(b"abc")
        seen: list[type] = []
        write, notice = scene.store.write, scene.store.notice

        async def note_write(batch: Batch) -> None:
            seen.append(Batch)
            await write(batch)

        async def note_notice(event: Event) -> None:
            seen.append(type(event))
            await notice(event)

        scene.store.write, scene.store.notice = note_write, note_notice  # type: ignore[method-assign]
        await scene.follower.catch_up()
        scene.service.put(b"de", type="Normal", sealed=True)
        await scene.follower.run()
        assert [one for one in seen if one in (Batch, Verified, Replaced, Sealed)] == [
            Batch, Verified, Replaced, Batch, Verified, Sealed,
        ]  # fmt: skip

    run(main())


# --- ends


def test_run_returns_when_the_object_is_sealed() -> None:
    async def main() -> None:
        scene = Scene(b"abc")
        scene.service.sealed = True
        await scene.follower.run()
        assert scene.held() == b"abc"

    run(main())


def test_run_raises_the_reason_of_its_end() -> None:
    async def main() -> None:
        scene = Scene(None, ONCE)
        with pytest.raises(errors.ObjectNotFound):
            await scene.follower.run()
        scene = Scene(b"abc", ONCE)
        scene.service.gets.extend([flip_crc] * 9)
        with pytest.raises(errors.ChainBroken):
            await scene.follower.run()
        assert scene.store.batches == []

    run(main())


def test_catch_up_returns_at_the_present_end_and_finds_what_came_since() -> None:
    async def main() -> None:
        scene = Scene(b"abc")
        await scene.follower.catch_up()
        assert scene.held() == b"abc"
        scene.service.data = b"abcdef"
        await scene.follower.catch_up()
        assert scene.held() == b"abcdef"
        assert now() == 0.0
        scene.service.put(b"new", type="Normal")
        await scene.follower.catch_up()
        assert scene.held(1) == b"new"

    run(main())


def test_catch_up_returns_when_the_object_is_missing_and_waited_for() -> None:
    async def main() -> None:
        scene = Scene(None)
        await scene.follower.catch_up()
        assert scene.store.told(Gone) == [Gone]
        scene.service.data = b"abc"
        await scene.follower.catch_up()
        assert scene.held() == b"abc"

    run(main())


def test_catch_up_waits_out_a_refusal() -> None:
    async def main() -> None:
        scene = Scene(b"abc")
        scene.service.heads.append(refused(retry_after=30.0))
        await scene.follower.catch_up()
        assert scene.held() == b"abc"
        assert now() == 30.0

    run(main())


def test_run_goes_on_where_catch_up_returned() -> None:
    async def main() -> None:
        scene = Scene(b"abc")
        await scene.follower.catch_up()
        scene.service.put(b"abcdef", sealed=True)
        await scene.follower.run()
        assert scene.held() == b"abcdef"
        assert now() == 1.0

    run(main())


def test_a_wake_polls_at_once() -> None:
    async def main() -> None:
        scene = Scene(b"abc", replace(NAME, pace=Pace(1000.0, 1000.0)))
        running = asyncio.create_task(scene.follower.run())
        await scene.store.written.wait()
        await asyncio.sleep(5)
        scene.store.written.clear()
        scene.service.data = b"abcdef"
        scene.follower.wake()
        await scene.store.written.wait()
        assert scene.held() == b"abcdef"
        assert now() == 5.0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(main())


def test_a_wake_while_it_works_does_not_make_it_spin() -> None:
    async def main() -> None:
        scene = Scene(bytes(100), latency=lambda _: 1.0)
        running = asyncio.create_task(scene.follower.run())
        await asyncio.sleep(0.5)
        scene.follower.wake()
        await asyncio.sleep(100)
        assert scene.reader.heads < 60
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    run(main())


# --- cancellation and failure


@pytest.mark.parametrize("at", [0.0, 0.5, 1.5, 2.5, 3.5, 40.0], ids=lambda at: f"after {at} s")
@pytest.mark.parametrize("integrity", list(Integrity))
def test_a_cancelled_run_leaves_nothing_running_and_a_mark_to_go_on_from(integrity: Integrity, at: float) -> None:
    """In a fetch, in the sink, in a pause: wherever it is."""
    data = bytes(range(100))
    options = replace(NAME, integrity=integrity)

    async def main() -> None:
        first = Scene(data, options, latency=lambda _: 1.0, delay=1.0)
        running = asyncio.create_task(first.follower.run())
        await asyncio.sleep(at)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not others()
        assert first.reader.in_flight == 0
        mark = first.tail.mark
        assert first.held()[: mark.delivered.offset] == data[: mark.delivered.offset]
        second = Scene(data, options, mark)
        await second.follower.catch_up()
        assert second.held()[mark.delivered.offset :] == data[mark.delivered.offset :]

    run(main())


@pytest.mark.parametrize("refuse_at", [0, 35, 99])
def test_a_refusing_sink_ends_the_run_and_its_batch_is_not_stepped_over(refuse_at: int) -> None:
    data = bytes(range(100))

    async def main() -> None:
        scene = Scene(data, refuse_at=refuse_at, latency=lambda _: 0.1)
        with pytest.raises(errors.SinkError):
            await scene.follower.run()
        assert not others()
        mark = scene.tail.mark
        assert mark.delivered == Position(len(scene.held()), crc64.update(scene.held()))
        assert mark.delivered.offset <= refuse_at
        again = Scene(data, NAME, mark)
        await again.follower.catch_up()
        assert scene.held() + again.held()[mark.delivered.offset :] == data

    run(main())


def test_a_reader_with_a_bug_is_not_taken_for_a_refusal() -> None:
    async def main() -> None:
        scene = Scene(bytes(100), latency=lambda asked: 1 / (asked.start - 20))
        with pytest.raises(ZeroDivisionError):
            await scene.follower.run()
        assert not others()

    run(main())


def test_windows_that_are_no_longer_wanted_are_dropped_unread() -> None:
    """One window is refused: those behind it are cancelled, whatever they would have brought."""

    async def main() -> None:
        scene = Scene(bytes(100), ONCE, latency=lambda asked: 1.0 + asked.start)
        scene.service.gets.append(refused())
        await scene.follower.run()
        assert scene.held() == bytes(100)
        assert scene.store.told(Failed) == [Failed]
        assert len(scene.reader.came) < scene.reader.fetched

    run(main())


# --- strict


def test_strict_hands_out_nothing_before_its_proof() -> None:
    data = bytes(range(200))

    async def main() -> None:
        scene = Scene(data, STRICT, latency=lambda _: 1.0)
        first: list[int] = []
        write = scene.store.write

        async def note(batch: Batch) -> None:
            first.append(len(scene.reader.came))
            await write(batch)

        scene.store.write = note  # type: ignore[method-assign]
        await scene.follower.catch_up()
        assert min(first) == 20, "all windows had come before the first byte went out"
        assert all(batch.verified for batch in scene.store.batches)
        assert scene.held() == data
        assert scene.tail.mark == marked(data)

    run(main())


def test_strict_tells_nothing_of_a_rewind_that_voids_only_what_waited() -> None:
    data = bytes(range(200))

    async def main() -> None:
        scene = Scene(data, STRICT)
        scene.service.gets.extend([None, None, flip_data(3)])
        await scene.follower.catch_up()
        assert scene.store.told(Rewound) == []
        assert scene.held() == data
        assert scene.reader.fetched > 20

    run(main())


def test_strict_spills_to_disk_what_does_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random.Random(1).randbytes(12 * MIB)
    rolled: list[bool] = []
    take = follow._Spool.take

    def note(self: Any) -> Any:
        rolled.append(self._file is not None and self._file._rolled)
        return take(self)

    monkeypatch.setattr(follow._Spool, "take", note)

    async def main() -> None:
        scene = Scene(data, replace(STRICT, max_window=MIB))
        await scene.follower.catch_up()
        assert scene.held() == data
        assert all(batch.verified for batch in scene.store.batches)

    run(main())
    assert rolled[0] is False
    assert True in rolled


def test_strict_without_room_on_disk_is_one_plain_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_SPOOL_IN_MEMORY", 30)
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent/folder")

    async def main() -> None:
        scene = Scene(bytes(100), STRICT)
        with pytest.raises(errors.SinkError, match="temporary file"):
            await scene.follower.run()
        assert scene.store.batches == []
        assert scene.tail.mark == Mark()
        assert not others()

    run(main())


def test_strict_tells_of_a_rewind_behind_what_was_delivered_before_a_resume() -> None:
    """The run before was not strict: what it delivered was not proven, and proves wrong now."""
    data = b"0123456789"
    mark = Mark(Position(6, crc64.update(b"01WRON")), Position(2, crc64.update(b"01")))

    async def main() -> None:
        scene = Scene(data, STRICT, mark)
        await scene.follower.catch_up()
        assert [event for event in scene.store.events if isinstance(event, Rewound)] == [Rewound(0, 2, 6)]
        assert scene.held()[2:] == data[2:]

    run(main())


def test_strict_never_takes_back_the_proven_pieces_of_a_long_record() -> None:
    """Not even where the record is replaced by another one behind the same beginning."""
    options = replace(STRICT, delimiter=b"\n", max_record=4)

    async def main() -> None:
        scene = Scene(b"a\nb\nc\n", options)
        await scene.follower.catch_up()
        scene.service.data = b"a\nb\nc\ndefghijklmn"
        await scene.follower.catch_up()
        assert scene.held() == b"a\nb\nc\ndefghijk"
        scene.service.data = b"a\nb\nc\nDEFGHIJKLMN\nopq\n"
        await scene.follower.catch_up()
        assert scene.store.told(Rewound, Replaced) == [Replaced]
        assert scene.held(0) == b"a\nb\nc\ndefghijklmn"
        assert scene.held(1) == scene.service.data

    run(main())


def test_strict_hands_out_a_start_in_the_middle_that_nothing_can_prove_and_says_so() -> None:
    """An unfinished record before the first statement that the chain meets: unproven for ever, but not lost."""
    data = b"one\ntwo"
    anchor = Link(7, crc64.update(data))

    async def main() -> None:
        options = replace(STRICT, delimiter=b"\n", follow=Follow.NO)
        scene = Scene(data, options, Mark.at(Position(2, None)), links=(anchor,))
        await scene.follower.run()
        assert [(bytes(batch.data), batch.verified) for batch in scene.store.batches] == [
            (b"e\n", False),
            (b"two", False),
        ]

    run(main())


def test_strict_forgets_what_waited_when_another_object_stands_there() -> None:
    async def main() -> None:
        scene = Scene(bytes(100), STRICT, latency=lambda _: 1.0)
        running = asyncio.create_task(scene.follower.catch_up())
        await asyncio.sleep(2.5)
        assert scene.store.batches == []
        scene.service.put(b"another", type="Normal")
        await running
        assert scene.store.told(Replaced) == [Replaced]
        assert scene.held(0) == b""
        assert scene.held(1) == b"another"

    run(main())


# --- a whole life, at random


def test_strict_keeps_no_more_than_its_bound_and_reads_the_rest_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(range(200))
    sizes: list[int] = []
    add = follow._Spool.add

    def note(self: Any, batch: Batch) -> None:
        add(self, batch)
        sizes.append(0 if self._file is None else self._file.seek(0, 2))

    monkeypatch.setattr(follow._Spool, "add", note)

    async def main() -> None:
        scene = Scene(data, replace(STRICT, max_spool=35))
        await scene.follower.catch_up()
        assert scene.held() == data
        assert all(batch.verified for batch in scene.store.batches)
        assert scene.tail.mark == marked(data)
        assert scene.reader.fetched == 20 + 17
        scene.service.data = data + b"more"
        await scene.follower.catch_up()
        assert scene.held() == data + b"more"

    run(main())
    assert max(sizes) == 30


def test_strict_reads_again_what_comes_out_differently_the_second_time() -> None:
    data = bytes(range(100))

    async def main() -> None:
        scene = Scene(data, replace(STRICT, max_spool=0))
        scene.service.gets.extend([*[None] * 10, flip_data(3), errors.ConnectionLost("cut")])
        await scene.follower.catch_up()
        assert scene.held() == data
        assert scene.store.told(Rewound) == []
        assert [type(event.error) for event in scene.store.events if isinstance(event, Failed)] == [
            errors.ChainBroken,
            errors.ConnectionLost,
        ]

    run(main())


def test_strict_hands_out_nothing_of_an_object_that_was_replaced_before_it_was_read_again() -> None:
    data = bytes(range(100))

    async def main() -> None:
        scene = Scene(data, replace(STRICT, max_spool=0))
        fetch = scene.reader.fetch

        async def replaced_meanwhile(ref: ObjectRef, range: ByteRange) -> Window:
            if scene.reader.fetched == 13:
                scene.service.put(b"another", type="Normal")
            return await fetch(ref, range)

        scene.reader.fetch = replaced_meanwhile  # type: ignore[method-assign]
        await scene.follower.catch_up()
        assert scene.held(0) == data[:30]
        assert scene.held(1) == b"another"
        assert all(batch.verified for batch in scene.store.batches)

    run(main())


def test_strict_tells_how_far_the_proof_stands_where_it_reads_anew_of_an_object_that_was_replaced() -> None:
    """The sink was told that 15 bytes are proven, and is to keep the ten of them that a rewind leaves."""

    async def main() -> None:
        scene = Scene(FORMER[:15], replace(STRICT, max_spool=0, max_depth=1))
        to_the_second_batch = [then(scene.service, FORMER), None, None, None]
        scene.service.gets.extend([*to_the_second_batch, then(scene.service, LATTER)])
        await scene.follower.catch_up()
        assert scene.held(1) == LATTER
        news = [event for event in scene.store.events if isinstance(event, Verified | Rewound | Replaced)]
        whole = [Verified(Position(end, crc64.update(FORMER[:end]))) for end in (15, 10)]
        assert news[:3] == [*whole, Rewound(0, 10, 20)]
        assert [type(event) for event in news[3:]] == [Replaced, Verified]

    run(main())


def test_strict_ends_when_what_was_proven_never_comes_again() -> None:
    data = bytes(range(100))

    async def main() -> None:
        scene = Scene(data, replace(STRICT, max_spool=0))
        scene.service.gets.extend(([*[None] * 10, *[flip_data(3)] * 4]) * 2)
        with pytest.raises(errors.ChainBroken, match="came out differently"):
            await scene.follower.catch_up()
        assert scene.store.batches == []
        assert scene.tail.mark == Mark()
        assert not others()

    run(main())


# --- full


FULL = replace(NAME, integrity=Integrity.FULL)


def middle(data: bytes, options: TailOptions = FULL) -> Scene:
    """A scene that begins at byte 60, which the length and CRC-64 of all of `data` tie."""
    return Scene(data, options, Mark.at(Position(60, None)), links=(Link(len(data), crc64.update(data)),))


def unproven(scene: Scene) -> list[int]:
    return [event.position.unproven for event in scene.store.events if isinstance(event, Verified)]


def misread(scene: Scene, wrong: Callable[[ByteRange], bool]) -> None:
    """Turn over a bit of the first byte of the windows that are `wrong`."""
    fetch = scene.reader.fetch

    async def flipped(ref: ObjectRef, range: ByteRange) -> Window:
        window = await fetch(ref, range)
        if not wrong(range):
            return window
        return Window(*flip_data(0)((window.start, bytes(window.data), window.meta)))

    scene.reader.fetch = flipped  # type: ignore[method-assign]


async def follow_for(scene: Scene, seconds: float) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            await scene.follower.run()


def test_full_hands_out_at_once_and_proves_from_byte_0_afterwards() -> None:
    data = bytes(range(100))

    async def main() -> None:
        scene = middle(data)
        await scene.follower.catch_up()
        assert scene.held()[60:] == data[60:]
        assert min(scene.reader.came) == 60
        assert unproven(scene) == [100]
        await follow_for(scene, 3.0)
        assert unproven(scene) == [100, 0]
        assert sorted(scene.reader.came)[:6] == [0, 10, 20, 30, 40, 50]
        scene.service.data = data + b"more"
        await scene.follower.catch_up()
        assert unproven(scene) == [100, 0, 0]

    run(main())


def test_full_goes_on_while_it_reads_the_beginning() -> None:
    data = bytes(range(100))

    async def main() -> None:
        scene = middle(data)
        scene.reader.latency = lambda range: 0.0 if range.start >= 60 else 2.0
        await scene.follower.catch_up()
        running = asyncio.create_task(scene.follower.run())
        scene.service.data = data + b"more"
        await asyncio.sleep(5.0)
        assert scene.held()[60:] == data[60:] + b"more"
        assert 0 not in unproven(scene)
        await asyncio.sleep(30.0)
        assert unproven(scene)[-1] == 0
        running.cancel()

    run(main())


def test_full_delays_no_poll_while_it_reads_the_beginning() -> None:
    data = bytes(range(100))

    async def main() -> None:
        scene = middle(data)
        asked = []

        def latency(range: ByteRange) -> float:
            asked.append(range.start)
            return 0.0 if range.start >= 59 else 1000.0

        scene.reader.latency = latency
        await scene.follower.catch_up()
        running = asyncio.create_task(scene.follower.run())
        for size in (110, 120, 130):
            scene.service.data = bytes(range(size))
            await asyncio.sleep(NAME.pace.slowest + 0.1)
            assert scene.held()[60:] == scene.service.data[60:]
        assert [start for start in asked if start < 59] == [0], "one window at a time"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert not others()

    run(main())


@pytest.mark.parametrize("seconds", [0.0, 0.4, 1.5])
def test_full_takes_its_proof_up_again_after_a_restart(seconds: float) -> None:
    """What the first run handed out is proven by the second, and until then the mark says that it is not."""
    data = bytes(range(100))

    async def main() -> None:
        first = middle(data)
        first.reader.latency = lambda range: 0.0 if range.start >= 59 else 0.5
        await first.follower.catch_up()
        if seconds:
            await follow_for(first, seconds)
        mark = first.tail.mark
        assert (mark.unproven, mark.delivered.unproven) == (40, 100)
        second = Scene(data + b"more", FULL, mark)
        await second.follower.catch_up()
        assert unproven(second) == [100]
        assert second.tail.mark.unproven == 40
        await follow_for(second, 5.0)
        assert unproven(second)[-1] == 0
        assert second.tail.mark == Mark.at(Position(104, crc64.update(data + b"more")))

    run(main())


def test_full_finds_after_a_restart_that_what_the_run_before_handed_out_was_wrong() -> None:
    data = bytes(range(100))

    async def main() -> None:
        first = middle(data)
        misread(first, lambda range: range.start == 70)
        await first.follower.catch_up()
        second = Scene(data, FULL, first.tail.mark)
        with pytest.raises(errors.ChainBroken, match="what was read from there"):
            await second.follower.run()

    run(main())


def test_full_says_that_the_beginning_cannot_be_read_and_follows_on() -> None:
    data = bytes(range(100))

    async def main() -> None:
        scene = middle(data)
        fetch = scene.reader.fetch

        async def refused_below(ref: ObjectRef, range: ByteRange) -> Window:
            if range.start < 60:
                raise refused()
            return await fetch(ref, range)

        scene.reader.fetch = refused_below  # type: ignore[method-assign]
        await scene.follower.catch_up()
        running = asyncio.create_task(scene.follower.run())
        await asyncio.sleep(5.0)
        scene.service.data = data + b"more"
        await asyncio.sleep(10.0)
        assert scene.held()[60:] == data[60:] + b"more"
        assert [event.attempt for event in scene.store.events if isinstance(event, Failed)][:3] == [1, 2, 3]
        assert 0 not in unproven(scene)
        running.cancel()

    run(main())


def test_full_ends_a_one_shot_reading_when_all_is_proven() -> None:
    data = bytes(range(100))

    async def main() -> None:
        scene = middle(data, replace(FULL, follow=Follow.NO, retry=False))
        scene.service.gets.extend([*[None] * 4, errors.ConnectionLost("cut")])
        await scene.follower.run()
        assert unproven(scene) == [100, 0]
        assert scene.held()[60:] == data[60:]

    run(main())


@pytest.mark.parametrize("options", [FULL, replace(FULL, follow=Follow.NO, retry=False)])
def test_full_reads_the_beginning_twice_before_it_says_that_it_does_not_fit(options: TailOptions) -> None:
    data = bytes(range(100))

    async def main() -> None:
        scene = middle(data, options)
        misread(scene, lambda range: range.start == 20)
        with pytest.raises(errors.ChainBroken, match="what lies below byte 60"):
            await scene.follower.run()
        assert scene.reader.came.count(20) == 2
        assert unproven(scene) == [100]
        assert not others()

    run(main())


def test_full_forgives_one_misread_of_the_beginning() -> None:
    data = bytes(range(100))

    async def main() -> None:
        scene = middle(data)
        misread(scene, lambda range: range.start == 20 and 20 not in scene.reader.came[:-1])
        await follow_for(scene, 10.0)
        assert unproven(scene) == [100, 0]
        assert scene.reader.came.count(20) == 2

    run(main())


def test_full_finds_a_wrong_byte_among_those_that_only_the_beginning_can_prove() -> None:
    """Which `Integrity.CHAIN` hands out, and counts as unproven."""
    data = bytes(range(100))

    async def main() -> None:
        scene = middle(data)
        misread(scene, lambda range: range.start == 70)
        with pytest.raises(errors.ChainBroken, match="what was read from there"):
            await scene.follower.run()

    run(main())


def test_full_forgets_the_beginning_of_an_object_that_was_replaced() -> None:
    data = bytes(range(100))

    async def main() -> None:
        scene = middle(data)
        scene.reader.latency = lambda range: 0.0 if range.start >= 60 else 0.5
        await scene.follower.catch_up()
        running = asyncio.create_task(scene.follower.run())
        await asyncio.sleep(1.2)
        scene.service.put(b"another", type="Normal")
        await asyncio.sleep(20.0)
        assert scene.held(1) == b"another"
        assert scene.tail.claim is None
        assert not running.done()
        running.cancel()

    run(main())


class WorldReader:
    """The model test's toy world, with a little latency."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world, self.chance = world, chance

    async def head(self, ref: ObjectRef) -> ObjectMeta:
        await asyncio.sleep(self.chance.choice([0, 0.01]))
        answer = self.world.head()
        if isinstance(answer, errors.TailerError):
            raise type(answer)("injected", status=answer.status)  # type: ignore[attr-defined, call-arg]
        return answer

    async def fetch(self, ref: ObjectRef, range: ByteRange) -> Window:
        await asyncio.sleep(self.chance.choice([0, 0.01, 0.3]))
        answer = self.world.get(range)
        if isinstance(answer, errors.TailerError):
            raise answer.with_traceback(None)
        return Window(*answer)


async def live(seed: int, integrity: Integrity) -> None:
    """Follow a world that changes for a while, through refusals and restarts; then it must hold the object."""
    chance = random.Random(seed)
    world = World(chance, noise=chance.choice([0.0, 0.05, 0.2]))
    world.append()
    options = replace(
        NAME,
        integrity=integrity,
        delimiter=chance.choice([None, b"\n"]),
        max_record=chance.choice([4, 1000]),
        max_window=chance.choice([3, 16]),
        max_spool=chance.choice([0, 20, 1 << 30]),
    )
    store, mark = Store(), Mark()
    deadline = now() + 60.0
    while True:
        tail = Tail(REF, options, mark, now=now())
        store.expected = (mark.delivered.generation, mark.delivered.offset)
        follower = Follower(WorldReader(world, chance), tail, store, clock=now, chance=chance.random)
        changing = asyncio.create_task(change(world, chance, deadline))
        store.refuse_at = chance.choice([None, None, 300])
        if now() >= deadline:
            world.noise, store.refuse_at = 0.0, None
        try:
            async with asyncio.timeout(chance.choice([1.0, 20.0]) if now() < deadline else None):
                await (follower.run() if now() < deadline else follower.catch_up())
            if now() >= deadline:
                break
        except (TimeoutError, errors.SinkError, errors.ChainBroken):
            await asyncio.sleep(1.0)
        finally:
            changing.cancel()
            await asyncio.gather(changing, return_exceptions=True)
            mark = tail.mark
            check(world, store, mark, strict=integrity is Integrity.STRICT)
        assert not others()
    assert world.current is not None
    held = bytes(store.data.get(mark.delivered.generation, b""))[: mark.delivered.offset]
    assert world.current.data.startswith(held)
    assert len(world.current.data) - len(held) <= (options.max_record if options.delimiter else 0)


async def change(world: World, chance: random.Random, deadline: float) -> None:
    while now() < deadline:
        await asyncio.sleep(chance.choice([0.05, 0.5, 2.0]))
        draw = chance.random()
        if draw < 0.8:
            world.append()
        elif draw < 0.9:
            world.recreate()
        elif draw < 0.95:
            world.put()
        else:
            world.delete()
    if world.current is None:
        world.append()


def check(world: World, store: Store, mark: Mark, *, strict: bool) -> None:
    verified, delivered = mark.verified, mark.delivered
    held = bytes(store.data.get(delivered.generation, b""))[: delivered.offset]
    assert Position(len(held), crc64.update(held), delivered.generation) == delivered
    assert world.had_prefix(held[: verified.offset])
    if strict:
        assert all(batch.verified for batch in store.batches)
        assert all(world.had_prefix(bytes(data)) for data in store.data.values())


@pytest.mark.parametrize("integrity", [Integrity.CHAIN, Integrity.STRICT])
@pytest.mark.parametrize("seed", range(25))
def test_a_life_at_random_ends_with_the_object_in_the_sink(seed: int, integrity: Integrity) -> None:
    run(live(seed, integrity))
