"""The reader under test, in two forms and over both transports, against a server whose faults can be switched on.

One form is the command `oss-tail`, the other is a program on the library (`library.py`) that takes the same options
and says the same words, so that one expectation serves both.
"""

from __future__ import annotations

import re
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import pytest

import tailer
import tailer.local
from tailer.oss.address import Endpoint
from tailer.oss.client import ServiceSettings
from tailer.oss.credentials import Credentials, StaticCredentials
from tailer.oss.transport import Timeouts
from tests.cli.conftest import OssTail
from tests.faults.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailer.core.events import Event
    from tailer.core.position import ObjectRef
    from tailer.local import Fault, LocalServer
    from tailer.oss.transport import Kind
    from tests.cli.conftest import Finished, Running

BUCKET = "bucket"
TEXT = b"one\ntwo\nthree\n"

Form = Literal["command", "library"]
command_only = pytest.mark.parametrize("form", ["command"], indirect=True)
"""For what the library does not do, such as a mirror."""
library_only = pytest.mark.parametrize("form", ["library"], indirect=True)
"""For what the command cannot be told, such as shorter time-outs."""


def begins(*both: tuple[str, ...], command: list[tuple[str, ...]]) -> pytest.MarkDecorator:
    """The test's `options`, those which `both` forms take and those which say to the command alone where to begin."""
    cases = [(form, options) for form in ("command", "library") for options in both]
    return pytest.mark.parametrize(
        ("form", "options"), [*cases, *(("command", options) for options in command)], indirect=["form"]
    )


class Faulty(OssTail):
    """A reader against a server that goes wrong, with an object of its own for each test."""

    def __init__(self, server: LocalServer, home: Path, transport: Kind, key: str) -> None:
        super().__init__(server, home)
        self.form: Form = "command"
        self.environment["OSS_TAIL_TRANSPORT"] = transport
        self.key = key
        self.address = f"oss://{BUCKET}/{key}"

    def of_form(self, form: Form) -> Faulty:
        """Itself, reading by this form from now on."""
        self.form = form
        if form == "library":
            self.program = [sys.executable, str(Path(__file__).with_name("library.py"))]
        return self

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


@pytest.fixture(params=["direct", "library"])
def transport(request: pytest.FixtureRequest, form: Form) -> Kind:
    """Our own, and one of the two libraries that speak where ours does not: each form has one."""
    others: dict[Form, Kind] = {"command": "httpx", "library": "fast"}
    return "direct" if request.param == "direct" else others[form]


@pytest.fixture(params=["command", "library"])
def form(request: pytest.FixtureRequest) -> Form:
    """Both of them, but for tests that are `command_only`."""
    form: Form = request.param
    return form


@pytest.fixture(scope="session")
def server() -> Iterator[LocalServer]:
    """One server for all tests."""
    with tailer.local.running([BUCKET]) as server:
        yield server


@pytest.fixture
def tail(
    server: LocalServer, form: Form, transport: Kind, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Faulty]:
    """The reader, with an object that holds `TEXT`."""
    faulty = Faulty(server, tmp_path, transport, re.sub(r"[^\w.]+", "-", request.node.name)).of_form(form)
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
    """What a consumer was given."""

    data: bytes
    events: list[Event]


async def read_impatiently(tail: Faulty, transport: Kind, read_timeout: float) -> Heard:
    """The object from its first byte to its end, by a consumer whose read time-out is short: by default it is 20 s.

    Raises what the consumer raises.
    """
    settings = ServiceSettings(
        StaticCredentials(Credentials(tail.server.access_key_id, tail.server.access_key_secret)),
        endpoint=Endpoint.parse(tail.environment["OSS_ENDPOINT"]),
        region=tail.server.region,
        transport=transport,
        timeouts=Timeouts(connect=5.0, read=read_timeout),
    )
    heard = Heard(b"", [])

    def note(_: ObjectRef, event: Event) -> None:
        heard.events.append(event)

    async with tailer.Consumer(tail.address, follow=False, on_event=note, service=settings) as consumer:
        return heard._replace(data=b"".join([bytes(batch.data) async for batch in consumer]))


@contextmanager
def writing(tail: Faulty, count: int = 200) -> Iterator[threading.Thread]:
    """Meanwhile `count` lines are appended to the object, as fast as the server takes them."""
    thread = threading.Thread(target=lambda: [tail.grows(b"line %d\n" % number) for number in range(count)])
    thread.start()
    try:
        yield thread
    finally:
        thread.join()
