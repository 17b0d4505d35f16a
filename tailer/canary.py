"""A canary: stamped records go into an object and come back by the way that everybody's bytes take, and are counted.

`Audit` is the bookkeeping, pure; `Canary` writes with an `Appender` and reads with a `Consumer`.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import re
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from tailer.appender import Appender
from tailer.consumer import Consumer
from tailer.core import crc64
from tailer.core.events import Failed
from tailer.core.position import ObjectRef
from tailer.core.schedule import back_off
from tailer.errors import RequestTimeout, TailerError, UsageError
from tailer.oss.address import check_key, parse_address
from tailer.oss.client import connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable
    from contextlib import AbstractAsyncContextManager

    from tailer.core.events import Batch, Event
    from tailer.oss.client import ServiceSettings

    OpenReader = Callable[[str], AbstractAsyncContextManager[AsyncIterable[Batch]]]
    """Reads the object of an address from byte 0 on, and ends with the block."""

FAULTS = ("missing", "duplicate", "disordered", "late", "corrupt")
COUNTS = ("appended", "received", *FAULTS)

LEAST_SIZE = 80
LARGEST_SIZE = 16 << 20
"""Of a record, in bytes."""

# Records that may be under way: beyond that nothing is appended, so that a reader that stands still costs no memory.
_MOST_UNDER_WAY = 100_000
# Seconds that the append in hand and the sealing may still take, behind the time for what is under way.
_LAST_APPEND = 10.0
_RECORD = re.compile(rb"canary ([0-9a-f]{8}) ([0-9]{12,}) [0-9]{19} \.*")
_FINENESS = math.log(1.02)


class Observer(Protocol):
    """Told of each count as it happens, on the event loop. Neither method may raise."""

    def count(self, what: str) -> None:
        """One more of one of `COUNTS`."""
        ...

    def observe(self, seconds: float) -> None:
        """A record was received so long after its append began."""
        ...


@dataclass(frozen=True, slots=True)
class CanaryOptions:
    """Times in seconds, sizes in bytes.

    interval: between two records; 0 appends the next one when the last is taken. size: of a record with its newline.
    duration: how long to append; None until `Canary.stop`. late: a record that takes longer counts as late.
    wait: how long a record may stay away when later ones came, and all that is under way at the end.
    poll: the fastest poll of the reader. roll: the length at which the next object begins.
    leave: what becomes of an object when it is done with.
    """

    interval: float = 1.0
    size: int = 256
    duration: float | None = None
    late: float = 10.0
    wait: float = 30.0
    poll: float = 1.0
    roll: int = 256 << 20
    leave: Literal["open", "sealed", "deleted"] = "open"

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if not LEAST_SIZE <= self.size <= LARGEST_SIZE:
            raise UsageError(f"a record of {self.size} bytes: it can have {LEAST_SIZE} to {LARGEST_SIZE}")
        if self.size > self.roll:
            raise UsageError(f"a record of {self.size} bytes does not go into an object of {self.roll}")
        times = self.interval, self.late, self.wait, self.poll, self.duration or 0.0
        if not all(0 <= seconds < math.inf for seconds in times):
            raise UsageError("a time is not below 0 and has an end")


class Latencies:
    """How long records took, to 2 % and in little memory, however many there are."""

    def __init__(self) -> None:
        self.count = 0
        self.largest = 0.0
        self._steps: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        """One more."""
        step = math.ceil(math.log(max(seconds, 1e-6)) / _FINENESS)
        self._steps[step] = self._steps.get(step, 0) + 1
        self.count += 1
        self.largest = max(self.largest, seconds)

    def quantile(self, share: float) -> float:
        """The seconds within which this share of them (0 to 1) came; 0 when there is none."""
        left = share * self.count
        for step, count in sorted(self._steps.items()):
            left -= count
            if left <= 0:
                return min(math.exp(step * _FINENESS), self.largest)
        return self.largest


class Audit:
    """Makes the records of one run, knows which are under way, and judges what comes back.

    A record is *missing* when it was acknowledged and did not come in time though later ones did, or until the end. One
    that comes behind a later one is *disordered*, one that came before is a *duplicate*; what is no record of this
    run, or has another CRC-64 than it says, is *corrupt*, and the record in whose place it stood misses. `now` is
    any clock in seconds that does not go back.
    """

    def __init__(self, *, late: float, wait: float, observer: Observer | None = None) -> None:
        """`late` and `wait` as in `CanaryOptions`."""
        self.run = secrets.token_hex(4)
        self.counts = dict.fromkeys(COUNTS, 0)
        self.latencies = Latencies()
        self._late = late
        self._wait = wait
        self._observer = observer
        self._made = self._acknowledged = 0  # numbers begin at 1
        self._highest = 0
        self._under_way: dict[int, float] = {}  # when each began; in order
        self._missing: dict[int, float] = {}

    @property
    def under_way(self) -> int:
        """How many records are acknowledged, neither received nor given up."""
        return len(self._under_way) - (self._made > self._acknowledged and self._made in self._under_way)

    def oldest(self, now: float) -> float:
        """For how many seconds the oldest record under way is; 0 when there is none."""
        began = next(iter(self._under_way.values()), now)
        return max(0.0, now - began)

    def make(self, size: int, now: float) -> bytes:
        """The next record, `size` bytes with its newline, whose append begins."""
        self._made += 1
        self._under_way[self._made] = now
        head = f"canary {self.run} {self._made:012} {time.time_ns():019} ".encode()
        body = head.ljust(size - 18, b".")
        return b"%b %016x\n" % (body, crc64.update(body))

    def acknowledge(self) -> None:
        """The object has the last record made."""
        self._acknowledged = self._made
        self._count("appended")

    def take(self, line: bytes, now: float) -> None:
        """A record came, without its newline."""
        number = self._number_of(line)
        if number is None:
            self._count("corrupt")
            return
        began = self._under_way.pop(number, None)
        began = self._missing.pop(number, None) if began is None else began
        if began is None:
            self._count("duplicate")
            return
        self._count("received")
        self._time(now - began)
        if number < self._highest:
            self._count("disordered")
        self._highest = max(self._highest, number)

    def give_up(self, now: float) -> None:
        """Count as missing what should have come by now. Records come in order: the oldest are looked at only."""
        while self._under_way:
            number, began = next(iter(self._under_way.items()))
            if number > self._highest or now - began <= self._wait:
                return
            self._miss(number)

    def close(self) -> None:
        """Nothing that was made so far comes any more.

        A record whose append was not acknowledged may be in the object or not: it does not count.
        """
        for number in [*self._under_way]:
            if number <= self._acknowledged:
                self._miss(number)

    def _miss(self, number: int) -> None:
        self._missing[number] = self._under_way.pop(number)
        self._count("missing")

    def _time(self, seconds: float) -> None:
        self.latencies.add(seconds)
        if self._observer is not None:
            self._observer.observe(seconds)
        if seconds > self._late:
            self._count("late")

    def _number_of(self, line: bytes) -> int | None:
        """Which of this run's records it is; None when it is none of them, or not as it was made."""
        body, _, stated = line.rpartition(b" ")
        match = _RECORD.fullmatch(body)
        if match is None or stated != b"%016x" % crc64.update(body) or match[1] != self.run.encode():
            return None
        return int(match[2])

    def _count(self, what: str) -> None:
        self.counts[what] += 1
        if self._observer is not None:
            self._observer.count(what)


class Canary:
    """Appends records to objects of its own below an address, follows them, and keeps the `audit`.

    It reads with ``integrity="strict"``: nothing is handed out that is taken back, so what comes twice came twice.
    One object is done with, and all of it received, before the next one begins.
    """

    def __init__(
        self,
        address: str,
        options: CanaryOptions,
        *,
        service: ServiceSettings,
        observer: Observer | None = None,
        on_trouble: Callable[[TailerError], None] = lambda error: None,
        open_reader: OpenReader | None = None,
    ) -> None:
        """`address`: oss://BUCKET/PREFIX/; a slash at the end is added. `on_trouble` hears of what is tried again.

        Raises AddressError, UsageError.
        """
        self.audit = Audit(late=options.late, wait=options.wait, observer=observer)
        self._home = _home(address)
        self._options = options
        self._service = service
        self._on_trouble = on_trouble
        self._open_reader = open_reader or self._consumer
        self._since = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self._objects = 0
        self._over = asyncio.Event()
        self._nothing_under_way = asyncio.Event()

    def stop(self) -> None:
        """Append no more; `run` ends when all has come, or after `wait`."""
        self._over.set()

    async def run(self) -> None:
        """Until `duration` is over, or `stop`. `audit` has the verdict then, whatever is raised.

        Raises what writing or reading is refused with, an IntegrityError when the object does not stay what was
        appended to it, RequestTimeout when the last append has no answer. What may pass is tried again for ever.
        """
        timer = None
        if self._options.duration is not None:
            timer = asyncio.get_running_loop().call_later(self._options.duration, self._over.set)
        try:
            while not self._over.is_set():
                ref = self._next_ref()
                await self._use(ref)
        finally:
            if timer is not None:
                timer.cancel()

    def _next_ref(self) -> ObjectRef:
        self._objects += 1
        return replace(self._home, key=f"{self._home.key}{self._since}-{self.audit.run}-{self._objects:06}.log")

    async def _use(self, ref: ObjectRef) -> None:
        """One object, from its making to what is left of it."""
        made = asyncio.Event()
        writing = asyncio.create_task(self._write(ref, made), name="canary writes")
        reading = asyncio.create_task(self._read(ref, made), name="canary reads")
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait([writing, reading, over], return_when=asyncio.FIRST_COMPLETED)
            if not (writing.done() or reading.done()):
                bound = self._options.wait + _LAST_APPEND
                await asyncio.wait([writing, reading], timeout=bound, return_when=asyncio.FIRST_COMPLETED)
            await self._end(ref, writing, reading)
        finally:
            for task in (writing, reading, over):
                task.cancel()
            await asyncio.gather(writing, reading, over, return_exceptions=True)
        if self._options.leave == "deleted":
            await self._delete(ref)

    async def _end(self, ref: ObjectRef, writing: asyncio.Task[None], reading: asyncio.Task[None]) -> None:
        """One of them is done, or neither and the time is over. Raises what ended it.

        Where reading failed, nobody knows what became of the records under way: they are not missing.
        """
        if writing.done() and writing.exception() is not None and not reading.done():
            await self._settle()
        if reading.done():
            reading.result()
        self.audit.close()
        if not writing.done():
            raise RequestTimeout(f"{ref}: the last append has no answer")
        writing.result()

    # --- writing

    async def _write(self, ref: ObjectRef, made: asyncio.Event) -> None:
        """Append until the object is full or the run is over, and wait until all has come."""
        async with Appender(
            str(ref),
            service=self._service,
            create_only=True,
            patience=math.inf,
            on_trouble=lambda error, _: self._on_trouble(error),
        ) as out:
            await out.append(b"")
            made.set()
            await self._write_records(out)
            await self._settle()
            if self._options.leave == "sealed":
                await out.seal()

    async def _write_records(self, out: Appender) -> None:
        size, due = self._options.size, time.monotonic()
        # One at least, however late it came to this: of no record nothing can be said.
        while not (self._over.is_set() and self.audit.counts["appended"]) and (
            out.position.offset + size <= self._options.roll
        ):
            self.audit.give_up(time.monotonic())
            if self.audit.under_way < _MOST_UNDER_WAY:
                await out.append(self.audit.make(size, time.monotonic()))
                self.audit.acknowledge()
            # What an outage held up is not made up for.
            due = max(due + self._options.interval, time.monotonic())
            await self._pause(due - time.monotonic())

    async def _pause(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._over.wait()

    async def _settle(self) -> None:
        """Wait until all that was appended came, or `wait` is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._options.wait):
                while self.audit.under_way:
                    self._nothing_under_way.clear()
                    await self._nothing_under_way.wait()

    # --- reading

    async def _read(self, ref: ObjectRef, made: asyncio.Event) -> None:
        await made.wait()
        async with self._open_reader(str(ref)) as batches:
            async for batch in batches:
                now = time.monotonic()
                for record in batch.records:
                    self.audit.take(record.data, now)
                if not self.audit.under_way:
                    self._nothing_under_way.set()

    def _consumer(self, address: str) -> Consumer:
        return Consumer(
            address,
            service=self._service,
            integrity="strict",
            interval=self._options.poll,
            max_record=LARGEST_SIZE,
            glob=False,
            on_event=self._hear,
        )

    def _hear(self, ref: ObjectRef, event: Event) -> None:
        if isinstance(event, Failed):
            self._on_trouble(event.error)

    async def _delete(self, ref: ObjectRef) -> None:
        """Delete the object; what may pass is tried again for as long as all else may take at the end."""
        last = time.monotonic() + self._options.wait + _LAST_APPEND
        async with connect(self._service) as client:
            for attempt in itertools.count(1):
                try:
                    await client.delete(ref)
                except TailerError as error:
                    if not error.retriable or time.monotonic() > last:
                        raise
                    self._on_trouble(error)
                    await asyncio.sleep(back_off(attempt, random.random(), error.retry_after))
                else:
                    return


def _home(address: str) -> ObjectRef:
    """What all keys begin with. Raises AddressError, UsageError."""
    parsed = parse_address(address)
    if parsed.url is not None or parsed.pattern:
        raise UsageError(f"{parsed} is no place for a canary: write oss://BUCKET/PREFIX/")
    key = parsed.ref.key
    home = replace(parsed.ref, key=key if not key or key.endswith("/") else f"{key}/")
    check_key(f"{home.key}{'x' * 40}")
    return home
