"""Drives one `Tail`: the only place that waits while reading, and the seams to everything around it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from tailer.core import crc64
from tailer.core.beginning import Beginning
from tailer.core.events import (
    Action,
    Appeared,
    Batch,
    Cancel,
    Event,
    Failed,
    Fetch,
    Head,
    Receive,
    Replaced,
    Rewound,
    Stop,
    Truncated,
    Verified,
    Wait,
)
from tailer.core.options import Follow, Integrity
from tailer.core.position import Window as Window
from tailer.core.ranges import ByteRange
from tailer.core.schedule import back_off
from tailer.core.tail import Tail
from tailer.errors import ChainBroken, CheckpointError, NotFound, RangeNotSatisfiable, SinkError, TailerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tailer.core.position import Mark, ObjectMeta, ObjectRef

    Data = bytes | bytearray | memoryview

_SPOOL_IN_MEMORY = 8 * 1024 * 1024
COMMIT_SECONDS = 1.0
COMMIT_BYTES = 256 * 1024 * 1024


class ObjectReader(Protocol):
    """Where bytes come from. Every failure is a `TailerError`; nothing is retried behind it."""

    async def head(self, ref: ObjectRef) -> ObjectMeta:
        """The object's metadata. Raises ObjectNotFound."""
        ...

    async def fetch(self, ref: ObjectRef, range: ByteRange) -> Window:
        """The bytes of `range` that exist now, at least one, starting at its first.

        Raises RangeNotSatisfiable when the object ends at or before ``range.start``, ConnectionLost when
        the body was cut: half a window is never returned.
        """
        ...


class Sink(Protocol):
    """Where bytes go."""

    async def write(self, batch: Batch) -> None:
        """Take the batch. Returning means delivered; raising SinkError means not."""
        ...

    async def notice(self, event: Event) -> None:
        """Be told, in order with the batches, of an event that is not a batch."""
        ...

    async def close(self) -> None:
        """Finish what is in hand."""
        ...


class CheckpointStore(Protocol):
    """Where marks are kept."""

    async def commit(self, ref: ObjectRef, mark: Mark) -> None:
        """Keep `mark` in place of the one before; returning means that it survives a crash.

        Raises CheckpointError when it could not be kept: the one before then still stands.
        """
        ...


class Follower:
    """Takes one object from its `Tail` to its `Sink`, one batch at a time.

    Awaiting the sink is the back-pressure: what is fetched meanwhile is what was asked for before, at most
    the machine's depth times its window. When `run` raises or is cancelled, nothing is left running, and
    ``tail.mark`` says where to begin anew.

    With a `store` the mark is committed beside the delivery, `commit_seconds` or half of `commit_bytes` after the
    last time; and before a longer wait, before a sink drops what became void, and at the end, whatever the end.
    Delivery waits for it where more than `commit_bytes` (or one larger batch) would be delivered that no
    checkpoint tells of: a crash repeats no more than that, and loses nothing. A mark that cannot be kept ends a
    one-shot reading with CheckpointError; a follow stands still until it can, and says so (`Failed`).
    """

    def __init__(
        self,
        reader: ObjectReader,
        tail: Tail,
        sink: Sink,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
        store: CheckpointStore | None = None,
        commit_seconds: float = COMMIT_SECONDS,
        commit_bytes: int = COMMIT_BYTES,
    ) -> None:
        self.tail = tail
        self._reader = reader
        self._sink = sink
        self._clock = clock
        self._chance = chance
        self._under_way: deque[asyncio.Task[Window]] = deque()
        self._woken = asyncio.Event()
        strict = tail.options.integrity is Integrity.STRICT
        self._spool = _Spool(tail.mark.delivered.offset, tail.options.max_spool) if strict else None
        self._begun_anew: Mark | None = None
        self._proving = _Proving(reader, tail, self._woken.set)
        self._commits = None if store is None else _Commits(store, tail, clock, commit_seconds, commit_bytes)

    async def catch_up(self) -> None:
        """Look once, and hand on all that exists now. Returns too when the object is missing and waited for.

        Raises what `run` raises.
        """
        self.tail.wake(self._clock())
        await self._drive(until_idle=True)

    async def run(self) -> None:
        """Follow until the machine stops.

        Raises its reason, a TailerError (ObjectReplaced, ObjectNotFound, ChainBroken, CrcMissing, a refusal
        that no retry helps), or the sink's SinkError; returns when there is nothing more to read.
        """
        await self._drive(until_idle=False)

    async def prove(self) -> None:
        """Read what lies below the start, where that is to be proven and is not yet (`Integrity.FULL`).

        Raises ChainBroken when it does not fit, and what hinders the reading.
        """
        try:
            await self._prove_to_the_end()
            await self._commit()
        finally:
            await self._cancel()

    def wake(self) -> None:
        """Poll at once."""
        self.tail.wake(self._clock())
        self._woken.set()

    async def _drive(self, *, until_idle: bool) -> None:
        try:
            await self._deliver()
            while not (until_idle and self.tail.idle):
                action = self.tail.next_action(self._clock())
                if isinstance(action, Stop):
                    return await self._end(action)
                await self._perform(action)
                await self._deliver()
            await self._commit()
        except BaseException as error:
            self._drop_spool()
            await self._commit_at_last(error)
            raise
        finally:
            await self._cancel()

    async def _end(self, stop: Stop) -> None:
        self._drop_spool()
        if stop.error is not None:
            raise stop.error
        await self._commit()
        await self._prove_to_the_end()
        await self._commit()

    def _drop_spool(self) -> None:
        if self._spool is not None:
            self._spool.close()

    async def _perform(self, action: Action) -> None:
        if isinstance(action, Fetch):
            self._under_way.append(asyncio.create_task(self._reader.fetch(self.tail.ref, action.range)))
        elif isinstance(action, Receive):
            await self._receive()
        elif isinstance(action, Head):
            await self._head()
        elif isinstance(action, Wait):
            if self._commits is not None and self._commits.due(action.until):
                await self._commit()
            await self._prove_meanwhile(action.until)
            await self._deliver()
            await self._sleep(action.until - self._clock())
        elif isinstance(action, Cancel):
            await self._cancel()

    async def _prove_meanwhile(self, until: float) -> None:
        """See to what lies below the start, beside the wait `until` the next poll."""
        try:
            self._proving.go_on(self._clock(), until)
        except TailerError as error:
            if isinstance(error, ChainBroken):
                raise
            await self._sink.notice(Failed(error, max(0.0, until - self._clock()), self._proving.misses))

    async def _prove_to_the_end(self) -> None:
        """Nothing is left to read but what lies below the start. Raises what hinders it."""
        attempt = 0
        while self.tail.claim is not None:
            try:
                await self._proving.finish_window()
                attempt = 0
            except TailerError as error:
                attempt += 1
                if not error.retriable or attempt >= self.tail.options.attempts:
                    raise
                await self._sleep(back_off(attempt, self._chance(), error.retry_after))
        await self._deliver()

    async def _receive(self) -> None:
        try:
            window = await self._under_way.popleft()
        except TailerError as error:
            self.tail.fail(error, self._clock(), self._chance())
        else:
            self.tail.receive(window.start, window.data, window.meta, self._clock())

    async def _head(self) -> None:
        try:
            meta = await self._reader.head(self.tail.ref)
        except TailerError as error:
            self.tail.fail(error, self._clock(), self._chance())
        else:
            self.tail.observe(meta, self._clock())

    async def _sleep(self, seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(max(0.0, seconds), self._woken.set)
        try:
            await self._woken.wait()
        finally:
            timer.cancel()
        self._woken.clear()

    async def _cancel(self) -> None:
        tasks = [*self._under_way, *self._proving.give_up()]
        self._under_way.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver(self) -> None:
        for event in self.tail.events():
            if self._spool is not None:
                await self._deliver_proven(self._spool, event)
            elif isinstance(event, Batch):
                await self._hand_on(event)
            else:
                await self._notice(event)

    async def _deliver_proven(self, spool: _Spool, event: Event) -> None:
        """The strict way: a batch waits on disk until it is verified, and a rewind voids what waits."""
        if isinstance(event, Batch):
            spool.add(event)
        elif isinstance(event, Verified):
            spool.prove(event)
        elif isinstance(event, Rewound):
            await self._rewind(spool, event)
        elif isinstance(event, Replaced | Truncated | Appeared):
            spool.begin(0)
        for batch, crc in spool.take():
            data = batch.data if crc is None else await self._read_again(batch, crc)
            if data is None:
                return self._begin_anew(spool)
            await self._hand_on(replace(batch, data=data))
        if not isinstance(event, Batch | Rewound):
            await self._notice(event)

    async def _read_again(self, batch: Batch, crc: int) -> Data | None:
        """The bytes of a proven batch that were not kept, None when they cannot be had any more."""
        for attempt in range(1, self.tail.options.attempts + 1):
            error: TailerError = ChainBroken(f"{batch.object}: bytes {batch.start} to {batch.end} came out differently")
            try:
                data = await self._read_whole(ByteRange(batch.start, batch.end))
                if crc64.update(data) == crc:
                    return data
            except TailerError as failure:
                if not failure.retriable:
                    return None
                error = failure
            delay = back_off(attempt, self._chance(), error.retry_after)
            await self._sink.notice(Failed(error, delay, attempt))
            del error  # it holds this frame
            await self._sleep(delay)
        return None

    async def _read_whole(self, wanted: ByteRange) -> Data:
        parts: list[Data] = []
        at = wanted.start
        while at < wanted.stop:
            window = await self._reader.fetch(self.tail.ref, ByteRange(at, wanted.stop))
            parts.append(window.data)
            at += len(window.data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _begin_anew(self, spool: _Spool) -> None:
        """The proven object is there no more, or not as it was: what there is now, the machine finds out.

        Raises ChainBroken when that leads to the same place again.
        """
        mark = self.tail.mark
        if mark == self._begun_anew:
            raise ChainBroken(
                f"{self.tail.ref}: its CRC-64 was proven, and then its bytes from {mark.delivered.offset} on came out "
                "differently"
            )
        self._begun_anew = mark
        self.tail.begin_anew(self._clock())
        spool.begin(mark.delivered.offset)

    async def _rewind(self, spool: _Spool, event: Rewound) -> None:
        """The sink hears only of what it has: pieces of a long record, or what came before a resume."""
        if (end := spool.delivered) > event.to:
            await self._notice(replace(event, end=end))
        spool.begin(min(end, event.to))

    async def _hand_on(self, batch: Batch) -> None:
        length = batch.end - batch.start
        if self._commits is not None and not self._commits.has_room(length):
            await self._make_room(self._commits, length)
        await self._sink.write(batch)
        self.tail.acknowledge(batch)
        if self._commits is not None:
            self._commits.count(length)

    async def _make_room(self, commits: _Commits, length: int) -> None:
        """What is under way may do; a mark that was refused is tried again, for as long as it takes."""
        await commits.settle()
        if not commits.has_room(length):
            await self._commit()

    async def _notice(self, event: Event) -> None:
        """Tell the sink. What it then drops must not lie below a committed mark: a restart would go on behind it."""
        if isinstance(event, Rewound | Replaced | Truncated | Appeared):
            await self._commit()
        await self._sink.notice(event)

    async def _commit(self) -> None:
        """Keep the mark. Who follows stands still until that is done: nothing is delivered that cannot be noted."""
        attempt = 0
        while self._commits is not None:
            try:
                return await self._commits.commit()
            except CheckpointError as error:
                if self.tail.options.follow is Follow.NO:
                    raise
                attempt += 1
                delay = back_off(attempt, self._chance())
                await self._sink.notice(Failed(error, delay, attempt))
            await self._sleep(delay)

    async def _commit_at_last(self, why: BaseException) -> None:
        """One try on the way out, after which `why` is raised in any case."""
        if self._commits is None:
            return
        try:
            await self._commits.commit()
        except CheckpointError as error:
            why.add_note(f"and then: {error}")


class _Proving:
    """Reads what lies below the start of `tail`, a window at a time, beside all else (`Integrity.FULL`).

    `woken` is called when a window has come. `misses`: how often in turn one could not be read.
    """

    def __init__(self, reader: ObjectReader, tail: Tail, woken: Callable[[], None]) -> None:
        self._reader = reader
        self._tail = tail
        self._woken = woken
        self._beginning: Beginning | None = None
        self._asked: tuple[Beginning, asyncio.Task[Window]] | None = None
        self._pause = float("-inf")
        self.misses = 0

    def go_on(self, now: float, until: float) -> None:
        """Take the window that has come, and ask for the next one: not before `until` if that one was not right.

        Whoever is replaced or gone is asked for no more: the poll that comes next tells. Raises ChainBroken at the
        second misfit, and what else the reader raises.
        """
        if self._asked is not None and not self._asked[1].done():
            return
        try:
            if self._take() is False:
                self._pause = until
        except (NotFound, RangeNotSatisfiable):
            self._pause = until
        except TailerError:
            self._pause = until
            self.misses += 1
            raise
        if now >= self._pause:
            self._ask()

    async def finish_window(self) -> None:
        """One window, waited for. Raises ChainBroken at the second misfit, and what the reader raises."""
        self._ask()
        if self._asked is not None:
            await asyncio.wait([self._asked[1]])
        self._take()

    def give_up(self) -> list[asyncio.Task[Window]]:
        """The window that is under way, which nobody waits for any more: it will be asked for again."""
        asked, self._asked = self._asked, None
        return [] if asked is None else [asked[1]]

    def _ask(self) -> None:
        claim = self._tail.claim
        if claim is None or self._asked is not None:
            return
        if self._beginning is None or self._beginning.claim != claim:
            self._beginning = Beginning(claim)
        wanted = self._beginning.next_range(self._tail.options.max_window)
        task = asyncio.create_task(self._reader.fetch(self._tail.ref, wanted))
        task.add_done_callback(lambda _: self._woken())
        self._asked = self._beginning, task

    def _take(self) -> bool | None:
        """What the window says that was asked for: `Beginning.feed`; None where there is none."""
        asked, self._asked = self._asked, None
        if asked is None:
            return None
        beginning, task = asked
        try:
            window = task.result()
        finally:
            del asked, task  # which hold what is raised, and that this frame
        holds, claim = beginning.feed(window.data), beginning.claim
        self.misses = 0
        if holds:
            self._tail.prove_beginning(claim, beginning.crc64)
        elif beginning.misfits > 1 and claim == self._tail.claim:
            raise ChainBroken(
                f"{self._tail.ref}: what lies below byte {claim.start} and what was read from there do not give the "
                f"CRC-64 that the service states of the first {claim.size} bytes (read twice)"
            )
        return holds


class _Commits:
    """Keeps the mark of `tail`, beside the delivery: it is due `seconds` or half of `most` bytes after the last time.

    One commit at a time is under way. The mark that it keeps is the one of its beginning.
    """

    def __init__(
        self, store: CheckpointStore, tail: Tail, clock: Callable[[], float], seconds: float, most: int
    ) -> None:
        self._store = store
        self._tail = tail
        self._clock = clock
        self._seconds = seconds
        self._most = most
        self._kept: Mark | None = None
        self._refusal: CheckpointError | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = clock() + seconds
        # Bytes delivered in all, up to the mark of the last commit that began, and up to the one that is kept.
        self._delivered = self._begun = self._safe = 0

    @property
    def _pending(self) -> bool:
        """Did the mark move since it was last kept?"""
        return self._tail.mark != self._kept

    def due(self, now: float) -> bool:
        """Is there something to commit by `now`?"""
        return self._pending and (self._refusal is not None or now >= self._due)

    def has_room(self, length: int) -> bool:
        """May so many bytes more be delivered before a commit is done? After one that was refused, none may."""
        ahead = self._delivered - self._safe
        return self._refusal is None and (ahead == 0 or ahead + length <= self._most)

    def count(self, length: int) -> None:
        """So many bytes more were delivered: see to it that they are committed in time."""
        self._delivered += length
        if 2 * (self._delivered - self._begun) >= self._most:
            self._begin()
        self._wind_up()

    def _wind_up(self) -> None:
        if self._pending and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(max(0.0, self._due - self._clock()), self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._begin()

    def _begin(self) -> None:
        """Commit the mark as it is now, if it moved, beside all else; not while another one is under way."""
        if not self._pending or not self._has_settled():
            return
        self._begun, self._due = self._delivered, self._clock() + self._seconds
        self._task = asyncio.create_task(self._keep(self._tail.mark, self._delivered))

    def _has_settled(self) -> bool:
        """Is nothing under way? Raises what the last one raised that is no refusal."""
        if self._task is not None and self._task.done():
            self._task.result()
            self._task = None
        return self._task is None

    async def _keep(self, mark: Mark, delivered: int) -> None:
        try:
            await self._store.commit(self._tail.ref, mark)
        except CheckpointError as error:
            self._refusal = error
        else:
            self._kept, self._safe, self._refusal = mark, delivered, None
        self._wind_up()

    async def settle(self) -> None:
        """Wait for the one under way, even where whoever waits is cancelled: it goes on."""
        while not self._has_settled():
            assert self._task is not None  # it is what has not settled
            await asyncio.wait([self._task])

    async def commit(self) -> None:
        """Keep the mark as it is now, if it moved. Nothing is under way afterwards. Raises CheckpointError."""
        await self.settle()
        self._refusal = None
        self._begin()
        await self.settle()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._refusal is not None:
            raise self._refusal


class _Spool:
    """Batches that wait for their proof: the first 8 MiB in memory, more in a nameless temporary file.

    At most `limit` bytes are kept; of what comes when they are used up, the CRC-64 alone.
    `delivered` is the offset up to which they were let go. Raises SinkError when the disk does not hold them.
    """

    def __init__(self, delivered: int, limit: int) -> None:
        self._limit = limit
        self._file: tempfile.SpooledTemporaryFile[bytes] | None = None
        self._waiting: deque[tuple[Batch, int, int | None]] = deque()
        self.begin(delivered)

    def begin(self, delivered: int) -> None:
        """Forget what waits; the next batch starts at `delivered`."""
        self.delivered = delivered
        self._proven = self._unproven = 0
        self.close()

    def add(self, batch: Batch) -> None:
        bare = replace(batch, data=b"")
        if self._kept + len(batch.data) > self._limit:
            self._waiting.append((bare, 0, crc64.update(batch.data)))
            return
        if self._file is None:
            self._file = tempfile.SpooledTemporaryFile(max_size=_SPOOL_IN_MEMORY)  # noqa: SIM115 - see close()
        with _disk_errors():
            self._file.seek(self._kept)
            self._file.write(batch.data)
        self._waiting.append((bare, self._kept, None))
        self._kept += len(batch.data)

    def prove(self, verified: Verified) -> None:
        self._proven, self._unproven = verified.position.offset, verified.position.unproven

    def take(self) -> Iterator[tuple[Batch, int | None]]:
        """Those that need not wait any more, in order; the ones that nothing can ever vouch for say so.

        With the CRC-64 of its bytes comes one whose bytes were not kept.
        """
        while self._waiting and self._is_proven(self._waiting[0][0]):
            batch, at, crc = self._waiting.popleft()
            data = self._read(at, batch.end - batch.start) if crc is None else b""
            if not self._waiting:
                self.close()
            self.delivered = batch.end
            yield replace(batch, data=data, verified=batch.verified or batch.start >= self._unproven), crc

    def _read(self, at: int, length: int) -> bytes:
        assert self._file is not None
        with _disk_errors():
            self._file.seek(at)
            return self._file.read(length)

    def _is_proven(self, batch: Batch) -> bool:
        return batch.verified or batch.end <= self._proven

    def close(self) -> None:
        """Drop what waits. What a full disk did not take is void anyway."""
        self._waiting.clear()
        self._kept = 0
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = f"cannot keep unproven bytes in a temporary file: {error.strerror}"
        raise SinkError(reason, hint="TMPDIR names its folder") from error
