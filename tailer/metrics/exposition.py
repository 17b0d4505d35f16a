"""A registry of metrics, and the endpoint that it is read from: what all pages of metrics share."""

from __future__ import annotations

import itertools
import platform
import re
from typing import TYPE_CHECKING

from tailer import errors
from tailer.version import __version__

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterable, Iterator, Mapping
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import CollectorRegistry, Counter, Metric

    from tailer.core.events import Batch

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of `Exposition.text`."""

OPERATIONS = ("head", "get", "list")
CODE_CLASSES = ("2xx", "3xx", "4xx", "5xx", "none")
RESULTS = ("ok", "mismatch", "unavailable")

# The first that fits names the error.
REASONS: dict[str, type[errors.TailerError]] = {
    "throttled": errors.Throttled,
    "server": errors.ServiceUnavailable,
    "timeout": errors.RequestTimeout,
    "connection": errors.TransportError,
    "other": errors.TailerError,
}
KINDS: dict[str, type[errors.TailerError]] = {
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


class Exposition:
    """A registry of its own with what is known of the build and the process, as text or at a port."""

    def __init__(self) -> None:
        """Raises ConfigError when prometheus-client is not installed."""
        self._registry = _new_registry()
        self._server: tuple[WSGIServer, threading.Thread] | None = None

    def text(self) -> str:
        """What an HTTP client reads, in the Prometheus text format (`CONTENT_TYPE`)."""
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

    def _counter(self, name: str, what: str, **labels: Iterable[str]) -> Counter:
        """A counter with all its series there from the start, at 0: so that an alert sees the first increase."""
        from prometheus_client import Counter

        counter = Counter(f"oss_tail_{name}", what, list(labels), registry=self._registry)
        for values in itertools.product(*labels.values()) if labels else ():
            counter.labels(*values)
        return counter


class Requests:
    """The requests of the process, by operation and answer."""

    def __init__(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Histogram

        self._requests = Counter(
            "oss_tail_requests", "Requests sent, by answer.", ["operation", "code_class"], registry=registry
        )
        self._seconds = Histogram(
            "oss_tail_request_duration_seconds",
            "From sending a request to the end of the body of its answer.",
            ["operation"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._received = Counter("oss_tail_received_bytes", "Bytes of the bodies of answers.", registry=registry)
        for operation in OPERATIONS:
            self._seconds.labels(operation)
            for code_class in CODE_CLASSES:
                self._requests.labels(operation, code_class)

    def count(self, operation: str, status: int | None, seconds: float, received: int) -> None:
        """One is over: its answer's status (None: there was none), how long it took, bytes of its body."""
        code_class = "none" if status is None else f"{status // 100}xx"
        self._requests.labels(operation, code_class).inc()
        self._seconds.labels(operation).observe(seconds)
        self._received.inc(received)


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of ``9464`` (loopback), ``0.0.0.0:9464``, ``localhost:9464`` or ``[::1]:9464``.

    Raises UsageError.
    """
    match = _LISTEN.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise errors.UsageError(f"invalid address for metrics {text[:60]!r}: PORT, HOST:PORT or [IPv6]:PORT")
    return match["six"] or match["host"] or "127.0.0.1", int(match["port"])


def name_of(error: errors.TailerError, names: Mapping[str, type[errors.TailerError]]) -> str:
    """The name in `REASONS` or `KINDS` that an error counts under."""
    return next(name for name, kind in names.items() if isinstance(error, kind))


def ends_in(batch: Batch) -> int:
    """How many records end in the batch; of raw bytes, how many lines."""
    data = bytes(batch.data) if isinstance(batch.data, memoryview) else batch.data
    return data.count(batch.delimiter or b"\n")


def _new_registry() -> CollectorRegistry:
    """A registry with what is known of the build and the process, and without ``_created`` series."""
    try:
        from prometheus_client import CollectorRegistry, GCCollector, Info, PlatformCollector, ProcessCollector
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
    Info("oss_tail_build", "What is running.", registry=registry).info(
        {"version": __version__, "python": platform.python_version()}
    )
    return registry
