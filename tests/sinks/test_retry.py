"""`Retrying`: the same batch goes to a busy sink again, waits in between, and says so."""

from __future__ import annotations

import asyncio

import pytest

from tailer.core.events import Batch, Event, Failed, Gone
from tailer.core.position import ObjectRef
from tailer.errors import SinkBusy, SinkError
from tailer.sinks.callback import Callback
from tailer.sinks.retry import Retrying

BATCH = Batch(ObjectRef("logs", "app.log"), 0, 0, 5, b"12345", verified=True)


class Bench:
    """A `Retrying` around a function that raises `errors` in turn and then takes the batch; no real time passes."""

    def __init__(self, *errors: SinkError) -> None:
        self.errors = list(errors)
        self.calls: list[Batch] = []
        self.told: list[Event] = []
        self.slept: list[float] = []
        self.inner = Callback(self.take, on_event=self.told.append)

    def take(self, batch: Batch) -> None:
        self.calls.append(batch)
        if self.errors:
            raise self.errors.pop(0)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


def test_a_busy_sink_gets_the_same_batch_until_it_takes_it() -> None:
    bench = Bench(*(SinkBusy("full") for _ in range(20)))
    sink = Retrying(bench.inner, sleep=bench.sleep, chance=lambda: 1.0)
    asyncio.run(sink.write(BATCH))
    assert bench.calls == [BATCH] * 21
    assert bench.slept == sorted(bench.slept)
    assert bench.slept[0] < 1
    assert bench.slept[-1] <= 60, "bounded, however long it lasts"
    told = [(event.attempt, event.delay) for event in bench.told if isinstance(event, Failed)]
    assert told == list(enumerate(bench.slept, start=1))


def test_it_waits_as_long_as_it_was_asked_to() -> None:
    busy = SinkBusy("429")
    busy.retry_after = 77.0
    bench = Bench(busy)
    asyncio.run(Retrying(bench.inner, sleep=bench.sleep).write(BATCH))
    assert bench.slept == [77.0]


def test_any_other_error_ends_it_at_once() -> None:
    bench = Bench(SinkError("gone for good"))
    with pytest.raises(SinkError, match="gone for good"):
        asyncio.run(Retrying(bench.inner, sleep=bench.sleep).write(BATCH))
    assert bench.slept == []


def test_it_gives_up_after_so_many_attempts_or_when_told_to() -> None:
    bench = Bench(*(SinkBusy(str(number)) for number in range(1, 10)))
    with pytest.raises(SinkBusy, match="3"):
        asyncio.run(Retrying(bench.inner, attempts=3, sleep=bench.sleep).write(BATCH))
    assert len(bench.slept) == 2
    with pytest.raises(SinkBusy, match="4"):
        asyncio.run(Retrying(bench.inner, goes_on=lambda: False, sleep=bench.sleep).write(BATCH))


def test_a_wait_can_be_cancelled() -> None:
    async def run() -> None:
        busy = SinkBusy("full")
        busy.retry_after = 3600.0
        writing = asyncio.create_task(Retrying(Bench(busy).inner).write(BATCH))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing

    asyncio.run(run())


def test_events_and_the_end_pass_through() -> None:
    bench = Bench()
    sink = Retrying(bench.inner)

    async def run() -> None:
        await sink.notice(Gone(0, 5))
        await sink.close()

    asyncio.run(run())
    assert bench.told == [Gone(0, 5)]
