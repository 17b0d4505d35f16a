"""`oss-tail` as a command, over both transports, against a server whose faults can be switched on."""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

import tailer.local
from tailer.core.events import Batch, Event
from tailer.core.options import TailOptions
from tailer.core.position import ObjectRef
from tailer.core.schedule import Pace
from tailer.core.tail import Tail
from tailer.follow import Follower
from tailer.oss.address import Endpoint
from tailer.oss.client import ServiceSettings, connect
from tailer.oss.credentials import Credentials, StaticCredentials
from tailer.oss.transport import Timeouts
from tests.cli.conftest import OssTail
from tests.faults.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tailer.local import Fault, LocalServer
    from tailer.oss.transport import Kind
    from tests.cli.conftest import Finished, Running

BUCKET = "bucket"
TEXT = b"one\ntwo\nthree\n"


class Faulty(OssTail):
    """The command against a server that goes wrong, with an object of its own for each test."""

    def __init__(self, server: LocalServer, home: Path, transport: Kind, key: str) -> None:
        super().__init__(server, home)
        self.environment["OSS_TAIL_TRANSPORT"] = transport
        self.key = key
        self.address = f"oss://{BUCKET}/{key}"

    def holds(self, data: bytes) -> None:
        """The object is these bytes."""
        self.renew(self.key, data)

    def grows(self, data: bytes) -> None:
        """These bytes are appended to the object."""
        self.append(self.key, data)

    def suffers(self, *faults: Fault) -> None:
        """These go wrong from now on, and nothing else."""
        self.server.faults.replace(faults)

    @property
    def suffered(self) -> int:
        """How many requests were hit by what goes wrong."""
        return self.server.faults.injected

    def reads(self, *options: str) -> Finished:
        """The whole object printed, from its first byte, unless `options` say otherwise."""
        return self.command([*(options or ("-c", "+1")), self.address])

    @contextmanager
    def follows(self, *options: str) -> Iterator[Running]:
        """The object printed from its first byte and followed; polled every 50 ms."""
        with self.following(*(options or ("-F",)), "-c", "+1", "-s", "0.05", self.address) as running:
            yield running

    @contextmanager
    def mirrors(self, path: Path, *options: str) -> Iterator[Running]:
        """The object mirrored into a file and followed."""
        with self.following(*options, "-s", "0.05", "-o", str(path), self.address) as running:
            yield running


@pytest.fixture(params=["fast", "httpx"])
def transport(request: pytest.FixtureRequest) -> Kind:
    """Both of them."""
    kind: Kind = request.param
    return kind


@pytest.fixture(scope="session")
def server() -> Iterator[LocalServer]:
    """One server for all tests."""
    with tailer.local.running([BUCKET]) as server:
        yield server


@pytest.fixture
def tail(server: LocalServer, transport: Kind, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Faulty]:
    """The command, with an object that holds `TEXT`."""
    faulty = Faulty(server, tmp_path, transport, re.sub(r"[^\w.]+", "-", request.node.name))
    faulty.holds(TEXT)
    yield faulty
    server.faults.clear()


@pytest.fixture
def proxy(server: LocalServer, tail: Faulty) -> Iterator[Proxy]:
    """A relay between the command and the server."""
    with Proxy(server.endpoint) as proxy:
        tail.environment["OSS_ENDPOINT"] = proxy.endpoint
        yield proxy


class Heard(NamedTuple):
    """What a sink was told."""

    data: bytes
    events: list[Event]


class _Listener:
    def __init__(self) -> None:
        self.data = b""
        self.events: list[Event] = []

    async def write(self, batch: Batch) -> None:
        self.data += batch.data

    async def notice(self, event: Event) -> None:
        self.events.append(event)

    async def close(self) -> None:
        pass


def read_impatiently(tail: Faulty, transport: Kind, read_timeout: float) -> Heard:
    """The object from its first byte to its end, by a client whose read time-out is short: the command's is 20 s."""
    settings = ServiceSettings(
        StaticCredentials(Credentials(tail.server.access_key_id, tail.server.access_key_secret)),
        endpoint=Endpoint.parse(tail.environment["OSS_ENDPOINT"]),
        region=tail.server.region,
        transport=transport,
        timeouts=Timeouts(connect=5.0, read=read_timeout),
    )

    async def read() -> Heard:
        listener = _Listener()
        async with connect(settings) as client:
            machine = Tail(ObjectRef(BUCKET, tail.key), TailOptions(pace=Pace(0.05, 0.05)))
            await Follower(client, machine, listener, clock=asyncio.get_running_loop().time).run()
        return Heard(listener.data, listener.events)

    return asyncio.run(read())


@contextmanager
def writing(tail: Faulty, count: int = 200) -> Iterator[threading.Thread]:
    """Meanwhile `count` lines are appended to the object, as fast as the server takes them."""
    thread = threading.Thread(target=lambda: [tail.grows(b"line %d\n" % number) for number in range(count)])
    thread.start()
    try:
        yield thread
    finally:
        thread.join()
