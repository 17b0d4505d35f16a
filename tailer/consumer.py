"""The library's face for those who read: a `Consumer` of batches, with commits. See also `tailer.loops`."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Literal, TypedDict, TypeVar

from tailer.config import resolve_service
from tailer.core.options import Follow, Integrity, Poll, TailOptions
from tailer.core.position import Link, Mark, ObjectRef, Position
from tailer.core.schedule import Pace, back_off
from tailer.discovery import matching_objects
from tailer.errors import CheckpointError, ObjectNotFound, TailerError, UsageError
from tailer.feed import Feed, RememberingTail
from tailer.follow import Follower
from tailer.oss.address import parse_address
from tailer.oss.client import connect

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self, Unpack

    from tailer.checkpoints import Checkpoints
    from tailer.core.events import Batch, Rewound
    from tailer.feed import OnEvent
    from tailer.oss.client import Client, ServiceSettings

_Result = TypeVar("_Result")

_ATTEMPTS = 4
_AUTO_COMMIT_SECONDS = 1.0
# What comes at once is read again by whoever counts or splits it: larger windows have left the caches by then.
_LARGEST_WINDOW = 2 * 1024 * 1024


class ConsumerOptions(TypedDict, total=False):
    """What `Consumer`, `lines` and `tail` take by name. Times in seconds, sizes in bytes.

    follow: go on at the present end (True for Consumer and tail, False for lines); a sealed object ends anyway.
    replaced: when the object is replaced or deleted, ``"stop"`` raises ObjectReplaced or ObjectNotFound;
        ``"restart"`` waits for the next one under the name, also at the beginning, and reads it from byte 0 as
        a new generation.
    start: where to begin when neither a checkpoint nor `positions` says: ``"start"`` (byte 0) or ``"end"``.
    positions: where to begin, from a store of your own; they go before a checkpoint.
    integrity: ``"chain"`` proves every byte, while catching up shortly after handing it on; ``"full"`` also, behind
        a start in the middle (`positions`), what only the bytes before it can prove, by reading them afterwards;
        ``"strict"`` proves before handing on; ``"off"`` does not.
    max_spool: what ``"strict"`` keeps on disk at most, 1 GiB by default; what is beyond it is read twice.
    delimiter: one byte that ends a record, None for raw bytes as they come.
    max_record: a longer record comes in pieces.
    interval: the fastest poll. exit_idle: end when nothing new came for so long.
    on_event: told of every event that is not a batch, in order with the batches.
    glob: False takes ``*``, ``?`` and ``[`` in an address as they are.
    service: all about the service in one value; else endpoint, region, profile, sign as for the command.
    """

    follow: bool
    replaced: Literal["stop", "restart"]
    start: Literal["start", "end"]
    positions: Mapping[str, Position] | Mapping[ObjectRef, Position]
    integrity: Literal["strict", "full", "chain", "off"]
    max_spool: int
    poll: Literal["head", "get"]
    delimiter: bytes | None
    max_record: int
    interval: float
    exit_idle: float | None
    on_event: OnEvent | None
    glob: bool
    service: ServiceSettings | None
    endpoint: str | None
    region: str | None
    profile: str | None
    sign: bool


class Consumer:
    """Reads growing objects as batches, and keeps where it is in a checkpoint when told to.

    ``async with Consumer("oss://bucket/logs/*.log", checkpoint="state.db") as consumer:`` and then
    ``async for batch in consumer:``. Patterns and prefixes are expanded once, on entering. Batches of one object
    come in order without gap or overlap, those of several objects take turns. Back-pressure: per object one
    batch waits for the loop, and behind it at most 40 MiB are under way. When the ``async with`` ends, by
    whatever way, nothing is left running and no connection open.

    Guarantees: at least once with a checkpoint (what was not committed comes again after a crash); exactly once
    when `position` is stored in one transaction with the data and given back as `positions`. A rewind
    (bytes already handed out that turn out to be wrong; never with ``integrity="strict"``) goes to `on_event`,
    and without one is raised as ChainBroken: it is never silent.

    An object's error is raised once, by the ``async for``, behind its last batch; iterating again goes on with
    the others. Use one consumer from one task at a time.
    """

    def __init__(
        self,
        objects: str | Sequence[str],
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        group: str = "default",
        auto_commit: bool = False,
        **options: Unpack[ConsumerOptions],
    ) -> None:
        """`objects`: addresses, as the command takes them. `checkpoint`: an SQLite file, made if missing.

        `auto_commit`: a batch counts as processed when the next one is asked for; what was processed is
        committed within a second, and at the end. Raises UsageError (AddressError for a bad address).
        """
        _refuse_unknown(options)
        texts = [objects] if isinstance(objects, str) else list(objects)
        self._addresses = [parse_address(text, glob=options.get("glob", True)) for text in texts]
        self._options = options
        self._tail_options = _tail_options(options)
        self._on_event = options.get("on_event")
        self._positions = {_ref_of(name): position for name, position in options.get("positions", {}).items()}
        self._checkpoint = checkpoint
        self._group = group
        self._auto_commit = auto_commit
        self._processed: Batch | None = None
        self._kept_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._client: Client | None = None
        self._store: Checkpoints | None = None
        self._feeds: dict[ObjectRef, Feed] = {}
        self._ready: deque[Feed] = deque()
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Connect, list, open the checkpoint, begin to read.

        Raises ConfigError, CheckpointError (the group has another owner), UsageError when a pattern matches
        nothing, and what the service refuses the listing with.
        """
        try:
            await self._open()
        except BaseException:
            await self.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop reading and close everything. Raises CheckpointError when what is to be committed cannot be."""
        try:
            if self._timer is not None:
                self._timer.cancel()
            await _cancel([feed.task for feed in self._feeds.values() if feed.task is not None])
            if self._store is not None and self._auto_commit:
                self._keep([feed for feed in self._feeds.values() if feed.processed is not None])
        finally:
            if self._store is not None:
                self._store.close()
                self._store = None
            if self._client is not None:
                client, self._client = self._client, None
                await client.aclose()

    async def _open(self) -> None:
        if self._client is not None or self._feeds:
            raise UsageError("a consumer is entered once")
        settings = self._options.get("service") or resolve_service(
            endpoint=self._options.get("endpoint"),
            region=self._options.get("region"),
            profile=self._options.get("profile"),
            no_sign_request=not self._options.get("sign", True),
            urls_only=all(address.url is not None for address in self._addresses),
        )
        self._client = connect(settings, self._addresses)
        if self._checkpoint is not None:
            from tailer.checkpoints import Checkpoints

            self._store = Checkpoints.open(self._checkpoint, self._group, owner="tailer.Consumer")
        refs = await self._expand(self._client)
        if unknown := self._positions.keys() - refs:
            raise UsageError(f"positions are given for {min(map(str, unknown))}, which is not read here")
        for ref in refs:
            kept = self._store.load(ref) if self._store is not None else None
            own = self._positions.get(ref)
            self._feeds[ref] = feed = Feed(ref, self._on_event, self._offer, self._take_back, kept)
            mark = Mark.at(own) if own is not None else kept
            feed.begin(self._read(feed, mark))

    async def _expand(self, client: Client) -> dict[ObjectRef, None]:
        found: dict[ObjectRef, None] = {}
        for address in self._addresses:
            matches = await _persist(partial(matching_objects, client, address))
            if not matches:
                raise UsageError(f"no object matches {address}")
            found.update(dict.fromkeys(matches))
        return found

    # --- batches

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        """The next batch of whichever object has one. Raises what ended the reading of an object.

        Cancelling it loses nothing: the batch that would have come is the next one.
        """
        if self._client is None:
            raise UsageError("use a consumer in `async with`")
        self._acknowledge()
        while True:
            while self._ready:
                feed = self._ready.popleft()
                if feed.batch is not None:
                    return self._hand_out(feed, feed.batch)
                if not feed.over:  # a rewind took back what was offered
                    continue
                feed.ended = True
                if feed.error is not None:
                    raise feed.error
            if all(feed.ended for feed in self._feeds.values()):
                self._keep_due(at_once=True)
                raise StopAsyncIteration
            await self._wait()

    async def _wait(self) -> None:
        """For news, or for a commit that was due meanwhile."""
        self._news.clear()
        await self._news.wait()
        self._keep_due(at_once=False)

    def _hand_out(self, feed: Feed, batch: Batch) -> Batch:
        feed.take(batch, keep=self._store is not None)
        if feed.over and not feed.paused:
            self._offer(feed)
        if self._auto_commit:
            self._processed = batch
        return batch

    def _offer(self, feed: Feed) -> None:
        """There is something to take from `feed`: a batch, or its end."""
        if not feed.paused and feed not in self._ready:
            self._ready.append(feed)
            self._news.set()

    # --- commits

    async def commit(self, batch: Batch | None = None) -> None:
        """`batch` and all of its object before it is processed; None: all that was handed out, of every object.

        When it returns, the checkpoint survives kill -9 and the loss of power; when it raises, nothing changed.
        A batch committed again is left alone. Raises UsageError without a checkpoint, for a batch that this
        consumer did not hand out (or took back by a rewind or a seek), and for one whose
        predecessor is not committed: nothing is stepped over. Raises CheckpointError when it cannot be kept.
        """
        if self._store is None:
            raise UsageError("there is nothing to commit to: open the consumer, with checkpoint=")
        if batch is None:
            for feed in self._feeds.values():
                feed.process_all()
            self._keep([feed for feed in self._feeds.values() if feed.processed is not None])
            return
        feed = self._feed(batch.object)
        if feed.is_next(batch):
            self._keep([feed])

    def _acknowledge(self) -> None:
        """With auto_commit, asking for the next batch says that the last one is processed."""
        batch, self._processed = self._processed, None
        if batch is not None and self._store is not None:
            self._feeds[batch.object].process_through(batch)
            self._keep_due(at_once=False)

    def _keep_due(self, *, at_once: bool) -> None:
        """Commit what is processed, at once or in time."""
        if not self._auto_commit or self._store is None:
            return
        left = self._kept_at + _AUTO_COMMIT_SECONDS - time.monotonic()
        if at_once or left <= 0:
            self._keep([feed for feed in self._feeds.values() if feed.processed is not None])
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(left, self._on_time)

    def _on_time(self) -> None:
        """A commit is due while the loop waits, or works on a batch, however long that takes."""
        self._timer = None
        with suppress(CheckpointError):  # it is due still: tried again by whoever asks for the next batch, and raised
            self._keep_due(at_once=True)
        self._news.set()

    def _keep(self, feeds: Iterable[Feed]) -> None:
        """Commit what is processed of `feeds`, in one transaction. It does not await: no cancel comes between."""
        assert self._store is not None  # its callers looked
        marks = {feed.ref: feed.proven(feed.processed) for feed in feeds if feed.processed is not None}
        if not marks:
            return
        self._store.commit(marks)
        self._kept_at = time.monotonic()
        for ref, mark in marks.items():
            self._feeds[ref].kept(mark)

    def _take_back(self, feed: Feed, event: Rewound, mark: Mark) -> None:
        """A rewind voids what was handed out: the checkpoint goes back to `mark` before anybody hears of it."""
        if self._processed is not None and self._processed.object == feed.ref:
            self._processed = None
        if feed.void(event, mark) and self._store is not None:
            self._store.commit({feed.ref: mark})
            feed.kept(mark)

    # --- what a user may ask and say

    @property
    def refs(self) -> list[ObjectRef]:
        """The objects that are read, in the order of the addresses."""
        return [*self._feeds]

    def position(self, ref: ObjectRef | str) -> Position | None:
        """Behind the last batch handed out of `ref`: all that a resume needs. None until it is known where
        reading begins. Raises UsageError for an object that is not read here."""
        return self._feed(ref).position

    def committed(self, ref: ObjectRef | str) -> Position | None:
        """The position that the checkpoint has of `ref`; None when it has none. Raises UsageError."""
        mark = self._feed(ref).committed
        return None if mark is None else mark.delivered

    def lag(self, ref: ObjectRef | str) -> int | None:
        """The bytes of `ref` that exist, as last heard, and were not handed out yet; None before the first answer
        and while it is missing. Raises UsageError."""
        feed = self._feed(ref)
        size = None if feed.tail is None else feed.tail.size
        if size is None or feed.position is None or feed.tail is None:
            return None
        behind = feed.position.offset if feed.position.generation == feed.tail.generation else 0
        return max(0, size - behind)

    def pause(self, *refs: ObjectRef | str) -> None:
        """Hand out no more of `refs` (of all, when none is named) until `resume`. Raises UsageError."""
        for feed in self._feeds_of(refs):
            feed.paused = True
            if feed in self._ready:
                self._ready.remove(feed)

    def resume(self, *refs: ObjectRef | str) -> None:
        """Go on where `pause` stopped. Raises UsageError."""
        for feed in self._feeds_of(refs):
            feed.paused = False
            if feed.batch is not None or (feed.over and not feed.ended):
                self._offer(feed)

    async def seek(self, ref: ObjectRef | str, position: Position | int) -> None:
        """Go on with `ref` at `position`, an offset in bytes or what `position` gave.

        What was handed out of `ref` and not committed cannot be committed any more. Raises UsageError for an
        offset behind the present end, ObjectNotFound, and what else a HEAD is refused with; nothing
        has changed then. A Position of another object is found out when it is read on, as a replacement.
        """
        feed = self._feed(ref)
        if self._client is None:
            raise UsageError("use a consumer in `async with`")
        client = self._client
        meta = await _persist(lambda: client.head(feed.ref))
        generation = 0 if feed.position is None else feed.position.generation
        to = position if isinstance(position, Position) else _at(position, meta.size, meta.crc64, generation)
        if not 0 <= to.offset <= meta.size:
            raise UsageError(f"{feed.ref} has {meta.size} bytes: there is no byte {to.offset} to seek to")
        if feed in self._ready:
            self._ready.remove(feed)
        if self._processed is not None and self._processed.object == feed.ref:
            self._processed = None
        feed.reset()
        links = () if meta.link is None or to.crc64 is not None else (meta.link,)
        feed.begin(self._read(feed, Mark.at(to), links, after=feed.task))

    def _feed(self, ref: ObjectRef | str) -> Feed:
        found = self._feeds.get(_ref_of(ref))
        if found is None:
            raise UsageError(f"{ref} is not read by this consumer")
        return found

    def _feeds_of(self, refs: tuple[ObjectRef | str, ...]) -> list[Feed]:
        return [self._feed(ref) for ref in refs] or [*self._feeds.values()]

    # --- one object

    async def _read(
        self, feed: Feed, mark: Mark | None, links: tuple[Link, ...] = (), after: asyncio.Task[None] | None = None
    ) -> None:
        """Read one object to its end, into `feed`; `after`: a reading of it that was given up."""
        assert self._client is not None  # set before any feed
        if after is not None:
            await _cancel([after])
        try:
            if mark is None:
                mark = await self._beginning(self._client, feed.ref)
            tail = RememberingTail(feed.ref, self._tail_options, mark, now=time.monotonic(), links=links)
            feed.tail, feed.position = tail, mark.delivered
            await Follower(self._client, tail, feed).run()
        except Exception as error:
            # Whatever it is, it belongs to whoever reads: what `on_event` raises, too.
            feed.error = error
        feed.over = True
        if feed.batch is None:
            self._offer(feed)

    async def _beginning(self, client: Client, ref: ObjectRef) -> Mark:
        if self._options.get("start", "start") == "start":
            return Mark()
        try:
            meta = await _persist(lambda: client.head(ref))
        except ObjectNotFound:
            if not self._tail_options.retry:
                raise
            return Mark()
        return Mark.at(Position.unread(meta.size, meta.crc64))


# --- small parts


def _tail_options(options: ConsumerOptions) -> TailOptions:
    """Raises UsageError for what no option means."""
    restarts = _one_of(options, "replaced", "stop", "restart") == "restart"
    _one_of(options, "start", "start", "end")
    follow = Follow.NAME if restarts else Follow.DESCRIPTOR
    delimiter = options.get("delimiter", b"\n")
    if delimiter is not None and len(delimiter) != 1:
        raise UsageError(f"a delimiter is one byte, not {delimiter!r}")
    interval, limit = options.get("interval", 1.0), options.get("max_record", 1024 * 1024)
    spool = options.get("max_spool", 1024 * 1024 * 1024)
    if interval < 0 or limit < 1 or spool < 0:
        raise UsageError(f"interval={interval}, max_record={limit}, max_spool={spool}: not below 0, 1 and 0")
    return TailOptions(
        follow=follow if options.get("follow", True) else Follow.NO,
        retry=restarts,
        integrity=Integrity(_one_of(options, "integrity", "chain", "full", "strict", "off")),
        poll=Poll(_one_of(options, "poll", "head", "get")),
        delimiter=delimiter,
        max_record=limit,
        pace=Pace(fastest=interval, slowest=5 * interval),
        exit_idle=options.get("exit_idle"),
        max_spool=spool,
        max_window=_LARGEST_WINDOW,
    )


def _one_of(options: ConsumerOptions, name: str, default: str, *others: str) -> str:
    value = options.get(name, default)
    if value not in (default, *others):
        raise UsageError(f"{name}={value!r}: it can be {', '.join((default, *others))}")
    return str(value)


def _refuse_unknown(options: ConsumerOptions) -> None:
    if unknown := options.keys() - ConsumerOptions.__annotations__.keys():
        raise UsageError(f"there is no option {min(unknown)}")


def _ref_of(name: ObjectRef | str) -> ObjectRef:
    return name if isinstance(name, ObjectRef) else parse_address(name, glob=False).ref


def _at(offset: int, size: int, crc64: int | None, generation: int) -> Position:
    """An offset as a position, with what the service states of the bytes before it where that is known."""
    return Position.unread(offset, crc64 if offset == size else None, generation)


async def _persist(ask: Callable[[], Awaitable[_Result]]) -> _Result:
    """Ask, a few times where that may help."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return await ask()
        except TailerError as error:
            if not error.retriable:
                raise
            await asyncio.sleep(back_off(attempt, random.random(), error.retry_after))
    return await ask()


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
