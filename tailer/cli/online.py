"""Whether what a configuration names is there: buckets, permissions, sinks, checkpoints, the port.

Nothing is written anywhere, and no object is read but for one byte of one that matches.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import shutil
import socket
import time
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, NamedTuple

from tailer.checkpoints import owner_of, read_all
from tailer.cli.messages import Messages, quote, warn_in_clear
from tailer.configfile import Reference, service_settings
from tailer.core.options import Integrity
from tailer.core.ranges import ByteRange
from tailer.discovery import matching_objects
from tailer.errors import (
    BucketNotFound,
    ClockSkewed,
    ConfigError,
    CredentialsRefused,
    ObjectNotFound,
    TailerError,
    TransportError,
    WrongEndpoint,
)
from tailer.oss.address import parse_address
from tailer.oss.client import connect
from tailer.oss.transport import open_transport
from tailer.oss.unshown import UnshownUrl
from tailer.sinks.http import check_target

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tailer.configfile import GroupConfig, ServiceConfig, SinkConfig
    from tailer.core.position import ObjectRef
    from tailer.oss.address import Address
    from tailer.oss.client import Client
    from tailer.oss.messages import ListPage

_AT_ONCE = 8
_SERVICE = "oss-tailer run"


class Finding(NamedTuple):
    """One thing that was looked at. ``str()`` is one line."""

    verdict: Literal["ok", "warning", "failed"]
    subject: str
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:<8} {self.subject}: {self.text}"


async def find(config: ServiceConfig) -> list[Finding]:
    """Look at everything, in the order of the objects, the sinks, the checkpoints and the port."""
    checkpoints = _checkpoints(config)
    return [*await _service(config), *await _sinks(config), *checkpoints, *_port(config, checkpoints)]


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


# --- the service


async def _service(config: ServiceConfig) -> list[Finding]:
    """What every group finds of its objects; or that nobody knows how to ask."""
    addresses = [(group, parse_address(text)) for group in config.groups.values() for text in group.objects]
    try:
        settings = service_settings(config)
        warn_in_clear(Messages(name="oss-tailer"), settings, [address for _, address in addresses])
        client = connect(settings, [address for _, address in addresses])
    except ConfigError as error:
        return [Finding("failed", "oss", str(error))]
    turn = asyncio.Semaphore(_AT_ONCE)
    async with client:
        found = await asyncio.gather(*(_objects(client, group, address, turn) for group, address in addresses))
    return [finding for findings in found for finding in findings]


async def _objects(client: Client, group: GroupConfig, address: Address, turn: asyncio.Semaphore) -> list[Finding]:
    """One page of the listing, if it takes one, and one object that matches."""
    subject = f"groups.{group.name} {quote(address)}"
    found: list[Finding] = []
    listed = address.pattern or address.prefix
    async with turn:
        try:
            page = _FirstPage(client)
            refs = await matching_objects(page, _present(address))
            if listed:
                found.append(_matching(subject, len(refs), more=page.more))
            if refs:
                found.append(await _read(client, subject, refs[0], group))
        except TailerError as error:
            what = "it cannot be listed" if listed and not found else "it cannot be read"
            found.append(Finding("failed", subject, f"{_what_failed(error) or what}: {error}"))
    return found


class _FirstPage:
    """A `Lister` of first pages, each as if it was the last. `more`: the service said of one that it is not."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.more = False

    async def list_objects(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", continuation_token: str | None = None
    ) -> ListPage:
        page = await self._client.list_objects(bucket, prefix, delimiter=delimiter)
        self.more = page.next_token is not None
        return replace(page, next_token=None)


def _present(address: Address) -> Address:
    """Of partitions by time, the one of now."""
    if address.url is not None:
        return address
    key = re.sub("%[YmdH]", lambda code: time.strftime(code[0], time.gmtime()), address.ref.key)
    return replace(address, ref=replace(address.ref, key=key))


def _matching(subject: str, count: int, *, more: bool) -> Finding:
    page = "the first page of several" if more else "the first page"
    if not count:
        return Finding("warning", subject, f"may be listed, but none matches on {page}{'' if more else ': none yet?'}")
    return Finding("ok", subject, f"may be listed: {_counted(count, 'object')} on {page}")


async def _read(client: Client, subject: str, ref: ObjectRef, group: GroupConfig) -> Finding:
    """Read one byte, where there is one."""
    try:
        meta = await client.head(ref)
        if meta.size:
            await client.fetch(ref, ByteRange(0, 1))
    except ObjectNotFound:
        return Finding("warning", subject, f"{quote(ref)} is not there yet")
    if meta.crc64 is None and group.integrity is not Integrity.OFF:
        return Finding(
            "failed", subject, f'{quote(ref)} has no CRC-64, so that nothing can be proven: integrity = "off"'
        )
    return Finding("ok", subject, f"may be read: {quote(ref)} has {_counted(meta.size, 'byte')}")


def _what_failed(error: TailerError) -> str | None:
    """What is in the way of every request, if it is that."""
    if isinstance(error, TransportError):
        return "the endpoint cannot be reached"
    if isinstance(error, CredentialsRefused | ClockSkewed | ConfigError):
        return "the keys are not good"
    if isinstance(error, BucketNotFound | WrongEndpoint):
        return "the bucket is not there"
    return None


# --- sinks


async def _sinks(config: ServiceConfig) -> list[Finding]:
    return [await _sink(sink) for sink in config.sinks.values()]


async def _sink(sink: SinkConfig) -> Finding:
    subject = f"sinks.{sink.name}"
    if sink.url is not None:
        return await _target(subject, sink.url, sink.headers)
    if sink.command:
        found = shutil.which(sink.command[0])
        if found is None:
            return Finding("failed", subject, f"the command {quote(sink.command[0])} is not to be found")
        return Finding("ok", subject, f"the command is {quote(found)}")
    if sink.path is not None:
        return _writable(subject, sink.path, folder=sink.type == "file")
    return Finding("ok", subject, "standard output")


async def _target(subject: str, url: str, headers: Mapping[str, str | Reference]) -> Finding:
    """Whether the server answers to HEAD; what, is its own affair, since only a POST with a batch would tell."""
    place = check_target(url)
    try:
        for value in headers.values():
            if isinstance(value, Reference):
                value.read(os.environ)
        transport = open_transport()
        try:
            async with transport.open("HEAD", UnshownUrl(url), {}) as answer:
                status = answer.status
        finally:
            await transport.aclose()
    except TailerError as error:
        return Finding("failed", subject, f"{place}: {error}")
    if 300 <= status < 400 or status >= 500:
        return Finding("warning", subject, f"{place} answers to HEAD with status {status}")
    return Finding("ok", subject, f"{place} answers")


def _writable(subject: str, path: Path, *, folder: bool) -> Finding:
    """Whether the file or folder may be written; one that is not there yet, be made."""
    place = path
    while not os.path.exists(place) and place != place.parent:
        place = place.parent
    is_folder = os.path.isdir(place)
    if is_folder is not (folder or place != path):
        text = f"{quote(path)} cannot be had: {quote(place)} is {'a' if is_folder else 'no'} folder"
        return Finding("failed", subject, text)
    if not os.access(place, os.W_OK | os.X_OK if is_folder else os.W_OK):
        return Finding("failed", subject, f"{quote(path)} cannot be written: no permission for {quote(place)}")
    return Finding("ok", subject, f"{quote(path)} may be {'written' if place == path else 'made'}")


# --- checkpoints and port


def _checkpoints(config: ServiceConfig) -> list[Finding]:
    """The file is read, if it is there; the groups are asked for who has them."""
    path = config.checkpoint
    found = _writable("checkpoint", path, folder=False)
    if found.verdict == "ok":
        found = _writable("checkpoint", path.parent, folder=True)
    try:
        if os.path.exists(path):
            read_all(path)
    except TailerError as error:
        found = Finding("failed", "checkpoint", str(error))
    return [found, *(_owned(path, group) for group in config.groups)]


def _owned(path: Path, group: str) -> Finding:
    owner = owner_of(path, group)
    subject = f"groups.{group}"
    if owner is None:
        return Finding("ok", subject, "no other process has it")
    if owner.startswith(_SERVICE):
        return Finding("warning", subject, f"is in use by {owner}: reload that instead of starting another")
    return Finding("failed", subject, f"is in use by {owner}")


def _port(config: ServiceConfig, taken: list[Finding]) -> list[Finding]:
    """Whether the port is free; one that the service itself may have is a warning."""
    if config.server.listen is None:
        return []
    if missing := [name for name in ("aiohttp", "prometheus_client") if find_spec(name) is None]:
        text = f"needs {' and '.join(missing)}: pip install 'oss-tail[service]'"
        return [Finding("failed", "server.listen", text)]
    host, port = config.server.listen
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        mine = error.errno == errno.EADDRINUSE and any(one.verdict == "warning" for one in taken)
        return [Finding("warning" if mine else "failed", "server.listen", f"{where}: {error.strerror or error}")]
    return [Finding("ok", "server.listen", f"{where} is free")]
