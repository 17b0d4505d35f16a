"""Metrics of `oss-tail`: what is counted when, what is served where."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tailer import errors
from tailer.core.events import (
    Appeared,
    Batch,
    Event,
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
from tailer.core.position import Claim, ObjectMeta, ObjectRef, Position, Window
from tailer.core.ranges import ByteRange
from tailer.metrics import CODE_CLASSES, OPERATIONS, RESULTS, Metrics, parse_listen
from tailer.status import STATES
from tests.metrics.conftest import samples

if TYPE_CHECKING:
    from collections.abc import Iterator

A = ObjectRef("b", "app.log")
B = ObjectRef("b", "other.log")


def batch(start: int, data: bytes, *, verified: bool = False, delimiter: bytes | None = b"\n") -> Batch:
    return Batch(A, 0, start, start + len(data), memoryview(data), verified=verified, delimiter=delimiter)


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    made = Metrics()
    yield made
    made.close()


def tell(metrics: Metrics, *events: Event, ref: ObjectRef = A) -> dict[str, float]:
    for event in events:
        metrics.on_event(ref, event)
    return samples(metrics)


def test_every_series_is_there_from_the_start(metrics: Metrics) -> None:
    text = metrics.text()
    for operation in OPERATIONS:
        assert f'oss_tail_request_duration_seconds_count{{operation="{operation}"}} 0.0' in text
        for code_class in CODE_CLASSES:
            assert f'oss_tail_requests_total{{code_class="{code_class}",operation="{operation}"}} 0.0' in text
    assert all(f'state="{state}"' in text for state in STATES)
    assert all(f'result="{result}"' in text for result in RESULTS)
    assert samples(metrics) == {}


# --- what counts


def test_a_catch_up_and_its_proof(metrics: Metrics) -> None:
    metrics.follow(A)
    assert samples(metrics) == {'objects_followed{state="active"}': 1}
    assert tell(metrics, Grew(0, 0, 10)) == {'objects_followed{state="active"}': 1, "lag_bytes": 10}
    after_batch = tell(metrics, batch(0, b"a\nb\nc"))
    assert after_batch == {
        'objects_followed{state="active"}': 1,
        "lag_bytes": 5,
        "unproven_bytes": 5,
        "delivered_bytes_total": 5,
        "delivered_records_total": 2,
    }
    assert tell(metrics, batch(5, b"defg\n", verified=True), Verified(Position(10))) == {
        'objects_followed{state="idle"}': 1,
        "delivered_bytes_total": 10,
        "delivered_records_total": 3,
        'integrity_checks_total{result="ok"}': 1,
    }


def test_what_only_the_bytes_below_a_start_could_prove_stays_unproven(metrics: Metrics) -> None:
    """Until they were read (integrity full)."""
    tell(metrics, batch(990, b"123456789"))
    assert tell(metrics, Verified(Position(1000, 1, claim=Claim(990, 995, 2, 3))))["unproven_bytes"] == 5
    assert tell(metrics, Verified(Position(1000, 1))).get("unproven_bytes", 0) == 0


def test_a_start_in_the_middle_is_no_lag_and_nothing_unproven(metrics: Metrics) -> None:
    assert tell(metrics, Grew(0, 990, 1000))["lag_bytes"] == 10
    assert tell(metrics, batch(990, b"123456789"))["unproven_bytes"] == 9


def test_an_unfinished_record_is_lag_of_an_idle_object(metrics: Metrics) -> None:
    found = tell(metrics, Grew(0, 0, 10), batch(0, b"1234567\n", verified=True), Verified(Position(10)))
    assert found["lag_bytes"] == 2
    assert found['objects_followed{state="idle"}'] == 1


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        (Rewound(0, 3, 5), {"rewinds_total": 1, 'integrity_checks_total{result="mismatch"}': 1, "lag_bytes": 7}),
        (Replaced(1, "x"), {"replacements_total": 1, "lag_bytes": 0}),
        (Truncated(1, 5, 2), {"truncations_total": 1, "unproven_bytes": 0}),
        (Appeared(1, ObjectMeta(3)), {'objects_followed{state="idle"}': 1}),
        (Unproven(0, 5), {'integrity_checks_total{result="unavailable"}': 1}),
        (Gone(0, 5), {'objects_followed{state="missing"}': 1, 'objects_followed{state="active"}': 0}),
        (Sealed(5), {'objects_followed{state="sealed"}': 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_events_count_where_they_belong(metrics: Metrics, event: Event, changes: dict[str, float]) -> None:
    found = tell(metrics, Grew(0, 0, 10), batch(0, b"12345"), event)
    assert {name: found.get(name, 0) for name in changes} == changes


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errors.Throttled("x", status=429), "throttled"),
        (errors.ServiceUnavailable("x", status=500), "server"),
        (errors.RequestTimeout("x"), "timeout"),
        (errors.ConnectError("x"), "connection"),
        (errors.ConnectionLost("x"), "connection"),
        (errors.RangeIgnored("x"), "other"),
    ],
)
def test_a_retry_counts_by_its_reason(metrics: Metrics, error: errors.TailerError, reason: str) -> None:
    metrics.follow(A)
    found = tell(metrics, Failed(error, 1.0, 1))
    assert found == {'objects_followed{state="active"}': 1, f'request_retries_total{{reason="{reason}"}}': 1}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.AddressError("x"), "usage"),
        (errors.AccessDenied("x", status=403), "service"),
        (errors.TlsError("x"), "transport"),
        (errors.RangeIgnored("x"), "protocol"),
        (errors.ObjectReplaced("x"), "integrity"),
        (errors.SinkError("x"), "sink"),
        (errors.TailerError("x"), "other"),
    ],
)
def test_the_error_that_ends_it_counts_by_its_kind(metrics: Metrics, error: errors.TailerError, kind: str) -> None:
    metrics.follow(A)
    metrics.end(A, error)
    assert samples(metrics) == {'objects_followed{state="failed"}': 1, f'errors_total{{kind="{kind}"}}': 1}


@pytest.mark.parametrize(
    ("error", "result"), [(errors.ChainBroken("x"), "mismatch"), (errors.CrcMissing("x"), "unavailable")]
)
def test_a_check_that_ends_it_counts_too(metrics: Metrics, error: errors.TailerError, result: str) -> None:
    metrics.end(A, error)
    assert samples(metrics)[f'integrity_checks_total{{result="{result}"}}'] == 1


def test_a_plain_end_forgets_the_object_and_a_sealed_one_stays_sealed(metrics: Metrics) -> None:
    tell(metrics, Grew(0, 0, 10))
    metrics.end(A)
    assert samples(metrics) == {}
    tell(metrics, Sealed(0), ref=B)
    metrics.end(B)
    assert samples(metrics) == {'objects_followed{state="sealed"}': 1}


def test_several_objects_are_added_up(metrics: Metrics) -> None:
    tell(metrics, Grew(0, 0, 10))
    assert tell(metrics, Grew(0, 0, 5), ref=B) == {'objects_followed{state="active"}': 2, "lag_bytes": 15}


@pytest.mark.parametrize(
    ("data", "delimiter", "records"),
    [(b"a\nb\n\nc", b"\n", 3), (b"a\0b\n", b"\0", 1), (b"a\nb", None, 1), (b"", b"\n", 0)],
)
def test_records_are_counted_at_their_ends(
    metrics: Metrics, data: bytes, delimiter: bytes | None, records: int
) -> None:
    for view in (data, bytearray(data), memoryview(data)):
        metrics.on_event(A, Batch(A, 0, 0, len(data), view, verified=True, delimiter=delimiter))
    assert samples(metrics).get("delivered_records_total", 0) == 3 * records


def test_requests_count_by_answer_and_time(metrics: Metrics) -> None:
    metrics.on_request("head", 200, 0.003, 0)
    metrics.on_request("get", 206, 0.3, 4096)
    metrics.on_request("get", None, 1.0, 0)
    metrics.on_request("append", 409, 0.1, 0)
    found = samples(metrics)
    assert found['requests_total{code_class="2xx",operation="head"}'] == 1
    assert found['requests_total{code_class="none",operation="get"}'] == 1
    assert found['requests_total{code_class="4xx",operation="append"}'] == 1
    assert found["received_bytes_total"] == 4096
    assert found['request_duration_seconds_sum{operation="get"}'] == pytest.approx(1.3)
    assert found['request_duration_seconds_bucket{le="0.005",operation="head"}'] == 1


# --- hung in


class Stub:
    """A sink that refuses the second batch, and a reader that knows one answer."""

    def __init__(self) -> None:
        self.told: list[Event] = []
        self.closed = False

    async def write(self, batch: Batch) -> None:
        if self.told:
            raise errors.SinkError("full")
        self.told.append(batch)

    async def notice(self, event: Event) -> None:
        self.told.append(event)

    async def close(self) -> None:
        self.closed = True

    async def head(self, ref: ObjectRef) -> ObjectMeta:
        return ObjectMeta(5)

    async def fetch(self, ref: ObjectRef, range: ByteRange) -> Window:
        return Window(range.start, b"12345", ObjectMeta(5))


def test_what_a_sink_refused_is_not_counted(metrics: Metrics) -> None:
    async def run(stub: Stub) -> None:
        sink = metrics.sink(A, stub)
        await sink.write(batch(0, b"12345"))
        with pytest.raises(errors.SinkError):
            await sink.write(batch(5, b"67890"))
        await sink.notice(Verified(Position(5)))
        await sink.close()

    stub = Stub()
    asyncio.run(run(stub))
    assert [type(event) for event in stub.told] == [Batch, Verified]
    assert stub.closed
    assert samples(metrics)["delivered_bytes_total"] == 5


def test_the_poll_interval_is_the_time_between_two_looks_at_a_quiet_object(metrics: Metrics) -> None:
    times = iter([0.0, 0.5, 1.5, 3.5])

    async def run() -> float:
        reader = metrics.reader(Stub(), lambda: next(times))
        assert (await reader.head(A)).size == 5
        tell(metrics, Grew(0, 0, 5))
        assert (await reader.fetch(A, ByteRange(0, 5))).data == b"12345"
        assert "poll_interval_seconds" not in tell(metrics, batch(0, b"12345", verified=True))
        await reader.head(A)
        first = samples(metrics)["poll_interval_seconds"]
        await reader.fetch(A, ByteRange(4, 9))
        return first

    assert asyncio.run(run()) == 1.0
    assert samples(metrics)["poll_interval_seconds"] == 2.0


# --- served


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_page_is_served_until_close(metrics: Metrics, host: str) -> None:
    port = metrics.serve(host, 0)
    with urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert b"oss_tail_objects_followed" in answer.read()
    metrics.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((host, port), timeout=10)


def test_a_port_that_is_taken_is_one_plain_line(metrics: Metrics) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            errors.ConfigError, match=rf"^cannot serve metrics on 127.0.0.1:{port}: Address already in use$"
        ):
            metrics.serve("127.0.0.1", port)


def test_an_address_of_another_machine_is_one_plain_line(metrics: Metrics) -> None:
    with pytest.raises(errors.ConfigError, match=r"^cannot serve metrics on 192\.0\.2\.1:9464: "):
        metrics.serve("192.0.2.1", 9464)


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("9464", ("127.0.0.1", 9464)),
        ("0", ("127.0.0.1", 0)),
        ("0.0.0.0:9464", ("0.0.0.0", 9464)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:9464", ("::1", 9464)),
        ("[::]:9464", ("::", 9464)),
    ],
)
def test_where_to_listen(text: str, listen: tuple[str, int]) -> None:
    assert parse_listen(text) == listen


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        ":9464",
        "::1:9464",
        "[::1]",
        "localhost",
        "h:",
        "65536",
        "123456",
        "-1",
        "1.5",
        "h:٣",
        "a b:1",
        "9464\n",
    ],
)
def test_where_one_cannot_listen(text: str) -> None:
    with pytest.raises(errors.UsageError, match=r"^invalid address for metrics ") as refused:
        parse_listen(text)
    assert str(refused.value).isprintable()


def test_the_module_alone_does_not_import_the_package() -> None:
    code = "import sys, tailer.metrics; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
