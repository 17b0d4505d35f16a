"""One run of `oss-tail`: every object in the order given, then all followed at once, until something ends it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from tailer.cli.messages import quote
from tailer.cli.output import Announced, Observed, Printer, RawSink
from tailer.cli.process import allow_many_files, give_memory_back
from tailer.cli.start import HeldBack, Skipping, Start, find_start
from tailer.core.options import Follow, Integrity, Poll, TailOptions
from tailer.core.position import Mark
from tailer.core.schedule import Pace, back_off
from tailer.core.tail import Tail
from tailer.discovery import matching_objects
from tailer.errors import CheckpointError, IntegrityError, ObjectNotFound, SinkError, TailerError, UsageError
from tailer.follow import Follower

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

    from tailer.checkpoints import Checkpoints
    from tailer.cli.messages import Messages
    from tailer.cli.options import Options
    from tailer.cli.progress import Progress
    from tailer.core.position import ObjectRef
    from tailer.follow import CheckpointStore, ObjectReader, Sink
    from tailer.metrics import Metrics
    from tailer.oss.address import Address
    from tailer.oss.client import Client
    from tailer.sinks.file import FileMirror
    from tailer.sinks.stdout import OutputStream

_Result = TypeVar("_Result")

UNREADABLE = 1
UNPROVEN = 3
CLOSED_PIPE = 128 + signal.SIGPIPE
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

# How long a write in hand may still take, in seconds, before the process ends without it.
_PATIENCE = {INTERRUPTED: 0.5, TERMINATED: 5.0, CLOSED_PIPE: 0.0}
_LOOKING_AHEAD = 16
# A quiet object is polled at least every so many intervals.
_SLOWER = 5


@dataclass(slots=True)
class _Job:
    """One object of the command line: where its output goes, and who brings it."""

    ref: ObjectRef
    said: Announced
    sink: Sink
    raw: RawSink | None = None
    mirror: FileMirror | None = None
    follower: Follower | None = None
    begun: Mark = field(default_factory=Mark)

    @property
    def name(self) -> str:
        return quote(self.ref)

    @property
    def unproven(self) -> int:
        """How many of the bytes that were output are not proven."""
        return (self.begun if self.follower is None else self.follower.tail.mark).unproven


class Session:
    """Reads and follows what `options` name; `run` gives the exit status."""

    def __init__(
        self,
        options: Options,
        client: Client,
        stream: OutputStream | None,
        messages: Messages,
        *,
        progress: Progress | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """`stream` takes the output, None when it all goes to files."""
        self._options = options
        self._client = client
        self._stream = stream
        self._messages = messages
        self._progress = progress
        self._metrics = metrics
        self._reader: ObjectReader = client if metrics is None else metrics.reader(client)
        self._tail_options = tail_options(options)
        self._follows = self._tail_options.follow is not Follow.NO
        self._waits = self._follows and options.retry
        self._status = 0
        self._live: list[_Job] = []
        self._lost = 0
        self._finishing = False
        self._last_news = time.monotonic()
        self._checkpoints: Checkpoints | None = None
        self._store: CheckpointStore | None = None
        self._commands = asyncio.Semaphore(os.cpu_count() or 1)

    async def run(self, addresses: list[Address]) -> int:
        """Until all is read, or a signal, or the reader of the output goes away.

        Raises SinkError, CheckpointError, and ConfigError for a checkpoint file that cannot be used.
        """
        if self._options.checkpoint is None:
            return await self._run(addresses)
        from tailer.checkpoints import DEFAULT_GROUP, Checkpoints, CommitQueue

        group = DEFAULT_GROUP if self._options.group is None else self._options.group
        with Checkpoints.open(self._options.checkpoint, group, owner="oss-tail") as self._checkpoints:
            self._store = CommitQueue(self._checkpoints)
            return await self._run(addresses)

    async def _run(self, addresses: list[Address]) -> int:
        interrupted: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        work = asyncio.create_task(self._work(addresses))
        with _interruptions(interrupted, self._stream):
            await asyncio.wait([work, interrupted], return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        await _cancel([work])
        if self._stream is not None:
            await self._stream.drain(_PATIENCE[interrupted.result()])
        return interrupted.result()

    async def _work(self, addresses: list[Address]) -> int:
        refs = await self._expand(addresses)
        if self._store is not None:
            _check_distinct(refs)
        if self._stream is not None:
            headers = self._wants_headers(max(len(refs), len(addresses))) and not self._options.json
            self._printer = Printer(self._stream, headers=headers)
        else:
            allow_many_files()
        try:
            await self._begin_all(refs)
            await self._follow_all()
        finally:
            await self._close_all()
        return self._status

    async def _close_all(self) -> None:
        """Those that have not come to an end of their own. One that cannot finish does not keep the others from it."""
        for job in self._live:
            self._say_unproven(job)
            try:
                await job.sink.close()
            except SinkError as error:
                self._messages.say(error)
                self._note(UNREADABLE)

    def _note(self, status: int) -> None:
        self._status = max(self._status, status)

    def _wants_headers(self, count: int) -> bool:
        return self._options.headers == "always" or (self._options.headers == "many" and count > 1)

    # --- which objects

    async def _expand(self, addresses: list[Address]) -> list[ObjectRef]:
        """Every object that the addresses name now, in order."""
        refs: list[ObjectRef] = []
        for address in addresses:
            if not (address.pattern or address.prefix):
                self._client.add(address)
                refs.append(address.ref)
                continue
            try:
                matches = await self._persist(address.ref, partial(matching_objects, self._client, address))
            except TailerError as error:
                self._cannot_open(address.ref, error)
                continue
            if not matches:
                self._cannot_open(address.ref, "No object matches")
            refs += matches
        return refs

    # --- one object after the other

    def _job(self, ref: ObjectRef) -> _Job:
        raw, mirror = None, None
        inner: Sink
        if self._options.output is not None:
            inner = mirror = self._mirror(ref, self._options.output)
        elif self._options.exec is not None:
            from tailer.sinks.exec import CommandPerBatch

            inner = CommandPerBatch(self._options.exec, slots=self._commands, keys=self._options.exec_keys)
        elif self._options.json:
            from tailer.sinks.jsonl import JsonLines

            inner = JsonLines(ref, lambda data: self._printer.write(ref, "", data))
        else:
            inner = raw = RawSink(self._printer, ref, show_nonprinting=self._options.show_nonprinting)
        said = Announced(inner, ref, self._messages, on_news=self._hear)
        sink = self._patient(said)
        if self._metrics is not None:
            self._metrics.follow(ref)
            sink = self._metrics.sink(ref, sink)
        return _Job(ref, said, sink, raw, mirror)

    def _patient(self, said: Announced) -> Sink:
        """While following, a full disk or a command that fails is waited out."""
        if self._stream is not None or not self._follows:
            return said
        from tailer.sinks.retry import Retrying

        return Retrying(said, goes_on=lambda: not self._finishing)

    def _mirror(self, ref: ObjectRef, output: str) -> FileMirror:
        open_: Callable[..., FileMirror]
        open_below: Callable[..., FileMirror]
        if (size := self._options.rotate_size) is not None:
            from tailer.sinks.rotated import RotatedMirror

            open_, open_below = (partial(it, rotate_size=size) for it in (RotatedMirror.open, RotatedMirror.open_below))
        else:
            from tailer.sinks.file import FileMirror

            open_, open_below = FileMirror.open, FileMirror.open_below
        opened = partial(open_below, output, ref) if output.endswith("/") else partial(open_, output)
        return opened(
            fsync=self._options.fsync,
            expect_proof=self._tail_options.integrity is not Integrity.OFF,
            keep_generations=self._options.keep_generations,
        )

    def _hear(self) -> None:
        self._last_news = time.monotonic()

    async def _begin_all(self, refs: list[ObjectRef]) -> None:
        """The initial output in order; where it begins is looked up some objects ahead."""
        ahead = asyncio.Semaphore(_LOOKING_AHEAD)
        searches = [asyncio.create_task(self._search(ref, ahead)) for ref in refs]
        try:
            for ref, search in zip(refs, searches, strict=True):
                await self._take_turn(ref, search)
                ahead.release()
        finally:
            await _cancel(searches)

    async def _search(self, ref: ObjectRef, ahead: asyncio.Semaphore) -> Start | None:
        """Where the object's output begins; None for a mirror, whose file says it, and for an object waited for."""
        await ahead.acquire()
        if self._options.output is not None:
            return None
        if (mark := self._noted(ref)) is not None:
            return Start(mark)
        search = partial(
            find_start,
            self._client,
            ref,
            self._options.amount,
            delimiter=self._options.delimiter,
            integrity=self._tail_options.integrity,
            in_hand=not self._options.by_record,
        )
        try:
            return await self._persist(ref, search)
        except ObjectNotFound:
            if not self._waits:
                raise
            return None

    def _noted(self, ref: ObjectRef) -> Mark | None:
        """How far a former run came."""
        mark = None if self._checkpoints is None else self._checkpoints.load(ref)
        if mark is not None:
            self._messages.debug(f"{quote(ref)}: goes on at byte {mark.delivered.offset}")
        return mark

    async def _take_turn(self, ref: ObjectRef, search: asyncio.Task[Start | None]) -> None:
        """The initial output of one object."""
        try:
            job = self._job(ref)
        except SinkError as error:
            self._messages.say(error)
            self._note(UNREADABLE)
            return
        self._live.append(job)
        try:
            await self._begin(job, await self._start(job, await search))
        except TailerError as error:
            await self._fail(job, error)

    async def _start(self, job: _Job, found: Start | None) -> Start:
        """Of an object that is waited for, output begins with its first byte."""
        if job.mirror is not None:
            return Start(await job.mirror.resume())
        if found is None:
            self._cannot_open(job.ref, "No such key")
            job.said.missing = True
            return Start()
        job.said.seen = found.mark.delivered.offset > 0
        return found

    async def _begin(self, job: _Job, start: Start) -> None:
        if job.raw is not None and not job.said.missing:
            await job.raw.open()
        if start.ready is not None:
            await job.sink.write(start.ready)
        job.begun = start.mark
        if start.complete and not self._follows and self._store is None and not self._is_to_prove(start):
            await self._end(job)
            return
        skipping = Skipping(
            job.sink, offset=start.skip_bytes, lines=start.skip_lines, delimiter=self._options.delimiter
        )
        skips = start.skip_bytes or start.skip_lines
        sink: Sink = skipping if skips else job.sink
        if self._progress is not None:
            sink = Observed(sink, job.ref, self._progress)
        tail = Tail(job.ref, self._tail_options, start.mark, now=time.monotonic(), links=start.links)
        held = HeldBack(self._store, skipping) if self._store is not None and skips else None
        job.follower = Follower(self._reader, tail, sink, store=held or self._store)
        if self._follows:
            await job.follower.catch_up()
            skipping.end()
            if held is not None:
                await held.release()
            if job.said.missing:
                self._note(UNREADABLE)
        else:
            await job.follower.run()
            await self._end(job)

    def _is_to_prove(self, start: Start) -> bool:
        """Is what lies before the output to be read, too?"""
        return self._tail_options.integrity is Integrity.FULL and start.mark.delivered.claim is not None

    # --- all at once

    async def _follow_all(self) -> None:
        if not self._follows:
            return
        followers = [asyncio.create_task(self._follow(job, job.follower)) for job in self._live if job.follower]
        watches = [asyncio.create_task(watch) for watch in self._watches()]
        try:
            await asyncio.gather(*followers)
        finally:
            await _cancel([*followers, *watches])
        if self._lost and not self._finishing:
            self._messages.say("no files remaining")

    async def _follow(self, job: _Job, follower: Follower) -> None:
        try:
            await follower.run()
            await self._end(job)
        except TailerError as error:
            await self._fail(job, error)

    def _watches(self) -> Iterator[Coroutine[None, None, None]]:
        yield give_memory_back()
        if self._options.pids:
            yield self._end_with_processes()
        if self._options.exit_idle is not None:
            yield self._end_when_idle(self._options.exit_idle)

    async def _end_with_processes(self) -> None:
        # A process that is not our child dies without telling us, so it is looked at again and again.
        while any(map(_is_alive, self._options.pids)):  # noqa: ASYNC110 - nobody could set an Event
            await asyncio.sleep(self._options.interval)
        self._finish()

    async def _end_when_idle(self, seconds: float) -> None:
        while (left := self._last_news + seconds - time.monotonic()) > 0:  # noqa: ASYNC110 - it is time itself
            await asyncio.sleep(left)
        self._finish()

    def _finish(self) -> None:
        """One last look at every object, then the end."""
        self._finishing = True
        for job in self._live:
            if job.follower is not None:
                tail = job.follower.tail
                tail.options = replace(tail.options, follow=Follow.NO)
                job.follower.wake()

    # --- what goes wrong

    async def _persist(self, ref: ObjectRef, ask: Callable[[], Awaitable[_Result]]) -> _Result:
        """Ask again while that may help: for ever where the object is waited for, else a few times."""
        attempt = 0
        while True:
            try:
                return await ask()
            except TailerError as error:
                attempt += 1
                if not error.retriable or (attempt >= self._tail_options.attempts and not self._waits):
                    raise
                if attempt == 1 and self._waits:
                    self._messages.say(f"cannot open {quote(ref)} for reading: {error}; trying again")
                await asyncio.sleep(back_off(attempt, random.random(), error.retry_after))

    def _cannot_open(self, ref: ObjectRef, why: object) -> None:
        self._messages.say(f"cannot open {quote(ref)} for reading: {why}")
        self._note(UNREADABLE)

    async def _fail(self, job: _Job, error: TailerError) -> None:
        """Say what ended the reading of one object. Raises what ends all of it: output that cannot be written."""
        if job.mirror is not None:
            error = job.mirror.settle(error)
        elif isinstance(error, SinkError | CheckpointError):
            raise error
        self._say_failure(job, error)
        self._messages.trace(error)
        self._note(UNPROVEN if isinstance(error, IntegrityError) else UNREADABLE)
        if self._options.json:
            from tailer.sinks.jsonl import encode_failure

            await self._printer.write(job.ref, "", encode_failure(job.ref, error))
        await self._end(job, error)

    async def _end(self, job: _Job, error: TailerError | None = None) -> None:
        """Nothing more comes of this object; whoever counts or draws hears of it. Once: its closing may fail."""
        if job not in self._live:
            return
        self._live.remove(job)
        if self._progress is not None:
            self._progress.finish(job.ref)
        if self._metrics is not None:
            self._metrics.end(job.ref, error)
        if job.raw is not None:
            await job.raw.finish()
        if not isinstance(error, IntegrityError):
            self._say_unproven(job)
        await job.sink.close()
        if job.said.voided and (job.raw is not None or self._options.exec is not None):
            self._note(UNPROVEN)

    def _say_unproven(self, job: _Job) -> None:
        """An output that begins in the middle never is proven at once: only whoever asked for proof hears of it."""
        if not (count := job.unproven):
            return
        asked = self._tail_options.integrity in (Integrity.FULL, Integrity.STRICT)
        say = self._messages.say if asked else self._messages.debug
        say(f"{job.name}: {count} bytes of the output are not proven by a CRC-64 of the service")

    def _say_failure(self, job: _Job, error: TailerError) -> None:
        if isinstance(error, ObjectNotFound):
            self._lost += 1
            job.said.say_gone()
        elif isinstance(error, IntegrityError | SinkError):
            self._messages.say(error)
        elif job.follower is None:
            self._messages.say(f"cannot open {job.name} for reading: {error}")
        else:
            self._messages.say(f"error reading {job.name}: {error}")


def _check_distinct(refs: list[ObjectRef]) -> None:
    seen: set[ObjectRef] = set()
    for ref in refs:
        if ref in seen:
            raise UsageError(f"{quote(ref)} is named twice: with --checkpoint each object is read once")
        seen.add(ref)


def tail_options(options: Options) -> TailOptions:
    """What the machine of each object is told."""
    slowest = options.interval * _SLOWER
    if options.exit_idle is not None:
        slowest = min(slowest, options.exit_idle)
    chosen = TailOptions(
        follow=Follow(options.follow),
        retry=options.retry,
        integrity=Integrity(options.integrity),
        poll=Poll(options.poll),
        delimiter=options.delimiter if options.by_record else None,
        pace=Pace(fastest=options.interval, slowest=max(slowest, options.interval)),
    )
    return chosen if options.spool_bytes is None else replace(chosen, max_spool=options.spool_bytes)


@contextmanager
def _interruptions(interrupted: asyncio.Future[int], stream: OutputStream | None) -> Iterator[None]:
    """Meanwhile, a signal or a reader that goes away settles `interrupted` with the exit status."""

    def interrupt(status: int) -> None:
        if not interrupted.done():
            interrupted.set_result(status)

    loop = asyncio.get_running_loop()
    for number, status in ((signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)):
        loop.add_signal_handler(number, interrupt, status)
    end_watch = None if stream is None else stream.on_hangup(lambda: interrupt(CLOSED_PIPE))
    try:
        yield
    finally:
        if end_watch is not None:
            end_watch()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def _cancel(tasks: list[asyncio.Task[_Result]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
