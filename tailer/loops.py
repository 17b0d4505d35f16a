"""A `Consumer` driven for the caller: `tail` calls a handler with each batch, `lines` is for a plain loop.

Whatever is promised of a `Consumer` holds for them.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from contextlib import aclosing, suppress
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar, overload

from tailer.consumer import Consumer, ConsumerOptions
from tailer.core.position import ObjectRef
from tailer.errors import UsageError
from tailer.sinks.callback import settled
from tailer.sinks.retry import Retrying

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
    from typing import Unpack

    from tailer.core.events import Batch, Event
    from tailer.feed import OnEvent
    from tailer.follow import Sink

    OnBatch = Callable[[Batch], Awaitable[None] | None]

_Line = TypeVar("_Line", bytes, str)
_Made = TypeVar("_Made")

_BLOCKS_AHEAD = 4


def tail(
    objects: str | Sequence[str],
    on_batch: OnBatch,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    group: str = "default",
    **options: Unpack[ConsumerOptions],
) -> None:
    """Call `on_batch` with each batch, until all objects have ended; blocks.

    Its return says that the batch is delivered; what it raises says that it is not, ends everything and comes
    out here. But `SinkBusy` asks for another try: it gets the same batch again, and nothing else before,
    after a pause that grows from 0.1 to 20 seconds (never less than the error's `retry_after`), for as long as it
    raises that. `on_event` is told of each pause by a ``Failed``. With a checkpoint the next call goes on behind what
    was delivered, at least once: it is committed within a second, and at the end, whatever the end. `on_batch`
    may be an async function; a plain one holds up the fetching and the commit while it works. Raises what
    `Consumer` raises, and UsageError inside a running event loop.
    """
    _refuse_running_loop("use `async with tailer.Consumer(...)`")
    consumer = Consumer(objects, checkpoint=checkpoint, group=group, auto_commit=True, **options)
    asyncio.run(_call_with_each(consumer, Retrying(_Handler(on_batch, options.get("on_event")))))


async def _call_with_each(consumer: Consumer, handler: Sink) -> None:
    async with consumer:
        async for batch in consumer:
            await handler.write(batch)


class _Handler:
    """The user's functions as a sink, of which whatever they raise comes out as it is."""

    def __init__(self, on_batch: OnBatch, on_event: OnEvent | None) -> None:
        self._on_batch = on_batch
        self._on_event = on_event
        self._object = ObjectRef("", "")

    async def write(self, batch: Batch) -> None:
        self._object = batch.object
        await settled(self._on_batch(batch))

    async def notice(self, event: Event) -> None:
        """Of the batch in hand."""
        if self._on_event is not None:
            await settled(self._on_event(self._object, event))

    async def close(self) -> None:
        """Nothing is kept back."""


@overload
def lines(
    objects: str | Sequence[str], *, encoding: None = None, errors: str = ..., **options: Unpack[ConsumerOptions]
) -> Lines[bytes]: ...


@overload
def lines(
    objects: str | Sequence[str], *, encoding: str, errors: str = ..., **options: Unpack[ConsumerOptions]
) -> Lines[str]: ...


def lines(
    objects: str | Sequence[str],
    *,
    encoding: str | None = None,
    errors: str = "strict",
    **options: Unpack[ConsumerOptions],
) -> Lines[bytes] | Lines[str]:
    """The lines of the objects without their delimiter, for ``for`` and for ``async for``.

    bytes, or str with an `encoding` that keeps the delimiter's byte (UTF-8 does, UTF-16 does not). A line is
    whole however long it is, and comes when its delimiter does; the last one of an object that ended comes
    without. Those of several objects take turns. See `Lines` for what iterating raises.
    """
    options.setdefault("follow", False)
    if options.setdefault("delimiter", b"\n") is None:
        raise UsageError("lines end with a delimiter of one byte")
    consumer_of = _ConsumerMaker(objects, options)
    if encoding is None:
        return Lines[bytes](consumer_of, _as_they_are)
    return Lines[str](consumer_of, lambda found: [line.decode(encoding, errors) for line in found])


@dataclass(frozen=True, slots=True)
class _ConsumerMaker:
    """Each iteration reads with a consumer of its own."""

    objects: str | Sequence[str]
    options: ConsumerOptions

    def __call__(self) -> Consumer:
        return Consumer(self.objects, **self.options)


class Lines(Generic[_Line]):
    """What `lines` gives. Each ``for`` or ``async for`` over it reads anew from the beginning.

    Raises what `Consumer` raises. ``for`` reads ahead in a thread, at most a few batches; leaving it, by
    ``break`` too, ends that thread. Inside a running event loop it raises UsageError: use ``async for``, with
    `contextlib.aclosing` around ``aiter(...)`` where you break out of it and want it to end at once.
    """

    def __init__(self, consumer: Callable[[], Consumer], convert: Callable[[list[bytes]], list[_Line]]) -> None:
        """Made by `lines`."""
        self._consumer = consumer
        self._convert: Callable[[list[bytes]], list[_Line]] = convert
        consumer()  # what is wrong with the arguments is said here, not at the first line

    def __iter__(self) -> Iterator[_Line]:
        _refuse_running_loop("use `async for`")
        return chain.from_iterable(_in_thread(self._blocks))

    async def __aiter__(self) -> AsyncIterator[_Line]:
        async with aclosing(self._blocks()) as blocks:
            async for block in blocks:
                for line in block:
                    yield line

    async def _blocks(self) -> AsyncGenerator[list[_Line], None]:
        """The lines of a batch at a time."""
        begun: dict[ObjectRef, _Begun] = {}
        async with self._consumer() as consumer:
            async for batch in consumer:
                found, begun[batch.object] = _split(batch, begun.get(batch.object, _Begun()))
                if found:
                    yield self._convert(found)


def _as_they_are(found: list[bytes]) -> list[bytes]:
    return found


class _Begun(NamedTuple):
    """The beginning of a line longer than a record may be, from offset `start` on."""

    start: int = 0
    data: bytes = b""


def _split(batch: Batch, begun: _Begun) -> tuple[list[bytes], _Begun]:
    """The lines that end in `batch`, the first one beginning with `begun`; and what is begun by its end."""
    assert batch.delimiter is not None  # lines() saw to it
    found = bytes(batch.data).split(batch.delimiter)
    # After a rewind the batch starts before the end of what was begun.
    before = b"" if batch.first else begun.data[: batch.start - begun.start]
    found[0] = before + found[0]
    rest = found.pop()
    if batch.last:
        return ([*found, rest] if rest else found), _Begun()
    return found, _Begun(batch.end - len(rest), rest)


def _in_thread(blocks: Callable[[], AsyncGenerator[_Made, None]]) -> Iterator[_Made]:
    """What an async generator gives, made in a thread of its own, a few ahead."""
    thread = _Thread(blocks)
    try:
        yield from thread
    finally:
        thread.stop()


class _Thread(Generic[_Made]):
    """Runs an async generator on an event loop in a thread, at most `_BLOCKS_AHEAD` items ahead of who iterates."""

    def __init__(self, blocks: Callable[[], AsyncGenerator[_Made, None]]) -> None:
        self._blocks = blocks
        self._made: queue.SimpleQueue[tuple[_Made] | BaseException | None] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._room = asyncio.Semaphore(_BLOCKS_AHEAD)
        self._task = self._loop.create_task(self._make())
        self._thread = threading.Thread(target=self._run, name="tailer.lines", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[_Made]:
        while (made := self._made.get()) is not None:
            if isinstance(made, BaseException):
                raise made
            self._tell(self._room.release)
            yield made[0]

    def stop(self) -> None:
        """Returns when nothing of it is left."""
        self._tell(self._task.cancel)
        self._thread.join()

    def _tell(self, what: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # its loop is closed: it has ended, and needs no word
            self._loop.call_soon_threadsafe(what)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._wait())

    async def _wait(self) -> None:
        await asyncio.wait([self._task])

    async def _make(self) -> None:
        try:
            async with aclosing(self._blocks()) as blocks:
                async for block in blocks:
                    await self._room.acquire()
                    self._made.put((block,))
        except BaseException as error:
            self._made.put(error)
        else:
            self._made.put(None)


def _refuse_running_loop(instead: str) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise UsageError(f"this would hold up the event loop that is running: {instead}")
