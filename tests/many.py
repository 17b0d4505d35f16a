"""A service with as many objects as one likes, all alike, made when they are asked for: it costs little, and no memory.

``python -m tests.many 1000000`` serves a million until its standard input ends; it prints its address first.
"""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from tailer.core import crc64

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = 1000  # keys on one page: the most that OSS gives (OSS documentation, ListObjectsV2)
TEXT = b"a line\n"  # of each object
ETAG = "5D41402ABC4B2A76B9719D911017C592"

_ROW = (
    "<Contents><Key>{:07}.log</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&quot;" + ETAG + "&quot;"
    f"</ETag><Type>Appendable</Type><Size>{len(TEXT)}</Size><StorageClass>Standard</StorageClass></Contents>"
).format
_DATE = "Fri, 02 Jan 2026 03:04:05 GMT"


def key(number: int) -> str:
    """Of the object with this number, counted from 0."""
    return f"{number:07}.log"


class Many:
    """The buckets of that service, each with the objects ``0000000.log``, ``0000001.log`` and so on, `count` of them.

    A listing with a prefix is empty. `count` may change at any moment. `asked`: requests so far, by LIST, HEAD and GET.
    `repeats`: each page of a listing names itself as the next one.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked: Counter[str] = Counter()
        self.port = 0
        self.repeats = False
        self.connections: set[asyncio.Transport] = set()
        self.most_connections = 0

    def environment(self) -> dict[str, str]:
        """The variables by which our commands find it."""
        keys = {"OSS_ACCESS_KEY_ID": "any", "OSS_ACCESS_KEY_SECRET": "any", "OSS_REGION": "cn-local"}
        return {**keys, "OSS_ENDPOINT": f"http://127.0.0.1:{self.port}"}

    def answer(self, head: str) -> bytes:
        """To the request that begins with these lines."""
        target = urlsplit(head.split(" ", 2)[1])
        query = parse_qs(target.query)
        if "list-type" in query:
            self.asked["LIST"] += 1
            return self._page(int(query.get("continuation-token", ["0"])[0]), 0 if "prefix" in query else self.count)
        method = head.partition(" ")[0]
        self.asked[method] += 1
        if method == "HEAD":
            return _object(0, len(TEXT), whole=True).removesuffix(TEXT)
        span = re.search(r"(?i)^range: *bytes=(\d+)-(\d*)", head, re.MULTILINE)
        if span is None:
            return _answer("400 Bad Request", b"")
        return _object(int(span[1]), min(int(span[2] or sys.maxsize) + 1, len(TEXT)))

    def _page(self, first: int, count: int) -> bytes:
        end = min(first + PAGE, count)
        more = "<IsTruncated>false</IsTruncated>"
        if end < count:
            token = first if self.repeats else end
            more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
        rows = "".join(map(_ROW, range(first, end)))
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult>{rows}{more}</ListBucketResult>'
        return _answer("200 OK", text.encode(), "Content-Type: application/xml")


def _object(start: int, end: int, *, whole: bool = False) -> bytes:
    facts = [f'ETag: "{ETAG}"', f"Last-Modified: {_DATE}", "x-oss-object-type: Appendable"]
    facts.append(f"x-oss-hash-crc64ecma: {_CRC}")
    if whole:
        return _answer("200 OK", TEXT, *facts)
    if start >= end:
        return _answer("416 Range Not Satisfiable", b"", f"Content-Range: bytes */{len(TEXT)}", *facts)
    facts.append(f"Content-Range: bytes {start}-{end - 1}/{len(TEXT)}")
    return _answer("206 Partial Content", TEXT[start:end], *facts)


def _answer(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "x-oss-request-id: 5C3D9778CC1C2AEDF85B", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


_CRC = crc64.update(TEXT, 0)


class _Connection(asyncio.Protocol):
    """Requests without a body, one after the other."""

    def __init__(self, many: Many) -> None:
        self._many = many
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._many.connections.add(transport)
        self._many.most_connections = max(self._many.most_connections, len(self._many.connections))

    def connection_lost(self, exc: Exception | None) -> None:
        self._many.connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        *heads, self._held = (self._held + data).split(b"\r\n\r\n")
        for head in heads:
            self._transport.write(self._many.answer(head.decode("latin-1")))


async def _serve(many: Many, ready: threading.Event, end: asyncio.Event) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(many), "127.0.0.1", 0)
    many.port = server.sockets[0].getsockname()[1]
    ready.set()
    async with server:
        await end.wait()
        for connection in [*many.connections]:
            connection.abort()


@contextmanager
def serving(count: int) -> Iterator[Many]:
    """One of `count` objects, in a thread of its own."""
    many, ready, end, loop = Many(count), threading.Event(), asyncio.Event(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=[_serve(many, ready, end)])
    thread.start()
    try:
        assert ready.wait(10)
        yield many
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()
        loop.close()


if __name__ == "__main__":
    with serving(int(sys.argv[1])) as served:
        print(served.environment()["OSS_ENDPOINT"], flush=True)
        sys.stdin.read()
