"""HTTP/1.1, three times: our own for plain HTTP, `pyreqwest` and `httpx` for the rest. They behave alike.

A transport sends one request and hands out the answer. It follows no redirect, decodes nothing, retries nothing,
and raises nothing but what the tree of `tailer.errors` holds. Both read the usual environment variables:
``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import os
import re
import sys
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar
from urllib.parse import urlsplit

from tailer.errors import (
    ConfigError,
    ConnectError,
    ConnectionLost,
    RequestTimeout,
    TailerError,
    TlsError,
    UsageError,
)
from tailer.version import __version__

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    import httpx
    import pyreqwest.client
    import pyreqwest.request
    import pyreqwest.response

Kind = Literal["direct", "fast", "httpx"]
Data = bytes | bytearray | memoryview
_T = TypeVar("_T")

USER_AGENT = f"oss-tail/{__version__}"

# Bytes that the Rust side may read ahead: 64 KiB, its default, wakes Python's side up more often than it
# pays, and from 8 MiB on the body is copied through cold memory.
_READ_AHEAD = 1 << 20

_HTTPX_PROXIES = frozenset({"http", "https"})
_FAST_PROXIES = _HTTPX_PROXIES | {"socks4", "socks4a", "socks5", "socks5h"}

# OSS closes a connection that was idle for a minute; we let go of it first.
IDLE_SECONDS = 45.0

# The slowest upload that is still taken for one, in bytes per second.
_SLOWEST_UPLOAD = 16 << 10


@dataclass(frozen=True, slots=True)
class Timeouts:
    """In seconds. `read`: the longest silence while an answer is awaited or read; there is no total."""

    connect: float = 10.0
    read: float = 20.0


class Response(Protocol):
    """An answer whose body has not been read."""

    @property
    def status(self) -> int:
        """The status code."""
        ...

    def header(self, name: str) -> str | None:
        """The first header of that name, whatever its case; None when there is none."""
        ...

    async def read(self, limit: int) -> Data:
        """The body, but at most its first `limit` bytes; to be called once.

        Raises ConnectionLost when the body ends before its announced length, RequestTimeout.
        """
        ...

    def chunks(self) -> AsyncIterator[Data]:
        """The body in pieces, as they come; instead of `read`. Raises like it."""
        ...


class Transport(Protocol):
    """Sends requests. A body that was not read to its end costs its connection, nothing else."""

    kind: Kind

    def open(
        self, method: str, url: str, headers: Mapping[str, str], body: Data | None = None
    ) -> AbstractAsyncContextManager[Response]:
        """Send a request and wait for the head of the answer.

        Raises ConnectError, TlsError, RequestTimeout, ConnectionLost; UsageError for what cannot be sent.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...


def open_transport(
    kind: Kind | None = None,
    *,
    timeouts: Timeouts = Timeouts(),
    proxies: bool = True,
    environ: Mapping[str, str] = os.environ,
) -> Transport:
    """Our own for plain HTTP, and the fast library (httpx where it is not installed) for TLS and proxies.

    `kind`, or ``OSS_TAIL_TRANSPORT``, asks for one library for everything; ``direct`` is the default.
    `proxies` false: those of the environment are not used.

    Raises ConfigError for a name that is none, a transport that is not installed, and for a proxy or a
    CA file in the environment that cannot be used.
    """
    wanted = kind or environ.get("OSS_TAIL_TRANSPORT") or None
    if wanted not in (None, "direct", "fast", "httpx"):
        raise ConfigError(f"OSS_TAIL_TRANSPORT is {wanted!r}: it can be direct, fast or httpx")
    _check_authorities(environ)
    if wanted in (None, "direct") and not (proxies and _names_proxies(environ)):
        return _BySchemeTransport(timeouts, lambda: _open_library(None, timeouts, proxies, environ))
    return _open_library(wanted, timeouts, proxies, environ)


def _open_library(kind: str | None, timeouts: Timeouts, proxies: bool, environ: Mapping[str, str]) -> Transport:
    if kind != "httpx":
        try:
            return FastTransport(timeouts, proxies and _usable_proxies(environ, _FAST_PROXIES))
        except ImportError as error:
            if kind == "fast":
                raise ConfigError("the fast transport is not installed: pip install pyreqwest") from error
    return HttpxTransport(timeouts, proxies and _usable_proxies(environ, _HTTPX_PROXIES))


class _BySchemeTransport:
    """Plain HTTP by `DirectTransport`, and whatever else by a library that is opened when it is needed."""

    kind: Kind = "direct"

    def __init__(self, timeouts: Timeouts, open_library: Callable[[], Transport]) -> None:
        from tailer.oss.direct import DirectTransport  # late: it is built on this module

        self._direct = DirectTransport(timeouts)
        self._open_library = open_library
        self._library: Transport | None = None

    def open(
        self, method: str, url: str, headers: Mapping[str, str], body: Data | None = None
    ) -> AbstractAsyncContextManager[Response]:
        """See `Transport.open`."""
        if url[:7].lower() == "http://":
            return self._direct.open(method, url, headers, body)
        if self._library is None:
            self._library = self._open_library()
        return self._library.open(method, url, headers, body)

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        await self._direct.aclose()
        if self._library is not None:
            await self._library.aclose()


_PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def _names_proxies(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name) or environ.get(name.lower()) for name in _PROXY_VARIABLES)


def _usable_proxies(environ: Mapping[str, str], schemes: frozenset[str]) -> bool:
    """True, or ConfigError: one library ignores a proxy that it cannot read and the other fails late."""
    for name in _PROXY_VARIABLES:
        value = environ.get(name.lower()) or environ.get(name)
        if not value:
            continue
        try:
            parts = urlsplit(value if "://" in value else f"http://{value}")
            usable = parts.scheme in schemes and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable:  # the value can hold a password, so it is not shown
            raise ConfigError(f"{name} is not a proxy that can be used: write http://host:port")
    return True


def _check_authorities(environ: Mapping[str, str]) -> None:
    """A CA file that is not there would show as a certificate that does not hold."""
    path = environ.get("SSL_CERT_FILE")
    if not path:
        return
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(f"SSL_CERT_FILE cannot be read: {path}: {error.strerror}") from error
    if b"-----BEGIN" not in text:
        raise ConfigError(f"SSL_CERT_FILE holds no PEM certificate: {path}")


# --- pyreqwest


class FastTransport:
    """`pyreqwest`: the HTTP client of Rust, on a thread of its own."""

    kind: Kind = "fast"

    def __init__(self, timeouts: Timeouts, proxies: bool = True) -> None:
        _import_for_good()
        _settle_at_exit()
        self._timeouts = timeouts
        self._proxies = proxies
        self._client = self._build(timeouts.read)
        self._uploading: pyreqwest.client.Client | None = None

    def _build(self, read_timeout: float | None) -> pyreqwest.client.Client:
        from pyreqwest.exceptions import BuilderError

        try:
            return self._configured(read_timeout).build()
        except BuilderError:
            # It refuses to be built, even for plain HTTP, on a machine without any certificate authorities.
            builder = self._configured(read_timeout)
            for certificate in _bundled_authorities():
                builder = builder.add_root_certificate_pem(certificate)
            return builder.build()

    def _configured(self, read_timeout: float | None) -> pyreqwest.client.ClientBuilder:
        from pyreqwest.client import ClientBuilder

        builder = (
            ClientBuilder()
            .user_agent(USER_AGENT)
            .follow_redirects(False)
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
            .referer(False)
            .pool_idle_timeout(timedelta(seconds=IDLE_SECONDS))
            .connect_timeout(timedelta(seconds=self._timeouts.connect))
        )
        if read_timeout is not None:
            builder = builder.read_timeout(timedelta(seconds=read_timeout))
        return builder if self._proxies else builder.no_proxy()

    @contextlib.asynccontextmanager
    async def open(
        self, method: str, url: str, headers: Mapping[str, str], body: Data | None = None
    ) -> AsyncIterator[Response]:
        """See `Transport.open`."""
        with mapped(url):
            request = self._request(method, url, headers, body)
            response = await self._send(request, len(body) if body else 0)
        try:
            yield _FastResponse(response, url)
        finally:
            with mapped(url):
                await _cancellable(request.__aexit__(None, None, None))

    def _request(
        self, method: str, url: str, headers: Mapping[str, str], body: Data | None
    ) -> pyreqwest.request.StreamRequest:
        client = self._client if not body else self._upload_client()
        builder = client.request(method, url).headers(dict(headers)).streamed_read_buffer_limit(_READ_AHEAD)
        if body is not None:
            builder = builder.body_bytes(body)
        return builder.build_streamed()

    def _upload_client(self) -> pyreqwest.client.Client:
        """The read timeout of the library runs from the first byte sent, so an upload must do without it."""
        if self._uploading is None:
            self._uploading = self._build(None)
        return self._uploading

    async def _send(self, request: pyreqwest.request.StreamRequest, length: int) -> pyreqwest.response.Response:
        if not length:
            return await _entered(request)
        async with asyncio.timeout(upload_seconds(self._timeouts.read, length)):
            return await _entered(request)

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        await _cancellable(self._client.close())
        if self._uploading is not None:
            await _cancellable(self._uploading.close())


async def _entered(request: pyreqwest.request.StreamRequest) -> pyreqwest.response.Response:
    return await _cancellable(request.__aenter__(), undo=lambda: request.__aexit__(None, None, None))


async def _cancellable(awaitable: Awaitable[_T], undo: Callable[[], Awaitable[object]] | None = None) -> _T:
    """Await what the library gave, and be cancelled for certain; `undo` gives a result back then.

    It now and then returns its result although its task was cancelled meanwhile, and the cancellation is lost: a
    Ctrl-C without effect, a timeout that never comes.
    """
    task = asyncio.current_task()
    before = task.cancelling() if task is not None else 0
    result = await awaitable
    if task is not None and task.cancelling() > before:
        if undo is not None:
            await undo()
        raise asyncio.CancelledError
    return result


@functools.cache
def _import_for_good() -> None:
    """Import the library from a thread that does not end before the process. Raises ImportError.

    Where the thread that imported it has ended, the next client that is built ends the process with a
    segmentation fault (seen with version 0.15 on CPython 3.11).
    """
    if threading.current_thread() is not threading.main_thread():
        imported = threading.Event()
        threading.Thread(target=_import_and_stay, args=(imported,), name="pyreqwest", daemon=True).start()
        imported.wait()
    import pyreqwest.client  # noqa: F401 - late, and this line tells whether it is installed


def _import_and_stay(imported: threading.Event) -> None:
    try:
        import pyreqwest.client  # noqa: F401 - for its effect
    except ImportError:
        return  # whoever waits finds the same
    finally:
        imported.set()
    threading.Event().wait()


@functools.cache
def _settle_at_exit() -> None:
    """Let the Rust thread leave Python before the interpreter ends: else the process aborts, now and then.

    The thread wakes the event loop by calling into Python. Woken, a program can be at its end before that
    call has returned, and a thread that comes back to an interpreter under finalization is fatal.
    """
    atexit.register(_settle)


def _settle() -> None:
    time.sleep(0.001)  # gives the GIL away to whoever waits for it
    deadline = time.monotonic() + 1
    while _foreign_threads() and time.monotonic() < deadline:
        time.sleep(0.001)


def _foreign_threads() -> set[int]:
    """Threads that run Python code and were not started by Python."""
    return set(sys._current_frames()) - {thread.ident or 0 for thread in threading.enumerate()}


class _FastResponse:
    def __init__(self, response: pyreqwest.response.Response, url: str) -> None:
        self._response = response
        self._url = url
        self.status = response.status

    def header(self, name: str) -> str | None:
        try:
            return self._response.get_header(name)
        except ValueError:  # bytes that are not ASCII; no header that we read has any
            return "\ufffd"

    async def read(self, limit: int) -> Data:
        with mapped(self._url):
            body = await _cancellable(self._response.body_reader.read(limit))
        return b"" if body is None else memoryview(body)

    async def chunks(self) -> AsyncIterator[Data]:
        reader = self._response.body_reader
        while True:
            with mapped(self._url):
                chunk = await _cancellable(reader.read_chunk())
            if chunk is None:
                return
            yield memoryview(chunk)


def _bundled_authorities() -> list[bytes]:
    """The certificates that come with `certifi`, for machines that have none."""
    import certifi

    with open(certifi.where(), "rb") as file:
        return re.findall(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", file.read(), re.DOTALL)


# --- httpx


class HttpxTransport:
    """`httpx`, in Python all through."""

    kind: Kind = "httpx"

    def __init__(self, timeouts: Timeouts, proxies: bool = True) -> None:
        import httpx  # late: 100 ms

        self._httpx = httpx
        self._timeouts = timeouts
        self._client = httpx.AsyncClient(
            headers={"user-agent": USER_AGENT},
            verify=_ssl_context(),
            timeout=self._timeout(0),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=IDLE_SECONDS),
            follow_redirects=False,
            trust_env=proxies,
        )

    @contextlib.asynccontextmanager
    async def open(
        self, method: str, url: str, headers: Mapping[str, str], body: Data | None = None
    ) -> AsyncIterator[Response]:
        """See `Transport.open`."""
        with mapped(url):
            content = None if body is None else bytes(body)
            timeout = self._timeout(len(content)) if content else self._httpx.USE_CLIENT_DEFAULT
            request = self._client.build_request(method, url, headers=dict(headers), content=content, timeout=timeout)
            response = await self._client.send(request, stream=True)
        answer = _HttpxResponse(response, url)
        try:
            if method == "HEAD" or answer.header("content-length") == "0":
                await answer.read(0)  # there is no body, but only its end lets the connection live on
            yield answer
        finally:
            with mapped(url):
                await response.aclose()

    def _timeout(self, length: int) -> httpx.Timeout:
        """The library counts a body that is one piece as one write, and kernels buffer megabytes of it."""
        seconds = upload_seconds(self._timeouts.read, length)
        return self._httpx.Timeout(seconds, connect=self._timeouts.connect, pool=None)

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        await self._client.aclose()


class _HttpxResponse:
    def __init__(self, response: httpx.Response, url: str) -> None:
        self._response = response
        self._url = url
        self.status = response.status_code

    def header(self, name: str) -> str | None:
        values = self._response.headers.get_list(name)
        return values[0] if values else None

    async def read(self, limit: int) -> Data:
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) >= limit:
                break
        del body[limit:]
        return body

    async def chunks(self) -> AsyncIterator[Data]:
        if self._response.is_stream_consumed:
            return
        with mapped(self._url):
            async for chunk in self._response.aiter_raw():
                yield chunk


def _ssl_context() -> ssl.SSLContext:
    """The system's authorities and those of SSL_CERT_FILE and SSL_CERT_DIR; certifi's where there are none."""
    import ssl

    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None and not context.get_ca_certs():
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def upload_seconds(read_timeout: float, length: int) -> float:
    """How long sending `length` bytes, and the answer to them, may take."""
    return read_timeout + length / _SLOWEST_UPLOAD


# --- the errors of both

# By class name, the nearest in the order of inheritance, so that neither library need be imported. A name
# that stands in both means the same in both.
_MEANINGS: dict[str, type[TailerError]] = {
    "TimeoutError": RequestTimeout,
    "RequestTimeoutError": RequestTimeout,
    "TimeoutException": RequestTimeout,
    "ConnectError": ConnectError,
    "ProxyError": ConnectError,
    "BuilderError": UsageError,
    "ValueError": UsageError,
    "InvalidURL": UsageError,
    "UnsupportedProtocol": UsageError,
    "LocalProtocolError": UsageError,
    "DecodeError": ConnectionLost,
    "PyreqwestError": ConnectionLost,
    "HTTPError": ConnectionLost,
    "StreamError": ConnectionLost,
    "CookieConflict": ConnectionLost,
    "OSError": ConnectionLost,
}
_WORDS = {
    RequestTimeout: "{host} does not answer: nothing came for too long",
    ConnectError: "cannot connect to {host}: {reason}",
    TlsError: "no secure connection to {host}: {reason}",
    ConnectionLost: "the connection to {host} broke: {reason}",
    UsageError: "{host} cannot be asked: {reason}",
}
# How the errors of rustls begin (its enum Error); those of the socket below it begin otherwise.
_RUSTLS = re.compile(
    r"invalid peer certificate|peer (is incompatible|misbehaved|sent no|doesn't support)"
    r"|received (fatal alert|corrupt message|unexpected)|invalid certificate revocation|cannot decrypt"
)


@contextlib.contextmanager
def mapped(url: str) -> Iterator[None]:
    """Raise what either library raises as one of ours."""
    try:
        yield
    except Exception as error:
        mapped = map_error(error, url)
        if mapped is None:
            raise
        raise mapped from error


def map_error(error: Exception, url: str) -> TailerError | None:
    """The one of ours that `error` stands for; None when it is not of the network or of a library.

    The message names the host alone, as a URL may hold a signature. For the same reason the query is taken
    out of `error` itself, which stays as the cause.
    """
    names = (kind.__name__ for kind in type(error).__mro__)
    kind = next((_MEANINGS[name] for name in names if name in _MEANINGS), None)
    if kind is None:
        return None
    causes = _rust_causes(error)
    if kind is ConnectError and causes and "client error (Connect)" not in causes:
        kind = ConnectionLost  # the library calls any failure before the answer's head so
    if kind is ConnectError and _is_tls(error, causes):
        kind = TlsError
    reason = _reason(error, causes)
    hint = "does the endpoint speak https there?" if kind is TlsError and "certificate" not in reason else None
    return kind(_WORDS[kind].format(host=_host(url), reason=reason), hint=hint)


def failure(kind: type[TailerError], url: str, error: Exception | None = None) -> TailerError:
    """A `kind` of error about the host of `url`, for the reason that `error` holds."""
    return kind(_WORDS[kind].format(host=_host(url), reason="" if error is None else _reason(error, [])))


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return "this"


def _rust_causes(error: Exception) -> list[str]:
    """The messages of `pyreqwest`'s error, the deepest last, and rid of the URL's query; [] for others."""
    causes = getattr(error, "details", {}).get("causes") or []
    for cause in causes:
        cause["message"] = re.sub(r"\?[^\s)]*", "", cause["message"])
    return [cause["message"] for cause in causes]


def _is_tls(error: BaseException | None, rust_causes: list[str]) -> bool:
    if rust_causes:
        return _RUSTLS.match(rust_causes[-1]) is not None
    import ssl

    while error is not None:
        if isinstance(error, ssl.SSLError):
            # A peer that hangs up in the handshake is a broken connection and not a bad certificate.
            return not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
        error = error.__cause__ or error.__context__
    return False


def _reason(error: BaseException, rust_causes: list[str]) -> str:
    """The deepest cause in words, alike for both libraries."""
    if rust_causes:
        return re.sub(r" \(os error \d+\)$", "", rust_causes[-1])
    words = str(error)
    deeper: BaseException | None = error
    while deeper is not None:
        if isinstance(deeper, OSError):
            words = _words_of_os_error(deeper)
        deeper = deeper.__cause__ or deeper.__context__
    return words or type(error).__name__


def _words_of_os_error(error: OSError) -> str:
    if hasattr(error, "library"):  # of OpenSSL: "[SSL: REASON] words (_ssl.c:1006)", and errno is not the system's
        return re.sub(r"^\[.*?\] | \(_ssl\.c:\d+\)$", "", str(error.strerror or error))
    if error.errno and error.errno > 0:
        return os.strerror(error.errno)  # asyncio puts the address into strerror
    return error.strerror or str(error)
