"""What HTTP can do to a request on its way, on a raw socket."""

from __future__ import annotations

import gzip
import http.client
import logging
import socket
import struct
import threading
import urllib.request
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tailer.core import crc64
from tailer.local import Fault, running

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Requester

    from tailer.local.server import LocalServer


@pytest.fixture
def raw(server: LocalServer) -> socket.socket:
    """A connection to a server whose bucket everybody may write to."""
    server.store.create_bucket("demo", "public-read-write")
    host, port = server.endpoint.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        yield connection


def receive(connection: socket.socket) -> tuple[int, bytes]:
    """One answer: status and body."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, response.read()


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/demo/a/../b", "a/../b"),
        ("/demo/..", ".."),
        ("/demo/./a", "./a"),
        ("/demo/a//b", "a//b"),
        ("/demo/a/", "a/"),
        ("/demo/a%2Fb", "a/b"),
        ("/demo/a+b", "a+b"),
        ("/demo/a%2Bb", "a+b"),
        ("/demo/a%20b", "a b"),
        ("/demo/a%0Ab", "a\nb"),
        ("/demo/a%25b", "a%b"),
        ("/demo/a%252Fb", "a%2Fb"),
        ("/demo/a%3Fb", "a?b"),
        ("/demo/%E6%97%A5", "日"),
        ("/demo/" + "%E6%97%A5" * 341, "日" * 341),
        ("/demo/-/faults", "-/faults"),
    ],
)
def test_keys_are_taken_as_they_stand(raw: socket.socket, server: LocalServer, path: str, key: str) -> None:
    """No library on the way folds, decodes twice or drops anything."""
    raw.sendall(f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\nx".encode())
    assert receive(raw)[0] == 200
    assert [row.name for row in server.store.list("demo").rows] == [key]
    raw.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    assert receive(raw) == (200, b"x")


@pytest.mark.parametrize(
    "path", ["/demo//a", "/demo/%2Fa", "/demo/%5Ca", "/demo/%FF", "/demo/%ED%A0%80", "/demo/" + "a" * 1024]
)
def test_names_that_no_object_has(raw: socket.socket, path: str) -> None:
    """400 InvalidObjectName."""
    raw.sendall(f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\nx".encode())
    status, body = receive(raw)
    assert status == 400
    assert b"<Code>InvalidObjectName</Code>" in body


def test_virtual_host(raw: socket.socket) -> None:
    """The bucket in the Host; the admin path is then an object like any other."""
    raw.sendall(b"POST /-/faults?append&position=0 HTTP/1.1\r\nHost: demo.localhost:1\r\nContent-Length: 1\r\n\r\nx")
    assert receive(raw)[0] == 200
    raw.sendall(b"GET /demo/-/faults HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert receive(raw) == (200, b"x")


def test_body_without_length_is_refused(raw: socket.socket, server: LocalServer) -> None:
    """411 MissingContentLength for append and put; Content-Length: 0 is a length."""
    for start in (b"POST /demo/log?append&position=0", b"PUT /demo/log"):
        raw.sendall(start + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        status, body = receive(raw)
        assert status == 411
        assert b"<Code>MissingContentLength</Code>" in body
    assert server.store.list("demo").rows == []
    raw.sendall(b"POST /demo/log?append&position=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n")
    assert receive(raw)[0] == 200


def test_chunked_upload(raw: socket.socket, server: LocalServer) -> None:
    """Any pieces make the same object."""
    raw.sendall(
        b"POST /demo/log?append&position=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"
    )
    assert receive(raw)[0] == 200
    assert server.store.read("demo", "log") == b"abcd"


def test_continue_is_sent_when_the_body_is_wanted(raw: socket.socket, server: LocalServer) -> None:
    """And not when the request is refused before: then the body need not be sent at all."""
    head = (
        b"POST /demo/log?append&position=%d HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    raw.sendall(head % 0)
    assert raw.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    raw.sendall(b"abc")
    assert receive(raw)[0] == 200
    raw.sendall(head % 9)
    assert raw.recv(1000).startswith(b"HTTP/1.1 409 ")
    assert server.store.read("demo", "log") == b"abc"


@pytest.mark.parametrize("framing", [b"Content-Length: 100", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("start", [b"POST /demo/log?append&position=3", b"PUT /demo/log"])
def test_a_cut_body_changes_nothing(raw: socket.socket, server: LocalServer, framing: bytes, start: bytes) -> None:
    """Neither of an append nor of a put."""
    before = server.store.append("demo", "log", 0, b"abc")
    body = b"5\r\nfirst\r\n5\r\nse" if b"chunked" in framing else b"not a hundred bytes"
    raw.sendall(start + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n" + framing + b"\r\n\r\n" + body)
    raw.shutdown(socket.SHUT_WR)
    assert raw.recv(1000) == b""
    assert server.store.head("demo", "log") == before


def test_packed_body_is_stored_as_sent(raw: socket.socket, server: LocalServer) -> None:
    """Content-Encoding is the object's, not the transport's."""
    packed = gzip.compress(b"hello")
    raw.sendall(
        b"PUT /demo/log HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
        % len(packed)
        + packed
    )
    assert receive(raw)[0] == 200
    assert server.store.read("demo", "log") == packed


def test_one_connection_many_requests(raw: socket.socket) -> None:
    """A refusal does not end it, be the body read or not."""
    for position in range(5):
        raw.sendall(
            b"POST /demo/log?append&position=%d HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\nx" % position
        )
        assert receive(raw)[0] == 200
        raw.sendall(b"POST /demo/log?append&position=77 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\nx")
        assert receive(raw)[0] == 409


def test_pipelined_requests(raw: socket.socket) -> None:
    """Are answered in order."""
    request = b"POST /demo/log?append&position=%d HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\nx"
    raw.sendall(b"".join(request % position for position in range(20)))
    data = b""
    while data.count(b"x-oss-next-append-position: 20") < 1:
        data += raw.recv(65536)
    assert data.count(b"HTTP/1.1 200 OK") == 20


@pytest.mark.parametrize(
    "garbage", [b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"]
)
def test_garbage_does_not_harm(raw: socket.socket, ask: Requester, garbage: bytes) -> None:
    """The connection ends; the server goes on."""
    raw.sendall(garbage)
    raw.shutdown(socket.SHUT_WR)
    assert b"Traceback" not in raw.recv(10_000)
    assert ask("GET", "none").status == 404


def test_metadata_that_is_not_ascii_comes_back(ask: Requester) -> None:
    """As the bytes that were sent."""

    def extra(headers: dict[str, str]) -> None:
        headers["x-oss-meta-name"] = "zürich".encode().decode("latin-1")

    ask.server.store.create_bucket("demo", "public-read-write")
    assert ask("PUT", "log", body=b"x", sign=False, extra=extra).status == 200
    assert ask("HEAD", "log").headers["x-oss-meta-name"].encode("latin-1").decode() == "zürich"


def test_cname(ask: Requester) -> None:
    """A configured host is its bucket; the signature covers the bucket all the same."""
    with running(["demo"], cnames={"files.example.org": "demo"}) as server:
        other = type(ask)(server)
        assert other("PUT", "a", path="/a", body=b"x", Host="files.example.org").status == 200
        assert server.store.read("demo", "a") == b"x"


def test_every_answer_has_a_request_id(ask: Requester) -> None:
    """Each its own."""
    replies = [ask("GET", None), ask("GET", "none"), ask("POST", "x"), ask("HEAD", "none"), ask("DELETE", "none")]
    assert len({reply.headers["x-oss-request-id"] for reply in replies}) == len(replies)


def test_a_large_body_that_is_refused(ask: Requester) -> None:
    """The client that sends it all the same gets the answer, not a reset."""
    body = b"x" * (20 << 20)
    assert ask.append("log", 5, body).code == "PositionNotEqualToLength"
    assert replace(ask, secret="wrong").append("log", 0, body).code == "SignatureDoesNotMatch"
    with running(["demo"], append_limit=1 << 20) as server:
        chunks = (body[:65536] for _ in range(320))
        assert replace(ask, server=server)("POST", "log", "append&position=0", chunks).code == "EntityTooLarge"


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("append&position=" + "9" * 5000, {}),
        ("", {"Range": f"bytes={'9' * 5000}-"}),
        ("list-type=2&max-keys=" + "9" * 5000, {}),
        ("Expires=" + "9" * 5000 + "&OSSAccessKeyId=local&Signature=x", {}),
        ("", {"x_oss_traffic_limit": "9" * 5000}),
        ("", {"If_Modified_Since": "Thu, 01 Jan 99999 00:00:00 GMT"}),
        ("", {"x_oss_date": "99999999T999999Z"}),
    ],
)
def test_absurd_numbers(ask: Requester, query: str, headers: dict[str, str]) -> None:
    """Are refused or ignored, and never an internal error."""
    ask.append("log", 0, b"abc")
    signed = not query.startswith("Expires") and "x_oss_date" not in headers
    key = None if "list-type" in query else "log"
    method = "POST" if query.startswith("append") else "GET"
    reply = ask(method, key, query, b"x" if method == "POST" else None, sign=signed, **headers)
    assert reply.status in (200, 400, 403)


@pytest.mark.parametrize("query", ["list-type=2&prefix=%FF", "marker=%ED%A0%80", "%FF=1", "start-after=%FF"])
def test_a_query_that_is_no_utf_8(raw: socket.socket, query: str) -> None:
    """400 InvalidArgument."""
    raw.sendall(f"GET /demo/?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    status, body = receive(raw)
    assert status == 400
    assert b"<Code>InvalidArgument</Code>" in body


@pytest.mark.parametrize("folder", [False, True])
def test_writers_that_race(ask: Requester, tmp_path: Path, folder: bool) -> None:
    """Each position is given to one of them; every acknowledged piece is there, once, with small and large bodies."""
    written: list[tuple[int, bytes]] = []

    def write(server: LocalServer, letter: int) -> None:
        body = bytes([letter]) * (9 << 20 if letter == 65 else 1000 + letter)
        requester, position, left = replace(ask, server=server), 0, 4
        while left:
            reply = requester.append("log", position, body)
            if reply.status == 200:
                written.append((position, body))
                left -= 1
            else:
                assert reply.code == "PositionNotEqualToLength"
            position = reply.position

    with running(["demo"], root=tmp_path if folder else None) as server:
        threads = [threading.Thread(target=write, args=(server, 65 + number)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        content = b"".join(body for _, body in sorted(written))
        assert len(written) == 20
        assert server.store.read("demo", "log") == content
        assert server.store.head("demo", "log").crc64 == crc64.update(content)


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("slow", [False, True])
def test_a_reader_that_goes_away(tmp_path: Path, caplog: pytest.LogCaptureFixture, folder: bool, slow: bool) -> None:
    """Is nothing to make a fuss about: no error is logged, and the server goes on."""
    with running(["demo"], root=tmp_path if folder else None) as server:
        server.store.create_bucket("demo", "public-read")
        server.store.append("demo", "log", 0, b"x" * (30 << 20))
        if slow:
            server.faults.add(Fault("slow", rate=50e6))
        port = int(server.endpoint.rsplit(":", 1)[1])
        for hard in (False, True):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(b"GET /demo/log HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                assert connection.recv(15) == b"HTTP/1.1 200 OK"
                if hard:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with urllib.request.urlopen(f"{server.endpoint}/demo/log") as response:
            assert response.status == 200
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
