"""One object's writer: whatever the network and the service do, every append is done once, or an error says so."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

import tailer.local
from tailer.append import Appended, Attributes, ObjectWriter
from tailer.core import crc64
from tailer.core.position import ObjectRef, Position
from tailer.errors import (
    AccessDenied,
    BucketNotFound,
    ChainBroken,
    CrcMissing,
    NotAppendable,
    ObjectFull,
    ObjectSealed,
    PositionConflict,
    ServiceUnavailable,
    TailerError,
    Throttled,
    TransportError,
    UsageError,
)
from tailer.local import Fault
from tailer.oss.address import Endpoint
from tailer.oss.client import ServiceSettings, connect
from tailer.oss.credentials import Credentials, StaticCredentials
from tailer.oss.transport import Timeouts
from tests.faults.proxy import Conduct, Proxy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tailer.local import LocalServer
    from tailer.oss.transport import Kind

REF = ObjectRef("bucket", "app.log")
APPEND = "AppendObject"
RECORDS = int(os.environ.get("RECORDS", "150"))
"""Of each of the two writers that race."""


@pytest.fixture(params=["direct", "fast", "httpx"])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Every transport."""
    kind: Kind = request.param
    return kind


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with tailer.local.running(["bucket"]) as server:
        yield server


def settings(server: LocalServer, kind: Kind | None = None, endpoint: str = "", read: float = 20.0) -> ServiceSettings:
    return ServiceSettings(
        StaticCredentials(Credentials(server.access_key_id, server.access_key_secret)),
        endpoint=Endpoint.parse(endpoint or server.endpoint),
        region=server.region,
        transport=kind,
        timeouts=Timeouts(read=read),
    )


def write(
    service: ServiceSettings, act: Callable[[ObjectWriter], Awaitable[object]], ref: ObjectRef = REF, **options: object
) -> ObjectWriter:
    """Open the object, `act`, and give the writer as it is then."""

    async def run() -> ObjectWriter:
        async with connect(service) as client:
            writer = ObjectWriter(client, ref, **options)  # type: ignore[arg-type]
            await writer.open()
            await act(writer)
            return writer

    return asyncio.run(run())


def content(server: LocalServer, key: str = REF.key) -> bytes:
    return server.store.read("bucket", key)


def position(data: bytes) -> Position:
    return Position(len(data), crc64.update(data))


# --- the table of the service's documentation, as a writer meets it


def test_a_missing_object_is_made(server: LocalServer, kind: Kind) -> None:
    done: list[Appended] = []

    async def act(writer: ObjectWriter) -> None:
        assert (writer.exists, writer.position) == (False, Position())
        done.append(await writer.append(b"one\n"))

    write(settings(server, kind), act)
    assert done == [Appended(Position(), position(b"one\n"))]
    assert content(server) == b"one\n"


def test_an_object_that_is_there_goes_on(server: LocalServer, kind: Kind) -> None:
    server.store.append("bucket", REF.key, 0, b"one\n")

    async def act(writer: ObjectWriter) -> None:
        assert (writer.exists, writer.position) == (True, position(b"one\n"))
        await writer.append(b"two\n")
        await writer.append(b"")
        await writer.append(memoryview(b"three\n"))

    assert write(settings(server, kind), act).position == position(b"one\ntwo\nthree\n")
    assert content(server) == b"one\ntwo\nthree\n"


def test_nothing_makes_an_empty_object(server: LocalServer) -> None:
    write(settings(server), lambda writer: writer.append(b""))
    assert server.store.head("bucket", REF.key).size == 0


def test_an_object_of_another_type_is_refused_when_it_is_opened(server: LocalServer) -> None:
    server.store.put("bucket", REF.key, b"whole")
    with pytest.raises(NotAppendable, match="Normal"):
        write(settings(server), lambda writer: writer.append(b"x"))
    assert content(server) == b"whole"


def test_an_object_that_was_put_over_is_refused_when_it_is_appended_to(server: LocalServer) -> None:
    async def act(writer: ObjectWriter) -> None:
        await writer.append(b"one\n")
        server.store.put("bucket", REF.key, b"whole")
        await writer.append(b"two\n")

    with pytest.raises(NotAppendable):
        write(settings(server), act)
    assert content(server) == b"whole"


def test_a_sealed_object_is_refused(server: LocalServer) -> None:
    async def act(writer: ObjectWriter) -> None:
        await writer.append(b"one\n")
        await writer.seal()
        await writer.seal()
        with pytest.raises(ObjectSealed):
            await writer.append(b"two\n")

    write(settings(server), act)
    assert server.store.head("bucket", REF.key).sealed is not None
    with pytest.raises(ObjectSealed):
        write(settings(server), lambda writer: writer.append(b"x"))


def test_a_missing_object_is_made_to_be_sealed(server: LocalServer) -> None:
    write(settings(server), lambda writer: writer.seal())
    assert server.store.head("bucket", REF.key).sealed is not None


def test_a_missing_bucket_is_an_error(server: LocalServer) -> None:
    with pytest.raises(BucketNotFound):
        write(settings(server), lambda writer: writer.append(b"x"), ObjectRef("nothere", "key"))


def test_a_key_without_the_permission_is_refused(server: LocalServer) -> None:
    server.faults.add(Fault("status", operation=APPEND, status=403, code="AccessDenied"))
    with pytest.raises(AccessDenied):
        write(settings(server), lambda writer: writer.append(b"x"))


def test_a_key_that_may_not_look_is_told_what_it_lacks(server: LocalServer) -> None:
    server.faults.add(Fault("status", operation="HeadObject", status=403, code="AccessDenied"))
    with pytest.raises(AccessDenied, match="oss:GetObject"):
        write(settings(server), lambda writer: writer.append(b"x"))


@pytest.mark.parametrize("key", ["a" * 1023, "日志/a b+%?#.log", "\x7f", "*"])
def test_names_of_every_kind(server: LocalServer, key: str) -> None:
    write(settings(server), lambda writer: writer.append(b"x"), ObjectRef("bucket", key))
    assert content(server, key) == b"x"


@pytest.mark.parametrize("key", ["a" * 1024, "/begins", "\\begins", "日" * 342])
def test_names_that_cannot_be(server: LocalServer, key: str) -> None:
    with pytest.raises(UsageError):
        write(settings(server), lambda writer: writer.append(b"x"), ObjectRef("bucket", key))


def test_attributes_go_with_the_first_append_alone(server: LocalServer) -> None:
    attributes = Attributes(
        content_type="text/plain",
        storage_class="IA",
        acl="public-read",
        metadata={"Source": "web 1"},
        tags={"team": "a&b", "日": "志"},
    )

    async def act(writer: ObjectWriter) -> None:
        await writer.append(b"one\n")
        server.store.set_acl("bucket", REF.key, "private")
        await writer.append(b"two\n")

    write(settings(server), act, attributes=attributes)
    info = server.store.head("bucket", REF.key)
    assert (info.acl, info.storage_class) == ("private", "IA")
    assert dict(info.tags) == {"team": "a&b", "日": "志"}
    headers = {name.lower(): value for name, value in info.headers.items()}
    assert (headers["content-type"], headers["x-oss-meta-source"]) == ("text/plain", "web 1")


@pytest.mark.parametrize(
    "given",
    [
        {"metadata": {"a b": "x"}},
        {"metadata": {"": "x"}},
        {"metadata": {"a": "line\nbreak"}},
        {"metadata": {"a": "日"}},
        {"metadata": {"a": "x" * 8192}},
        {"tags": {str(n): "" for n in range(11)}},
        {"tags": {"": "x"}},
        {"acl": "public"},
        {"content_type": "text/plain\r\nx-oss-object-acl: public-read"},
    ],
)
def test_attributes_that_no_request_could_carry(given: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Attributes(**given)  # type: ignore[arg-type]


def test_an_append_over_the_limit_is_refused_before_it_is_sent(server: LocalServer) -> None:
    async def act(writer: ObjectWriter) -> None:
        await writer.append(b"12345")
        assert writer.room == 5
        with pytest.raises(ObjectFull):
            await writer.append(b"123456")
        await writer.append(b"67890")
        assert writer.room == 0

    write(settings(server), act, limit=10)
    assert content(server) == b"1234567890"


# --- faults


@pytest.mark.parametrize(
    "fault",
    [
        Fault("lose-answer", operation=APPEND, count=1),
        Fault("reset", operation=APPEND, count=2),
        Fault("status", operation=APPEND, count=2),
        Fault("status", operation=APPEND, status=500, code="InternalError", count=1),
        Fault("status", operation=APPEND, status=429, code="QpsLimitExceeded", count=1),
        Fault("html", operation=APPEND, status=502, count=1),
        Fault("flip-crc", operation=APPEND, count=1),
        Fault("drop-header", operation=APPEND, count=1),
        Fault("drop-header", operation=APPEND, count=1, header="x-oss-next-append-position"),
        Fault("reset", operation="HeadObject", count=2),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.operation}-{fault.status}-{fault.header}",
)
@pytest.mark.parametrize("first", [True, False])
def test_what_passes_is_outlived_and_every_byte_is_there_once(
    server: LocalServer, kind: Kind, fault: Fault, first: bool
) -> None:
    """The answer to an append is lost, wrong or an error, before the work or after it, at creation or later."""

    async def act(writer: ObjectWriter) -> None:
        if not first:
            await writer.append(b"zero\n")
        server.faults.add(fault)
        await writer.append(b"one\n")
        await writer.append(b"two\n")

    expected = b"one\ntwo\n" if first else b"zero\none\ntwo\n"
    assert write(settings(server, kind), act).position == position(expected)
    assert content(server) == expected
    assert server.faults.injected or fault.operation == "HeadObject"


@pytest.mark.parametrize("conduct", [Conduct.HANG_UP, Conduct.HALF_A_HEAD, Conduct.NONSENSE, Conduct.SILENT])
def test_a_connection_that_breaks_after_the_work_was_done(server: LocalServer, kind: Kind, conduct: Conduct) -> None:
    with Proxy(server.endpoint) as proxy:

        async def act(writer: ObjectWriter) -> None:
            await writer.append(b"one\n")
            proxy.misbehave(conduct)
            await writer.append(b"two\n")
            await writer.append(b"three\n")

        write(settings(server, kind, proxy.endpoint, read=0.5), act)
    assert content(server) == b"one\ntwo\nthree\n"


def test_each_attempt_is_told_of_and_patience_ends(server: LocalServer) -> None:
    told: list[TailerError] = []
    server.faults.add(Fault("status", operation=APPEND, status=500, code="InternalError"))
    with pytest.raises(ServiceUnavailable):
        write(
            settings(server),
            lambda writer: writer.append(b"x"),
            patience=0.5,
            on_trouble=lambda error, delay: told.append(error),
        )
    assert told
    assert {type(error) for error in told} == {ServiceUnavailable}


def test_what_an_outage_taught_to_wait_is_over_with_it(server: LocalServer) -> None:
    """The longer and longer waits of the looks in between do not hold up the append, once they are answered."""
    waits: list[tuple[str, float]] = []
    server.faults.add(
        Fault("status", operation=APPEND, code="InternalError", count=1),
        Fault("status", operation="HeadObject", after=1, count=4),
    )
    write(
        settings(server),
        lambda writer: writer.append(b"x"),
        on_trouble=lambda error, delay: waits.append((getattr(error, "code", ""), delay)),
    )
    *looks, (code, last) = waits
    assert [delay <= 0.2 * 2**number for number, (_, delay) in enumerate(looks)] == [True] * 4
    assert (code, last) == ("InternalError", pytest.approx(0.15, abs=0.051))
    assert content(server) == b"x"


def test_a_throttle_waits_as_long_as_it_was_asked_to(server: LocalServer) -> None:
    waits: list[float] = []
    fault = Fault("status", operation=APPEND, code="UploadTrafficRateLimitExceeded", delay_ms=400, count=1)
    server.faults.add(fault)
    write(
        settings(server),
        lambda writer: writer.append(b"x"),
        on_trouble=lambda error, delay: waits.append(delay if isinstance(error, Throttled) else -1.0),
    )
    assert waits == [pytest.approx(0.4)]


def test_a_server_that_went_away_is_an_error_in_time(server: LocalServer, kind: Kind) -> None:
    with Proxy(server.endpoint) as proxy:

        async def act(writer: ObjectWriter) -> None:
            await writer.append(b"one\n")
            proxy.close()
            await writer.append(b"two\n")

        with pytest.raises(TransportError):
            write(settings(server, kind, proxy.endpoint), act, patience=0.3)
    assert content(server) == b"one\n"


def test_a_crc_that_never_fits_is_a_broken_chain(server: LocalServer) -> None:
    """Also the HEAD states it: the object does not have the bytes that were sent."""

    async def act(writer: ObjectWriter) -> None:
        await writer.append(b"one\n")
        server.faults.add(Fault("flip-crc"))
        await writer.append(b"two\n")

    with pytest.raises(ChainBroken, match="CRC-64"):
        write(settings(server), act)


def test_a_service_without_crc_is_refused(server: LocalServer) -> None:
    server.store.append("bucket", REF.key, 0, b"one\n")
    server.faults.add(Fault("drop-header"))
    with pytest.raises(CrcMissing):
        write(settings(server), lambda writer: writer.append(b"x"))


class Liar(BaseHTTPRequestHandler):
    """A service that takes every append, and answers with a next position that is not ours."""

    taken = b""
    states_the_truth_later = True

    def do_HEAD(self) -> None:
        if not self.taken:
            self.answer(404, {"x-oss-request-id": "1"})
        elif self.states_the_truth_later:
            self.answer(200, {"Content-Length": str(len(self.taken)), "x-oss-object-type": "Appendable"})
        else:
            self.answer(200, {"Content-Length": "999", "x-oss-object-type": "Appendable"})

    def do_POST(self) -> None:
        type(self).taken = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, {"x-oss-next-append-position": "999", "Content-Length": "0"})

    def answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        stated = {"x-oss-hash-crc64ecma": str(crc64.update(self.taken)), "x-oss-request-id": "1"}
        for name, value in {**stated, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on standard error."""


@pytest.mark.parametrize("truth_later", [True, False])
def test_a_next_position_that_is_not_ours_is_not_believed(server: LocalServer, truth_later: bool) -> None:
    """The object itself is asked: it has our bytes and no others, or there is another writer."""
    liar = type("Liar", (Liar,), {"states_the_truth_later": truth_later})
    with HTTPServer(("127.0.0.1", 0), liar) as lying:
        thread = threading.Thread(target=lying.serve_forever)
        thread.start()
        service = settings(server, endpoint=f"http://127.0.0.1:{lying.server_address[1]}")
        try:
            if truth_later:
                assert write(service, lambda writer: writer.append(b"one\n")).position == position(b"one\n")
            else:
                with pytest.raises(PositionConflict):
                    write(service, lambda writer: writer.append(b"one\n"))
        finally:
            lying.shutdown()
            thread.join()


def test_a_token_that_expires_between_appends_is_one_error(server: LocalServer) -> None:
    async def act(writer: ObjectWriter) -> None:
        await writer.append(b"one\n")
        server.faults.add(Fault("status", status=403, code="SecurityTokenExpired"))
        await writer.append(b"two\n")

    with pytest.raises(TailerError, match="SecurityTokenExpired"):
        write(settings(server), act)
    assert content(server) == b"one\n"


# --- another writer


def test_another_writer_is_an_error_with_both_positions(server: LocalServer) -> None:
    async def act(writer: ObjectWriter) -> None:
        await writer.append(b"one\n")
        server.store.append("bucket", REF.key, 4, b"other\n")
        await writer.append(b"two\n")

    with pytest.raises(PositionConflict, match="another writer") as caught:
        write(settings(server), act)
    assert caught.value.ours == (4, crc64.update(b"one\n"))
    assert caught.value.theirs == (10, crc64.update(b"one\nother\n"))
    assert content(server) == b"one\nother\n"


def test_another_writer_with_as_many_bytes_is_not_taken_for_us(server: LocalServer) -> None:
    """The answer is lost and the length is the wanted one; only the CRC-64 tells."""

    async def act(writer: ObjectWriter) -> None:
        await writer.append(b"one\n")
        server.faults.add(Fault("reset", operation=APPEND, count=1))
        server.store.append("bucket", REF.key, 4, b"TWO\n")
        await writer.append(b"two\n")

    with pytest.raises(PositionConflict):
        write(settings(server), act)
    assert content(server) == b"one\nTWO\n"


def test_another_writer_with_the_same_bytes_is_an_error(server: LocalServer) -> None:
    """Ours were refused, so those that stand there are not ours, though length and CRC-64 are the wanted ones."""

    async def act(writer: ObjectWriter) -> None:
        await writer.append(b"one\n")
        server.store.append("bucket", REF.key, 4, b"tick\n")
        await writer.append(b"tick\n")

    with pytest.raises(PositionConflict, match="another writer") as caught:
        write(settings(server), act)
    assert caught.value.ours == (4, crc64.update(b"one\n"))
    assert caught.value.theirs == (9, crc64.update(b"one\ntick\n"))
    assert content(server) == b"one\ntick\n"


@pytest.mark.parametrize("again", [b"", b"ten\n", b"much longer\n"])
def test_an_object_that_was_deleted_or_replaced_is_a_conflict(server: LocalServer, again: bytes) -> None:
    async def act(writer: ObjectWriter) -> None:
        await writer.append(b"one\n")
        server.store.delete("bucket", REF.key)
        if again:
            server.store.append("bucket", REF.key, 0, again)
        await writer.append(b"two\n")

    # Of the same length it is noticed by its CRC-64, with the append that it took.
    with pytest.raises(ChainBroken if len(again) == 4 else PositionConflict):
        write(settings(server), act)


def test_seal_finds_another_writer_out(server: LocalServer) -> None:
    async def act(writer: ObjectWriter) -> None:
        await writer.append(b"one\n")
        server.store.append("bucket", REF.key, 4, b"other\n")
        await writer.seal()

    with pytest.raises(PositionConflict):
        write(settings(server), act)


def test_by_option_it_goes_on_behind_the_other_writer(server: LocalServer) -> None:
    done: list[Appended] = []

    async def act(writer: ObjectWriter) -> None:
        await writer.append(b"one\n")
        server.store.append("bucket", REF.key, 4, b"other\n")
        done.append(await writer.append(b"two\n"))

    write(settings(server), act, on_conflict="continue")
    assert content(server) == b"one\nother\ntwo\n"
    assert done == [Appended(position(b"one\nother\n"), position(b"one\nother\ntwo\n"))]


def test_by_option_the_same_bytes_of_two_writers_are_there_twice(server: LocalServer) -> None:
    done: list[Appended] = []

    async def act(writer: ObjectWriter) -> None:
        await writer.append(b"one\n")
        server.store.append("bucket", REF.key, 4, b"tick\n")
        done.append(await writer.append(b"tick\n"))

    write(settings(server), act, on_conflict="continue")
    assert content(server) == b"one\ntick\ntick\n"
    assert done == [Appended(position(b"one\ntick\n"), position(b"one\ntick\ntick\n"))]


def test_by_option_it_starts_anew_where_the_object_is_gone(server: LocalServer) -> None:
    async def act(writer: ObjectWriter) -> None:
        await writer.append(b"one\n")
        server.store.delete("bucket", REF.key)
        await writer.append(b"two\n")

    write(settings(server), act, on_conflict="continue")
    assert content(server) == b"two\n"


@pytest.mark.parametrize("fault", ["lose-answer", "reset"])
def test_with_a_lost_answer_and_another_writer_the_object_itself_tells(server: LocalServer, fault: str) -> None:
    """Length and CRC-64 cannot tell any more whether our bytes are in the object; the bytes can."""

    def interfere(error: TailerError, delay: float) -> None:
        """The other writer comes between the append and the look at what became of it."""
        server.store.append("bucket", REF.key, server.store.head("bucket", REF.key).size, b"other\n")

    async def act(writer: ObjectWriter) -> None:
        await writer.append(b"one\n")
        server.faults.add(Fault(fault, operation=APPEND, count=1), Fault("reset", operation="HeadObject", count=1))
        await writer.append(b"two\n")
        await writer.append(b"three\n")

    write(settings(server), act, on_conflict="continue", on_trouble=interfere)
    middle = b"two\nother\n" if fault == "lose-answer" else b"other\ntwo\n"
    assert content(server) == b"one\n" + middle + b"three\n"


@pytest.mark.timeout(0 if RECORDS > 150 else 120)
@pytest.mark.parametrize("seed", range(2))
def test_two_writers_racing_under_faults_put_every_record_once_and_in_order(server: LocalServer, seed: int) -> None:
    """All that was acknowledged is there once, in each writer's order, though answers get lost all the time."""
    server.faults.add(
        Fault("lose-answer", operation=APPEND, probability=0.04),
        Fault("reset", operation=APPEND, probability=0.04),
        Fault("flip-crc", operation=APPEND, probability=0.02),
    )

    async def race() -> None:
        async with connect(settings(server)) as client:

            async def one(name: str) -> None:
                chance = random.Random(f"{seed}{name}")
                writer = ObjectWriter(client, REF, on_conflict="continue")
                await writer.open()
                number = 0
                while number < RECORDS:
                    count = chance.randint(1, 4)
                    lines = (b"%s %d\n" % (name.encode(), n) for n in range(number, number + count))
                    data = b"".join(lines)
                    done = await writer.append(data)
                    assert done.end.offset - done.start.offset == len(data)
                    number += count

            await asyncio.gather(one("a"), one("b"))

    asyncio.run(race())
    lines = content(server).decode().splitlines()
    for name in "ab":
        numbers = [int(line.split()[1]) for line in lines if line.startswith(name)]
        assert len(numbers) >= RECORDS
        assert numbers == list(range(len(numbers)))
    assert server.faults.injected > 5


def test_a_server_that_is_killed_again_and_again_has_every_record_once(server: LocalServer, tmp_path: Path) -> None:
    """kill -9 in the middle of appends; it comes back over the same folder, at the same port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "import sys; from tailer.cli.local import main; sys.exit(main())"]
    arguments = ["--root", str(tmp_path), "--port", str(port), "--bucket", "bucket"]
    ended = threading.Event()
    kills = 0

    def size() -> int:
        path = tmp_path / "bucket" / REF.key
        return path.stat().st_size if path.exists() else -1

    def serve() -> None:
        nonlocal kills
        chance = random.Random(5)
        while not ended.is_set():
            process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            assert process.stdout is not None
            process.stdout.readline()  # it is there
            before, deadline = size(), time.monotonic() + 30
            # Each life sees an append, however long the writer waits before it tries again.
            while size() == before and time.monotonic() < deadline:
                if ended.wait(0.005):
                    break
            ended.wait(chance.uniform(0, 0.3))
            process.kill()
            process.communicate()
            kills += 1

    async def act(writer: ObjectWriter) -> None:
        number = 0
        while kills < 3 or number < 50:
            await writer.append(b"%d\n" % number)
            number += 1
        ended.set()

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        write(settings(server, endpoint=f"http://127.0.0.1:{port}"), act)
    finally:
        ended.set()
        serving.join()
    lines = (tmp_path / "bucket" / REF.key).read_text().splitlines()
    assert len(lines) >= 50
    assert lines == [str(number) for number in range(len(lines))]
