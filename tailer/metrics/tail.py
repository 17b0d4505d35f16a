"""Metrics of `oss-tail`: a few objects, and no series that names one: their number would grow with the objects."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from tailer import errors
from tailer.core.events import (
    Appeared,
    Batch,
    Failed,
    Gone,
    Grew,
    Replaced,
    Rewound,
    Sealed,
    Truncated,
    Unproven,
    Verified,
)
from tailer.metrics.exposition import KINDS, REASONS, RESULTS, Exposition, Requests, ends_in, name_of
from tailer.status import STATES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tailer.core.events import Event
    from tailer.core.position import ObjectMeta, ObjectRef, Window
    from tailer.core.ranges import ByteRange
    from tailer.follow import ObjectReader, Sink


class Metrics(Exposition):
    """Counts for all objects of one process, in a registry of its own.

    Hang it in: `on_request` as the client's observer, `reader` around the client, `sink` around each sink,
    `follow` before and `end` after the following of an object. Counters count from the process's start.
    """

    def __init__(self) -> None:
        """Raises ConfigError when prometheus-client is not installed."""
        super().__init__()
        self._objects: dict[ObjectRef, _Followed] = {}
        self._make_counters()
        self._make_gauges()

    def _make_counters(self) -> None:
        counter = self._counter
        self._requests = Requests(self._registry)
        self._retries = counter("request_retries", "Requests that failed and were made again.", reason=REASONS)
        self._delivered = counter("delivered_bytes", "Bytes that the output took.")
        self._records = counter("delivered_records", "Records whose end the output took.")
        self._checks = counter("integrity_checks", "Comparisons with the CRC-64 of the object.", result=RESULTS)
        self._replacements = counter("replacements", "Times that another object stood under the name.")
        self._truncations = counter("truncations", "Times that an object was shorter than what was read of it.")
        self._rewinds = counter("rewinds", "Times that bytes handed out were taken back.")
        self._errors = counter("errors", "Errors that ended the following of an object.", kind=KINDS)

    def _make_gauges(self) -> None:
        from prometheus_client import Gauge

        registry = self._registry
        followed = Gauge("oss_tail_objects_followed", "Objects followed, by state.", ["state"], registry=registry)
        for state in STATES:
            followed.labels(state).set_function(partial(self._count, state))
        lag = Gauge("oss_tail_lag_bytes", "Bytes that exist and were not delivered yet.", registry=registry)
        lag.set_function(lambda: sum(one.lag for one in self._followed))
        unproven = Gauge("oss_tail_unproven_bytes", "Bytes delivered and not proven yet.", registry=registry)
        unproven.set_function(lambda: sum(one.unproven for one in self._followed))
        interval = Gauge(
            "oss_tail_poll_interval_seconds",
            "Time between the last two looks at the object that is looked at least often.",
            registry=registry,
        )
        interval.set_function(lambda: max((one.poll_interval for one in self._followed), default=0.0))

    @property
    def _followed(self) -> tuple[_Followed, ...]:
        """A copy: scrapes come from another thread."""
        return tuple(self._objects.values())

    def _count(self, state: str) -> int:
        return sum(one.state == state for one in self._followed)

    # --- hanging it in

    def sink(self, ref: ObjectRef, sink: Sink) -> Sink:
        """`sink`, with what it took of `ref` counted once it took it."""
        return _MeteredSink(self, ref, sink)

    def reader(self, reader: ObjectReader, clock: Callable[[], float] = time.monotonic) -> ObjectReader:
        """`reader`, with the time between two looks at one object measured."""
        return _MeteredReader(self, reader, clock)

    def on_request(self, operation: str, status: int | None, seconds: float, received: int) -> None:
        """A request is over: its answer's status (None: there was none), how long it took, bytes of its body."""
        self._requests.count(operation, status, seconds, received)

    def follow(self, ref: ObjectRef) -> None:
        """The following of `ref` begins."""
        self._objects[ref] = _Followed()

    def end(self, ref: ObjectRef, error: errors.TailerError | None = None) -> None:
        """The following of `ref` ended; with an error it stays visible as failed."""
        one = self._objects.setdefault(ref, _Followed())
        if error is not None:
            one.state = "failed"
            self._errors.labels(name_of(error, KINDS)).inc()
            if isinstance(error, errors.CrcMissing):
                self._checks.labels("unavailable").inc()
            elif isinstance(error, errors.ChainBroken):
                self._checks.labels("mismatch").inc()
        elif one.state != "sealed":
            del self._objects[ref]

    def on_poll(self, ref: ObjectRef, now: float) -> None:
        """A request for news of `ref` is about to be made."""
        self._of(ref).poll(now)

    def on_event(self, ref: ObjectRef, event: Event) -> None:
        """An event of `ref`, or a batch that was delivered."""
        self._of(ref).take_in(event)
        match event:
            case Batch():
                self._delivered.inc(event.end - event.start)
                self._records.inc(ends_in(event))
            case Verified():
                self._checks.labels("ok").inc()
            case Unproven():
                self._checks.labels("unavailable").inc()
            case Rewound():
                self._rewinds.inc()
                self._checks.labels("mismatch").inc()
            case Replaced():
                self._replacements.inc()
            case Truncated():
                self._truncations.inc()
            case Failed(error=error):
                self._retries.labels(name_of(error, REASONS)).inc()
            case _:
                pass

    def _of(self, ref: ObjectRef) -> _Followed:
        return self._objects.setdefault(ref, _Followed())


class _Followed:
    """One object as the gauges see it. Offsets in bytes."""

    def __init__(self) -> None:
        self.state = "active"
        self.poll_interval = 0.0  # seconds
        self._polled_at: float | None = None
        self._restart()

    def _restart(self) -> None:
        self._size = self._delivered = self._proven = self._unvouched = 0
        self._begun = False

    @property
    def lag(self) -> int:
        return max(0, self._size - self._delivered)

    @property
    def unproven(self) -> int:
        return max(0, self._delivered - self._proven) + self._unvouched

    def poll(self, now: float) -> None:
        """Only looks at an object that had nothing more last time are apart by the schedule's interval."""
        if self._polled_at is not None and self.state in ("idle", "missing"):
            self.poll_interval = now - self._polled_at
        self._polled_at = now

    def take_in(self, event: Event) -> None:
        match event:
            case Batch(start=start, end=end, verified=verified):
                self._begin(start)
                self._delivered = end
                self._proven = end if verified else self._proven
            case Grew(offset=offset, size=size):
                self._begin(offset)
                self._size = size
            case Verified(position=position):
                self._proven = position.offset
                claim = position.claim
                self._unvouched = 0 if claim is None else claim.size - claim.start
            case Rewound(to=to):
                self._delivered = to
            case Appeared() | Replaced() | Truncated():
                self._restart()
            case _:
                pass
        self.state = self._next_state(event)

    def _begin(self, offset: int) -> None:
        """The first offset is where reading begins: nothing before it is lag, or unproven."""
        if not self._begun:
            self._begun = True
            self._delivered = self._proven = offset

    def _next_state(self, event: Event) -> str:
        match event:
            case Gone():
                return "missing"
            case Sealed():
                return "sealed"
            case Failed():
                return self.state
        # What is proven may wait for the end of its record: that is lag, but nothing is on its way.
        return "active" if self._size > max(self._delivered, self._proven) else "idle"


class _MeteredSink:
    def __init__(self, metrics: Metrics, ref: ObjectRef, sink: Sink) -> None:
        self._metrics, self._ref, self._sink = metrics, ref, sink

    async def write(self, batch: Batch) -> None:
        await self._sink.write(batch)
        self._metrics.on_event(self._ref, batch)

    async def notice(self, event: Event) -> None:
        self._metrics.on_event(self._ref, event)
        await self._sink.notice(event)

    async def close(self) -> None:
        await self._sink.close()


class _MeteredReader:
    def __init__(self, metrics: Metrics, reader: ObjectReader, clock: Callable[[], float]) -> None:
        self._metrics, self._reader, self._clock = metrics, reader, clock

    async def head(self, ref: ObjectRef) -> ObjectMeta:
        self._metrics.on_poll(ref, self._clock())
        return await self._reader.head(ref)

    async def fetch(self, ref: ObjectRef, range: ByteRange) -> Window:
        self._metrics.on_poll(ref, self._clock())
        return await self._reader.fetch(ref, range)
