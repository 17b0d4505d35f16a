"""The sinks of the service, as its configuration names them: each one for all the objects that flow into it.

An object is delivered in *visits*: a visit has a sink of its own (`Outlet.open`), and ends with that sink's `close`.
What stands between it and the sink itself: a batch that is not taken is handed on again until it is (`Retrying`), at
most so many at once; and a ledger proves that no byte is left out.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from tailer.configfile import Reference
from tailer.core.events import Failed
from tailer.core.options import Integrity
from tailer.core.schedule import back_off
from tailer.errors import ConfigError, OutputClosed, SinkBusy, SinkError
from tailer.oss.transport import open_transport
from tailer.oss.unshown import UnshownDict
from tailer.sinks.appended import AppendedFile
from tailer.sinks.callback import Callback
from tailer.sinks.exec import CommandPerBatch
from tailer.sinks.fsync import parse_fsync
from tailer.sinks.http import LARGEST_BODY, HttpPost
from tailer.sinks.jsonl import JsonLines
from tailer.sinks.ledger import Ledger
from tailer.sinks.mirrors import Mirror, Mirrors
from tailer.sinks.retry import Retrying
from tailer.sinks.stdout import OutputStream
from tailer.status import SinkStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from typing_extensions import Buffer

    from tailer.configfile import GroupConfig, SinkConfig
    from tailer.core.events import Batch, Event
    from tailer.core.position import Mark, ObjectRef
    from tailer.errors import TailerError
    from tailer.follow import Sink
    from tailer.status import Observer


class VisitSink(Protocol):
    """The sink of one visit of one object (`follow.Sink`)."""

    async def write(self, batch: Batch) -> None:
        """Take the batch, however often that has to be tried. Raises SinkError where it never will be."""
        ...

    async def notice(self, event: Event) -> None:
        """Be told of an event that is not a batch. Raises SinkError, and ObjectReplaced (`FileMirror.notice`)."""
        ...

    async def settle(self, error: TailerError) -> TailerError:
        """Put right what `error`, which ended the visit, left behind; what to tell instead of it. Before `close`."""
        ...

    async def close(self) -> None:
        """The visit is over. Raises SinkError."""
        ...


class Outlet(Protocol):
    """Where a group's bytes go."""

    @property
    def name(self) -> str:
        """Of the sink, in the configuration."""
        ...

    @property
    def type(self) -> str:
        """One of `configfile.SinkType`."""
        ...

    @property
    def largest(self) -> int | None:
        """Bytes that are delivered at once; a batch of more goes in parts, and is delivered when the last is."""
        ...

    async def open(self, ref: ObjectRef, mark: Mark | None) -> tuple[VisitSink, Mark | None]:
        """Begin a visit; the second of both is where reading is to go on.

        `mark` is what the checkpoint says. A mirror goes on at the end of its file, whatever that says; any other
        sink gives it back. Waits while the sink as a whole is out of order. Raises SinkError.
        """
        ...

    async def sync(self) -> Mapping[ObjectRef, SinkError]:
        """Return when what was delivered is as safe as the sink is asked to make it (``fsync``).

        To be called before marks are kept: none of them is beyond the disk then, but for the objects returned, each
        with the reason. Raises SinkError.
        """
        ...

    def status(self) -> SinkStatus:
        """How the sink fares."""
        ...


def open_outlet(config: SinkConfig, observer: Observer | None = None) -> SinkOutlet:
    """The sink that `config` describes. Nothing is opened before the first visit. Raises ConfigError."""
    return SinkOutlet(config, _KINDS[config.type](config), observer)


class SinkOutlet:
    """One configured sink, for all groups that flow into it: an `Outlet` itself, and by `of_group` one for each.

    A sink that is busy (a full disk, a 503), or out of order as a whole (a folder that cannot be written, a command
    that is not found, a server that says 401), gets the same batch again later: who waits for it waits, and nothing is
    dropped. What is wrong with one mirror alone ends that visit. `on_end` is called when the reader of standard output
    has gone.
    """

    def __init__(self, config: SinkConfig, kind: _Kind, observer: Observer | None) -> None:
        """Use `open_outlet`."""
        self.name = config.name
        self.type = str(config.type)
        self.largest = kind.largest
        self._kind = kind
        self._observer = observer
        self._slots = asyncio.Semaphore(config.concurrency)
        self._stopping = asyncio.Event()
        self._delivered_bytes = self._delivered_records = self._errors = self._waiting = 0
        self._busy_seconds = 0.0
        self._last_error: tuple[str, float] | None = None
        self._failing: dict[ObjectRef, SinkError] = {}
        self.on_end: Callable[[OutputClosed], None] = lambda error: None

    def of_group(self, group: GroupConfig) -> Outlet:
        """The same sink as `group` sees it."""
        return _GroupOutlet(self, group.name, expect_proof=group.integrity is not Integrity.OFF)

    async def open(
        self, ref: ObjectRef, mark: Mark | None, *, group: str = "", expect_proof: bool = True
    ) -> tuple[VisitSink, Mark | None]:
        """As `Outlet.open`, for `group`."""
        try:
            sink, begin = await self._open(ref, mark, group, expect_proof)
        finally:
            self.left(ref)
        return _Visit(self, group, ref, sink, begin), begin

    async def _open(
        self, ref: ObjectRef, mark: Mark | None, group: str, expect_proof: bool
    ) -> tuple[Sink, Mark | None]:
        attempt = 0
        while True:
            try:
                return await self._kind.open(ref, mark, expect_proof)
            except SinkError as error:
                attempt += 1
                self._failed(group, ref, error)
                if self._stopping.is_set() or not self._kind.is_out_of_order(error):
                    raise
                await self.pause(back_off(attempt, random.random(), error.retry_after))

    async def sync(self) -> Mapping[ObjectRef, SinkError]:
        """As `Outlet.sync`."""
        return await self._kind.sync()

    def stop(self) -> None:
        """From now on nobody waits for the sink: what it does not take is refused with its SinkError."""
        self._stopping.set()

    async def close(self) -> None:
        """Let go of files and connections, when no visit is under way. Raises SinkError."""
        await self._kind.close()

    def status(self) -> SinkStatus:
        """How the sink fares."""
        error, at = self._last_error or (None, None)
        return SinkStatus(
            name=self.name,
            type=self.type,
            delivered_bytes=self._delivered_bytes,
            delivered_records=self._delivered_records,
            busy_seconds=self._busy_seconds,
            waiting=self._waiting,
            errors=self._errors,
            last_error=error,
            last_error_at=at,
        )

    def problem(self) -> str | None:
        """Why the sink is out of order, in a line; None where it is not, or busy at most."""
        error = next(iter(self._failing.values()), None)
        return None if error is None else f"sink {self.name}: {error}"

    # --- for a visit

    def goes_on(self) -> bool:
        """Is what the sink does not take handed on again?"""
        return not self._stopping.is_set()

    async def pause(self, seconds: float) -> None:
        """Wait so long, but no longer than until `stop`."""
        self._waiting += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()
        finally:
            self._waiting -= 1

    async def take(self, group: str, batch: Batch, sink: Sink) -> None:
        """Hand `batch` to `sink` when it is its turn, and account for what comes of it. Raises SinkError."""
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        started = time.perf_counter()
        try:
            await self.told(group, batch.object, sink.write(batch))
        finally:
            self._slots.release()
            self._spent(time.perf_counter() - started)
        self._delivered_bytes += batch.end - batch.start
        self._delivered_records += len(batch.records)

    async def told(self, group: str, ref: ObjectRef, work: Awaitable[None]) -> None:
        """Wait for `work`, and note whether it failed. Raises SinkBusy where the sink as a whole is out of order."""
        try:
            await work
        except SinkError as error:
            self._failed(group, ref, error)
            if isinstance(error, SinkBusy) or not self._kind.is_out_of_order(error):
                raise
            raise SinkBusy(str(error)) from error
        self._failing.pop(ref, None)

    def left(self, ref: ObjectRef) -> None:
        """No visit of `ref` is under way: nothing of it says how the sink fares."""
        self._failing.pop(ref, None)

    def _failed(self, group: str, ref: ObjectRef, error: SinkError) -> None:
        self._errors += 1
        self._last_error = str(error), time.time()
        if self._kind.is_out_of_order(error):
            self._failing[ref] = error
        if self._observer is not None:
            self._observer.on_error(group, "deliver", error)
        if isinstance(error, OutputClosed):
            self.on_end(error)

    def _spent(self, seconds: float) -> None:
        self._busy_seconds += seconds
        if self._observer is not None:
            self._observer.on_sink(self.name, seconds)

    def missed(self, group: str, gaps: int, overlaps: int) -> None:
        """The ledger found bytes left out, or brought again without a word."""
        if self._observer is not None:
            self._observer.on_gap(group, gaps, overlaps)


class _GroupOutlet:
    """An `Outlet`: the sink as one group sees it."""

    def __init__(self, shared: SinkOutlet, group: str, *, expect_proof: bool) -> None:
        self._shared = shared
        self._group = group
        self._expect_proof = expect_proof
        self.name = shared.name
        self.type = shared.type
        self.largest = shared.largest
        self.sync = shared.sync
        self.status = shared.status

    async def open(self, ref: ObjectRef, mark: Mark | None) -> tuple[VisitSink, Mark | None]:
        """Begin a visit."""
        return await self._shared.open(ref, mark, group=self._group, expect_proof=self._expect_proof)


class _Counted:
    """Passes everything on to `sink` in turn, and tells the outlet what becomes of it."""

    def __init__(self, outlet: SinkOutlet, group: str, ref: ObjectRef, sink: Sink) -> None:
        self._outlet = outlet
        self._group = group
        self._ref = ref
        self._sink = sink

    async def write(self, batch: Batch) -> None:
        await self._outlet.take(self._group, batch, self._sink)

    async def notice(self, event: Event) -> None:
        """A sink that failed is not told so: it would fail at that as well."""
        if not (isinstance(event, Failed) and isinstance(event.error, SinkError)):
            await self._outlet.told(self._group, self._ref, self._sink.notice(event))

    async def close(self) -> None:
        await self._sink.close()


class _Visit:
    """A `VisitSink`: ledger, patience, account, and then the sink itself."""

    def __init__(self, outlet: SinkOutlet, group: str, ref: ObjectRef, sink: Sink, begin: Mark | None) -> None:
        self._outlet = outlet
        self._group = group
        self._ref = ref
        self._sink = sink
        retrying = Retrying(_Counted(outlet, group, ref, sink), goes_on=outlet.goes_on, sleep=outlet.pause)
        self._ledger = Ledger(retrying, ref, start=None if begin is None else begin.delivered.offset)
        self._told = (0, 0)

    async def write(self, batch: Batch) -> None:
        await self._ledger.write(batch)
        found = self._ledger.gaps, self._ledger.overlaps
        if found != self._told:
            self._outlet.missed(self._group, found[0] - self._told[0], found[1] - self._told[1])
            self._told = found

    async def notice(self, event: Event) -> None:
        await self._ledger.notice(event)

    async def settle(self, error: TailerError) -> TailerError:
        return await self._sink.settle(error) if isinstance(self._sink, Mirror) else error

    async def close(self) -> None:
        self._outlet.left(self._ref)
        await self._ledger.close()


# --- the kinds of sinks


class _Kind(Protocol):
    """What a type of sink is made of."""

    largest: int | None

    async def open(self, ref: ObjectRef, mark: Mark | None, expect_proof: bool) -> tuple[Sink, Mark | None]:
        """The sink of one object, and where to go on. Raises SinkError."""
        ...

    def is_out_of_order(self, error: SinkError) -> bool:
        """Does `error` say that nothing can be delivered, to whatever object's sink?"""
        ...

    async def sync(self) -> Mapping[ObjectRef, SinkError]: ...

    async def close(self) -> None: ...


class _Stateless:
    """Of a sink that keeps nothing between two batches, and takes them from all objects alike."""

    largest: int | None = None

    def is_out_of_order(self, error: SinkError) -> bool:
        return not isinstance(error, SinkBusy)

    async def sync(self) -> Mapping[ObjectRef, SinkError]:
        """What was delivered is somebody else's to keep."""
        return {}

    async def close(self) -> None:
        """Nothing is open."""


class _Files:
    """A mirror of each object below a folder."""

    largest: int | None = None

    def __init__(self, config: SinkConfig) -> None:
        assert config.path is not None  # `load_config` sees to it
        self._folder = config.path
        self._mirrors = Mirrors(
            config.path,
            rotate_size=config.rotate_size,
            fsync=parse_fsync(config.fsync),
            most_open=most_open_files(),
        )

    async def open(self, ref: ObjectRef, mark: Mark | None, expect_proof: bool) -> tuple[Sink, Mark | None]:
        return await self._mirrors.open(ref, mark, expect_proof=expect_proof)

    def is_out_of_order(self, error: SinkError) -> bool:
        """A mirror that fails fails alone, but in a folder where nothing can be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return True
        return not os.access(self._folder, os.W_OK | os.X_OK)

    async def sync(self) -> Mapping[ObjectRef, SinkError]:
        return await self._mirrors.sync()

    async def close(self) -> None:
        await self._mirrors.close()


def most_open_files() -> int:
    """A quarter of what this process may have open, at most 2,048: to open one again takes 0.2 ms."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2048 if limit == resource.RLIM_INFINITY else min(2048, limit // 4)


class _Lines(_Stateless):
    """Lines of JSON at the end of a file, or on standard output."""

    def __init__(self, config: SinkConfig) -> None:
        self._path = config.path
        self._stream: AppendedFile | _StandardOutput | None = None

    async def open(self, ref: ObjectRef, mark: Mark | None, expect_proof: bool) -> tuple[Sink, Mark | None]:
        if self._stream is None:
            self._stream = _StandardOutput() if self._path is None else AppendedFile(self._path)
        return JsonLines(ref, self._stream.write), mark

    async def close(self) -> None:
        if isinstance(self._stream, AppendedFile):
            await self._stream.close()


class _Output(_Stateless):
    """The bytes of all objects on standard output, each batch whole."""

    def __init__(self, config: SinkConfig) -> None:
        self._stream: _StandardOutput | None = None

    async def open(self, ref: ObjectRef, mark: Mark | None, expect_proof: bool) -> tuple[Sink, Mark | None]:
        stream = self._stream = self._stream or _StandardOutput()
        return Callback(lambda batch: stream.write(batch.data)), mark


class _StandardOutput:
    """Written by many tasks, one after the other."""

    def __init__(self) -> None:
        self._stream = OutputStream()
        self._lock = asyncio.Lock()

    async def write(self, data: Buffer) -> None:
        async with self._lock:
            await self._stream.write(data)


class _Commands(_Stateless):
    """A command for each batch."""

    def __init__(self, config: SinkConfig) -> None:
        self._sink = CommandPerBatch(config.command)

    async def open(self, ref: ObjectRef, mark: Mark | None, expect_proof: bool) -> tuple[Sink, Mark | None]:
        return self._sink, mark


class _Posts(_Stateless):
    """A POST for each batch, over connections that all objects share."""

    largest: int | None = LARGEST_BODY

    def __init__(self, config: SinkConfig) -> None:
        assert config.url is not None  # `load_config` sees to it
        self._config = config
        self._url = config.url
        self._transport = open_transport()

    async def open(self, ref: ObjectRef, mark: Mark | None, expect_proof: bool) -> tuple[Sink, Mark | None]:
        """The headers are read for each visit: the file of a token may have changed."""
        headers = UnshownDict({name: self._header(name, value) for name, value in self._config.headers.items()})
        return HttpPost(self._url, headers=headers, body=self._config.body, transport=self._transport), mark

    def _header(self, name: str, value: str | Reference) -> str:
        if isinstance(value, str):
            return value
        try:
            return value.read(os.environ)
        except ConfigError as error:
            raise SinkError(f"header {name}: {error}") from error

    async def close(self) -> None:
        await self._transport.aclose()


_KINDS: Mapping[str, Callable[[SinkConfig], _Kind]] = {
    "file": _Files,
    "jsonl": _Lines,
    "stdout": _Output,
    "exec": _Commands,
    "http": _Posts,
}
