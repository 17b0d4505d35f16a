"""Prometheus metrics of following: what to count, and an endpoint to read it from. The table is docs/metrics.md.

`prometheus_client` is imported only when a `Metrics` is made; the command without ``--metrics`` never pays
for it. No series names an object: their number would grow with the objects.
"""

from __future__ import annotations

import itertools
import platform
import re
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
from tailer.version import __version__

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import CollectorRegistry, Counter, Metric

    from tailer.core.events import Event
    from tailer.core.position import ObjectMeta, ObjectRef, Window
    from tailer.core.ranges import ByteRange
    from tailer.follow import ObjectReader, Sink

STATES = ("active", "idle", "missing", "sealed", "failed")
OPERATIONS = ("head", "get", "list")
CODE_CLASSES = ("2xx", "3xx", "4xx", "5xx", "none")

RESULTS = ("ok", "mismatch", "unavailable")

# The first that fits names the error.
_REASONS: dict[str, type[errors.TailerError]] = {
    "throttled": errors.Throttled,
    "server": errors.ServiceUnavailable,
    "timeout": errors.RequestTimeout,
    "connection": errors.TransportError,
    "other": errors.TailerError,
}
_KINDS: dict[str, type[errors.TailerError]] = {
    "usage": errors.UsageError,
    "service": errors.ServiceError,
    "transport": errors.TransportError,
    "protocol": errors.ProtocolError,
    "integrity": errors.IntegrityError,
    "sink": errors.SinkError,
    "other": errors.TailerError,
}
# An answer of OSS within one region takes some 10 ms; a window of 8 MiB over a slow line takes seconds.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LISTEN = re.compile(r"(?:(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:\[\]/]+)):)?(?P<port>[0-9]{1,5})", re.ASCII)


class Metrics:
    """Counts for all objects of one process, in a registry of its own.

    Hang it in: `on_request` as the client's observer, `reader` around the client, `sink` around each sink,
    `follow` before and `end` after the following of an object. Counters count from the process's start.
    """

    def __init__(self) -> None:
        """Raises ConfigError when prometheus-client is not installed."""
        self._registry = _new_registry()
        self._objects: dict[ObjectRef, _Followed] = {}
        self._server: tuple[WSGIServer, threading.Thread] | None = None
        self._make_counters()
        self._make_gauges()

    def _make_counters(self) -> None:
        counter = self._counter
        self._requests = counter("requests", "Requests sent, by answer.", operation=OPERATIONS, code_class=CODE_CLASSES)
        self._retries = counter("request_retries", "Requests that failed and were made again.", reason=_REASONS)
        self._received = counter("received_bytes", "Bytes of the bodies of answers.")
        self._delivered = counter("delivered_bytes", "Bytes that the output took.")
        self._records = counter("delivered_records", "Records whose end the output took.")
        self._checks = counter("integrity_checks", "Comparisons with the CRC-64 of the object.", result=RESULTS)
        self._replacements = counter("replacements", "Times that another object stood under the name.")
        self._truncations = counter("truncations", "Times that an object was shorter than what was read of it.")
        self._rewinds = counter("rewinds", "Times that bytes handed out were taken back.")
        self._errors = counter("errors", "Errors that ended the following of an object.", kind=_KINDS)

    def _counter(self, name: str, what: str, **labels: Iterable[str]) -> Counter:
        """A counter with all its series there from the start, at 0: so that an alert sees the first increase."""
        from prometheus_client import Counter

        counter = Counter(f"oss_tail_{name}", what, list(labels), registry=self._registry)
        for values in itertools.product(*labels.values()) if labels else ():
            counter.labels(*values)
        return counter

    def _make_gauges(self) -> None:
        from prometheus_client import Gauge, Histogram, Info

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
        self._seconds = Histogram(
            "oss_tail_request_duration_seconds",
            "From sending a request to the end of the body of its answer.",
            ["operation"],
            buckets=_BUCKETS,
            registry=registry,
        )
        for operation in OPERATIONS:
            self._seconds.labels(operation)
        Info("oss_tail_build", "What is running.", registry=registry).info(
            {"version": __version__, "python": platform.python_version()}
        )

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
        code_class = "none" if status is None else f"{status // 100}xx"
        self._requests.labels(operation, code_class).inc()
        self._seconds.labels(operation).observe(seconds)
        self._received.inc(received)

    def follow(self, ref: ObjectRef) -> None:
        """The following of `ref` begins."""
        self._objects[ref] = _Followed()

    def end(self, ref: ObjectRef, error: errors.TailerError | None = None) -> None:
        """The following of `ref` ended; with an error it stays visible as failed."""
        one = self._objects.setdefault(ref, _Followed())
        if error is not None:
            one.state = "failed"
            self._errors.labels(_name_of(error, _KINDS)).inc()
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
                self._records.inc(_ends_in(event))
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
                self._retries.labels(_name_of(error, _REASONS)).inc()
            case _:
                pass

    def _of(self, ref: ObjectRef) -> _Followed:
        return self._objects.setdefault(ref, _Followed())

    # --- reading it

    def text(self) -> str:
        """What an HTTP client reads, in the Prometheus text format."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry).decode()

    def serve(self, host: str, port: int) -> int:
        """Serve ``http://host:port/metrics`` from a thread until `close`; which port it is, for port 0.

        Raises ConfigError when the address cannot be had.
        """
        from prometheus_client import start_http_server

        try:
            self._server = start_http_server(port, host, self._registry)
        except OSError as error:
            where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            raise errors.ConfigError(f"cannot serve metrics on {where}: {error.strerror or error}") from error
        return self._server[0].server_port

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            server, thread = self._server
            self._server = None
            server.shutdown()
            server.server_close()
            thread.join()


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of ``9464`` (loopback), ``0.0.0.0:9464``, ``localhost:9464`` or ``[::1]:9464``.

    Raises UsageError.
    """
    match = _LISTEN.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise errors.UsageError(f"invalid address for metrics {text[:60]!r}: PORT, HOST:PORT or [IPv6]:PORT")
    return match["six"] or match["host"] or "127.0.0.1", int(match["port"])


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


def _new_registry() -> CollectorRegistry:
    """A registry with what is known of the process, and without ``_created`` series."""
    try:
        from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
    except ImportError as error:
        raise errors.ConfigError(
            "metrics need the package prometheus-client", hint="pip install 'oss-tail[metrics]'"
        ) from error

    class Registry(CollectorRegistry):
        """One more gauge for each counter, with the time of its making, would double the page."""

        def collect(self) -> Iterator[Metric]:
            for metric in super().collect():
                metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
                yield metric

    registry = Registry()
    for collector in (ProcessCollector, PlatformCollector, GCCollector):
        collector(registry=registry)
    return registry


def _name_of(error: errors.TailerError, names: Mapping[str, type[errors.TailerError]]) -> str:
    return next(name for name, kind in names.items() if isinstance(error, kind))


def _ends_in(batch: Batch) -> int:
    """How many records end in the batch; of raw bytes, how many lines."""
    data = bytes(batch.data) if isinstance(batch.data, memoryview) else batch.data
    return data.count(batch.delimiter or b"\n")
