"""HTTP/1.1 on the event loop's own sockets: the way to a service that is asked without TLS and without a proxy.

That is how a service is asked inside the cloud's own network, and on loopback. A body is received straight
into the buffer that is handed on, and a poll wakes no thread. What is not of RFC 9112 is not understood but
refused: the connection is then given up.
"""

from __future__ import annotations

import asyncio
import re
import select
import time
from collections import deque
from copy import copy
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tailer.errors import ConnectError, RequestTimeout
from tailer.oss.http import IDLE_SECONDS, USER_AGENT, Kind, check_headers, failure, mapped, upload_seconds
from tailer.oss.unshown import UnshownBytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from tailer.oss.http import Data, Timeouts

_MAX_HEAD = 16 * 1024  # twice what a user may add to an object's head (8 KiB); each connection holds as much
_MAX_LINE = 1024  # of the framing of a chunked body
_MAX_INTERIM = 16  # answers before the answer
_MAX_TRAILERS = 64  # lines behind a chunked body
_PIECE = 256 * 1024
_SMALL_BODY = 32 * 1024
_KEPT_BUFFERS = 8
_KEPT_SECONDS = 10.0
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n]*)?")
_FIELD = rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*)\r\n"
_FIELDS = re.compile(rb"(?:%b)*" % _FIELD)
_EACH_FIELD = re.compile(_FIELD)
_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?")
_SENDABLE = re.compile(r"[\x21-\x7e]+")
_REPEATABLE = frozenset({"GET", "HEAD"})  # RFC 9110, 9.2.2: of those that we send

_Place = tuple[str, int]


class DirectTransport:
    """Speaks http alone; see `tailer.oss.http.Transport`."""

    kind: Kind = "direct"

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._idle: dict[_Place, deque[_Connection]] = {}  # the one that rested last is used first
        self._open: set[_Connection] = set()
        self._buffers = _Buffers()

    def open(self, method: str, url: str, headers: Mapping[str, str], body: Data | None = None) -> _Opening:
        """See `Transport.open`."""
        return _Opening(self, method, url, headers, body)

    async def begin(
        self, method: str, url: str, headers: Mapping[str, str], body: Data | None
    ) -> tuple[_Place, _Connection, _DirectResponse]:
        """Send a request, and read the head of its answer; `end` gives the connection back."""
        check_headers(url, headers)
        with mapped(url):
            request = _request_head(method, url, headers, body)
            if request is None:  # raised here, where no local variable holds what may be a signature
                raise ValueError("this is not an http address, or not one that can be sent")
            place, head = request
            connection, answer = await self._exchange(place, method, url, head, body)
        return place, connection, _DirectResponse(connection, answer, self._buffers, url, has_body=method != "HEAD")

    def end(self, place: _Place, connection: _Connection, response: _DirectResponse) -> None:
        """Keep the connection for the next request, or give it up."""
        if response.complete and response.lives_on and connection.clean:
            connection.rest()
            kept = self._idle.setdefault(place, deque())
            kept.append(connection)
            while kept and kept[0].spent:
                kept.popleft().abort()
        else:
            connection.abort()
        self._buffers.let_go()

    async def _exchange(
        self, place: _Place, method: str, url: str, head: bytes, body: Data | None
    ) -> tuple[_Connection, _Head]:
        """Send, and read the head of the answer.

        A connection that was idle may be closed by the other side at any time. If it ends without a byte of
        an answer, a request that changes nothing is sent once more on a new one (RFC 9112, 9.3.1).
        """
        connection = self._idle_one(place)
        if connection is not None:
            try:
                return connection, await self._ask(connection, head, body)
            except OSError:
                if method not in _REPEATABLE or not connection.ended_unanswered:
                    raise
        connection = await self._connect(place, url)
        return connection, await self._ask(connection, head, body)

    async def _ask(self, connection: _Connection, head: bytes, body: Data | None) -> _Head:
        try:
            if body is None or len(body) <= _SMALL_BODY:  # in one segment with the head: the server wakes once
                connection.write(head if body is None else b"".join((head, body)))
                return await connection.read_head()
            async with asyncio.timeout(upload_seconds(self._timeouts.read, len(body))):
                await connection.upload(head, memoryview(body))
                return await connection.read_head(patient=True)
        except BaseException:
            connection.abort()
            raise

    def _idle_one(self, place: _Place) -> _Connection | None:
        kept = self._idle.get(place)
        while kept:
            connection = kept.pop()
            if connection.usable:
                return connection
            connection.abort()
        return None

    async def _connect(self, place: _Place, url: str) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeouts.connect):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._timeouts.read, self._open), *place
                )
        except TimeoutError as error:
            raise failure(RequestTimeout, url) from error
        except OSError as error:
            raise failure(ConnectError, url, error) from error
        return connection

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        self._idle.clear()
        connections = [*self._open]
        for connection in connections:
            connection.abort()
        await asyncio.gather(*(connection.closed for connection in connections))


def _request_head(
    method: str, url: str, headers: Mapping[str, str], body: Data | None
) -> tuple[_Place, UnshownBytes] | None:
    """Where it goes, and the bytes up to the body; None for what is no address that can be sent."""
    address, mark, query = url.partition("#")[0].partition("?")
    place, host, path = _split(address)
    target = path + (mark + query if query else "")
    if place is None or not _SENDABLE.fullmatch(target):
        return None
    fields = {"host": host, "user-agent": USER_AGENT, "accept": "*/*"}
    if body is not None:
        fields["content-length"] = str(len(body))
    fields.update((name.lower(), value) for name, value in headers.items())
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return place, UnshownBytes("\r\n".join([*lines, "", ""]).encode("ascii"))


@lru_cache(maxsize=1024)
def _split(address: str) -> tuple[_Place | None, str, str]:
    """Where a URL without its query leads (None: nowhere that can be reached), its Host, and its path."""
    parts = urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme != "http" or not parts.hostname or not _SENDABLE.fullmatch(parts.netloc):
        return None, host, parts.path
    return (parts.hostname, parts.port or 80), host, parts.path or "/"


class _Opening:
    """What ``async with`` is to enter. (`asynccontextmanager` would cost a small request 5 % more.)"""

    def __init__(
        self, transport: DirectTransport, method: str, url: str, headers: Mapping[str, str], body: Data | None
    ) -> None:
        self._transport = transport
        self._request = method, url, headers, body

    async def __aenter__(self) -> _DirectResponse:
        self._place, self._connection, self._response = await self._transport.begin(*self._request)
        return self._response

    async def __aexit__(self, *_: object) -> None:
        self._transport.end(self._place, self._connection, self._response)


class _Head:
    """Status line and header fields of an answer. Raises OSError for what is not HTTP/1."""

    def __init__(self, data: bytes) -> None:
        first, _, rest = data.partition(b"\r\n")
        fields = rest + b"\r\n" if rest else b""
        status = _STATUS.fullmatch(first)
        if status is None or not _FIELDS.fullmatch(fields):
            raise OSError("what came is not HTTP")
        self.status = int(status[2])
        self._fields = [(name.lower(), value.rstrip(b" \t")) for name, value in _EACH_FIELD.findall(fields)]
        self._first = dict(reversed(self._fields))
        self.lives_on = status[1] == b"1" and b"close" not in b",".join(self._all(b"connection")).lower()

    def _all(self, name: bytes) -> list[bytes]:
        return [value for field, value in self._fields if field == name] if name in self._first else []

    def get(self, name: str) -> str | None:
        """The first field of that name; U+FFFD when it is not ASCII, as no field that we read is."""
        value = self._first.get(name.lower().encode())
        if value is None:
            return None
        return value.decode("ascii") if value.isascii() else "\ufffd"

    @property
    def chunked(self) -> bool:
        """Is the body chunked (RFC 9112, 6.1)? Raises OSError for any other coding."""
        codings = b",".join(self._all(b"transfer-encoding"))
        if codings and codings.strip().lower() != b"chunked":
            raise OSError("the body has a transfer coding that nobody asked for")
        return bool(codings)

    @property
    def announces_nothing(self) -> bool:
        """Is there no body to be read, as in the answer to an append? Then the connection can be used again."""
        return self._all(b"content-length") == [b"0"] and b"transfer-encoding" not in self._first

    @property
    def length(self) -> int | None:
        """Content-Length. Raises OSError when there are two, or what is none (RFC 9112, 6.3)."""
        values = {value.strip() for field in self._all(b"content-length") for value in field.split(b",")}
        if not values:
            return None
        value = values.pop()
        if values or not value.isdigit() or len(value) > 18:
            raise OSError("its Content-Length is not one number")
        return int(value)


class _Connection(asyncio.BufferedProtocol):
    """One connection. What comes goes into `_target` while a body is read, into a small buffer otherwise.

    Waiting fails with TimeoutError after `silence` seconds in which nothing came, and with OSError when the
    other side ended the connection.
    """

    def __init__(self, silence: float, register: set[_Connection]) -> None:
        self._silence = silence
        self._register = register
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(_MAX_HEAD)
        self._view = memoryview(self._buffer)
        self._have = 0
        self._target: memoryview | None = None
        self._filled = 0
        self._waiter: asyncio.Future[None] | None = None
        self._writable = True
        self._cut_short = False
        self._ended: BaseException | None = None
        self._answered = False
        self._rested_at = 0.0
        self._heard_at = 0.0
        self.closed: asyncio.Future[None] = self._loop.create_future()

    # --- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._news = select.poll()
        self._news.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._register.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view[self._have :] if self._target is None else self._target[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._answered = True
        self._heard_at = self._loop.time()
        if self._target is not None:
            self._filled += nbytes
            if self._filled == len(self._target):
                self._target = None
                self._wake()
            return
        self._have += nbytes
        if self._have == len(self._buffer):
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._end(ConnectionResetError("it was closed"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._register.discard(self)
        self._end(exc or ConnectionResetError("it was closed"))
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._wake()

    def _end(self, why: BaseException) -> None:
        self._ended = self._ended or why
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- what the transport asks

    @property
    def usable(self) -> bool:
        """May another request be sent? Bytes that came unasked for belong to no request, and an end is one."""
        return not self.spent and self._have == 0 and not self._transport.is_closing() and not self._has_news()

    @property
    def spent(self) -> bool:
        """Has it ended, or rested for so long that the other side may be about to end it?"""
        return self._ended is not None or self._loop.time() - self._rested_at >= IDLE_SECONDS

    def _has_news(self) -> bool:
        """Does the socket hold what the loop did not look at yet?"""
        return bool(self._news.poll(0))

    @property
    def clean(self) -> bool:
        """Did nothing come behind the answer, and was all of the request sent?"""
        return self._have == 0 and self._ended is None and not self._cut_short

    @property
    def ended_unanswered(self) -> bool:
        """Did the other side end it before a byte of an answer came?"""
        return self._ended is not None and not self._answered

    def rest(self) -> None:
        """The request is over."""
        self._rested_at = self._loop.time()

    def abort(self) -> None:
        """Give it up at once."""
        # asyncio's own abort fails where the last of what was to be sent left with the end of the connection.
        if not self.closed.done():
            self._transport.abort()

    def write(self, data: bytes | memoryview) -> None:
        """Send `data`, or keep it until it can be sent."""
        self._answered = False
        self._transport.write(data)

    async def upload(self, head: bytes, body: memoryview) -> None:
        """Send a large body without keeping it twice. A server that answers before its end is listened to.

        What is sent to it next it takes for the rest of that body.
        """
        self.write(head)
        for start in range(0, len(body), _PIECE):
            if self._answered or self._ended is not None:
                self._cut_short = True
                return
            self._transport.write(body[start : start + _PIECE])
            while not self._writable and not self._answered and self._ended is None:
                await self._wait(None)

    async def read_head(self, *, patient: bool = False) -> _Head:
        """The head of the answer, however long that takes if `patient`.

        Those of status 100 to 199 come before it and are left out.
        """
        for _ in range(_MAX_INTERIM + 1):
            data = await self._take_until(b"\r\n\r\n", _MAX_HEAD, None if patient else self._silence)
            head = _Head(data)
            if head.status >= 200:
                return head
        raise OSError("an answer that does not come: there is always one more before it")

    async def fill(self, target: memoryview) -> None:
        """Read until `target` is full."""
        count = min(self._have, len(target))
        target[:count] = self._take(count)
        if count == len(target):
            return
        self._target, self._filled = target, count
        try:
            while self._target is not None:
                await self._more(self._silence)
        finally:
            self._target = None

    async def take(self, most: int) -> bytes:
        """What has come, at least one byte and at most `most`; b"" at the end of the connection."""
        while not self._have:
            if self._ended is not None:
                return b""
            await self._wait(self._silence)
        return self._take(min(self._have, most))

    async def take_line(self) -> bytes:
        """The next line, without its end."""
        return await self._take_until(b"\r\n", _MAX_LINE, self._silence)

    async def _take_until(self, mark: bytes, most: int, silence: float | None) -> bytes:
        while (end := self._buffer.find(mark, 0, self._have)) < 0:
            if self._have >= most:
                raise OSError("a line or a head that does not end")
            await self._more(silence)
        return self._take(end + len(mark))[: -len(mark)]

    def _take(self, count: int) -> bytes:
        taken = bytes(self._view[:count])
        left = self._have - count
        self._view[:left] = bytes(self._view[count : self._have])
        self._have = left
        self._transport.resume_reading()
        return taken

    async def _more(self, silence: float | None) -> None:
        if self._ended is not None:
            raise copy(self._ended)  # what is raised holds this frame, and that us: we may not hold it, too
        await self._wait(silence)

    async def _wait(self, silence: float | None) -> None:
        """Until something happens, or nothing came for `silence` seconds."""
        self._waiter = waiter = self._loop.create_future()
        self._heard_at = self._loop.time()
        timer = None if silence is None else self._loop.call_later(silence, self._check_silence, waiter, silence)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
            del waiter  # holds what is raised here, and that this frame

    def _check_silence(self, waiter: asyncio.Future[None], silence: float) -> None:
        if waiter.done():
            return
        left = self._heard_at + silence - self._loop.time()
        if left > 0:
            self._loop.call_later(left, self._check_silence, waiter, silence)
        else:
            waiter.set_exception(TimeoutError())


class _Buffers:
    """Memory for bodies, used again once nobody looks at it any more.

    Making a large buffer and touching its pages for the first time costs more than filling it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: deque[tuple[float, bytearray]] = deque()  # with the time when it was taken, oldest first

    def take(self, size: int) -> memoryview:
        """Writable memory of `size` bytes. It is taken back when the last view of it is gone."""
        if size < _PIECE:
            return memoryview(bytearray(size))
        buffer = self._find(size)
        if buffer is None:
            buffer = bytearray(size)
            if len(self._kept) == _KEPT_BUFFERS:
                self._kept.popleft()
        self._kept.append((self._clock(), buffer))
        return memoryview(buffer)[:size]

    def let_go(self) -> None:
        """Free what was not taken for `_KEPT_SECONDS`, so that a burst is not paid for as long as we run."""
        while self._kept and self._clock() - self._kept[0][0] >= _KEPT_SECONDS:
            self._kept.popleft()

    def _find(self, size: int) -> bytearray | None:
        """Take out the smallest that is free and large enough, of several the last taken: the others can go."""
        kept = self._kept
        free = [place for place, (_, buffer) in enumerate(kept) if len(buffer) >= size and _is_unseen(buffer)]
        if not free:
            return None
        place = min(free, key=lambda place: (len(kept[place][1]), -place))
        _, buffer = kept[place]
        del kept[place]
        return buffer


def _is_unseen(buffer: bytearray) -> bool:
    """Is there no memoryview of it? As long as there is one, its size cannot change."""
    try:
        buffer.append(0)
    except BufferError:
        return False
    buffer.pop()
    return True


class _DirectResponse:
    """An answer. `complete` once its body, if any, was read to the end."""

    def __init__(self, connection: _Connection, head: _Head, buffers: _Buffers, url: str, *, has_body: bool) -> None:
        self._connection = connection
        self._head = head
        self._buffers = buffers
        self._url = url
        self.status = head.status
        self.lives_on = head.lives_on
        self.complete = not has_body or head.status in (204, 304) or head.announces_nothing

    def header(self, name: str) -> str | None:
        return self._head.get(name)

    async def read(self, limit: int) -> Data:
        if self.complete:
            return b""
        with mapped(self._url):
            length = None if self._head.chunked else self._head.length
            if length is not None:
                return await self._read_counted(length, limit)
            body = bytearray()
            async for piece in self._pieces(None):
                body += piece
                if len(body) >= limit:
                    self.complete = False
                    break
            return memoryview(body)[:limit]

    async def _read_counted(self, length: int, limit: int) -> Data:
        body = self._buffers.take(min(length, limit))
        await self._connection.fill(body)
        self.complete = length <= limit
        return body.toreadonly()

    async def chunks(self) -> AsyncIterator[Data]:
        if self.complete:
            return
        with mapped(self._url):
            length = None if self._head.chunked else self._head.length
            async for piece in self._pieces(length):
                yield piece

    async def _pieces(self, length: int | None) -> AsyncIterator[bytes]:
        """The body as it comes: chunked, of `length` bytes, or up to the end of the connection."""
        if self._head.chunked:
            while size := _chunk_size(await self._connection.take_line()):
                async for piece in self._counted(size):
                    yield piece
                if await self._connection.take_line():
                    raise OSError("a chunk is longer than it says")
            await self._skip_trailers()
            self.complete = True
        elif length is not None:
            async for piece in self._counted(length):
                yield piece
            self.complete = True
        else:
            while piece := await self._connection.take(_PIECE):
                yield piece

    async def _skip_trailers(self) -> None:
        """Fields behind the body, which nobody reads (RFC 9112, 7.1.2)."""
        for _ in range(_MAX_TRAILERS + 1):
            if not await self._connection.take_line():
                return
        raise OSError("trailers that do not end")

    async def _counted(self, length: int) -> AsyncIterator[bytes]:
        while length:
            piece = await self._connection.take(length)
            if not piece:
                raise ConnectionResetError(f"{length} bytes of the body did not come")
            length -= len(piece)
            yield piece


def _chunk_size(line: bytes) -> int:
    size = _SIZE.fullmatch(line)
    if size is None:
        raise OSError("what came is not a chunked body")
    return int(size[1], 16)
