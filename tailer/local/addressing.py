"""Which bucket and object a request is about, from its Host and its raw target.

The target is taken as it stood on the wire: ``//``, ``..`` and ``%2F`` in a key are that key's own
characters, and no library may fold them away.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote, unquote_plus

from tailer.local.names import is_bucket_name

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True, slots=True)
class Target:
    """`bucket` None: the service itself. `key` None: the bucket itself. `path` is decoded, without the query."""

    bucket: str | None
    key: str | None
    query: tuple[tuple[str, str], ...]
    path: str
    named_by_host: bool = False


def locate(host: str, target: str, cnames: Mapping[str, str], domains: Collection[str]) -> Target:
    """Take a request's ``Host`` and target apart.

    `cnames` are hosts that stand for a bucket; `domains` are names of this server, below which every host is
    a bucket. An address, ``localhost`` and a host of one label name no bucket: the path does (path style).
    Of any other host the first label is the bucket (virtual-hosted style).
    """
    if "://" in target.partition("?")[0] and not target.startswith("/"):
        # The absolute form that a client sends to a proxy (RFC 9112 section 3.2.2).
        host, slash, rest = target.partition("://")[2].partition("/")
        target = slash + rest
    raw_path, _, raw_query = target.partition("?")
    path = unquote(raw_path, errors="surrogateescape")
    query = _query(raw_query)
    bucket = _bucket_of(_host_name(host), cnames, domains)
    if bucket is not None:
        return Target(bucket, path[1:] or None, query, path, named_by_host=True)
    first, slash, rest = raw_path[1:].partition("/")
    decoded = unquote(first, errors="surrogateescape")
    key = unquote(rest, errors="surrogateescape") if slash else ""
    return Target(decoded or (None if not slash else ""), key or None, query, path)


def _query(raw: str) -> tuple[tuple[str, str], ...]:
    """Decoded pairs; a name without a value has the empty one, so that ``append`` and ``append=`` are one."""
    pairs = (part.partition("=") for part in raw.split("&") if part)
    return tuple((_decoded(name), _decoded(value)) for name, _, value in pairs)


def _decoded(text: str) -> str:
    return unquote_plus(text, errors="surrogateescape") if "%" in text or "+" in text else text


def _host_name(host: str) -> str:
    """Without the port, lower case."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def _bucket_of(host: str, cnames: Mapping[str, str], domains: Collection[str]) -> str | None:
    if host in cnames:
        return cnames[host]
    for domain in domains:
        if host == domain:
            return None
        if host.endswith("." + domain):
            return host[: -len(domain) - 1]
    first, dot, _ = host.partition(".")
    if not dot or _is_address(host) or not is_bucket_name(first):
        return None
    return first


@lru_cache(maxsize=256)
def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
