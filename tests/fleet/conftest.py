"""A fleet over a real server, into a sink that keeps what it is given."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

import tailer.local
from tailer.checkpoints import Checkpoints
from tailer.config import resolve_service
from tailer.configfile import GroupConfig, Limits
from tailer.core.events import Batch, Replaced, Rewound, Truncated
from tailer.errors import SinkBusy
from tailer.fleet import Fleet, Governor
from tailer.oss.client import connect
from tailer.sinks.ledger import Ledger
from tailer.status import SinkStatus
from tests.renewal import renew

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping
    from pathlib import Path

    from tailer.core.events import Event
    from tailer.core.position import Mark, ObjectRef
    from tailer.errors import SinkError, TailerError
    from tailer.fleet.governor import Reader
    from tailer.local import LocalServer

_names = itertools.count(1)


class Observed:
    """Counts what it is told."""

    def __init__(self) -> None:
        self.polls: Counter[str] = Counter()
        self.lateness: list[float] = []
        self.events: Counter[str] = Counter()
        self.errors: list[tuple[str, TailerError]] = []
        self.released: Counter[str] = Counter()
        self.discovered = self.wasted = self.commits = self.listings = 0

    def on_listing(self, group: str, seconds: float, objects: int) -> None:
        self.listings += 1

    def on_discovered(self, group: str, count: int) -> None:
        self.discovered += count

    def on_released(self, group: str, reason: str, count: int) -> None:
        self.released[reason] += count

    def on_poll(self, group: str, result: str, lateness: float) -> None:
        self.polls[result] += 1
        self.lateness.append(lateness)

    def on_event(self, group: str, sink: str, ref: ObjectRef, event: Event) -> None:
        self.events[type(event).__name__] += 1

    def on_latency(self, group: str, sink: str, seconds: float) -> None:
        pass

    def on_commit(self, group: str, seconds: float, error: TailerError | None) -> None:
        self.commits += 1

    def on_error(self, group: str, stage: str, error: TailerError) -> None:
        self.errors.append((stage, error))

    def on_wasted(self, group: str, length: int) -> None:
        self.wasted += length

    def on_request(self, operation: str, status: int | None, seconds: float, received: int) -> None:
        pass

    def on_sink(self, sink: str, seconds: float) -> None:
        pass

    def on_gap(self, group: str, gaps: int, overlaps: int) -> None:
        pass

    def on_hint(self, known: bool) -> None:
        pass


class Forgetful(Observed):
    """Keeps no error: what is kept is no garbage, whatever refers to it."""

    def on_error(self, group: str, stage: str, error: TailerError) -> None:
        self.events[stage] += 1


class Kept:
    """An `Outlet` that keeps the bytes of every generation, as a reader of the sink would see them.

    `repeated`: how many bytes came again that nobody had said were void. `refuse`: asked before each batch; it raises
    what the sink says. `moments`: when each object last got something.
    """

    name, type = "kept", "http"
    largest: int | None = None

    def __init__(self) -> None:
        self.data: dict[ObjectRef, dict[int, bytearray]] = defaultdict(dict)
        self.repeated = 0
        self.batches = self.gaps = self.visits = self.at_once = self.most_at_once = self.waiting = 0
        self.moments: dict[ObjectRef, float] = {}
        self.refuse: Callable[[Batch], None] = lambda batch: None
        self.held: asyncio.Event | None = None

    async def open(self, ref: ObjectRef, mark: Mark | None) -> tuple[KeptVisit, Mark | None]:
        self.visits += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        return KeptVisit(self, ref, mark), mark

    async def sync(self) -> Mapping[ObjectRef, SinkError]:
        return {}

    def status(self) -> SinkStatus:
        return SinkStatus(self.name, self.type, 0, 0, 0.0, 0, 0)

    def text(self, ref: ObjectRef) -> bytes:
        """The bytes of the last generation."""
        generations = self.data[ref]
        return bytes(generations[max(generations)]) if generations else b""


class KeptVisit:
    """A visit: a ledger over it finds what is left out."""

    def __init__(self, kept: Kept, ref: ObjectRef, mark: Mark | None) -> None:
        self._kept = kept
        self._ref = ref
        self._ledger = Ledger(_Store(kept, ref), ref, start=None if mark is None else mark.delivered.offset)

    async def write(self, batch: Batch) -> None:
        while True:
            try:
                self._kept.refuse(batch)
                break
            except SinkBusy:
                await asyncio.sleep(0.005)
        if self._kept.held is not None:
            self._kept.waiting += 1
            await self._kept.held.wait()
        await self._ledger.write(batch)

    async def notice(self, event: Event) -> None:
        await self._ledger.notice(event)

    async def settle(self, error: TailerError) -> TailerError:
        return error

    async def close(self) -> None:
        self._kept.gaps += self._ledger.gaps + self._ledger.overlaps
        self._kept.at_once -= 1


class _Store:
    def __init__(self, kept: Kept, ref: ObjectRef) -> None:
        self._kept = kept
        self._ref = ref

    async def write(self, batch: Batch) -> None:
        held = self._kept.data[self._ref].setdefault(batch.generation, bytearray(batch.start))
        assert batch.start <= len(held), f"{self._ref}: bytes {len(held)} to {batch.start} were left out"
        self._kept.repeated += len(held) - batch.start
        held[batch.start : batch.end] = batch.data
        self._kept.batches += 1
        self._kept.moments[self._ref] = time.monotonic()

    async def notice(self, event: Event) -> None:
        if isinstance(event, Rewound):
            del self._kept.data[self._ref].setdefault(event.generation, bytearray())[event.to :]
        elif isinstance(event, Replaced | Truncated):
            self._kept.data[self._ref][event.generation] = bytearray()

    async def close(self) -> None:
        pass


class Counted:
    """A reader that counts what it is asked."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.count: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Callable[..., object]:
        self.count[name] += 1
        return getattr(self._reader, name)


class World:
    """A bucket of its own, and fleets that follow what is in it."""

    def __init__(self, server: LocalServer, folder: Path) -> None:
        self.server = server
        self.bucket = f"bucket-{next(_names)}"
        server.store.create_bucket(self.bucket)
        self.path = folder / "state.db"
        self.sink = Kept()
        self.observer = Observed()
        self.requests: Counter[str] = Counter()
        self.task: asyncio.Task[None]

    def group(self, *objects: str, **options: object) -> GroupConfig:
        """A quick one."""
        quick: Mapping[str, object] = {"poll_min": 0.05, "poll_max": 0.4, "list_interval": 0.1, **options}
        names = tuple(f"oss://{self.bucket}/{name}" for name in objects or ("**",))
        return GroupConfig("web", names, "kept", **quick)  # type: ignore[arg-type] # by name

    def ref(self, key: str) -> ObjectRef:
        return tailer.ObjectRef(self.bucket, key)

    def append(self, key: str, data: bytes) -> None:
        found = self.server.store.find(self.bucket, key)
        self.server.store.append(self.bucket, key, found.size if found else 0, data)

    def renew(self, key: str, data: bytes) -> None:
        renew(self.server, self.bucket, key, data)

    def text(self, key: str) -> bytes:
        return self.sink.text(self.ref(key))

    @asynccontextmanager
    async def follow(
        self, group: GroupConfig | None = None, *, drain: float | None = 10.0, limits: Limits | None = None
    ) -> AsyncIterator[Fleet]:
        """A fleet that runs meanwhile; at the end it is drained, or (None) killed."""
        settings = resolve_service(environ=self.server.environment())
        async with connect(settings) as client:
            with Checkpoints.open(self.path, "web", owner="a test") as checkpoints:
                counted = Counted(client)
                self.requests = counted.count
                reader = Governor(limits or Limits()).reader(counted, "web")  # type: ignore[arg-type] # by name
                fleet = Fleet(
                    group or self.group(), reader, checkpoints, self.sink, self.observer, buffer_bytes=32 << 20
                )
                running = self.task = asyncio.create_task(fleet.run())
                try:
                    yield fleet
                    if drain is not None:
                        assert await fleet.drain(drain) == 0
                        await running
                finally:
                    running.cancel()
                    await asyncio.wait([running])

    async def shows(self, key: str, text: bytes) -> None:
        """Wait until the sink has just this of the object."""
        await self.until(lambda: self.text(key) == text)

    async def until(self, is_so: Callable[[], object], seconds: float = 20.0) -> None:
        """Wait until `is_so`."""
        async with asyncio.timeout(seconds):
            while not is_so():  # noqa: ASYNC110 - what is waited for is another thread's doing
                await asyncio.sleep(0.005)


@pytest.fixture(scope="session")
def server() -> Iterator[LocalServer]:
    with tailer.local.running() as server:
        yield server


@pytest.fixture
def world(server: LocalServer, tmp_path: Path) -> Iterator[World]:
    yield World(server, tmp_path)
    server.faults.clear()
