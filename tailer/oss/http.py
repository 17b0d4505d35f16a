"""The seam between requests and whatever sends them: the Protocols, time-outs, and errors of every transport.

A transport sends one request and hands out the answer. It follows no redirect, decodes nothing, retries nothing,
and raises nothing but what the tree of `tailer.errors` holds.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import urlsplit

from tailer.errors import (
    ConnectError,
    ConnectionLost,
    RequestTimeout,
    TailerError,
    TlsError,
    UsageError,
)
from tailer.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

Kind = Literal["direct", "fast", "httpx"]
Data = bytes | bytearray | memoryview

USER_AGENT = f"oss-tail/{__version__}"

# OSS closes a connection that was idle for a minute; we let go of it first.
IDLE_SECONDS = 45.0

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]*")
_UNSENDABLE = re.compile(r"[^\t\x20-\x7e]")

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


def upload_seconds(read_timeout: float, length: int) -> float:
    """How long sending `length` bytes, and the answer to them, may take."""
    return read_timeout + length / _SLOWEST_UPLOAD


def check_headers(url: str, headers: Mapping[str, str]) -> None:
    """Raises UsageError for what no header can hold (RFC 9110, 5.1 and 5.5; of text ASCII alone), without showing it.

    It may be a security token that was copied with a newline, and libraries say the value in their errors.
    """
    if _NAME.fullmatch("".join(headers)) and not _UNSENDABLE.search("".join(headers.values())):
        return
    wrong = [name for name, value in headers.items() if not _NAME.fullmatch(name) or _UNSENDABLE.search(value)]
    what = f"the header {wrong[0]!r} holds a newline, or another character that no header can"
    raise UsageError(f"{_host(url)} cannot be asked: {what}")


# --- errors

# By class name, the nearest in the order of inheritance, so that no library need be imported. A name
# that stands in several means the same in all.
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
    """Raise what a library or a socket raises as one of ours."""
    handled = sys.exception()
    try:
        yield
    except Exception as error:
        if isinstance(error, TailerError) or (ours := map_error(error, url, handled)) is None:
            raise
        try:
            raise ours from error
        finally:
            del ours  # what is raised holds this frame


def map_error(error: Exception, url: str, handled: BaseException | None = None) -> TailerError | None:
    """The one of ours that `error` stands for; None when it is not of the network or of a library.

    The message names the host alone, as a URL may hold a signature. For the same reason the query is taken
    out of `error` itself, which stays as the cause. `handled` is what was being handled when the request began:
    it stands behind `error`, and is no cause of it.
    """
    names = (kind.__name__ for kind in type(error).__mro__)
    kind = next((_MEANINGS[name] for name in names if name in _MEANINGS), None)
    if kind is None:
        return None
    causes = _rust_causes(error)
    if kind is ConnectError and causes and "client error (Connect)" not in causes:
        kind = ConnectionLost  # the library calls any failure before the answer's head so
    chain = _chain(error, handled)
    if kind is ConnectError and _is_tls(chain, causes):
        kind = TlsError
    reason = _reason(chain, causes)
    hint = "does the endpoint speak https there?" if kind is TlsError and "certificate" not in reason else None
    return kind(_WORDS[kind].format(host=_host(url), reason=reason), hint=hint)


def failure(kind: type[TailerError], url: str, error: Exception | None = None) -> TailerError:
    """A `kind` of error about the host of `url`, for the reason that `error` holds."""
    return kind(_WORDS[kind].format(host=_host(url), reason="" if error is None else _reason([error], [])))


def _chain(error: BaseException, handled: BaseException | None) -> list[BaseException]:
    """`error` and what led to it, the deepest last."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link is not handled and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain


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


def _is_tls(chain: Sequence[BaseException], rust_causes: list[str]) -> bool:
    if rust_causes:
        return _RUSTLS.match(rust_causes[-1]) is not None
    import ssl

    found = next((error for error in chain if isinstance(error, ssl.SSLError)), None)
    # A peer that hangs up in the handshake is a broken connection and not a bad certificate.
    return found is not None and not isinstance(found, (ssl.SSLEOFError, ssl.SSLZeroReturnError))


def _reason(chain: Sequence[BaseException], rust_causes: list[str]) -> str:
    """The deepest cause in words, alike for both libraries."""
    if rust_causes:
        return re.sub(r" \(os error \d+\)$", "", rust_causes[-1])
    deepest = next((error for error in reversed(chain) if isinstance(error, OSError)), None)
    words = str(chain[0]) if deepest is None else _words_of_os_error(deepest)
    return words or type(chain[0]).__name__


def _words_of_os_error(error: OSError) -> str:
    if hasattr(error, "library"):  # of OpenSSL: "[SSL: REASON] words (_ssl.c:1006)", and errno is not the system's
        return re.sub(r"^\[.*?\] | \(_ssl\.c:\d+\)$", "", str(error.strerror or error))
    if error.errno and error.errno > 0:
        return os.strerror(error.errno)  # asyncio puts the address into strerror
    return error.strerror or str(error)
