"""Both transports against real sockets: the same behaviour, the same errors, no secret in any of them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import random
import re
import socket
import ssl
import subprocess
import sys
import time
import traceback
from datetime import UTC, datetime, timedelta

import httpx
import pyreqwest.exceptions
import pytest
import trustme

from tailer import errors
from tailer.oss.http import map_error
from tailer.oss.libraries import FastTransport, HttpxTransport, _cancellable
from tailer.oss.transport import Timeouts, open_transport

QUERY = "?Signature=VerySecret&x-oss-signature=VerySecret"
BRIEF = Timeouts(2, 2)
SHORT = Timeouts(connect=0.3, read=0.3)


async def get(kind, url, *, timeouts=BRIEF, method="GET", body=None):
    """Status and body of one exchange."""
    transport = open_transport(kind, timeouts=timeouts)
    try:
        async with transport.open(method, url, {"accept-encoding": "identity"}, body) as response:
            return response.status, bytes(await response.read(1 << 20))
    finally:
        await transport.aclose()


def failure(wire, kind, *replies, **options):
    """The error of one GET of a scripted answer, its URL signed."""

    async def main():
        async with wire.serving(*replies) as server:
            with pytest.raises(errors.TransportError) as caught:
                await asyncio.wait_for(get(kind, f"{server.url}/key{QUERY}", **options), 20)
            return caught.value

    return asyncio.run(main())


def check(error, kind_of_error):
    """The class, one line, no secret anywhere, the cause kept."""
    assert type(error) is kind_of_error
    assert "\n" not in str(error)
    assert error.__cause__ is not None
    assert "VerySecret" not in "".join(traceback.format_exception(error))


# --- bodies


def test_read_gives_at_most_its_limit(wire, kind):
    """And `chunks` gives everything."""

    async def main():
        async with wire.serving(wire.answer(200, {}, b"0123456789" * 50000)) as server:
            transport = open_transport(kind)
            async with transport.open("GET", server.url, {}) as response:
                first = bytes(await response.read(7))
            async with transport.open("GET", server.url, {}) as response:
                pieces = [bytes(chunk) async for chunk in response.chunks()]
            await transport.aclose()
            return first, b"".join(pieces)

    assert asyncio.run(main()) == (b"0123456", b"0123456789" * 50000)


def test_headers_are_found_whatever_their_case(wire, kind):
    """The first one counts; bytes that are not ASCII do no harm."""

    async def main():
        reply = b"HTTP/1.1 200 OK\r\nX-Twice: a\r\nx-twice: b\r\nX-Odd: \xff\xfe\r\nContent-Length: 0\r\n\r\n"
        async with wire.serving(reply) as server:
            transport = open_transport(kind)
            async with transport.open("GET", server.url, {}) as response:
                found = [response.header(name) for name in ("x-twice", "X-TWICE", "x-none")]
                odd = response.header("x-odd")
            await transport.aclose()
            return found, odd

    found, odd = asyncio.run(main())
    assert found == ["a", "a", None]
    assert odd


def test_a_redirect_is_an_answer_like_any_other(wire, kind):
    """Nothing is sent to another host."""

    async def main():
        async with wire.serving(wire.answer(302, {"Location": "/elsewhere"})) as server:
            status, _ = await get(kind, server.url)
            return status, len(server.requests)

    assert asyncio.run(main()) == (302, 1)


@pytest.mark.parametrize(
    ("beginning", "again"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X-More: and more\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\nX-More: ", b"m" * 20_000),
        (b"HTTP/1.1 200 ", b"K" * 20_000),
    ],
    ids=["fields", "a field", "a reason"],
)
def test_a_head_without_an_end_is_given_up(wire, kind, beginning, again):
    """Long before its size is of any weight."""
    sent = 0

    async def pour(reader, writer):
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(beginning)
        while sent < 1 << 27:
            writer.write(again)
            await writer.drain()
            sent += len(again)

    async def main():
        async with wire.listening(pour) as port:
            with pytest.raises(errors.TransportError):
                await get(kind, f"http://127.0.0.1:{port}/")

    asyncio.run(main())
    assert sent < 16 << 20, "what sockets buffer, and some"


def test_an_upload_may_take_longer_than_the_read_timeout(wire, kind):
    """The read timeout is about silence; a slow line that moves is not silent."""
    body = bytes(6 << 20)

    async def take_slowly(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        taken = 0
        while taken < len(body):
            piece = await reader.read(1 << 20)
            taken += len(piece)
            await asyncio.sleep(2 * SHORT.read * len(piece) / len(body))
        writer.write(wire.answer(200, {}, head.split()[0]))
        await writer.drain()

    async def main():
        started = time.monotonic()
        async with wire.listening(take_slowly) as port:
            result = await get(kind, f"http://127.0.0.1:{port}/", timeouts=SHORT, method="POST", body=body)
        return result, time.monotonic() - started

    result, seconds = asyncio.run(main())
    assert result == (200, b"POST")
    assert seconds > SHORT.read


def test_a_refusal_before_the_end_of_an_upload_does_not_disturb_the_next_request(wire, kind):
    """Nothing of the body is taken for a request, and no request for a part of the body."""
    body = bytes(64 << 20)
    seen = []

    async def refuse(reader, writer):
        while head := await reader.readuntil(b"\r\n\r\n"):
            method = head.split()[0]
            seen.append(method)
            writer.write(wire.answer(403 if method == b"POST" else 200, {}, method))
            await writer.drain()
            if method == b"POST":
                await reader.readexactly(len(body))

    async def main():
        async with wire.listening(refuse) as port:
            transport = open_transport(kind, timeouts=BRIEF)
            said = []
            for method, sent in (("POST", body), ("GET", None)):
                async with transport.open(method, f"http://127.0.0.1:{port}/", {}, sent) as response:
                    said.append((response.status, bytes(await response.read(100))))
            await transport.aclose()
            return said

    assert asyncio.run(main()) == [(403, b"POST"), (200, b"GET")]
    assert seen == [b"POST", b"GET"]


# --- what can go wrong


@pytest.mark.parametrize("size", [5, 1 << 20])
@pytest.mark.parametrize("end", [{"close": True}, {"reset": True}], ids=["closed", "reset"])
def test_an_append_is_sent_once_whatever_becomes_of_its_connection(wire, kind, end, size):
    """A writer takes a refusal for one of the only request: whoever sends a second one must tell of the first."""

    async def main():
        replies = [wire.answer(200, {}, b"x"), wire.reply(b"", **end), wire.answer(409, {}, b"y")]
        async with wire.serving(*replies) as server:
            transport = open_transport(kind, timeouts=BRIEF)
            async with transport.open("POST", server.url, {}, bytes(size)) as response:
                await response.read(10)
            with pytest.raises(errors.ConnectionLost):
                async with transport.open("POST", server.url, {}, bytes(size)):
                    pass
            await transport.aclose()
            return len(server.requests), server.connections

    assert asyncio.run(main()) == (2, 1)


def test_nobody_listens(kind):
    """ConnectError names the host and the reason, and not the query."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(errors.ConnectError) as caught:
        asyncio.run(get(kind, f"http://127.0.0.1:{port}/key{QUERY}"))
    check(caught.value, errors.ConnectError)
    assert str(caught.value).startswith(f"cannot connect to 127.0.0.1:{port}: Connection refused")
    assert caught.value.retriable


def test_no_such_host(kind):
    """A name that does not resolve."""
    with pytest.raises(errors.ConnectError) as caught:
        asyncio.run(get(kind, f"http://no-such-host.invalid/key{QUERY}"))
    check(caught.value, errors.ConnectError)
    assert str(caught.value).startswith("cannot connect to no-such-host.invalid: ")


def test_a_host_that_does_not_take_the_connection(kind):
    """A full backlog drops the SYN, as a firewall does."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        with pytest.raises(errors.RequestTimeout) as caught:
            asyncio.run(get(kind, f"http://127.0.0.1:{listener.getsockname()[1]}/{QUERY}", timeouts=SHORT))
    check(caught.value, errors.RequestTimeout)


def test_silence_before_the_answer(wire, kind):
    """RequestTimeout, after the read timeout."""
    check(failure(wire, kind, wire.reply(b"", hold=True), timeouts=SHORT), errors.RequestTimeout)


def test_silence_in_the_body(wire, kind):
    """RequestTimeout as well."""
    reply = wire.reply(wire.answer(200, {}, b"half", length=8), hold=True)
    check(failure(wire, kind, reply, timeouts=SHORT), errors.RequestTimeout)


def test_the_connection_is_closed_before_the_answer(wire, kind):
    """ConnectionLost: whether the request was acted upon is not known."""
    check(failure(wire, kind, wire.reply(b"", close=True)), errors.ConnectionLost)


def test_the_connection_is_reset(wire, kind):
    """ConnectionLost."""
    check(failure(wire, kind, wire.reply(b"", reset=True)), errors.ConnectionLost)


def test_what_the_caller_is_handling_is_no_reason(wire, kind, tmp_path):
    """Nor is anything changed about it."""
    try:
        (tmp_path / "none").read_bytes()
    except FileNotFoundError as handled:
        before = handled.__traceback__
        error = failure(wire, kind, wire.reply(b"", close=True))
        after = handled.__traceback__
    assert "No such file" not in str(error)
    assert before is after is not None


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhalf",
        b"HTTP/1.1 xyz OK\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
    ],
)
def test_half_an_answer_and_no_answer_at_all(wire, kind, data):
    """Cut bodies and bytes that are not HTTP."""
    check(failure(wire, kind, wire.reply(data, close=True)), errors.ConnectionLost)


@pytest.mark.parametrize("url", ["http://[::1/", "nonsense", "ftp://host/"])
def test_what_is_not_a_url(kind, url):
    """A caller's mistake is not a failure of the network: nothing will try it again."""
    with pytest.raises(errors.UsageError):
        asyncio.run(get(kind, url))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-oss-meta-a", "VerySecret\r\nx-oss-object-acl: public-read"),
        ("x-oss-meta-a", "VerySecret\nx-oss-object-acl: public-read"),
        ("x-oss-meta-a", "VerySecret\n"),
        ("x-oss-meta-a", "VerySecret\r"),
        ("x-oss-meta-a", "VerySecret\0"),
        ("x-oss-meta-a", "VerySecret é"),
        ("x-oss-meta-a: b\r\nx-oss-object-acl", "VerySecret"),
        ("x-oss-meta-a\nb", "VerySecret"),
        ("x-oss meta", "VerySecret"),
    ],
)
def test_a_header_that_cannot_be_sent(wire, kind, name, value):
    """A newline in one would be another header; a value may be a security token, so it is not told."""

    async def main():
        async with wire.serving(wire.answer()) as server:
            transport = open_transport(kind)
            try:
                async with transport.open("GET", server.url, {"x-fine": "fine", name: value}):
                    pass
            finally:
                await transport.aclose()
                assert server.requests == []

    with pytest.raises(errors.UsageError) as caught:
        asyncio.run(main())
    assert "VerySecret" not in "".join(traceback.format_exception(caught.value))


def _exceptions_of(module):
    return [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__.startswith(module.__name__.split(".")[0])
    ]


@pytest.mark.parametrize("kind_of_error", _exceptions_of(pyreqwest.exceptions), ids=lambda kind: kind.__name__)
def test_no_exception_of_the_fast_library_is_forgotten(kind_of_error):
    """Each becomes one of ours, even with details that say nothing."""
    error = kind_of_error.__new__(kind_of_error)
    error.args = ("message",)
    assert isinstance(map_error(error, "http://host/"), errors.TailerError)


@pytest.mark.parametrize("kind_of_error", _exceptions_of(httpx), ids=lambda kind: kind.__name__)
def test_no_exception_of_httpx_is_forgotten(kind_of_error):
    """Each becomes one of ours."""
    error = kind_of_error.__new__(kind_of_error)
    error.args = ("message",)
    assert isinstance(map_error(error, "http://host/"), errors.TailerError)


def test_a_bug_is_not_taken_for_the_network():
    """What neither library raises stays what it is."""
    assert map_error(AttributeError("no such thing"), "http://host/") is None


# --- cancellation


def test_a_swallowed_cancellation_is_raised_all_the_same():
    """And what came instead of it is given back."""
    undone = []

    async def swallows():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "a result"

    async def undo():
        undone.append(True)

    async def main():
        task = asyncio.ensure_future(_cancellable(swallows(), undo))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task], timeout=5)
        return task.cancelled()

    assert asyncio.run(main())
    assert undone == [True]


def test_a_request_is_cancelled_whenever_that_happens(wire, kind):
    """While connecting, awaiting the head, reading: the task ends, cancelled."""

    async def ask_for_ever(transport, url):
        while True:
            async with transport.open("GET", url, {}) as response:
                await response.read(1 << 20)

    async def main():
        moments = random.Random(1)
        async with wire.serving(wire.answer(200, {}, bytes(10_000))) as server:
            transport = open_transport(kind)
            outcomes = set()
            for _ in range(150):
                task = asyncio.ensure_future(ask_for_ever(transport, server.url))
                await asyncio.sleep(moments.random() * 0.003)
                task.cancel()
                await asyncio.wait([task], timeout=5)
                outcomes.add(task.done() and task.cancelled())
            await transport.aclose()
            return outcomes

    assert asyncio.run(main()) == {True}


# --- TLS


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(scope="module")
def good(authority):
    return _server_context(authority.issue_cert("127.0.0.1", "localhost"))


@pytest.fixture(scope="module")
def other_name(authority):
    return _server_context(authority.issue_cert("elsewhere.example"))


def _server_context(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


@pytest.fixture
def trusted(authority, tmp_path, monkeypatch):
    """SSL_CERT_FILE names the private authority."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return path


def over_tls(wire, kind, context):
    async def main():
        async with wire.serving(wire.answer(200, {}, b"secret"), ssl=context) as server:
            return await get(kind, f"{server.url}/key{QUERY}")

    return asyncio.run(main())


@pytest.mark.usefixtures("trusted")
def test_a_private_authority_by_file(wire, kind, good):
    """SSL_CERT_FILE is enough, on both."""
    assert over_tls(wire, kind, good) == (200, b"secret")


def test_a_private_authority_by_folder(wire, kind, good, authority, tmp_path, monkeypatch):
    """SSL_CERT_DIR, with names hashed as OpenSSL wants them."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    hashed = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", str(path)], capture_output=True, text=True, check=True
    )
    path.rename(tmp_path / f"{hashed.stdout.strip()}.0")
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert over_tls(wire, kind, good) == (200, b"secret")


def _tls_failure(wire, kind, context):
    with pytest.raises(errors.TailerError) as caught:
        over_tls(wire, kind, context)
    check(caught.value, errors.TlsError)
    assert not caught.value.retriable
    assert re.search(r"certificate.*SSL_CERT_FILE", str(caught.value))


def test_an_unknown_authority(wire, kind, good):
    """TlsError: never tried again, never waved through."""
    _tls_failure(wire, kind, good)


@pytest.mark.usefixtures("trusted")
def test_a_certificate_of_another_host(wire, kind, other_name):
    """TlsError."""
    _tls_failure(wire, kind, other_name)


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory):
    """As a test server makes it in a hurry, and whoever stands on the way."""
    folder = tmp_path_factory.mktemp("self-signed")
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *files, *name]
    subprocess.run(request, capture_output=True, check=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


def test_a_certificate_that_vouches_for_itself(wire, kind, self_signed):
    """TlsError."""
    _tls_failure(wire, kind, self_signed)


@pytest.mark.usefixtures("trusted")
def test_a_certificate_that_has_run_out(wire, kind, authority):
    """TlsError, though the authority is known."""
    yesterday = datetime.now(UTC) - timedelta(days=1)
    certificate = authority.issue_cert("127.0.0.1", not_before=yesterday - timedelta(days=1), not_after=yesterday)
    _tls_failure(wire, kind, _server_context(certificate))


def test_nothing_that_turns_the_check_off_elsewhere_does_so_here(wire, kind, self_signed, monkeypatch):
    """Variables of other programs and libraries, and what one may hope to be one of ours."""
    for name, value in {
        "PYTHONHTTPSVERIFY": "0",
        "REQUESTS_CA_BUNDLE": "",
        "CURL_CA_BUNDLE": "",
        "NODE_TLS_REJECT_UNAUTHORIZED": "0",
        "GIT_SSL_NO_VERIFY": "true",
        "AWS_NO_VERIFY_SSL": "true",
        "SSL_VERIFY": "false",
        "SSL_CERT_FILE": "",
        "OSS_SKIP_VERIFY_CERT": "true",
        "OSS_INSECURE": "1",
        "OSS_TAIL_INSECURE": "1",
    }.items():
        monkeypatch.setenv(name, value)
    _tls_failure(wire, kind, self_signed)


def _tls_to(wire, kind, handle):
    """The error of a GET over TLS to a peer that does what `handle` does."""

    async def main():
        async with wire.listening(handle) as port:
            await get(kind, f"https://127.0.0.1:{port}/{QUERY}")

    with pytest.raises(errors.TransportError) as caught:
        asyncio.run(main())
    return caught.value


def test_a_peer_that_speaks_no_tls(wire, kind):
    """Plain HTTP on the port: TlsError, at once."""

    async def shout(reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    error = _tls_to(wire, kind, shout)
    check(error, errors.TlsError)
    assert "does the endpoint speak https there?" in str(error)


def test_a_peer_that_hangs_up_in_the_handshake(wire, kind):
    """That is a broken connection and not a bad certificate: it may be tried again."""

    async def hang_up(reader, writer):
        await reader.read(100)

    error = _tls_to(wire, kind, hang_up)
    assert error.retriable
    assert not isinstance(error, errors.TlsError)


@pytest.mark.parametrize("content", [None, "this is no certificate"])
def test_an_authority_that_cannot_be_read(kind, content, tmp_path, monkeypatch):
    """Said before anything is sent, and not as a certificate that does not hold."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    with pytest.raises(errors.ConfigError, match=r"SSL_CERT_FILE .*ca\.pem"):
        open_transport(kind)


def test_a_machine_without_any_authorities(wire, kind, tmp_path, monkeypatch):
    """Plain HTTP works there as anywhere."""
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))

    async def main():
        async with wire.serving(wire.answer(200, {}, b"plain")) as server:
            return await get(kind, server.url)

    assert asyncio.run(main()) == (200, b"plain")


# --- proxies


@contextlib.asynccontextmanager
async def proxying(wire):
    """A small forward and CONNECT proxy on loopback: its URL, and the heads of what came to it."""
    heads = []

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        heads.append(head)
        if not head.startswith(b"CONNECT "):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nproxy")
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

    async with wire.listening(serve) as port:
        yield f"http://user:proxy-password@127.0.0.1:{port}", heads


async def _pump(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()


@pytest.mark.usefixtures("trusted")
def test_https_goes_through_a_connect_proxy(wire, kind, good, monkeypatch):
    """The proxy sees host and port, and its own password, but not the URL."""

    async def main():
        async with proxying(wire) as (proxy, heads), wire.serving(wire.answer(200, {}, b"secret"), ssl=good) as server:
            monkeypatch.setenv("HTTPS_PROXY", proxy)
            result = await get(kind, f"{server.url}/key{QUERY}")
            return result, heads, server.url

    result, heads, url = asyncio.run(main())
    assert result == (200, b"secret")
    [head] = heads
    assert head.startswith(f"CONNECT {url.removeprefix('https://')} ".encode())
    assert b"proxy-authorization: basic" in head.lower()
    assert b"VerySecret" not in head


def test_http_goes_through_a_forward_proxy(wire, kind, monkeypatch):
    """In absolute form."""

    async def main():
        async with proxying(wire) as (proxy, heads):
            monkeypatch.setenv("HTTP_PROXY", proxy)
            return await get(kind, "http://bucket.example/a//b%2B"), heads

    result, [head] = asyncio.run(main())
    assert result == (200, b"proxy")
    assert head.startswith(b"GET http://bucket.example/a//b%2B HTTP/1.1\r\n")


def test_no_proxy(wire, kind, monkeypatch):
    """Hosts that it names are asked directly."""

    async def main():
        async with proxying(wire) as (proxy, heads), wire.serving(wire.answer(200, {}, b"direct")) as server:
            monkeypatch.setenv("HTTP_PROXY", proxy)
            monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
            return await get(kind, server.url), heads

    assert asyncio.run(main()) == ((200, b"direct"), [])


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_dead_proxy(kind, scheme, monkeypatch):
    """ConnectError; its password is not shown."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://user:VerySecret@127.0.0.1:{port}")
    with pytest.raises(errors.TransportError) as caught:
        asyncio.run(get(kind, f"{scheme}://bucket.example/key"))
    check(caught.value, errors.ConnectError)


def test_a_proxy_that_refuses(wire, kind, monkeypatch):
    """407 or 503 to CONNECT: the endpoint was not reached."""

    async def main():
        async with wire.serving(wire.reply(wire.answer(503, oss=False), close=True)) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            await get(kind, f"https://bucket.example/key{QUERY}")

    with pytest.raises(errors.TransportError) as caught:
        asyncio.run(main())
    check(caught.value, errors.ConnectError)


@pytest.mark.parametrize("value", ["ftp://user:VerySecret@127.0.0.1:1", "http://", "http://h:VerySecret", "a b::"])
def test_a_proxy_that_no_transport_can_use(kind, value, monkeypatch):
    """Said at once, in one line, without the password that it may hold."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(errors.ConfigError, match="HTTPS_PROXY") as caught:
        open_transport(kind)
    assert "VerySecret" not in str(caught.value)


def test_a_socks_proxy(monkeypatch):
    """The fast transport can use one, httpx cannot and says so."""
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    assert opened("fast") is FastTransport
    with pytest.raises(errors.ConfigError, match="ALL_PROXY"):
        open_transport("httpx")


def test_proxies_can_be_left_out(wire, kind, monkeypatch):
    """Then what the environment says about them does not matter."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "nonsense://")

    async def main():
        async with wire.serving(wire.answer(200)) as server:
            transport = open_transport(kind, proxies=False)
            async with transport.open("GET", server.url, {}) as response:
                status = response.status
            await transport.aclose()
            return status

    assert asyncio.run(main()) == 200


# --- which one


def opened(*arguments, **options):
    async def main():
        transport = open_transport(*arguments, **options)
        await transport.aclose()
        return type(transport)

    return asyncio.run(main())


def test_plain_http_without_a_proxy_is_spoken_by_ourselves(monkeypatch):
    """And where there is a proxy the fast library does everything."""
    assert opened() is opened("direct")
    assert opened() not in (FastTransport, HttpxTransport)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert opened() is FastTransport
    assert opened(proxies=False) is opened("direct", proxies=False)


def test_the_environment_chooses(monkeypatch):
    """OSS_TAIL_TRANSPORT, unless an argument does."""
    monkeypatch.setenv("OSS_TAIL_TRANSPORT", "httpx")
    assert opened() is HttpxTransport
    assert opened("fast") is FastTransport
    monkeypatch.setenv("OSS_TAIL_TRANSPORT", "curl")
    with pytest.raises(errors.ConfigError, match="curl"):
        open_transport()


def test_httpx_serves_where_the_fast_one_is_missing(monkeypatch):
    """And asking for the missing one by name says how to get it."""
    monkeypatch.setitem(sys.modules, "pyreqwest.client", None)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert opened() is HttpxTransport
    with pytest.raises(errors.ConfigError, match="pip install"):
        open_transport("fast")


_PROGRAM = """
import asyncio, sys
from tailer.oss.transport import open_transport
async def main():
    transport = open_transport("fast")
    for _ in range(3):
        async with transport.open("GET", sys.argv[1], {}) as response:
            assert len(await response.read(1 << 24)) == 3000000
    if sys.argv[2] == "close":
        await transport.aclose()
asyncio.run(main())
assert not {"httpx", "httpcore", "certifi"} & set(sys.modules)
"""


def test_a_program_ends_cleanly_right_after_its_last_answer(wire):
    """The Rust thread may still be in Python then, which would abort the process; and httpx is not imported."""

    async def main():
        async with wire.serving(wire.answer(200, {}, bytes(3_000_000))) as server:
            statuses = []
            for ending in ["close", "leave"] * 6:
                program = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", _PROGRAM, server.url, ending, stderr=subprocess.PIPE, env=dict(os.environ)
                )
                _, stderr = await program.communicate()
                statuses.append((program.returncode, stderr))
            return statuses

    assert asyncio.run(main()) == [(0, b"")] * 12
