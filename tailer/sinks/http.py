"""Batches to an HTTP server, by POST."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote, urlsplit

from tailer.core import crc64
from tailer.core.events import Rewound
from tailer.errors import SinkBusy, SinkError, TailerError, UsageError
from tailer.oss.transport import open_transport
from tailer.oss.unshown import UnshownDict, UnshownUrl
from tailer.sinks.jsonl import encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

    from tailer.core.events import Batch, Event
    from tailer.oss.transport import Data, Transport

LARGEST_BODY = 1 << 20  # bytes
_KEY = "Idempotency-Key"
_LONGEST_WAIT = 3600.0  # seconds; a server that asks for more is asked again then
_ANSWER_LIMIT = 64 << 10  # bytes of an answer that are read so that its connection can be used again
_LATER = frozenset({408, 429})
_OURS = frozenset({"content-length", "content-type", "idempotency-key", "transfer-encoding"})


class HttpPost:
    """A sink that POSTs batches to `url`: any 2xx is "delivered".

    408, 429, 5xx, time-outs and broken connections raise SinkBusy, with the server's Retry-After: `Retrying` makes
    further tries of it. Any other answer, a redirect among them, raises SinkError and ends the follow.

    Each request has the headers ``X-OSS-Tail-Object`` (the address, percent-encoded), ``X-OSS-Tail-Generation``,
    ``X-OSS-Tail-Start``, ``X-OSS-Tail-End`` (bytes, the end exclusive) and ``Idempotency-Key``: a hash of those and of
    the CRC-64 of the bytes, the same at every repetition.

    At least once: a POST whose answer was lost is made again, with the same key, and so is what a kill found
    under way. A server that keeps the keys has
    each batch exactly once as long as batches are cut alike, which a restart may change: offsets always tell.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Literal["bytes", "jsonl"] = "bytes",
        largest_body: int = LARGEST_BODY,
        transport: Transport | None = None,
    ) -> None:
        """`headers` are sent along, a token for one. `body`: the bytes as they are, or one JSON object per record.

        A batch of more than `largest_body` bytes goes in several requests, cut at the ends of records where it
        has records, and inside one only when that one is larger. (With JSON lines, the bytes before encoding count.)
        A `transport` that is given stays the caller's to close.

        Raises UsageError for a URL that is not plain http or https, for a header that is ours to set.
        """
        self._place = check_target(url, headers or ())
        self._url = UnshownUrl(url)
        if largest_body < 1:
            raise UsageError("largest_body is at least 1 byte")
        self._headers = UnshownDict({**(headers or {}), "Content-Type": _CONTENT_TYPES[body]})
        self._jsonl = body == "jsonl"
        self._largest = largest_body
        self._taken: set[str] = set()  # the keys of parts of batches that were not taken whole yet
        self._mine = transport is None
        self._transport = open_transport() if transport is None else transport

    async def write(self, batch: Batch) -> None:
        """POST the batch, in one or more requests. Raises SinkBusy and SinkError.

        After either, the whole batch is due again; the parts of it that were taken are then left out.
        """
        keys = []
        for part in parts(batch, self._largest):
            identity = _identity(part)
            keys.append(identity[_KEY])
            if keys[-1] not in self._taken:
                await self._post(part, identity)
                self._taken.add(keys[-1])
        self._taken.difference_update(keys)

    async def _post(self, batch: Batch, identity: Mapping[str, str]) -> None:
        body: Data = encode(batch.object, batch) if self._jsonl else batch.data
        headers = UnshownDict({**self._headers, **identity})
        async with self._asking(), self._transport.open("POST", self._url, headers, body) as answer:
            await answer.read(_ANSWER_LIMIT)
            self._judge(answer.status, answer.header("retry-after"))

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Whatever goes wrong on the way is the sink's failure, and not the object's."""
        try:
            yield
        except SinkError:
            raise
        except TailerError as error:
            kind = SinkBusy if error.retriable else SinkError
            raise kind(f"POST to {self._place}: {error}") from error

    def _judge(self, status: int, retry_after: str | None) -> None:
        if 200 <= status < 300:
            return
        if status in _LATER or status >= 500:
            raise self._busy(status, retry_after)
        hint = "redirects are not followed: give the final URL" if 300 <= status < 400 else None
        raise SinkError(f"POST to {self._place} was answered with status {status}", hint=hint)

    def _busy(self, status: int, retry_after: str | None) -> SinkBusy:
        busy = SinkBusy(f"POST to {self._place} was answered with status {status}")
        busy.retry_after = _seconds(retry_after)
        return busy

    async def notice(self, event: Event) -> None:
        """Nothing is sent: bytes that come again have the same offsets, a new object has another generation."""
        if isinstance(event, Rewound):
            self._taken.clear()  # what came between them may have taken their place

    async def close(self) -> None:
        """Close the connections, unless they are the caller's."""
        if self._mine:
            await self._transport.aclose()


_CONTENT_TYPES = {"bytes": "application/octet-stream", "jsonl": "application/x-ndjson"}


def check_target(url: str, headers: Iterable[str] = ()) -> str:
    """How the URL is shown: without its query, which may hold a secret. `headers` are names.

    Raises UsageError for a URL that is not plain http or https, for a header that is ours to set.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as error:
        raise UsageError("the URL to POST to cannot be read") from error
    if not usable:
        raise UsageError("the URL to POST to begins with http:// or https://, and names a host")
    if parts.username is not None or parts.password is not None:
        raise UsageError("the URL to POST to holds a password: give it as a header, Authorization")
    if taken := [name for name in headers if name.lower() in _OURS or name.lower().startswith("x-oss-tail")]:
        raise UsageError(f"the header {taken[0]!r} is set by the sink itself")
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _identity(batch: Batch) -> dict[str, str]:
    """The headers that say which bytes these are."""
    name = quote(str(batch.object), safe="/:", errors="surrogatepass")
    facts = (name, batch.generation, batch.start, batch.end, crc64.update(batch.data))
    key = hashlib.sha256(" ".join(map(str, facts)).encode()).hexdigest()[:32]
    return {
        "X-OSS-Tail-Object": name,
        "X-OSS-Tail-Generation": str(batch.generation),
        "X-OSS-Tail-Start": str(batch.start),
        "X-OSS-Tail-End": str(batch.end),
        # The bytes are part of it: those that come again after a rewind have the same place and are others.
        _KEY: key,
    }


def _seconds(retry_after: str | None) -> float | None:
    """RFC 9110, 10.2.3: seconds; the other form, a date, would trust two clocks, and is passed over."""
    text = (retry_after or "").strip()
    if not (text.isascii() and text.isdigit()):
        return None
    return min(float(text[:10]), _LONGEST_WAIT)


def parts(batch: Batch, largest: int) -> Iterator[Batch]:
    """`batch` in pieces of at most `largest` bytes, cut at the ends of records where there are any in reach."""
    data, at, first = memoryview(batch.data).toreadonly(), 0, batch.first
    raw = bytes(batch.data) if len(data) > largest else b""
    while len(data) - at > largest:
        end, last = _cut(raw, at, at + largest, batch.delimiter)
        yield replace(batch, start=batch.start + at, end=batch.start + end, data=data[at:end], first=first, last=last)
        at, first = end, last
    if at == 0:
        yield batch
    else:
        yield replace(batch, start=batch.start + at, data=data[at:], first=first)


def _cut(data: bytes, start: int, end: int, delimiter: bytes | None) -> tuple[int, bool]:
    """Where the piece that may reach up to `end` ends, and whether a record ends there."""
    found = -1 if delimiter is None else data.rfind(delimiter, start, end)
    if delimiter is None or found < 0:
        return end, delimiter is None
    return found + len(delimiter), True
