"""Which transport speaks: our own for plain HTTP, a library for TLS and proxies."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tailer.errors import ConfigError
from tailer.oss.http import Data as Data
from tailer.oss.http import Kind as Kind
from tailer.oss.http import Response as Response
from tailer.oss.http import Timeouts as Timeouts
from tailer.oss.http import Transport as Transport
from tailer.oss.unshown import UnshownEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager

_PATIENCE = Timeouts()
_HTTPX_PROXIES = frozenset({"http", "https"})
_FAST_PROXIES = _HTTPX_PROXIES | {"socks4", "socks4a", "socks5", "socks5h"}


def open_transport(
    kind: Kind | None = None,
    *,
    timeouts: Timeouts = _PATIENCE,
    proxies: bool = True,
    environ: Mapping[str, str] = os.environ,
) -> Transport:
    """Our own for plain HTTP, and the fast library (httpx where it is not installed) for TLS and proxies.

    `kind`, or ``OSS_TAIL_TRANSPORT``, asks for one library for everything; ``direct`` is the default.
    `proxies` false: those of the environment are not used.

    Raises ConfigError for a name that is none, a transport that is not installed, and for a proxy or a
    CA file in the environment that cannot be used.
    """
    environ = UnshownEnvironment(environ)
    wanted = kind or environ.get("OSS_TAIL_TRANSPORT") or None
    if wanted not in (None, "direct", "fast", "httpx"):
        raise ConfigError(f"OSS_TAIL_TRANSPORT is {wanted!r}: it can be direct, fast or httpx")
    _check_authorities(environ)
    if wanted in (None, "direct") and not (proxies and _names_proxies(environ)):
        return _BySchemeTransport(timeouts, lambda: _open_library(None, timeouts, proxies, environ))
    return _open_library(wanted, timeouts, proxies, environ)


def _open_library(kind: str | None, timeouts: Timeouts, proxies: bool, environ: Mapping[str, str]) -> Transport:
    from tailer.oss.libraries import FastTransport, HttpxTransport  # late: plain HTTP needs neither

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
        from tailer.oss.direct import DirectTransport  # late: asked through a proxy, it is not needed

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
