"""The library's face for writing: gathering, back-pressure, patterns, and both kinds of ``with``."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import tailer.local
from tailer.append import APPEND_LIMIT
from tailer.appender import Appender
from tailer.core import crc64
from tailer.core.position import Position
from tailer.errors import AddressError, ObjectFull, ObjectSealed, PositionConflict, TailerError, UsageError
from tailer.local import Fault
from tailer.oss.address import Endpoint
from tailer.oss.client import ServiceSettings
from tailer.oss.credentials import Credentials, StaticCredentials

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from tailer.local import LocalServer


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with tailer.local.running(["bucket"]) as server:
        yield server


def appender(server: LocalServer, key: str = "log", **options: Any) -> Appender:
    service = ServiceSettings(
        StaticCredentials(Credentials(server.access_key_id, server.access_key_secret)),
        endpoint=Endpoint.parse(server.endpoint),
        region=server.region,
    )
    return Appender(f"oss://bucket/{key}", service=service, **options)


def run(server: LocalServer, act: Callable[[Appender], Awaitable[object]], key: str = "log", **options: Any) -> None:
    async def inside() -> None:
        async with appender(server, key, **options) as out:
            await act(out)

    asyncio.run(inside())


def content(server: LocalServer, key: str = "log") -> bytes:
    return server.store.read("bucket", key)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for a condition that nothing tells of."""
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - the server's thread has no event to wait for
            await asyncio.sleep(0.005)


def position(data: bytes) -> Position:
    return Position(len(data), crc64.update(data))


def test_an_append_returns_where_it_ends(server: LocalServer) -> None:
    async def act(out: Appender) -> None:
        assert await out.append(b"one\n") == position(b"one\n")
        assert await out.append(b"two\n") == position(b"one\ntwo\n")
        assert out.position == position(b"one\ntwo\n")
        assert str(out.ref) == "oss://bucket/log"

    run(server, act)
    assert content(server) == b"one\ntwo\n"


def test_an_append_returns_where_it_ends_though_another_writer_stands_behind_it(server: LocalServer) -> None:
    """The answer is lost, and the other one comes before the look at what became of the append."""

    def interfere(error: TailerError, delay: float) -> None:
        server.store.append("bucket", "log", 8, b"other\n")

    async def act(out: Appender) -> None:
        await out.append(b"one\n")
        lost = Fault("lose-answer", operation="AppendObject", count=1)
        server.faults.add(lost, Fault("reset", operation="HeadObject", count=1))
        assert await out.append(b"two\n") == position(b"one\ntwo\n")
        assert out.position == position(b"one\ntwo\nother\n")

    run(server, act, on_conflict="continue", on_trouble=interfere)
    assert content(server) == b"one\ntwo\nother\n"


def test_tasks_that_append_at_once_share_requests_and_each_gets_its_own_end(server: LocalServer) -> None:
    async def act(out: Appender) -> None:
        ends = await asyncio.gather(*(out.append(b"%d\n" % number) for number in range(10)))
        whole = b"".join(b"%d\n" % number for number in range(10))
        assert list(ends) == [position(whole[: 2 * n + 2]) for n in range(10)]

    server.faults.add(Fault("stall", operation="AppendObject"))
    run(server, act)
    assert server.faults.injected == 2  # the first one at once, and the others behind it together


def test_what_is_written_is_sent_by_size_by_time_and_at_the_end(server: LocalServer) -> None:
    async def act(out: Appender) -> None:
        await out.write(b"1234")
        assert server.store.find("bucket", "log") is None
        await out.write(b"5678")  # eight bytes: due
        await until(lambda: out.position.offset == 8)
        await out.write(b"later")
        await until(lambda: out.position.offset == 13)  # by time
        await out.write(b"end")

    run(server, act, flush_bytes=8, flush_interval=0.05)
    assert content(server) == b"12345678laterend"


def test_whoever_writes_more_than_is_sent_waits(server: LocalServer) -> None:
    """Nothing is sent while the server stands still, and so no more than two batches are taken."""
    taken = 0

    async def act(out: Appender) -> None:
        async def write() -> None:
            nonlocal taken
            while taken < 100:
                await out.write(b"x" * 10)
                taken += 1

        writing = asyncio.create_task(write())
        await until(lambda: server.faults.injected > 0)
        await asyncio.sleep(0)
        assert taken <= 6
        server.faults.clear()
        await writing

    server.faults.add(Fault("stall", operation="AppendObject", seconds=0.3, count=1))
    run(server, act, flush_bytes=30, flush_interval=60.0)
    assert content(server) == b"x" * 1000


def test_an_error_ends_it_and_is_raised_by_every_call_and_at_the_end(server: LocalServer) -> None:
    async def act(out: Appender) -> None:
        await out.append(b"one\n")
        server.store.append("bucket", "log", 4, b"other\n")
        await out.write(b"two\n")
        for attempt in (out.flush(), out.append(b"x"), out.write(b"x"), out.seal()):
            with pytest.raises(PositionConflict):
                await attempt

    with pytest.raises(PositionConflict):
        run(server, act)
    assert content(server) == b"one\nother\n"


def test_an_error_of_what_was_only_written_comes_at_the_end(server: LocalServer) -> None:
    async def act(out: Appender) -> None:
        server.store.append("bucket", "log", 0, b"other\n")
        await out.write(b"two\n")

    with pytest.raises(PositionConflict):
        run(server, act)


def test_what_was_written_before_an_error_of_the_program_is_sent(server: LocalServer) -> None:
    async def act(out: Appender) -> None:
        await out.write(b"one\n")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(server, act)
    assert content(server) == b"one\n"


def test_a_cancelled_append_goes_on_and_harms_no_other(server: LocalServer) -> None:
    async def act(out: Appender) -> None:
        task = asyncio.create_task(out.append(b"one\n"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await out.append(b"two\n") == position(b"one\ntwo\n")

    run(server, act)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("on_conflict", ["stop", "continue"])
def test_an_append_cancelled_on_its_way_is_there_once(server: LocalServer, when: str, on_conflict: str) -> None:
    """Whether it was cancelled before or after the service took the bytes."""

    async def act(out: Appender) -> None:
        await out.append(b"zero\n")
        if when == "before":
            server.faults.add(Fault("stall", operation="AppendObject", seconds=0.3, count=1))
        with answering_late(server, when == "after") as is_under_way:
            await cancel(out.append(b"one\n"), lambda: is_under_way() or server.faults.injected > 0)
        assert await out.append(b"two\n") == position(b"zero\none\ntwo\n")

    run(server, act, on_conflict=on_conflict)
    assert content(server) == b"zero\none\ntwo\n"


def test_an_append_cancelled_on_its_way_is_found_in_front_of_another_writers(server: LocalServer) -> None:
    async def act(out: Appender) -> None:
        await out.append(b"zero\n")
        with answering_late(server) as is_under_way:
            await cancel(out.append(b"one\n"), is_under_way)
            server.store.append("bucket", "log", 9, b"other\n")
        assert await out.append(b"two\n") == position(b"zero\none\nother\ntwo\n")

    run(server, act, on_conflict="continue")
    assert content(server) == b"zero\none\nother\ntwo\n"


@contextmanager
def answering_late(server: LocalServer, late: bool = True) -> Iterator[Callable[[], bool]]:
    """Meanwhile the first append is done, and not answered before the end; whether it is done."""
    append, done, go_on = server.store.append, threading.Event(), threading.Event()

    def append_and_wait(*arguments: Any) -> Any:
        info = append(*arguments)
        if threading.current_thread() is not threading.main_thread() and not done.is_set():
            done.set()
            go_on.wait(20)
        return info

    if late:
        server.store.append = append_and_wait  # type: ignore[method-assign]
    try:
        yield done.is_set
    finally:
        go_on.set()


async def cancel(append: Coroutine[Any, Any, Position], when: Callable[[], bool]) -> None:
    task = asyncio.create_task(append)
    await until(when)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_closing_ends_an_append_of_another_task(server: LocalServer) -> None:
    async def act() -> None:
        async with appender(server) as out:
            server.faults.add(Fault("stall", operation="AppendObject", seconds=60.0))
            task = asyncio.create_task(out.append(b"one\n"))
            await until(lambda: server.faults.injected > 0)
            await out._abort()
            with pytest.raises(UsageError, match="closed"):
                await task

    with pytest.raises(UsageError, match="closed"):
        asyncio.run(act())


def test_with_a_plain_with_there_is_no_loop_to_care_for(server: LocalServer) -> None:
    with appender(server, flush_interval=0.02) as out:
        assert out.append(b"one\n") == position(b"one\n")
        out.write(b"two\n")
        deadline = time.monotonic() + 20
        while out.position.offset < 8:  # it is sent in time, though nobody calls
            assert time.monotonic() < deadline
            time.sleep(0.005)
        out.write(b"three\n")
        assert out.flush() == out.position == position(b"one\ntwo\nthree\n")
        assert out.seal() == out.position
        assert out.ref.key == "log"
    with pytest.raises(UsageError, match="closed"):
        out.append(b"x")
    with pytest.raises(ObjectSealed), appender(server):
        pass


def test_a_plain_with_raises_what_went_wrong(server: LocalServer) -> None:
    def interfere() -> None:
        with appender(server) as out:
            server.store.append("bucket", "log", 0, b"other\n")
            out.write(b"x")

    with pytest.raises(PositionConflict):
        interfere()


def test_inside_a_loop_a_plain_with_is_refused(server: LocalServer) -> None:
    async def inside() -> None:
        with pytest.raises(UsageError, match="async with"), appender(server):
            pass

    asyncio.run(inside())


def test_expectations_are_checked_when_it_is_opened(server: LocalServer) -> None:
    server.store.append("bucket", "log", 0, b"one\n")
    for options in ({"create_only": True}, {"expect_position": 3}):
        with pytest.raises(PositionConflict), appender(server, **options):
            pass
    with appender(server, expect_position=4) as out:
        out.append(b"two\n")
    with appender(server, "new", create_only=True, expect_position=0) as out:
        out.append(b"x")
    assert content(server) == b"one\ntwo\n"


def test_attributes_that_come_too_late_are_told_of(server: LocalServer) -> None:
    notes: list[str] = []
    for _ in range(2):
        with appender(server, metadata={"a": "b"}, on_note=notes.append) as out:
            out.append(b"x")
    assert len(notes) == 1
    assert "not applied" in notes[0]
    with pytest.warns(UserWarning, match="not applied"), appender(server, acl="private"):
        pass


def test_a_pattern_goes_on_in_the_next_object_and_cuts_no_record(server: LocalServer) -> None:
    for number in range(2):
        with appender(server, "log-{n:03}", pattern=True, limit=10) as out:
            for record in (b"1234", b"5678", b"abcdef", b"0123456789"):
                out.write(record)
            out.flush()
            assert out.ref.key == f"log-{3 * number + 2:03}"
    found = [content(server, row.name) for row in server.store.list("bucket").rows]
    assert found == [b"12345678", b"abcdef", b"0123456789"] * 2
    with pytest.raises(ObjectFull), appender(server, "log-{n:03}", pattern=True, limit=10) as out:
        out.append(b"12345678901")


def test_a_pattern_goes_on_behind_many_objects_and_skips_what_takes_nothing(server: LocalServer) -> None:
    for number in range(21):
        server.store.append("bucket", f"log-{number}", 0, b"x")
    server.store.seal("bucket", "log-20", 1)
    with appender(server, "log-{n}", pattern=True) as out:
        out.append(b"y")
        assert out.ref.key == "log-21"


def test_a_pattern_of_time_begins_anew_with_the_time(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("tailer.appender.time.time", lambda: clock[0])
    with appender(server, "%Y-%m-%d/{n}", pattern=True, limit=4) as out:
        for clock[0] in (0.0, 1.0, 86400.0):
            out.append(b"xyz")
    assert [row.name for row in server.store.list("bucket").rows] == ["1970-01-01/0", "1970-01-01/1", "1970-01-02/0"]


def test_without_a_pattern_a_key_is_taken_as_it_is(server: LocalServer) -> None:
    with appender(server, "{n}-%Y") as out:
        out.append(b"x")
    assert content(server, "{n}-%Y") == b"x"


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("oss://bucket/{m}", {"pattern": True}),
        ("oss://bucket/{n:z}", {"pattern": True}),
        ("oss://bucket/{", {"pattern": True}),
        ("oss://bucket/x", {"on_conflict": "perhaps"}),
        ("oss://bucket/x", {"create_only": True, "on_conflict": "continue"}),
        ("oss://bucket/x", {"flush_bytes": 0}),
        ("oss://bucket/x", {"limit": APPEND_LIMIT + 1}),
        ("oss://bucket/x", {"flush": 1}),
        ("oss://bucket/x", {"acl": "x"}),
        ("https://host/x", {}),
    ],
)
def test_what_is_wrong_is_said_at_once(address: str, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Appender(address, **options)


def test_a_bad_address_is_one() -> None:
    with pytest.raises(AddressError):
        Appender("bucket/key")


def test_it_is_used_in_a_with_and_once(server: LocalServer) -> None:
    out = appender(server)
    with pytest.raises(UsageError):
        _ = out.position
    with pytest.raises(TailerError):
        asyncio.run(out.append(b"x"))
    with out as inner:
        inner.append(b"x")
    with pytest.raises(UsageError, match="once"), out:
        pass
