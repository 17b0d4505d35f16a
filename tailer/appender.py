"""The library's face for writing: `Appender` gathers records into appends, for ``async with`` and for ``with``."""

from __future__ import annotations

import asyncio
import string
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

from tailer.append import APPEND_LIMIT, Attributes, ObjectWriter
from tailer.config import resolve_service
from tailer.core import crc64
from tailer.core.position import ObjectRef, Position
from tailer.errors import NotAppendable, ObjectFull, ObjectSealed, PositionConflict, UsageError
from tailer.oss.address import parse_address
from tailer.oss.client import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from types import TracebackType
    from typing import Self, Unpack

    from tailer.append import OnTrouble
    from tailer.oss.client import Client, ServiceSettings
    from tailer.oss.transport import Data

_Result = TypeVar("_Result")

# Small records cost more than their bytes, so they are counted, too.
_MOST_RECORDS = 64 * 1024


class AppenderOptions(TypedDict, total=False):
    """What `Appender` takes by name. Times in seconds, sizes in bytes.

    flush_bytes, flush_interval: what is written is sent when there is so much of it (8 MiB), or so long (1.0)
        after its first byte came.
    on_conflict: when another writer was at the object, ``"stop"`` raises PositionConflict; ``"continue"`` goes on
        behind what the other wrote, each record of either once.
    create_only: the object must not exist. expect_position: it must be exactly so long.
    pattern: the key is a pattern: ``{n}`` (``{n:06}``) counts objects from 0, and ``%Y%m%d`` and the like are the
        time in UTC, as strftime has them. A record for which an object has no room, and the first one in
        a new time, goes to the next object.
    limit: the length that an object may reach, at most 5 GiB. patience: how long to try again what may pass.
    content_type, metadata, storage_class, acl, tags, encryption: of a new object. They are not applied to one that
        exists; `on_note` is told so (without it, it is a UserWarning).
    on_trouble: told of an error and of the seconds until the next attempt.
    service: all about the service in one value; else endpoint, region, profile, sign as for the command.
    """

    flush_bytes: int
    flush_interval: float
    on_conflict: Literal["stop", "continue"]
    create_only: bool
    expect_position: int | None
    pattern: bool
    limit: int
    patience: float
    content_type: str | None
    metadata: Mapping[str, str]
    storage_class: str | None
    acl: str | None
    tags: Mapping[str, str]
    encryption: str | None
    on_note: Callable[[str], None] | None
    on_trouble: OnTrouble | None
    service: ServiceSettings | None
    endpoint: str | None
    region: str | None
    profile: str | None
    sign: bool


class Appender:
    """Appends records to an object, and proves with the object's own CRC-64 that it has them.

    ``async with Appender("oss://bucket/app.log") as out:`` and then ``await out.append(b"...")``, which returns when
    the object has the bytes; or ``await out.write(b"...")``, which gathers them and sends them by and by.
    ``with Appender(...) as out:`` gives a `BlockingAppender`, with the same methods for code without an event loop.

    Each record goes out in one request together with those beside it: it is never cut, neither by a crash nor by
    the change to the next object of a pattern. At most `flush_bytes` and one record wait while as much is
    being sent; whoever writes more waits. Several tasks may write at once.

    An error ends it: the records that were not acknowledged are not sent any more, and every later call raises the
    same error. See `tailer.append.ObjectWriter` for what is decided how.
    """

    def __init__(self, address: str, **options: Unpack[AppenderOptions]) -> None:
        """Raises UsageError (AddressError for a bad address)."""
        if unknown := options.keys() - AppenderOptions.__annotations__.keys():
            raise UsageError(f"there is no option {min(unknown)}")
        _check(options)
        self._address = parse_address(address, glob=False)
        if self._address.url is not None:
            raise UsageError(f"{self._address} is known by its URL and can only be read: write oss://BUCKET/KEY")
        self._options = options
        self._attributes = _attributes(options)
        self._names = _Names(self._address.ref, pattern=options.get("pattern", False))
        self._flush_bytes = options.get("flush_bytes", 8 << 20)
        self._flush_interval = options.get("flush_interval", 1.0)
        self._client: Client | None = None
        self._writer: ObjectWriter | None = None
        self._pump: asyncio.Task[None] | None = None
        self._error: Exception | None = None
        self._blocking: BlockingAppender | None = None
        self._pending = _Pending()
        self._due, self._room = asyncio.Event(), asyncio.Event()
        self._turn = asyncio.Lock()
        self._under_way: asyncio.Timeout | None = None
        self._interrupted: _Pending | None = None
        self._timer: asyncio.TimerHandle | None = None

    # --- open and close

    async def __aenter__(self) -> Self:
        """Look at the object. Raises ConfigError, NotAppendable, ObjectSealed, CrcMissing, PositionConflict for an
        object that is not as `create_only` or `expect_position` want it, and what the service refuses with."""
        self._check_unused()
        try:
            await self._open()
        except BaseException:
            await self._disconnect()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what was written and close; after a cancellation, close at once."""
        if kind is not None and not issubclass(kind, Exception):
            await self._abort()
            return
        try:
            if kind is None or self._error is None:
                await self.flush()
        finally:
            await self._abort()

    def __enter__(self) -> BlockingAppender:
        """As ``async with``, for code without an event loop. Raises UsageError inside a running one."""
        with suppress(RuntimeError):
            asyncio.get_running_loop()
            raise UsageError("inside a running event loop use `async with`")
        self._check_unused()
        self._blocking = BlockingAppender(self)
        return self._blocking

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._blocking is not None:
            self._blocking._close(kind)

    def _check_unused(self) -> None:
        if self._writer is not None or self._client is not None:
            raise UsageError("an appender is entered once")

    async def _open(self) -> None:
        options = self._options
        settings = options.get("service") or resolve_service(
            endpoint=options.get("endpoint"),
            region=options.get("region"),
            profile=options.get("profile"),
            no_sign_request=not options.get("sign", True),
        )
        self._client = connect(settings)
        self._writer = await self._first_writer()
        self._check_expectations(self._writer)
        if self._writer.exists and self._attributes.headers():
            self._note(
                f"{self._writer.ref} exists: content type, storage class, ACL, encryption, tags and metadata are those "
                "that it was made with, and what was given is not applied"
            )
        self._pump = asyncio.create_task(self._run(), name=f"append {self._address}")

    def _check_expectations(self, writer: ObjectWriter) -> None:
        expected = self._options.get("expect_position")
        wrong = None
        if self._options.get("create_only") and writer.exists:
            wrong = f"{writer.ref} exists already"
        elif expected is not None and writer.position.offset != expected:
            wrong = f"{writer.ref} ends at byte {writer.position.offset}, not at {expected}"
        if wrong is not None:
            error = PositionConflict(wrong)
            error.ours, error.theirs = (expected or 0, None), (writer.position.offset, writer.position.crc64)
            raise error

    def _note(self, text: str) -> None:
        tell = self._options.get("on_note")
        if tell is None:
            warnings.warn(text, stacklevel=2)
        else:
            tell(text)

    async def _abort(self) -> None:
        """Stop at once; what was not sent is not sent."""
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.wait([self._pump])
        if self._error is None:
            self._fail(_closed())
        if self._under_way is not None:  # in a task that is not ours to cancel
            self._under_way.reschedule(0)
            async with self._turn:
                pass
        await self._disconnect()

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    # --- writing

    async def append(self, data: Data) -> Position:
        """Add one record and wait until the object has it; where it ends. What was written before goes along.

        Nothing (b"") makes a missing object. Raises ObjectFull, PositionConflict, ChainBroken and what the service
        refuses with; after that it is unknown whether an append under way was taken. Cancelled, it goes on.
        """
        await self._put(data)
        if self._turn.locked() or self._due.is_set() or self._names.change:
            return await self._sent()
        return await self._send_at_once()

    async def write(self, data: Data) -> None:
        """Add one record to those that wait to be sent; waits itself while they are too many.

        What goes wrong with it later is raised by the next call, and at the latest when the appender is closed.
        """
        await self._put(data)
        if self._is_full:
            self._due.set()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._flush_interval, self._due.set)

    async def flush(self) -> Position:
        """Wait until the object has all that was written; its end. Raises like `append`."""
        self._check_open()
        return await self._sent()

    async def seal(self) -> Position:
        """Flush, and let no byte come behind: for readers it is end of file. Raises like `append`, and
        ServiceError where the service offers no sealing."""
        end = await self.flush()
        assert self._writer is not None  # flush looked
        await self._writer.seal()
        return end

    @property
    def error(self) -> Exception | None:
        """What ended it, for a writer that has nothing to write now; every later call raises it."""
        return self._error

    @property
    def position(self) -> Position:
        """The end of the object as far as it is known: all before it is there and proven. Raises UsageError before
        the appender is entered."""
        return self._open_writer().position

    @property
    def exists(self) -> bool:
        """Whether the object is there, as far as it is known. Raises UsageError like `position`."""
        return self._open_writer().exists

    @property
    def ref(self) -> ObjectRef:
        """The object that is written to; of a pattern, the present one. Raises UsageError like `position`."""
        return self._open_writer().ref

    def _open_writer(self) -> ObjectWriter:
        if self._writer is None:
            raise UsageError("use an appender in `async with` or `with`")
        return self._writer

    def _check_open(self) -> None:
        self._open_writer()
        if self._error is not None:
            raise self._error

    @property
    def _is_full(self) -> bool:
        return self._pending.size >= self._flush_bytes or len(self._pending.records) >= _MOST_RECORDS

    async def _put(self, data: Data) -> None:
        self._check_open()
        while self._is_full:
            self._room.clear()
            await self._room.wait()
            self._check_open()
        self._pending.add(data)

    async def _sent(self) -> Position:
        """Wait until all that is pending was sent."""
        future: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self._pending.waiters.append((len(self._pending.records), future))
        self._due.set()
        return await future

    # --- sending

    async def _run(self) -> None:
        """Send what is due, one append after the other."""
        while True:
            await self._due.wait()
            async with self._turn:
                batch = self._take()
                try:
                    await self._send(batch)
                except asyncio.CancelledError:
                    self._fail(_closed(), batch)
                    raise
                except Exception as error:
                    # Whatever it is, it belongs to whoever writes.
                    self._fail(error, batch)
                    return

    async def _send_at_once(self) -> Position:
        """Send what is pending from the task of whoever waits for it: by way of `_run` it takes two turns of the
        loop more, half as much again as a small append. Should that task be cancelled, `_run` goes on with it."""
        async with self._turn:
            batch = self._take()
            try:
                async with asyncio.timeout(None) as self._under_way:
                    return await self._send(batch)
            except asyncio.CancelledError:
                batch.unsure = True
                self._interrupted = batch
                self._due.set()
                raise
            except Exception as error:
                if self._under_way is not None and self._under_way.expired():
                    raise _closed() from error
                self._fail(error)
                raise
            finally:
                self._under_way = None

    def _take(self) -> _Pending:
        """What is to be sent next: what a cancellation interrupted goes first."""
        if self._interrupted is not None:
            batch, self._interrupted = self._interrupted, None
            return batch
        self._due.clear()
        batch, self._pending = self._pending, _Pending()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._room.set()
        return batch

    def _fail(self, error: Exception, *batches: _Pending) -> None:
        self._error = error
        for batch in (*batches, self._pending):
            batch.fail(error)
        self._room.set()

    async def _send(self, batch: _Pending) -> Position:
        """Where the last of its records ends; another writer's bytes may stand behind it already."""
        end = self.position
        while batch.done < len(batch.records):
            writer = await self._writer_for(len(batch.records[batch.done]))
            count = batch.fitting(writer.room)
            records = batch.records[batch.done : batch.done + count]
            try:
                start, end = await writer.append(records[0] if count == 1 else b"".join(records), unsure=batch.unsure)
            except ObjectFull:
                if not self._names.counts or len(records[0]) > self._limit:
                    raise
                continue  # another writer filled it meanwhile: the next object is asked for
            batch.acknowledge(count, start)
        batch.acknowledge(0, self.position)
        return end

    @property
    def _limit(self) -> int:
        return self._options.get("limit", APPEND_LIMIT)

    # --- which object

    async def _writer_for(self, length: int) -> ObjectWriter:
        """The writer of the object that takes the next record, `length` bytes."""
        writer = self._open_writer()
        now = time.time()
        if self._names.is_new_time(now):
            self._writer = writer = await self._first_writer()
        elif self._names.counts and length > writer.room and length <= self._limit:
            self._names.count += 1
            self._writer = writer = await self._usable()
        return writer

    async def _first_writer(self) -> ObjectWriter:
        """Of the last object of the pattern that is there, if it takes more."""
        self._names.begin(time.time())
        if self._names.counts:
            self._names.count = await self._last_count()
        return await self._usable()

    async def _usable(self) -> ObjectWriter:
        """The first object, from the present name on, that takes bytes."""
        while True:
            writer = self._make_writer()
            try:
                await writer.open()
            except (NotAppendable, ObjectSealed):
                if not self._names.counts:
                    raise
            else:
                if writer.room > 0 or not self._names.counts:
                    return writer
            self._names.count += 1

    async def _last_count(self) -> int:
        """The number of the last object in the row from 0 on; 0 when there is none. It takes few HEADs."""
        if not await self._is_there(0):
            return 0
        there, missing = 0, 1
        while await self._is_there(missing):
            there, missing = missing, missing * 2
        while missing - there > 1:
            middle = (there + missing) // 2
            there, missing = (middle, missing) if await self._is_there(middle) else (there, middle)
        return there

    async def _is_there(self, count: int) -> bool:
        writer = self._make_writer(count)
        with suppress(NotAppendable, ObjectSealed):
            await writer.open()
            return writer.exists
        return True

    def _make_writer(self, count: int | None = None) -> ObjectWriter:
        assert self._client is not None  # connected before anything is written
        return ObjectWriter(
            self._client,
            self._names.ref(count),
            self._attributes,
            on_conflict=self._options.get("on_conflict", "stop"),
            patience=self._options.get("patience", 300.0),
            limit=self._limit,
            on_trouble=self._options.get("on_trouble"),
        )


class BlockingAppender:
    """What ``with Appender(...)`` gives: the same methods, each of which returns when it is done.

    The appender runs on an event loop in a thread of its own, so that what was written is sent in time.
    """

    def __init__(self, appender: Appender) -> None:
        """Made by `Appender`."""
        self._appender = appender
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tailer.append", daemon=True)
        self._thread.start()
        try:
            self._call(appender.__aenter__())
        except BaseException:
            self._stop()
            raise

    def append(self, data: Data) -> Position:
        """See `Appender.append`."""
        return self._call(self._appender.append(data))

    def write(self, data: Data) -> None:
        """See `Appender.write`."""
        self._call(self._appender.write(data))

    def flush(self) -> Position:
        """See `Appender.flush`."""
        return self._call(self._appender.flush())

    def seal(self) -> Position:
        """See `Appender.seal`."""
        return self._call(self._appender.seal())

    @property
    def position(self) -> Position:
        """See `Appender.position`."""
        return self._appender.position

    @property
    def ref(self) -> ObjectRef:
        """See `Appender.ref`."""
        return self._appender.ref

    def _call(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        if self._loop.is_closed():
            coroutine.close()
            raise _closed()
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C came here, and is meant there, too
            raise

    def _close(self, kind: type[BaseException] | None) -> None:
        try:
            self._call(self._appender.__aexit__(kind, None, None))
        finally:
            self._stop()

    def _stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._appender._abort(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@dataclass(slots=True)
class _Pending:
    """Records that wait, and who waits for them: up to which of them, and the future that gets its end.

    `done` of them the object has. `unsure`: the next ones were sent, and nobody saw what became of that.
    """

    records: list[bytes] = field(default_factory=list)
    size: int = 0
    done: int = 0
    unsure: bool = False
    waiters: list[tuple[int, asyncio.Future[Position]]] = field(default_factory=list)

    def add(self, data: Data) -> None:
        self.records.append(bytes(data))
        self.size += len(data)

    def fitting(self, room: int) -> int:
        """How many of the next records go into `room` bytes together; at least one, which may be refused."""
        count, length = 1, len(self.records[self.done])
        for record in self.records[self.done + 1 :]:
            length += len(record)
            if length > room:
                break
            count += 1
        return count

    def acknowledge(self, count: int, start: Position) -> None:
        """The object has the next `count` records; the first of them begins at `start`."""
        end, done = start, self.done
        self.done, self.unsure = done + count, False
        while self.waiters and self.waiters[0][0] <= self.done:
            index, future = self.waiters.pop(0)
            end, done = _behind(end, self.records[done:index]), index
            if not future.done():
                future.set_result(end)

    def fail(self, error: Exception) -> None:
        for _, future in self.waiters:
            if not future.done():
                future.set_exception(error)
                future.exception()  # whoever waited may be gone
        self.waiters.clear()


def _closed() -> UsageError:
    return UsageError("the appender is closed")


def _behind(start: Position, records: list[bytes]) -> Position:
    end = start
    for record in records:
        assert end.crc64 is not None  # a writer knows it
        end = Position(end.offset + len(record), crc64.update(record, end.crc64))
    return end


class _Names:
    """The keys that a pattern stands for; without a pattern, the one key as it is."""

    def __init__(self, ref: ObjectRef, *, pattern: bool) -> None:
        self._ref = ref
        self.change = pattern
        self.count = 0
        self._time = 0.0
        self.counts = pattern and _counts(ref.key)

    def begin(self, now: float) -> None:
        """Names are those of the time `now`, counted from 0."""
        self._time, self.count = now, 0

    def is_new_time(self, now: float) -> bool:
        """Whether names of `now` differ from the present one by more than the number."""
        return self.change and self._key(now, 0) != self._key(self._time, 0)

    def ref(self, count: int | None = None) -> ObjectRef:
        """The present object, or number `count` of the present time."""
        return replace(self._ref, key=self._key(self._time, self.count if count is None else count))

    def _key(self, now: float, count: int) -> str:
        if not self.change:
            return self._ref.key
        return time.strftime(self._ref.key.format(n=count), time.gmtime(now))


def _counts(key: str) -> bool:
    """Whether a pattern holds ``{n}``. Raises UsageError for one that stands for nothing."""
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(key) if name is not None}
        if names <= {"n"}:
            key.format(n=0)
            return bool(names)
    except (ValueError, IndexError, KeyError) as error:
        raise UsageError(f"{key!r} is no pattern: {error}") from error
    raise UsageError(f"{key!r} is no pattern: {{n}} or {{n:06}} is all that may stand in braces")


def _attributes(options: AppenderOptions) -> Attributes:
    return Attributes(
        content_type=options.get("content_type"),
        storage_class=options.get("storage_class"),
        acl=options.get("acl"),
        encryption=options.get("encryption"),
        metadata=options.get("metadata", {}),
        tags=options.get("tags", {}),
    )


def _check(options: AppenderOptions) -> None:
    """Raises UsageError for what no option means."""
    if options.get("on_conflict", "stop") not in ("stop", "continue"):
        raise UsageError(f"on_conflict={options.get('on_conflict')!r}: it can be stop or continue")
    if options.get("create_only") and options.get("on_conflict") == "continue":
        raise UsageError("create_only and on_conflict='continue' contradict each other")
    if options.get("flush_bytes", 1) < 1 or options.get("flush_interval", 0.0) < 0:
        raise UsageError("flush_bytes is at least 1, flush_interval not below 0")
    if not 1 <= options.get("limit", 1) <= APPEND_LIMIT:
        raise UsageError(f"limit is 1 to {APPEND_LIMIT} bytes")
