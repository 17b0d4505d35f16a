"""`Callback`: returning means delivered, raising means not, and the cause is kept."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tailer.core.events import Batch, Event, Gone, Rewound
from tailer.core.position import ObjectRef
from tailer.errors import SinkBusy, SinkError, UsageError
from tailer.sinks.callback import Callback

REF = ObjectRef("logs", "app.log")
BATCHES = [Batch(REF, 0, start, start + 1, b"x", verified=True) for start in range(100)]


def feed(sink: Callback, *batches: Batch) -> None:
    async def run() -> None:
        for batch in batches:
            await sink.write(batch)
        await sink.close()

    asyncio.run(run())


def test_a_function_and_an_async_one_get_every_batch_in_order() -> None:
    taken: list[Batch] = []

    async def later(batch: Batch) -> None:
        await asyncio.sleep(0)
        taken.append(batch)

    for function in (taken.append, later):
        taken.clear()
        feed(Callback(function), *BATCHES)
        assert taken == BATCHES


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("bad", [1, 100])
def test_an_exception_is_a_sink_error_with_its_cause_and_what_came_before_was_delivered(
    bad: int, threaded: bool
) -> None:
    taken: list[int] = []
    cause = ValueError("no such\ncustomer")

    def handle(batch: Batch) -> None:
        if batch.end == bad:
            raise cause
        taken.append(batch.end)

    with pytest.raises(SinkError) as caught:
        feed(Callback(handle, threaded=threaded), *BATCHES)
    assert caught.value.__cause__ is cause
    assert not caught.value.retriable
    assert str(caught.value) == "oss://logs/app.log: handle raised ValueError: no such customer"
    assert taken == list(range(1, bad))


def test_a_sink_error_of_the_function_goes_through_as_it_is() -> None:
    """So that a function can ask for another try."""
    busy = SinkBusy("the database is locked")

    async def handle(batch: Batch) -> None:
        raise busy

    with pytest.raises(SinkBusy) as caught:
        feed(Callback(handle), BATCHES[0])
    assert caught.value is busy


def test_a_thread_only_when_asked_for() -> None:
    threads: list[threading.Thread] = []
    for threaded in (False, True):
        feed(Callback(lambda _: threads.append(threading.current_thread()), threaded=threaded), BATCHES[0])
    assert threads[0] is threading.main_thread()
    assert threads[1] is not threading.main_thread()


def test_an_async_function_in_a_thread_is_refused() -> None:
    async def handle(batch: Batch) -> None: ...

    with pytest.raises(UsageError, match="async function"):
        Callback(handle, threaded=True)


@pytest.mark.parametrize("fails", [False, True])
def test_cancelling_waits_for_the_call_in_its_thread(fails: bool) -> None:
    """Nothing is left running, and a call that fails after all says nothing to the loop."""
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def handle(batch: Batch) -> None:
        begun.set()
        may_end.wait(10)
        ended.set()
        if fails:
            raise ValueError("too late")

    async def run() -> None:
        writing = asyncio.create_task(Callback(handle, threaded=True).write(BATCHES[0]))
        await asyncio.to_thread(begun.wait, 10)
        writing.cancel()
        await asyncio.sleep(0)
        assert not writing.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert ended.is_set()

    asyncio.run(run())


def test_events_go_to_on_event_and_its_exception_counts_too() -> None:
    heard: list[Event] = []

    async def run() -> None:
        await Callback(print).notice(Gone(0, 5))
        await Callback(print, on_event=heard.append).notice(Rewound(0, 2, 5))
        with pytest.raises(SinkError, match="raised ZeroDivisionError") as caught:
            await Callback(print, on_event=lambda _: 1 // 0).notice(Gone(0, 5))
        assert isinstance(caught.value.__cause__, ZeroDivisionError)

    asyncio.run(run())
    assert heard == [Rewound(0, 2, 5)]
