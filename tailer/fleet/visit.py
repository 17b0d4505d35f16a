"""One visit of one object: a follower that hands on all that there is by now, and is dropped again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from tailer.core.events import Appeared, Failed, Gone, Replaced, Rewound, Sealed, Truncated
from tailer.core.tail import Tail
from tailer.errors import TailerError, without_frames
from tailer.follow import Follower

if TYPE_CHECKING:
    from tailer.core.events import Batch, Event
    from tailer.core.options import TailOptions
    from tailer.core.position import Mark, ObjectMeta, ObjectRef, Window
    from tailer.core.ranges import ByteRange
    from tailer.fleet.governor import Reader
    from tailer.fleet.marks import Marks
    from tailer.fleet.rows import FleetRow
    from tailer.outlets import Outlet, VisitSink

_PATIENCE = 3  # tries of one request, before the visit is over: others wait for its place


class Enough(Exception):
    """The visit is over before its end, so that others get their turn. No error."""


class Host(Protocol):
    """Whose visits these are. `writing`: how many of them wait for the sink to take a batch."""

    writing: int

    def is_enough(self, visit: Visit) -> bool:
        """Asked before each batch: is the visit to end?"""
        ...

    def on_fetched(self, visit: Visit, end: int) -> None:
        """Bytes of the object have come, up to `end`."""
        ...

    def on_delivered(self, visit: Visit, batch: Batch) -> None:
        """The sink took `batch`."""
        ...

    def on_event(self, visit: Visit, event: Event) -> None:
        """An event that is no batch."""
        ...


class Visit:
    """Reads what there is of the object of `row`; a `Sink` and an `ObjectReader` to its own follower.

    `delivered` and `fetched` are in bytes; more than `turn` are delivered only where nobody waits. `began` is of a
    monotonic clock. `ends`: no byte will come behind those that there are. `replaced`, `missing` and `sealed` are what
    was found; `failure` is the last error that was told as an event.
    """

    def __init__(self, host: Host, row: FleetRow, reader: Reader, marks: Marks, turn: int) -> None:
        self.row = row
        self.ref = row.ref
        self.turn = turn
        self.began = time.monotonic()
        self.delivered = self.fetched = 0
        self.ends = False
        self.replaced = self.missing = self.sealed = False
        self.failure: TailerError | None = None
        self._host = host
        self._reader = reader
        self._marks = marks

    async def run(self, outlet: Outlet, options: TailOptions, known: Mark | None) -> None:
        """Hand on all that exists. `known` is the mark of an object that was begun.

        Raises TailerError, and Enough where that is over before its end.
        """
        self._sink, begin = await outlet.open(self.ref, known)
        try:
            await self._read(self._sink, options, begin)
        finally:
            await self._sink.close()

    async def _read(self, sink: VisitSink, options: TailOptions, begin: Mark | None) -> None:
        self._tail = tail = _NotingTail(self.ref, options, begin, now=self.began)
        tail.visit = self
        if begin is not None and begin.delivered != self.row.mark.delivered:
            self.row.begin_at(begin)
        try:
            follower = Follower(self, tail, self)
            await follower.catch_up()
            if not self.missing:
                await follower.prove()
        except TailerError as error:
            told = await sink.settle(error)
            if told is error:
                raise
            raise told from error
        finally:
            del self._tail  # which knows us: two that know each other only the cyclic garbage collector finds
        if tail.mark != self.row.mark:
            self.moved(tail.mark, 0)
        if tail.size is not None:
            self.row.read = tail.size

    def moved(self, mark: Mark, length: int) -> None:
        """The mark stands there now, `length` delivered bytes further on."""
        self.row.mark = mark
        self._marks.note(self.ref, mark, length)

    # --- as a reader

    async def head(self, ref: ObjectRef) -> ObjectMeta:
        """Look at the object."""
        meta = await self._reader.head(ref)
        self.row.saw(meta)
        return meta

    async def fetch(self, ref: ObjectRef, range: ByteRange) -> Window:
        """Read of the object; what the answer says of it needs no listing to be known."""
        window = await self._reader.fetch(ref, range)
        self.fetched += len(window.data)
        self._host.on_fetched(self, range.start + len(window.data))
        self.row.saw(window.meta)
        return window

    # --- as a sink

    async def write(self, batch: Batch) -> None:
        """Deliver the batch. Raises Enough where another visit is to do so."""
        if self._host.is_enough(self):
            raise Enough
        self._host.writing += 1
        try:
            await self._marks.room()
            await self._sink.write(batch)
        finally:
            self._host.writing -= 1
        self.delivered += batch.end - batch.start
        self._host.on_delivered(self, batch)

    async def notice(self, event: Event) -> None:
        """Pass the event on; what makes a sink drop something is kept in the checkpoint before."""
        if isinstance(event, Rewound | Replaced | Truncated | Appeared):
            self.row.begin_at(self._tail.mark)
            await self._marks.keep(self.ref, self._tail.mark)
        self.replaced |= isinstance(event, Replaced | Truncated)
        self.missing |= isinstance(event, Gone)
        self.sealed |= isinstance(event, Sealed)
        self._host.on_event(self, event)
        await self._sink.notice(event)
        if isinstance(event, Failed):
            self.failure = without_frames(event.error)
            if event.attempt >= _PATIENCE:
                raise event.error

    async def close(self) -> None:
        """The follower's sink is this visit: it ends with `run`."""


class _NotingTail(Tail):
    """Tells its visit where the mark stands, whenever a batch was taken."""

    visit: Visit

    def acknowledge(self, batch: Batch) -> None:
        super().acknowledge(batch)
        self.visit.moved(self.mark, batch.end - batch.start)
