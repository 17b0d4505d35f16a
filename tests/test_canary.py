"""The canary counts what it says it counts: each fault is made to happen, and seen by the counter of its name alone."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

import tailer.local
from tailer.canary import COUNTS, LEAST_SIZE, Audit, Canary, CanaryOptions, Latencies
from tailer.config import resolve_service
from tailer.consumer import Consumer
from tailer.core.events import Batch
from tailer.errors import (
    AccessDenied,
    AddressError,
    BucketNotFound,
    ConnectError,
    ConnectionLost,
    IntegrityError,
    RequestTimeout,
    UsageError,
)
from tailer.local import Fault
from tailer.metrics.canary import CanaryMetrics
from tests.faults.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tailer.canary import OpenReader
    from tailer.errors import TailerError
    from tailer.local import LocalServer

HOME = "oss://bucket/canary/"
QUICK = CanaryOptions(interval=0.01, poll=0.01, wait=15.0, late=10.0)


# --- the audit


def audit(**options: float) -> Audit:
    return Audit(**{"late": 10.0, "wait": 30.0, **options})


def made(keeper: Audit, count: int, now: float = 0.0, size: int = 100) -> list[bytes]:
    """Records that the object has, without their newlines."""
    lines = []
    for _ in range(count):
        lines.append(keeper.make(size, now))
        keeper.acknowledge()
    return [line.removesuffix(b"\n") for line in lines]


def counted(keeper: Audit) -> dict[str, int]:
    """What is not 0 of the faults."""
    return {what: count for what, count in keeper.counts.items() if count and what not in ("appended", "received")}


def test_all_is_well() -> None:
    keeper = audit()
    for number, line in enumerate(made(keeper, 3), 1):
        keeper.take(line, number)
    keeper.close()
    assert keeper.counts == dict.fromkeys(COUNTS, 0) | {"appended": 3, "received": 3}
    assert keeper.under_way == 0


@pytest.mark.parametrize("size", [LEAST_SIZE, 81, 256, 70_000])
def test_a_record_is_one_line_of_its_size_and_no_two_are_the_same(size: int) -> None:
    keeper = audit()
    records = [keeper.make(size, 0.0) for _ in range(3)]
    assert [len(record) for record in records] == [size] * 3
    assert [record.find(b"\n") for record in records] == [size - 1] * 3
    assert len(set(records)) == 3


def test_missing_is_what_later_ones_overtook_for_too_long() -> None:
    keeper = audit(wait=30.0)
    first, second, third = made(keeper, 3)
    keeper.take(first, 1.0)
    keeper.take(third, 2.0)
    keeper.give_up(30.0)
    assert counted(keeper) == {}
    keeper.give_up(30.1)
    assert counted(keeper) == {"missing": 1}
    keeper.take(second, 31.0)
    assert counted(keeper) == {"missing": 1, "late": 1, "disordered": 1}
    assert keeper.counts["received"] == 3


def test_what_nothing_overtook_is_under_way_until_the_end() -> None:
    keeper = audit(wait=30.0)
    made(keeper, 2)
    keeper.give_up(1000.0)
    assert (counted(keeper), keeper.under_way) == ({}, 2)
    assert keeper.oldest(1000.0) == 1000.0
    keeper.close()
    assert (counted(keeper), keeper.under_way) == ({"missing": 2}, 0)
    assert keeper.oldest(1000.0) == 0.0


def test_a_record_whose_append_has_no_answer_may_be_there_or_not() -> None:
    keeper = audit()
    (first,) = made(keeper, 1)
    unsure = keeper.make(100, 0.0)
    assert keeper.under_way == 1
    keeper.take(first, 0.0)
    assert keeper.under_way == 0
    keeper.close()
    assert counted(keeper) == {}
    other = audit()
    unsure = other.make(100, 0.0).removesuffix(b"\n")
    other.take(unsure, 0.0)
    other.close()
    assert (other.counts["received"], counted(other)) == (1, {})


def test_duplicate_disordered_and_late() -> None:
    keeper = audit(late=5.0)
    first, second, third = made(keeper, 3)
    keeper.take(first, 5.0)
    keeper.take(first, 5.0)
    assert counted(keeper) == {"duplicate": 1}
    keeper.take(third, 5.1)
    assert counted(keeper) == {"duplicate": 1, "late": 1}
    keeper.take(second, 5.0)
    assert counted(keeper) == {"duplicate": 1, "late": 1, "disordered": 1}
    assert keeper.counts["received"] == 3


def test_every_bit_that_is_flipped_is_corrupt_and_nothing_that_comes_stops_the_count() -> None:
    keeper = audit()
    (line,) = made(keeper, 1, size=LEAST_SIZE)
    damaged = [bytes([*line[:at], line[at] ^ 1 << bit, *line[at + 1 :]]) for at in range(len(line)) for bit in range(8)]
    foreign = [made(audit(), 1)[0], b"", b" ", b"\x00" * 100, b"x 83a25e2dd0ac1cd9", line[:-1], line + b"x"]
    for wrong in [*damaged, *foreign]:
        keeper.take(wrong, 0.0)
    assert counted(keeper) == {"corrupt": len(damaged) + len(foreign)}
    keeper.take(line, 0.0)
    assert keeper.counts["received"] == 1


def test_the_observer_hears_of_every_count() -> None:
    heard: list[str | float] = []

    class Ear:
        count = observe = staticmethod(heard.append)

    keeper = audit(observer=Ear())
    keeper.take(made(keeper, 1)[0], 0.5)
    keeper.take(b"x", 0.5)
    assert heard == ["appended", "received", 0.5, "corrupt"]


def test_latencies_are_right_to_2_percent() -> None:
    latencies = Latencies()
    assert latencies.quantile(0.5) == 0.0
    for milliseconds in range(1, 1001):
        latencies.add(milliseconds / 1000)
    assert [latencies.quantile(share) for share in (0.5, 0.99, 1.0)] == [
        pytest.approx(0.5, rel=0.021), pytest.approx(0.99, rel=0.021), 1.0,
    ]  # fmt: skip
    latencies.add(0.0)
    assert latencies.quantile(0.0005) < 0.001


@pytest.mark.parametrize(
    "options",
    [{"size": 79}, {"size": 1 << 30}, {"size": 256, "roll": 255}, {"interval": -1.0}, {"wait": float("nan")},
     {"duration": float("inf")}, {"late": -0.1}],
    ids=str,
)  # fmt: skip
def test_what_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        CanaryOptions(**options)


@pytest.mark.parametrize(
    "address", ["oss://bucket/*.log", "https://example.com/x", "oss://BUCKET/x", "oss://bucket/../"]
)
def test_a_place_that_is_none_is_refused(address: str) -> None:
    service = resolve_service(
        environ={"OSS_REGION": "cn-hangzhou", "OSS_ACCESS_KEY_ID": "a", "OSS_ACCESS_KEY_SECRET": "b"}
    )
    with pytest.raises(UsageError) as caught:
        Canary(address, QUICK, service=service)
    assert isinstance(caught.value, AddressError) or "no place" in str(caught.value)


# --- the canary, over real sockets


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with tailer.local.running(["bucket"]) as server:
        yield server


def fly(
    server: LocalServer,
    options: CanaryOptions,
    *,
    records: int,
    wrap: Callable[[OpenReader], OpenReader] | None = None,
    address: str = HOME,
    on_trouble: Callable[[TailerError], None] = lambda error: None,
    endpoint: str | None = None,
) -> Canary:
    """Run a canary until so many records are appended and it has settled; whatever it raises."""

    class Stopper:
        def count(self, what: str) -> None:
            if canary.audit.counts["appended"] >= records:
                canary.stop()

        def observe(self, seconds: float) -> None:
            assert seconds >= 0

    async def main() -> None:
        nonlocal canary
        service = resolve_service(environ=server.environment(), endpoint=endpoint)
        reads = partial(Consumer, service=service, integrity="strict", interval=0.01, glob=False)
        canary = Canary(
            address,
            options,
            service=service,
            observer=Stopper(),
            on_trouble=on_trouble,
            open_reader=None if wrap is None else wrap(reads),
        )
        await canary.run()

    canary: Canary = None  # type: ignore[assignment]  # made inside the loop
    asyncio.run(main())
    return canary


def keys(server: LocalServer) -> list[str]:
    return [row.name for row in server.store.list("bucket").rows]


def test_every_record_comes_back_once(server: LocalServer) -> None:
    canary = fly(server, QUICK, records=20)
    assert canary.audit.counts == dict.fromkeys(COUNTS, 0) | {"appended": 20, "received": 20}
    assert canary.audit.latencies.count == 20
    (key,) = keys(server)
    assert server.store.read("bucket", key).count(b"\n") == 20
    assert key.startswith("canary/20")


def test_it_ends_by_itself_after_its_duration(server: LocalServer) -> None:
    canary = fly(server, replace(QUICK, duration=0.3), records=10**6)
    assert 0 < canary.audit.counts["appended"] == canary.audit.counts["received"]
    assert counted(canary.audit) == {}


@pytest.mark.parametrize(("leave", "left"), [("open", [None] * 4), ("sealed", ["sealed"] * 4), ("deleted", [])])
def test_a_full_object_is_followed_by_the_next_and_left_as_is_asked(
    server: LocalServer, leave: Any, left: list[str | None]
) -> None:
    canary = fly(server, replace(QUICK, size=100, roll=550, leave=leave), records=17, address="oss://bucket/canary")
    assert canary.audit.counts["received"] == 17
    assert counted(canary.audit) == {}
    found = keys(server)
    assert [key[-10:] for key in found] == [f"{number:06}.log" for number in range(1, len(left) + 1)]
    for key, state in zip(found, left, strict=True):
        info = server.store.find("bucket", key)
        assert info is not None
        assert (info.sealed is not None) == (state == "sealed")


def test_faults_on_the_way_are_no_faults_of_the_records(server: LocalServer) -> None:
    """Refused, broken off, damaged, answered twice: all comes back once, and trouble is told."""
    server.faults.add(
        Fault("status", operation="AppendObject", probability=0.2),
        Fault("lose-answer", operation="AppendObject", probability=0.1),
        Fault("status", operation="DeleteObject", count=2),
        Fault("cut", operation="GetObject", probability=0.2, at=5),
        Fault("flip-bit", operation="GetObject", probability=0.2, at=40),
    )
    heard: list[TailerError] = []
    canary = fly(server, replace(QUICK, wait=60.0, leave="deleted"), records=30, on_trouble=heard.append)
    assert canary.audit.counts == dict.fromkeys(COUNTS, 0) | {"appended": 30, "received": 30}
    assert len(heard) >= 2
    assert keys(server) == []


def test_nothing_is_missing_because_nobody_answered_for_a_while(server: LocalServer) -> None:
    """Connections are refused from the fifth record on, until both sides have tried again."""
    with Proxy(server.endpoint) as proxy:
        tried: list[TailerError] = []

        def begin(number: int, data: bytes) -> list[bytes]:
            if number == 5:
                proxy.close()
            return [data]

        def end(error: TailerError) -> None:
            tried.append(error)
            if len(tried) == 4:
                proxy.open()

        canary = fly(server, QUICK, records=20, wrap=wrapped(begin), on_trouble=end, endpoint=proxy.endpoint)
    assert {type(error) for error in tried} <= {ConnectError, ConnectionLost}
    assert len(tried) >= 4
    assert canary.audit.counts == dict.fromkeys(COUNTS, 0) | {"appended": 20, "received": 20}


# --- readers that do what no reader may


def wrapped(change: Callable[[int, bytes], list[bytes]]) -> Callable[[OpenReader], OpenReader]:
    """A reader whose records, counted from 1, come as `change` makes them."""

    def wrap(open_reader: OpenReader) -> OpenReader:
        @asynccontextmanager
        async def opened(address: str) -> AsyncIterator[AsyncIterator[Batch]]:
            async with open_reader(address) as batches:
                yield changed(batches)

        async def changed(batches: Any) -> AsyncIterator[Batch]:
            numbers = itertools.count(1)
            async for batch in batches:
                records = [one for record in batch.records for one in change(next(numbers), record.data)]
                yield replace(batch, data=b"".join(record + b"\n" for record in records))

        return opened

    return wrap


def test_a_reader_that_drops(server: LocalServer) -> None:
    drops = wrapped(lambda number, data: [] if number == 5 else [data])
    canary = fly(server, replace(QUICK, wait=0.5), records=10, wrap=drops)
    assert counted(canary.audit) == {"missing": 1}


def test_a_reader_that_doubles(server: LocalServer) -> None:
    canary = fly(server, QUICK, records=10, wrap=wrapped(lambda number, data: [data, data] if number == 5 else [data]))
    assert counted(canary.audit) == {"duplicate": 1}


def test_a_reader_that_swaps(server: LocalServer) -> None:
    held: list[bytes] = []

    def swap(number: int, data: bytes) -> list[bytes]:
        if number == 5:
            held.append(data)
            return []
        return [data, held.pop()] if held else [data]

    assert counted(fly(server, QUICK, records=10, wrap=wrapped(swap)).audit) == {"disordered": 1}


def test_a_reader_that_damages(server: LocalServer) -> None:
    """The record does not come any more, so it is missing besides."""
    damages = wrapped(lambda number, data: [data.replace(b"canary", b"parrot")] if number == 5 else [data])
    canary = fly(server, replace(QUICK, wait=0.5), records=10, wrap=damages)
    assert counted(canary.audit) == {"corrupt": 1, "missing": 1}


def test_a_reader_that_is_slow(server: LocalServer) -> None:
    canary = fly(server, replace(QUICK, late=0.0), records=3)
    assert counted(canary.audit) == {"late": 3}


def test_a_reader_that_stands_still(server: LocalServer) -> None:
    """The end does not wait for it for ever."""
    canary = fly(server, replace(QUICK, wait=0.2), records=4, wrap=wrapped(lambda number, data: []))
    assert counted(canary.audit) == {"missing": 4}


# --- what ends it


def test_a_bucket_that_is_not_there(server: LocalServer) -> None:
    with pytest.raises(BucketNotFound):
        fly(server, QUICK, records=1, address="oss://nothing/canary/")


def test_it_may_write_and_not_read(server: LocalServer) -> None:
    """The reader's refusal ends it; what it is waits for nothing."""
    server.faults.add(Fault("status", operation="GetObject", status=403, code="AccessDenied"))
    with pytest.raises(AccessDenied):
        fly(server, QUICK, records=10**6)


@pytest.mark.parametrize("conduct", ["grows", "goes"])
def test_somebody_else_at_its_object(server: LocalServer, conduct: str) -> None:
    def meddle(number: int, data: bytes) -> list[bytes]:
        if number == 3:
            (key,) = keys(server)
            if conduct == "goes":
                server.store.delete("bucket", key)
            else:
                server.store.append("bucket", key, server.store.find("bucket", key).size, b"not ours\n")  # type: ignore[union-attr]
        return [data]

    with pytest.raises((IntegrityError, tailer.errors.ObjectNotFound)):
        fly(server, replace(QUICK, wait=0.5), records=10**6, wrap=wrapped(meddle))


def test_an_append_without_an_answer_does_not_hold_up_the_end(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailer.canary._LAST_APPEND", 0.1)
    server.faults.add(Fault("status", operation="AppendObject", after=3))
    with pytest.raises(RequestTimeout, match="no answer"):
        fly(server, replace(QUICK, wait=0.2, duration=0.5), records=10**6)


# --- its metrics


def test_metrics_begin_at_0_and_count() -> None:
    metrics = CanaryMetrics()
    names = [f"oss_tail_canary_{what}_total" for what in COUNTS]
    assert all(f"{name} 0.0\n" in metrics.text() for name in names)
    keeper = audit(observer=metrics)
    metrics.watch(lambda: keeper.oldest(7.0))
    first, _ = made(keeper, 2)
    keeper.take(first, 0.3)
    keeper.take(b"x", 0.3)
    text = metrics.text()
    for line in ("appended_total 2.0", "received_total 1.0", "corrupt_total 1.0", "latency_seconds_count 1.0",
                 'latency_seconds_bucket{le="0.5"} 1.0', 'latency_seconds_bucket{le="0.25"} 0.0',
                 "oldest_seconds 7.0"):  # fmt: skip
        assert f"oss_tail_canary_{line}\n" in text
