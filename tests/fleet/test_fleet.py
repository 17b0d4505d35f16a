"""A group, followed from its listings to its sink over a real server."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest

from tailer.checkpoints import Checkpoints, read_all
from tailer.configfile import Limits
from tailer.core.options import Integrity
from tailer.errors import BucketNotFound, CrcMissing, ObjectReplaced, SinkBusy
from tailer.local import Fault

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tailer.core.events import Batch
    from tailer.core.position import Mark
    from tests.fleet.conftest import World

LISTED = {"poll_min": 10.0, "poll_max": 10.0}
"""Nobody is polled by himself: the listings tell of everything."""


def play(what: Coroutine[None, None, None]) -> None:
    asyncio.run(what)


def _tracebacks(error: BaseException | None) -> int:
    count = 0
    while error is not None:
        count += error.__traceback__ is not None
        error = error.__cause__ or error.__context__
    return count


def marks(world: World) -> dict[str, Mark]:
    return {one.ref.key: one.mark for one in read_all(world.path)}


def test_a_group_is_followed_from_end_to_end(world: World) -> None:
    """What is there, what grows, what comes later; and the marks say so."""

    async def follow() -> None:
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
            assert status.objects == {"active": 0, "idle": 3, "missing": 0, "sealed": 0, "failed": 0}
            assert fleet.problems(0.0) == []
        assert world.sink.gaps == 0

    play(follow())
    assert {key: mark.delivered.offset for key, mark in marks(world).items()} == {"a": 8, "deep/b": 5, "c": 3}
    assert all(mark.verified == mark.delivered for mark in marks(world).values())


# --- what it costs


def test_a_growth_costs_one_get_and_what_rests_costs_nothing(world: World) -> None:
    async def follow() -> None:
        for number in range(20):
            world.append(f"{number}", b"a line\n")
        async with world.follow(world.group(**LISTED)) as fleet:
            await world.until(lambda: world.sink.batches == 20)
            assert world.requests["fetch"] == 20
            for text in (b"a line\none\n", b"a line\none\ntwo\n", b"a line\none\ntwo\nthree\n"):
                world.append("7", text[len(world.text("7")) :])
                await world.shows("7", text)
            before = world.requests["list_objects"]
            await world.until(lambda: world.requests["list_objects"] >= before + 3)
            assert (world.requests["fetch"], world.requests["head"]) == (23, 0)
            assert fleet.status().objects["idle"] == 20

    play(follow())


def test_an_object_without_a_byte_costs_nothing(world: World) -> None:
    async def follow() -> None:
        world.append("empty", b"")
        async with world.follow(world.group(**LISTED)):
            await world.until(lambda: world.observer.listings >= 3)
            assert world.requests["fetch"] == 0
            world.append("empty", b"a line\n")
            await world.until(lambda: world.text("empty") == b"a line\n")

    play(follow())


def test_what_grows_again_and_again_is_polled_by_itself(world: World) -> None:
    """Between two listings, which are an hour apart, two hints show how fast it grows; it needs no third."""

    async def follow() -> None:
        world.append("hot", b"0\n")
        world.append("cold", b"0\n")
        group = world.group(list_interval=3600.0, poll_min=0.02, poll_max=7200.0)
        async with world.follow(group) as fleet:
            await world.until(lambda: world.text("hot") and world.text("cold"))
            text = b"0\n"
            for number in range(1, 9):
                text += b"%d\n" % number
                world.append("hot", b"%d\n" % number)
                if number <= 2:
                    fleet.wake(world.ref("hot"))
                await world.shows("hot", text)
            assert world.requests["list_objects"] == 1
            hot = next(one for one in fleet.objects(10) if one.object.endswith("hot"))
            assert (hot.position, hot.lag, hot.chain) == (18, 0, "proven")
            assert hot.poll_interval < 1.0

    play(follow())


def test_an_object_is_looked_at_less_and_less_until_it_is_left_to_the_listings(world: World) -> None:
    async def follow() -> None:
        world.append("a", b"0\n")
        async with world.follow(world.group(list_interval=0.3, poll_min=0.05, poll_max=60.0)):
            await world.until(lambda: world.text("a"))
            before = world.observer.listings
            await world.until(lambda: world.observer.listings > before)
            assert world.requests["fetch"] == 1  # that it was read is no growth
            world.append("a", b"1\n")
            await world.until(lambda: world.requests["fetch"] >= 4)  # it is looked at in vain, by itself
            polls = -1
            while polls != world.requests["fetch"]:
                polls, before = world.requests["fetch"], world.observer.listings
                await world.until(lambda: world.observer.listings >= before + 3)  # noqa: B023 - it is awaited at once
            assert polls <= 20

    play(follow())


def test_a_hint_is_not_believed_for_data_and_not_obeyed_without_measure(world: World) -> None:
    async def follow() -> None:
        world.append("a", b"0\n")
        async with world.follow(world.group("a*", list_interval=3600.0, poll_min=0.2, poll_max=7200.0)) as fleet:
            await world.until(lambda: world.text("a"))
            assert not fleet.wake(world.ref("elsewhere"))
            started = time.monotonic()

            def hint() -> bool:
                return all(fleet.wake(world.ref("a")) for _ in range(100)) and world.requests["fetch"] >= 4

            await world.until(hint)
            assert time.monotonic() - started > 2 * 0.19
            world.append("a-new", b"1\n")
            assert fleet.wake(world.ref("a-new"))
            await world.until(lambda: world.text("a-new") == b"1\n")

    play(follow())


def test_after_a_restart_only_what_may_have_changed_is_looked_at(world: World) -> None:
    """An object is at rest when its checkpoint is younger by more than two clocks can differ."""

    async def follow() -> None:
        for key in ("old", "new", "grown"):
            world.append(key, b"0\n")
        async with world.follow(world.group(**LISTED)):
            await world.until(lambda: world.sink.batches == 3)
        with Checkpoints.open(world.path, "web", owner="a test") as kept:
            kept.commit({world.ref(key): marks(world)[key] for key in ("old", "grown")}, now=time.time() + 1000)
        world.append("grown", b"1\n")
        async with world.follow(world.group(**LISTED)):
            await world.until(lambda: world.text("grown") == b"0\n1\n")
            await world.until(lambda: world.observer.polls["unchanged"] == 1)
            assert world.requests["fetch"] == 2

    play(follow())


# --- where it begins


def test_the_end_is_where_it_begins_when_asked_to(world: World) -> None:
    """Not a byte is read of what was there; what comes later, also while nobody looked, is read from byte 0."""

    async def follow() -> None:
        group = world.group(start="end")
        world.append("there", b"old\n")
        async with world.follow(group) as fleet:
            await world.until(lambda: fleet.ready)
            assert world.requests["fetch"] == 0
        world.append("there", b"new\n")
        world.append("later", b"one\n")
        async with world.follow(group) as fleet:
            await world.until(lambda: world.text("later") == b"one\n" and world.text("there").endswith(b"new\n"))
            assert fleet.status().unproven > 0
            assert next(one.chain for one in fleet.objects(9) if one.object.endswith("there")) == "unproven"
        assert world.text("there") == b"\0\0\0\0new\n"

    play(follow())
    assert marks(world)["there"].delivered.offset == 8


def test_what_lies_before_the_end_is_proven_when_asked_to(world: World) -> None:
    """With integrity full it is read, and not handed on; after that nothing is unproven."""

    async def follow() -> None:
        world.append("a", b"old\n" * 100_000)
        async with world.follow(world.group(start="end", integrity=Integrity.FULL, **LISTED)) as fleet:
            await world.until(lambda: fleet.ready)
            world.append("a", b"new\n")
            await world.until(lambda: world.text("a").endswith(b"new\n"))
            await world.until(lambda: fleet.status().unproven == 0)
            assert fleet.objects(1)[0].chain == "proven"
            assert fleet.status().delivered_bytes == 4
        assert marks(world)["a"].delivered.claim is None

    play(follow())


def test_a_group_that_began_without_objects_has_begun(world: World) -> None:
    async def follow() -> None:
        group = world.group(start="end")
        async with world.follow(group) as fleet:
            await world.until(lambda: fleet.ready)
        world.append("later", b"one\n")
        async with world.follow(group):
            await world.until(lambda: world.text("later") == b"one\n")

    play(follow())


@pytest.mark.parametrize("delimiter", [b"\n", None], ids=["lines", "bytes"])
@pytest.mark.parametrize("integrity", [Integrity.STRICT, Integrity.OFF], ids=["strict", "off"])
def test_small_and_large_objects_whatever_is_to_be_proven(
    world: World, integrity: Integrity, delimiter: bytes | None
) -> None:
    large = (b"y" * 1023 + b"\n") * (12 << 10)

    async def follow() -> None:
        world.append("small", b"0\n")
        world.append("large", large)
        async with world.follow(world.group(integrity=integrity, delimiter=delimiter)) as fleet:
            await world.until(lambda: len(world.text("large")) == len(large) and world.text("small"))
            world.append("small", b"1\n")
            world.renew("large", b"another\n")
            await world.shows("small", b"0\n1\n")
            await world.shows("large", b"another\n")
            assert fleet.status().lag == 0
        assert world.sink.gaps == 0

    play(follow())


# --- what ends


def test_a_sealed_object_is_finished(world: World) -> None:
    async def follow() -> None:
        world.append("a", b"0\nrest")
        async with world.follow() as fleet:
            await world.until(lambda: world.text("a") == b"0\n")
            world.server.store.seal(world.bucket, "a", 6)
            await world.until(lambda: world.text("a") == b"0\nrest")
            assert fleet.status().objects["sealed"] == 1
            fetched = world.requests["fetch"]
            before = world.observer.listings
            await world.until(lambda: world.observer.listings >= before + 3)
            assert world.requests["fetch"] == fetched

    play(follow())


def test_a_record_that_has_not_ended_is_no_lag(world: World) -> None:
    async def follow() -> None:
        world.append("a", b"0\nbegun")
        async with world.follow(world.group(**LISTED)) as fleet:
            await world.until(lambda: world.text("a") == b"0\n")
            await world.until(lambda: fleet.status().lag == 0)
            assert fleet.status().objects["idle"] == 1
            world.append("a", b" and ended\n")
            await world.until(lambda: world.text("a") == b"0\nbegun and ended\n")

    play(follow())


def test_one_that_is_replaced_is_left_when_asked_to_and_the_others_go_on(world: World) -> None:
    async def follow() -> None:
        group = world.group(replaced="stop")
        world.append("a", b"0\n")
        world.append("b", b"0\n")
        async with world.follow(group) as fleet:
            await world.until(lambda: world.sink.batches == 2)
            world.renew("a", b"another\n")
            await world.until(lambda: fleet.status().objects["failed"] == 1)
            world.append("a", b"grows\n")
            world.append("b", b"1\n")
            await world.until(lambda: world.text("b") == b"0\n1\n")
            failed = fleet.objects(1)[0]
            assert failed.state == "failed"
            assert failed.chain == "broken"
            assert "ObjectReplaced" in {type(error).__name__ for _, error in world.observer.errors}
        async with world.follow(group) as fleet:  # a restart changes nothing about it
            await world.until(lambda: fleet.status().objects["failed"] == 1)
            assert world.text("a") == b"0\n"
            await fleet.apply(world.group(replaced="restart"))
            await world.until(lambda: world.text("a") == b"another\ngrows\n")

    play(follow())
    assert isinstance(world.observer.errors[0][1], ObjectReplaced)


def test_one_that_went_is_dropped_and_its_checkpoint_is_kept_for_a_while(world: World) -> None:
    async def follow() -> None:
        world.append("a", b"0\n")
        world.append("b", b"0\n")
        async with world.follow() as fleet:
            await world.until(lambda: world.sink.batches == 2)
            world.server.store.delete(world.bucket, "a")
            await world.until(lambda: world.observer.released["gone"] == 1)
            assert sum(fleet.status().objects.values()) == 1
        assert marks(world).keys() == {"a", "b"}
        async with world.follow(world.group(keep_checkpoints=0.0)) as fleet:
            await world.until(lambda: fleet.ready)
        assert marks(world).keys() == {"b"}

    play(follow())


def test_one_that_comes_again_is_known_for_what_it_is(world: World) -> None:
    """The same object again goes on; another one begins at 0."""

    async def follow() -> None:
        world.append("same", b"0\n1\n")
        world.append("other", b"0\n1\n")
        async with world.follow() as fleet:
            await world.until(lambda: world.sink.batches == 2)
            for key in ("same", "other"):
                world.server.store.delete(world.bucket, key)
            await world.until(lambda: world.observer.released["gone"] == 2)
            world.append("same", b"0\n1\n2\n")
            world.append("other", b"x\ny\nz\n")
            await world.until(lambda: world.text("same") == b"0\n1\n2\n" and world.text("other") == b"x\ny\nz\n")
            assert fleet.status().lag == 0
        assert len(world.sink.data[world.ref("same")]) == 1
        assert len(world.sink.data[world.ref("other")]) == 2

    play(follow())


# --- what goes wrong


def test_an_object_that_cannot_be_read_fails_alone_until_it_moves(world: World) -> None:
    async def follow() -> None:
        world.server.faults.add(Fault("drop-header", key="a", bucket=world.bucket))
        world.append("a", b"0\n")
        world.append("b", b"0\n")
        async with world.follow(world.group(**LISTED)) as fleet:
            await world.until(lambda: fleet.status().objects["failed"] == 1 and world.text("b"))
            assert isinstance(world.observer.errors[0][1], CrcMissing)
            assert "CRC-64" in str(fleet.objects(1)[0].last_error)
            assert _tracebacks(world.observer.errors[0][1]) == 0, "what is kept for the status holds no bytes in hand"
            world.server.faults.clear()
            world.append("a", b"1\n")
            await world.until(lambda: world.text("a") == b"0\n1\n")
            assert fleet.status().objects["failed"] == 0

    play(follow())


def test_bad_weather_passes(world: World) -> None:
    async def follow() -> None:
        world.server.faults.add(Fault("status", operation="GetObject", bucket=world.bucket, status=503, count=7))
        world.append("a", b"0\n")
        async with world.follow():
            await world.until(lambda: world.text("a") == b"0\n")
        assert world.sink.gaps == 0

    play(follow())


def test_a_bucket_that_vanishes_takes_nothing_with_it(world: World) -> None:
    """The listing fails and says so; nothing is dropped, and when the bucket is back all goes on."""

    async def follow() -> None:
        world.append("a", b"0\n")
        async with world.follow() as fleet:
            await world.until(lambda: world.text("a"))
            world.server.faults.add(
                Fault("status", status=404, code="NoSuchBucket", operation="ListObjects*", bucket=world.bucket)
            )
            await world.until(lambda: fleet.status().listing_error)
            assert isinstance(world.observer.errors[-1][1], BucketNotFound)
            await world.until(lambda: len(world.observer.errors) >= 3)
            assert sum(fleet.status().objects.values()) == 1
            assert world.bucket in fleet.problems(0.0)[0]
            world.server.faults.clear()
            world.append("a", b"1\n")
            await world.until(lambda: world.text("a") == b"0\n1\n")
            await world.until(lambda: fleet.status().listing_error is None)
        assert not world.observer.released

    play(follow())


def test_a_clock_that_is_set_back_an_hour_does_nothing_bad(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    real, shift = time.time, 0.0

    async def follow() -> None:
        nonlocal shift
        world.append("a", b"0\n")
        async with world.follow(limits=Limits(daily_requests=1_000_000)) as fleet:
            await world.until(lambda: world.text("a"))
            shift = -3600.0
            world.append("a", b"1\n")
            world.append("b", b"0\n")
            await world.until(lambda: world.text("a") == b"0\n1\n" and world.text("b") == b"0\n")
            world.renew("b", b"another\n")
            await world.until(lambda: world.text("b") == b"another\n")
            assert fleet.problems(30.0) == []
        assert world.sink.gaps == 0

    monkeypatch.setattr(time, "time", lambda: real() + shift)
    play(follow())


def test_a_partition_that_is_over_is_read_to_its_end_and_left(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was appended last to an hour that is closed by now is delivered, and then nothing is asked about it."""
    real, shift = time.time, 0.0

    def key() -> str:
        return time.strftime("%Y/%m/%d/%H/a", time.gmtime(time.time()))

    async def follow() -> None:
        nonlocal shift
        world.append(first := key(), b"0\n")
        async with world.follow(world.group("%Y/%m/%d/%H/*", look_back=1800.0)) as fleet:
            await world.shows(first, b"0\n")
            world.append(first, b"1\n")
            shift = 2 * 3600.0
            world.append(key(), b"0\n")
            await world.shows(first, b"0\n1\n")
            await world.shows(key(), b"0\n")
            await world.until(lambda: world.observer.released["old"] == 1)
            assert sum(fleet.status().objects.values()) == 1

    monkeypatch.setattr(time, "time", lambda: real() + shift)
    play(follow())


def test_what_failed_is_tried_again_once_the_listing_works_again(world: World) -> None:
    """A permission that was missing for a while is missing for both."""

    async def follow() -> None:
        denied = {"status": 403, "code": "AccessDenied", "bucket": world.bucket}
        world.append("a", b"0\n")
        world.append("b", b"0\n")
        world.server.faults.add(Fault("status", operation="GetObject", **denied))
        async with world.follow(world.group(**LISTED)) as fleet:
            await world.until(lambda: fleet.status().objects["failed"] == 2)
            world.server.faults.add(Fault("status", **denied))
            await world.until(lambda: fleet.status().listing_error)
            world.server.faults.clear()
            await world.until(lambda: world.text("a") == world.text("b") == b"0\n")
            assert fleet.status().objects["failed"] == 0

    play(follow())


def test_a_mistake_of_ours_ends_all_and_keeps_the_marks(world: World) -> None:
    def stumble(batch: Batch) -> None:
        if batch.object.key == "b":
            raise ZeroDivisionError

    async def follow() -> None:
        world.sink.refuse = stumble
        world.append("a", b"0\n")
        async with world.follow(drain=None):
            await world.until(lambda: world.text("a"))
            world.append("b", b"0\n")
            await world.until(world.task.done)
        assert isinstance(world.task.exception(), ExceptionGroup)

    play(follow())
    assert marks(world)["a"].delivered.offset == 2


# --- fairness and back-pressure


def test_one_that_never_ends_does_not_keep_the_others_waiting(world: World) -> None:
    """Ten large objects with a slow sink, one of them growing as fast as it is read: small ones are not held up."""
    small = [f"small/{number}" for number in range(40)]

    async def grow(key: str, size: int) -> None:
        while True:
            await asyncio.to_thread(world.append, key, b"x" * (size - 1) + b"\n")
            await asyncio.sleep(0.01)

    async def follow() -> None:
        for number in range(10):
            world.append(f"large/{number}", (b"y" * 1023 + b"\n") * 4096)
        for key in small:
            world.append(key, b"0\n")
        async with world.follow(drain=None) as fleet:
            await world.until(lambda: fleet.ready)
            growing = asyncio.create_task(grow("large/0", 1 << 20))
            try:
                for text in (b"0\n1\n", b"0\n1\n2\n", b"0\n1\n2\n3\n"):
                    started = time.monotonic()
                    for key in small:
                        world.append(key, text[-2:])
                    for key in small:
                        await world.shows(key, text)
                    assert time.monotonic() - started < 3.0
                    assert fleet.status().buffered <= 32 << 20
                await world.until(lambda: all(len(world.text(f"large/{n}")) == 4 << 20 for n in range(1, 10)))
            finally:
                growing.cancel()
        assert world.sink.gaps == 0

    play(follow())


def test_many_new_objects_at_once(world: World) -> None:
    """All are read, few at a time, and within what may be held in memory."""
    number = 500

    async def follow() -> None:
        async with world.follow(world.group(**LISTED)) as fleet:
            await world.until(lambda: fleet.ready)
            for one in range(number):
                world.append(f"{one}", b"a line\n")
            await world.until(lambda: world.sink.batches == number, 60.0)
            assert world.sink.most_at_once <= 68
            assert world.requests["fetch"] == number
            assert world.observer.discovered == number

    play(follow())
    assert len(marks(world)) == number


def test_a_sink_that_takes_nothing_holds_all_up_and_loses_nothing(world: World) -> None:
    async def follow() -> None:
        busy = True

        def refuse(batch: Batch) -> None:
            if busy:
                raise SinkBusy("not now")

        world.sink.refuse = refuse
        for number in range(200):
            world.append(f"{number}", b"a line\n")
        async with world.follow() as fleet:
            await world.until(lambda: world.sink.at_once == 64)
            await world.until(lambda: fleet.status().objects["active"] == 200)
            assert fleet.status().delivered_bytes == 0
            assert fleet.problems(0.0)
            busy = False
            await world.until(lambda: world.sink.batches == 200)
        assert world.sink.gaps == 0

    play(follow())


def test_what_waits_for_the_sink_is_lag_also_where_no_listing_tells_of_it(world: World) -> None:
    async def follow() -> None:
        def refuse(batch: Batch) -> None:
            raise SinkBusy("not now")

        world.append("a", b"1\n")
        async with world.follow(world.group(list_interval=3600.0, poll_max=0.05)) as fleet:
            await world.shows("a", b"1\n")
            await world.until(lambda: fleet.status().lag == 0)
            world.sink.refuse = refuse
            world.append("a", b"2\n")
            fleet.wake(world.ref("a"))
            await world.until(lambda: fleet.status().lag == 2)
            assert fleet.status().objects["active"] == 1
            await world.until(lambda: fleet.status().oldest_unread > 0.05)
            world.sink.refuse = lambda batch: None
            await world.shows("a", b"1\n2\n")

    play(follow())


# --- reload and end


def test_a_reload_does_not_disturb_what_has_not_changed(world: World) -> None:
    async def follow() -> None:
        world.append("a/1", b"0\n")
        world.append("b/1", b"0\n")
        world.append("c/1", b"0\n")
        async with world.follow(world.group("a/*", "b/*", **LISTED)) as fleet:
            await world.until(lambda: world.sink.batches == 2)
            await fleet.apply(world.group("b/*", "c/*", **LISTED))
            assert world.observer.released["config"] == 1
            await world.until(lambda: world.text("c/1"))
            assert world.requests["fetch"] == 3
            world.append("a/1", b"1\n")
            world.append("b/1", b"1\n")
            await world.until(lambda: world.text("b/1") == b"0\n1\n")
            assert world.text("a/1") == b"0\n"
            await fleet.apply(world.group("*/*", **LISTED))
            await world.until(lambda: world.text("a/1") == b"0\n1\n")  # from its checkpoint on
        assert world.sink.gaps == 0
        assert world.requests["fetch"] == 5

    play(follow())


def test_an_end_that_takes_too_long_breaks_off_and_loses_nothing(world: World) -> None:
    async def follow() -> None:
        world.append("a", b"0\n")
        world.append("b", b"0\n")
        world.sink.held = asyncio.Event()
        async with world.follow(drain=None) as fleet:
            await world.until(lambda: world.sink.waiting == 2)
            assert await fleet.drain(0.1) == 2
        world.sink.held = None
        async with world.follow():
            await world.until(lambda: world.text("a") == b"0\n" and world.text("b") == b"0\n")

    play(follow())
    assert {key: mark.delivered.offset for key, mark in marks(world).items()} == {"a": 2, "b": 2}


def test_an_end_stops_a_long_delivery_at_its_next_batch(world: World) -> None:
    async def follow() -> None:
        world.append("a", (b"y" * 1023 + b"\n") * (32 << 10))
        async with world.follow() as fleet:
            await world.until(lambda: fleet.status().delivered_bytes > 0)
        assert 0 < len(world.text("a")) == marks(world)["a"].delivered.offset
        async with world.follow():
            await world.until(lambda: len(world.text("a")) == 32 << 20)
        assert world.sink.gaps == 0

    play(follow())


# --- a sequence


def test_a_sequence_is_one_stream(world: World) -> None:
    """In the order in which people count, the next one only when the one before is finished."""
    order: list[str] = []

    def note(batch: Batch) -> None:
        order.append(batch.object.key)

    async def follow() -> None:
        world.sink.refuse = note
        for number in (1, 2, 10):
            world.append(f"app-{number}", b"%d\n" % number)
        group = world.group("app-*", sequence=True, poll_max=0.3)
        async with world.follow(group):
            await world.until(lambda: len(order) == 3)
            world.append("app-10", b"more\n")
            await world.until(lambda: len(order) == 4)
            world.append("app-11", b"11\n")
            await world.until(lambda: len(order) == 5)
        async with world.follow(group):
            world.append("app-12", b"12\n")
            world.append("app-11", b"11\n")
            await world.until(lambda: len(order) == 7)

    play(follow())
    assert order == ["app-1", "app-2", "app-10", "app-10", "app-11", "app-11", "app-12"]


def test_no_batch_is_larger_than_what_its_sink_delivers_at_once(world: World) -> None:
    """Else much is delivered that no mark tells of, before the last part of it is."""
    lengths: list[int] = []
    world.sink.refuse = lambda batch: lengths.append(batch.end - batch.start)
    world.sink.largest = 64 * 1024
    text = b"0123456789abcde\n" * 200_000

    async def play() -> None:
        world.append("a.log", text)
        async with world.follow():
            await world.shows("a.log", text)

    asyncio.run(play())
    assert sum(lengths) == len(text)
    assert max(lengths) <= 64 * 1024
