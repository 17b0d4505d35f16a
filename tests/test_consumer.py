"""`Consumer`, `lines` and `tail` against a server over real sockets."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

import tailer
import tailer.local
from tailer.checkpoints import read_all
from tailer.core import crc64
from tailer.core.events import Failed
from tailer.errors import ChainBroken, CheckpointError, ObjectNotFound, ObjectReplaced, ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

LINES = [b"line %d" % number for number in range(1000)]
TEXT = b"".join(line + b"\n" for line in LINES)


class Bucket:
    """One bucket, written to directly."""

    def __init__(self, server: tailer.local.LocalServer) -> None:
        self.server = server

    def append(self, key: str, data: bytes) -> str:
        found = self.server.store.find("bucket", key)
        self.server.store.append("bucket", key, found.size if found else 0, data)
        return f"oss://bucket/{key}"

    def delete(self, key: str) -> None:
        self.server.store.delete("bucket", key)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with tailer.local.running(["bucket"]) as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield Bucket(server)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run it, and nothing may be left behind."""

    async def alone() -> None:
        before = asyncio.all_tasks()
        await asyncio.wait_for(main(), 30)
        assert asyncio.all_tasks() == before

    asyncio.run(alone())


def consumer(objects: str | list[str], **options: Any) -> tailer.Consumer:
    return tailer.Consumer(objects, **{"interval": 0.02, "follow": False, **options})


# --- lines


def test_lines_are_the_lines_of_the_object(bucket: Bucket) -> None:
    address = bucket.append("a", TEXT + b"the last, without an end")
    assert list(tailer.lines(address)) == [*LINES, b"the last, without an end"]


def test_lines_can_be_read_again_and_by_an_async_for(bucket: Bucket) -> None:
    lines = tailer.lines(bucket.append("a", TEXT))
    assert list(lines) == list(lines) == LINES

    async def main() -> None:
        assert [line async for line in lines] == LINES

    run(main)


def test_lines_are_text_with_an_encoding(bucket: Bucket) -> None:
    address = bucket.append("a", "zwölf\n\n漢字\n".encode())
    assert list(tailer.lines(address, encoding="utf-8")) == ["zwölf", "", "漢字"]
    with pytest.raises(UnicodeDecodeError):
        list(tailer.lines(bucket.append("b", b"\xff\n"), encoding="utf-8"))


@pytest.mark.parametrize("length", [9, 10, 11, 35])
def test_a_line_longer_than_a_record_may_be_is_one_line_all_the_same(bucket: Bucket, length: int) -> None:
    expected = [b"short", b"x" * length, b"", b"y" * length]
    address = bucket.append("a", b"\n".join(expected))
    assert list(tailer.lines(address, max_record=10)) == expected


def test_following_lines_goes_on_and_a_break_leaves_no_thread(bucket: Bucket) -> None:
    address = bucket.append("a", b"1\n2\n")
    before = threading.active_count()
    for line in tailer.lines(address, follow=True, interval=0.01):
        if line == b"2":
            bucket.append("a", b"3\n4\n")
        if line == b"3":
            break
    assert line == b"3"
    assert not [thread for thread in threading.enumerate() if thread.name == "tailer.lines"]
    assert threading.active_count() <= before + 1  # the one that imported the transport stays


def test_leaving_an_async_for_leaves_nothing_running(bucket: Bucket) -> None:
    address = bucket.append("a", TEXT)

    async def main() -> None:
        async with aclosing(aiter(tailer.lines(address, follow=True))) as lines:  # type: ignore[type-var]
            async for line in lines:
                assert line == LINES[0]
                break

    run(main)


def test_what_keeps_lines_from_being_read_is_raised_in_the_loop(bucket: Bucket) -> None:
    with pytest.raises(ObjectNotFound):
        list(tailer.lines("oss://bucket/none"))


def test_the_sync_faces_refuse_to_hold_up_a_running_loop(bucket: Bucket) -> None:
    async def main() -> None:
        with pytest.raises(tailer.UsageError, match="use `async for`"):
            iter(tailer.lines("oss://bucket/a"))
        with pytest.raises(tailer.UsageError, match="use `async with"):
            tailer.tail("oss://bucket/a", print)

    run(main)


# --- tail


def test_tail_calls_the_handler_plain_or_async_and_goes_on_from_the_checkpoint(bucket: Bucket, tmp_path: Path) -> None:
    address, got = bucket.append("a", b"1\n"), bytearray()

    async def later(batch: tailer.Batch) -> None:
        got.extend(batch.data)

    tailer.tail(address, later, checkpoint=tmp_path / "state", follow=False)
    bucket.append("a", b"2\n")
    tailer.tail(address, lambda batch: got.extend(batch.data), checkpoint=tmp_path / "state", follow=False)
    assert got == b"1\n2\n"


@pytest.mark.parametrize("failing", [1, 5, 10])
def test_a_batch_that_the_handler_raised_at_comes_again(bucket: Bucket, tmp_path: Path, failing: int) -> None:
    """At the first, a middle and the last batch: what it took before is not repeated, what it did not is."""
    addresses = [bucket.append(f"{number}", b"x\n") for number in range(10)]
    taken: list[tailer.ObjectRef] = []

    def handle(batch: tailer.Batch) -> None:
        if len(taken) + 1 == failing:
            raise ZeroDivisionError("no")
        taken.append(batch.object)

    with pytest.raises(ZeroDivisionError, match="no"):
        tailer.tail(addresses, handle, checkpoint=tmp_path / "state", follow=False)
    assert len(taken) == failing - 1
    tailer.tail(addresses, lambda batch: taken.append(batch.object), checkpoint=tmp_path / "state", follow=False)
    assert sorted(map(str, taken)) == addresses


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailer.core.schedule._BACKOFF_BASE", 0.001)


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("is_async", [False, True])
def test_a_batch_that_the_handler_is_too_busy_for_comes_again_before_any_other(
    bucket: Bucket, tmp_path: Path, is_async: bool
) -> None:
    addresses = [bucket.append(f"{number}", b"x\n") for number in range(3)]
    calls: list[str] = []
    told: list[tuple[tailer.ObjectRef, Failed]] = []

    def handle(batch: tailer.Batch) -> None:
        calls.append(str(batch.object))
        if calls.count(str(batch.object)) <= 5:
            raise tailer.SinkBusy("the database is locked")

    async def handle_later(batch: tailer.Batch) -> None:
        handle(batch)

    def hear(ref: tailer.ObjectRef, event: tailer.Event) -> None:
        if isinstance(event, Failed):
            told.append((ref, event))

    tailer.tail(
        addresses, handle_later if is_async else handle, checkpoint=tmp_path / "state", follow=False, on_event=hear
    )
    assert sorted(calls) == sorted(addresses * 6)
    assert [calls[at : at + 6] for at in (0, 6, 12)] == [[calls[at]] * 6 for at in (0, 6, 12)]
    assert [str(ref) for ref, _ in told[:5]] == calls[:5]
    assert [event.attempt for _, event in told] == [1, 2, 3, 4, 5] * 3
    tailer.tail(addresses, lambda batch: calls.append("again"), checkpoint=tmp_path / "state", follow=False)
    assert len(calls) == 18


@pytest.mark.usefixtures("no_pauses")
def test_what_a_busy_handler_raises_in_the_end_comes_out(bucket: Bucket, tmp_path: Path) -> None:
    address = bucket.append("a", b"x\n")
    errors: list[Exception] = [tailer.SinkBusy("full"), ZeroDivisionError("no"), tailer.SinkBusy("full")]

    def handle(batch: tailer.Batch) -> None:
        if errors:
            raise errors.pop(0)

    with pytest.raises(ZeroDivisionError):
        tailer.tail(address, handle, checkpoint=tmp_path / "state", follow=False)
    assert len(errors) == 1
    tailer.tail(address, handle, checkpoint=tmp_path / "state", follow=False)
    assert errors == []


def test_what_was_delivered_is_committed_in_time_however_long_the_handler_takes_for_the_next(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailer.consumer._AUTO_COMMIT_SECONDS", 0.05)
    addresses = [bucket.append(key, b"x\n") for key in "abc"]
    taken: list[tailer.ObjectRef] = []

    async def handle(batch: tailer.Batch) -> None:
        async with asyncio.timeout(10):
            while {one.ref for one in read_all(tmp_path / "state")} != set(taken):  # noqa: ASYNC110 - another's file
                await asyncio.sleep(0.01)
        taken.append(batch.object)

    tailer.tail(addresses, handle, checkpoint=tmp_path / "state", follow=False)
    assert len(taken) == 3


# --- batches of many objects


def test_patterns_and_prefixes_are_expanded_and_no_object_is_read_twice(bucket: Bucket) -> None:
    for key in ("logs/a.log", "logs/b.log", "logs/c.txt"):
        bucket.append(key, key.encode())

    async def main() -> None:
        async with consumer(["oss://bucket/logs/*.log", "oss://bucket/logs/"]) as reading:
            assert [ref.key for ref in reading.refs] == ["logs/a.log", "logs/b.log", "logs/c.txt"]
            got = {batch.object.key: batch.data async for batch in reading}
        assert got == {key: key.encode() for key in ("logs/a.log", "logs/b.log", "logs/c.txt")}
        with pytest.raises(tailer.UsageError, match="no object matches"):
            async with consumer("oss://bucket/none*"):
                pass

    run(main)


def test_objects_take_turns_and_each_comes_in_order(bucket: Bucket) -> None:
    big = b"x" * 99 + b"\n"
    addresses = [bucket.append(key, big * 60_000) for key in "ab"]

    async def main() -> None:
        seen: dict[str, int] = {"a": 0, "b": 0}
        order = ""
        async with consumer(addresses) as reading:
            async for batch in reading:
                assert batch.start == seen[batch.object.key]
                seen[batch.object.key] = batch.end
                order += batch.object.key
        assert seen == {"a": 6_000_000, "b": 6_000_000}
        assert order.index("a") < order.rindex("b")
        assert order.index("b") < order.rindex("a")

    run(main)


def test_a_paused_object_is_silent_until_it_is_resumed(bucket: Bucket) -> None:
    addresses = [bucket.append("a", b"1\n"), bucket.append("b", b"2\n")]

    async def main() -> None:
        async with consumer(addresses) as reading:
            reading.pause(addresses[0])
            assert (await anext(reading)).data == b"2\n"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(reading), 0.2)
            reading.resume()
            assert [batch.data async for batch in reading] == [b"1\n"]

    run(main)


def test_position_and_lag_follow_what_was_handed_out(bucket: Bucket) -> None:
    address = bucket.append("a", b"1\n22")

    async def main() -> None:
        async with consumer(address, follow=True, exit_idle=0.1) as reading:
            await anext(reading)
            assert reading.position(address) == tailer.Position(2, crc64.update(b"1\n"))
            assert reading.lag(address) == 2
            assert [batch.data async for batch in reading] == [b"22"]
            assert reading.position(address) == tailer.Position(4, crc64.update(b"1\n22"))
            assert reading.lag(address) == 0
            with pytest.raises(tailer.UsageError, match="not read by this consumer"):
                reading.position("oss://bucket/other")

    run(main)


def test_cancelling_the_wait_for_a_batch_loses_none(bucket: Bucket) -> None:
    address = bucket.append("a", b"1\n")

    async def main() -> None:
        async with consumer(address, follow=True) as reading:
            assert (await anext(reading)).data == b"1\n"
            waiting = asyncio.create_task(anext(reading))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            waiting.cancel()
            bucket.append("a", b"2\n")
            assert (await anext(reading)).data == b"2\n"

    run(main)


def test_an_error_of_one_object_comes_once_and_the_others_go_on(bucket: Bucket) -> None:
    addresses = ["oss://bucket/none", bucket.append("b", b"2\n")]

    async def main() -> None:
        got, errors = [], 0
        async with consumer(addresses) as reading:
            while True:
                try:
                    got += [batch.data async for batch in reading]
                    break
                except ObjectNotFound:
                    errors += 1
        assert errors == 1
        assert got in ([b"2\n"], [])

    run(main)


# --- commits


def test_what_is_not_committed_comes_again(bucket: Bucket, tmp_path: Path) -> None:
    address = bucket.append("a", b"1\n")

    async def main() -> None:
        for expected, commits in (([b"1\n"], False), ([b"1\n"], True), ([], False)):
            async with consumer(address, checkpoint=tmp_path / "state") as reading:
                got = []
                async for batch in reading:
                    got.append(batch.data)
                    if commits:
                        await reading.commit(batch)
                        assert reading.committed(address) == tailer.Position(2, crc64.update(b"1\n"))
                assert got == expected

    run(main)


def test_a_commit_twice_is_left_alone_and_one_out_of_order_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    address = bucket.append("a", b"1\n")

    async def main() -> None:
        async with consumer(address, follow=True, checkpoint=tmp_path / "state") as reading:
            first = await anext(reading)
            bucket.append("a", b"2\n")
            second = await anext(reading)
            with pytest.raises(tailer.UsageError, match=r"\[2, 4\) .* cannot be committed before \[0, 2\)"):
                await reading.commit(second)
            assert reading.committed(address) is None
            await reading.commit(first)
            await reading.commit(first)
            assert reading.committed(address) == tailer.Position(2, crc64.update(b"1\n"))
            await reading.commit(second)
            assert reading.committed(address) == tailer.Position(4, crc64.update(b"1\n2\n"))

    run(main)


def test_a_batch_of_another_consumer_is_refused(bucket: Bucket, tmp_path: Path) -> None:
    addresses = [bucket.append("a", b"1\n"), bucket.append("b", b"1\n")]

    async def main() -> None:
        async with consumer(addresses) as other:
            batches = {str(batch.object): batch async for batch in other}
            with pytest.raises(tailer.UsageError, match="nothing to commit to"):
                await other.commit(batches[addresses[0]])
        async with consumer(addresses[0], checkpoint=tmp_path / "state") as reading:
            with pytest.raises(tailer.UsageError, match="not handed out by this consumer"):
                await reading.commit(batches[addresses[0]])
            with pytest.raises(tailer.UsageError, match="not read by this consumer"):
                await reading.commit(batches[addresses[1]])
            assert [batch.data async for batch in reading] == [b"1\n"]
            assert reading.committed(addresses[0]) is None

    run(main)


def test_commit_of_everything_and_auto_commit(bucket: Bucket, tmp_path: Path) -> None:
    addresses = [bucket.append(key, b"1\n") for key in "ab"]

    async def main() -> None:
        async with consumer(addresses, checkpoint=tmp_path / "one") as reading:
            await anext(reading)
            await anext(reading)
            await reading.commit()
            assert all(reading.committed(address) == reading.position(address) for address in addresses)
        async with consumer(addresses, checkpoint=tmp_path / "two", auto_commit=True) as reading:
            await anext(reading)
            await anext(reading)  # the first is processed, this one is not
        async with consumer(addresses, checkpoint=tmp_path / "two", auto_commit=True) as reading:
            assert len([batch async for batch in reading]) == 1
        async with consumer(addresses, checkpoint=tmp_path / "two") as reading:
            assert [batch async for batch in reading] == []

    run(main)


def test_auto_commit_does_not_wait_for_the_next_batch(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailer.consumer._AUTO_COMMIT_SECONDS", 0.05)
    address = bucket.append("a", b"1\n")

    async def main() -> None:
        async with consumer(address, follow=True, checkpoint=tmp_path / "state", auto_commit=True) as reading:
            await anext(reading)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(reading), 0.3)
            assert reading.committed(address) == tailer.Position(2, crc64.update(b"1\n"))

    run(main)


def test_two_consumers_cannot_own_one_group(bucket: Bucket, tmp_path: Path) -> None:
    address = bucket.append("a", b"1\n")

    async def main() -> None:
        async with consumer(address, checkpoint=tmp_path / "state", group="../odd name\n"):
            with pytest.raises(CheckpointError):
                async with consumer(address, checkpoint=tmp_path / "state", group="../odd name\n"):
                    pass
            async with consumer(address, checkpoint=tmp_path / "state", group="another") as reading:
                assert [batch.data async for batch in reading] == [b"1\n"]

    run(main)


# --- positions and seeks


def test_reading_goes_on_from_a_position_of_ones_own(bucket: Bucket) -> None:
    address = bucket.append("a", b"1\n2\n")
    place = tailer.Position(2, crc64.update(b"1\n"))

    async def main() -> None:
        async with consumer(address, positions={address: place}) as reading:
            assert [batch.data async for batch in reading] == [b"2\n"]
        with pytest.raises(tailer.UsageError, match="which is not read here"):
            async with consumer(address, positions={"oss://bucket/b": place}):
                pass

    run(main)


def test_a_position_of_another_object_is_found_out(bucket: Bucket) -> None:
    address = bucket.append("a", b"1\n2\n")
    place = tailer.Position(2, crc64.update(b"X\n"))

    async def main() -> None:
        async with consumer(address, positions={address: place}) as reading:
            with pytest.raises(ObjectReplaced):
                [batch async for batch in reading]

    run(main)


def test_start_at_the_end_brings_only_what_is_new(bucket: Bucket) -> None:
    address = bucket.append("a", b"old\n")

    async def main() -> None:
        async with consumer(address, start="end", follow=True) as reading:
            while reading.lag(address) is None:  # noqa: ASYNC110 - it is told by a server, not by an Event
                await asyncio.sleep(0.01)
            bucket.append("a", b"new\n")
            assert (await anext(reading)).data == b"new\n"

    run(main)


def test_seek_back_and_forth_and_never_behind_the_end(bucket: Bucket, tmp_path: Path) -> None:
    address = bucket.append("a", b"1\n2\n3\n")

    async def main() -> None:
        async with consumer(address, checkpoint=tmp_path / "state") as reading:
            whole = await anext(reading)
            assert whole.data == b"1\n2\n3\n"
            await reading.seek(address, 2)
            with pytest.raises(tailer.UsageError, match="was taken back"):
                await reading.commit(whole)
            batch = await anext(reading)
            assert (batch.start, batch.data) == (2, b"2\n3\n")
            await reading.commit(batch)
            for wrong in (7, -1, tailer.Position(7, 1)):
                with pytest.raises(tailer.UsageError, match="has 6 bytes"):
                    await reading.seek(address, wrong)
            assert [batch async for batch in reading] == []
            await reading.seek(address, tailer.Position())
            assert [batch.data async for batch in reading] == [b"1\n2\n3\n"]

    run(main)


# --- what happens to an object


def test_a_replaced_object_stops_or_restarts_as_asked(bucket: Bucket) -> None:
    async def main() -> None:
        address = bucket.append("a", b"old\n")
        async with consumer(address, follow=True) as reading:
            await anext(reading)
            bucket.delete("a")
            bucket.append("a", b"other\n")
            with pytest.raises(ObjectReplaced):
                await anext(reading)
        told: list[tailer.Event] = []
        async with consumer(
            address, follow=True, replaced="restart", on_event=lambda _, event: told.append(event)
        ) as reading:
            first = await anext(reading)
            bucket.delete("a")
            bucket.append("a", b"third\n")
            second = await anext(reading)
        assert (first.generation, first.data) == (0, b"other\n")
        assert (second.generation, second.data) == (1, b"third\n")
        assert [event.generation for event in told if isinstance(event, tailer.Replaced)] == [1]

    run(main)


def test_a_sealed_object_ends_and_says_so(bucket: Bucket) -> None:
    address, told = bucket.append("a", b"1\n"), []
    bucket.server.store.seal("bucket", "a", 2)

    async def hear(_: tailer.ObjectRef, event: tailer.Event) -> None:
        told.append(event)

    async def main() -> None:
        async with consumer(address, follow=True, on_event=hear) as reading:
            assert [batch.data async for batch in reading] == [b"1\n"]
        assert tailer.Sealed(2) in told

    run(main)


@pytest.mark.parametrize("poll", ["head", "get"])
def test_an_empty_object_that_is_sealed_ends_however_it_is_polled(bucket: Bucket, poll: str) -> None:
    address, told = bucket.append("a", b""), []
    bucket.server.store.seal("bucket", "a", 0)

    async def main() -> None:
        async with consumer(address, follow=True, poll=poll, on_event=lambda _, event: told.append(event)) as reading:
            assert [batch.data async for batch in reading] == []
        assert tailer.Sealed(0) in told

    run(main)


def test_what_on_event_raises_comes_out_of_the_loop(bucket: Bucket) -> None:
    address = bucket.append("a", b"1\n")

    def hear(_: tailer.ObjectRef, event: tailer.Event) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with consumer(address, on_event=hear) as reading:
            with pytest.raises(ZeroDivisionError):
                [batch async for batch in reading]

    run(main)


FLIPPED = tailer.local.Fault("flip-bit", operation="GetObject", at=5, count=1)


def test_a_rewind_is_told_takes_the_checkpoint_back_and_repeats_the_bytes(bucket: Bucket, tmp_path: Path) -> None:
    """A wrong bit far behind the end is found while catching up, after its batch was committed."""
    address = bucket.append("a", TEXT * 500)
    bucket.server.faults.add(FLIPPED)
    told: list[tailer.Rewound] = []

    async def main() -> None:
        def hear(_: tailer.ObjectRef, event: tailer.Event) -> None:
            if isinstance(event, tailer.Rewound):
                assert reading.committed(address) == tailer.Position(event.to)
                told.append(event)

        got = bytearray()
        async with consumer(address, checkpoint=tmp_path / "state", on_event=hear) as reading:
            async for batch in reading:
                if told and batch.start < len(got):
                    del got[batch.start :]
                got += batch.data
                await reading.commit(batch)
            assert reading.committed(address) == tailer.Position(len(got), crc64.update(TEXT * 500))
        assert got == TEXT * 500
        assert [(event.to, event.end > 0) for event in told] == [(0, True)]

    run(main)


def test_a_rewind_leaves_what_was_handed_out_of_the_object_before(bucket: Bucket, tmp_path: Path) -> None:
    """Its last batch is not committed yet when bytes of the object that replaced it turn out wrong."""
    address, told = bucket.append("a", b"the old one\n"), []

    async def main() -> None:
        def hear(_: tailer.ObjectRef, event: tailer.Event) -> None:
            told.append(event)
            if isinstance(event, tailer.Replaced):
                bucket.server.faults.add(FLIPPED)

        options = {"follow": True, "replaced": "restart", "checkpoint": tmp_path / "state", "on_event": hear}
        async with consumer(address, **options) as reading:
            old = await anext(reading)
            bucket.server.store.put("bucket", "a", TEXT * 500)
            while not any(isinstance(event, tailer.Rewound) for event in told):
                await anext(reading)
            await reading.commit(old)
            assert reading.committed(address) == tailer.Position(12, crc64.update(b"the old one\n"))
        assert [(event.generation, event.to) for event in told if isinstance(event, tailer.Rewound)] == [(1, 0)]

    run(main)


def test_a_rewind_that_nobody_would_hear_of_is_an_error(bucket: Bucket, tmp_path: Path) -> None:
    """And the next run begins where the checkpoint went back to."""
    address, got = bucket.append("a", TEXT * 500), bytearray()
    bucket.server.faults.add(FLIPPED)
    with pytest.raises(ChainBroken, match="that were handed out are not the object's"):
        tailer.tail(address, lambda _: None, checkpoint=tmp_path / "state", follow=False)
    tailer.tail(address, lambda batch: got.extend(batch.data), checkpoint=tmp_path / "state", follow=False)
    assert got == TEXT * 500


def test_strict_integrity_hands_out_nothing_that_is_taken_back(bucket: Bucket) -> None:
    address = bucket.append("a", TEXT * 500)
    bucket.server.faults.add(FLIPPED)
    assert list(tailer.lines(address, integrity="strict")) == LINES * 500


# --- bad input


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"replaced": "never"}, "replaced='never': it can be stop, restart"),
        ({"integrity": "most"}, "it can be chain, full, strict, off"),
        ({"start": 5}, "it can be start, end"),
        ({"delimiter": b"\r\n"}, "one byte"),
        ({"max_record": 0}, "max_record=0"),
        ({"interval": -1}, "interval=-1"),
        ({"colour": "red"}, "no option colour"),
    ],
)
def test_a_wrong_option_is_said_at_once(options: dict[str, Any], words: str) -> None:
    with pytest.raises(tailer.UsageError, match=words):
        tailer.Consumer("oss://bucket/a", **options)


def test_a_wrong_address_and_a_wrong_use_are_said_at_once(bucket: Bucket) -> None:
    with pytest.raises(tailer.UsageError, match="nowhere"):
        tailer.lines("nowhere")
    with pytest.raises(tailer.UsageError, match="delimiter"):
        tailer.lines("oss://bucket/a", delimiter=None)

    async def main() -> None:
        reading = consumer("oss://bucket/a")
        with pytest.raises(tailer.UsageError, match="async with"):
            await anext(reading)
        with pytest.raises(ServiceError):
            async with consumer("oss://no-such-bucket/*"):
                pass

    run(main)
