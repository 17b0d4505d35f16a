"""HTTP/1.1 by libraries, for TLS and proxies: `pyreqwest` where it is installed, `httpx` otherwise. They behave alike.

Both read the usual environment variables: ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY``, ``NO_PROXY``,
``SSL_CERT_FILE`` and ``SSL_CERT_DIR``.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import re
import sys
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from tailer.oss.http import IDLE_SECONDS, USER_AGENT, Data, Kind, check_headers, mapped, upload_seconds

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    import httpx
    import pyreqwest.client
    import pyreqwest.request
    import pyreqwest.response

    from tailer.oss.http import Response, Timeouts

_T = TypeVar("_T")

# Bytes that the Rust side may read ahead: 64 KiB, its default, wakes Python's side up more often than it
# pays, and from 8 MiB on the body is copied through cold memory.
_READ_AHEAD = 1 << 20


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
        check_headers(url, headers)
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
        self._quiet_url = _quiet_url()
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
        check_headers(url, headers)
        with mapped(url):
            content = None if body is None else bytes(body)
            timeout = self._timeout(len(content)) if content else self._httpx.USE_CLIENT_DEFAULT
            request = self._client.build_request(method, url, headers=dict(headers), content=content, timeout=timeout)
            request.url = self._quiet_url(request.url)
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


@functools.cache
def _quiet_url() -> type[httpx.URL]:
    """A URL that does not show its query, which may be a signature: the library logs each request at level INFO."""
    import httpx

    class QuietUrl(httpx.URL):
        def __str__(self) -> str:
            return super().__str__().partition("?")[0]

        def __repr__(self) -> str:
            return f"URL({str(self)!r})"

    return QuietUrl


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
