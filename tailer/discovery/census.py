"""The census of a group: its objects as rows, taken again and again from listings, and what changed in between."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from tailer.core.position import ObjectRef
from tailer.core.schedule import back_off
from tailer.discovery.partitions import Partitions, is_partitioned
from tailer.discovery.scope import Lister, Scope, merged, tick, too_many, walk
from tailer.errors import AddressError, ObjectNotFound, TailerError, without_frames
from tailer.oss.address import check_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from tailer.core.position import ObjectMeta
    from tailer.oss.address import Address
    from tailer.oss.messages import ListedObject, ListPage

_LISTS_AT_ONCE = 4
_HEADS_AT_ONCE = 16
_ATTEMPTS = 4  # at one page: a listing of a hundred pages would else hardly ever be complete in bad weather

_Result = TypeVar("_Result")


class Surveyor(Lister, Protocol):
    """Who lists buckets and looks at single objects."""

    async def head(self, ref: ObjectRef) -> ObjectMeta:
        """The object's metadata. Raises ObjectNotFound and whatever else the service refuses with."""
        ...


class Row:
    """What is known of one object: what a listing said, or what a reader saw since.

    `size` is in bytes, `modified` in seconds since 1970, `type` as in `ObjectMeta`; the last two are None where
    nobody said. `first`: the object was there when the group was listed for the very first time. `ignored`: it is too
    old to be read. A subclass may add slots; it is made with these arguments.
    """

    __slots__ = ("_missed", "_scope", "_seen", "_stamp", "_tag", "first", "ignored", "key", "modified", "size", "type")

    def __init__(self, scope: Scope, key: str, meta: ObjectMeta) -> None:
        self.key = key
        self.first = scope.first and not scope.listed
        self.ignored = False
        self.type: str | None = None
        self._scope = scope
        self._seen = 0
        self._stamp = 0
        self._missed = False
        self._note(meta)

    @property
    def ref(self) -> ObjectRef:
        """The object's name, made anew at each call: it is not kept, to save memory."""
        return ObjectRef(self._scope.bucket, self.key, self._scope.scheme)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Those of the configuration by whose listing it is known."""
        return self._scope.addresses

    @property
    def partition(self) -> tuple[str, float]:
        """The address by whose partition it is known, and when that begins, seconds since 1970; -inf: nobody knows."""
        return self._scope.addresses[0], self._scope.since

    def closed_since(self, now: float) -> float:
        """For how many seconds its partition has been over, by its own time; 0 where nobody knows."""
        return max(0.0, now - self._scope.until) if math.isfinite(self._scope.until) else 0.0

    def saw(self, meta: ObjectMeta) -> None:
        """A reader has seen the object like this: a listing that says the same is no news, nor one asked for before."""
        self._stamp = tick()
        self._note(meta)

    def _note(self, meta: ObjectMeta) -> None:
        self.size = meta.size
        self.modified = meta.last_modified
        self._tag = None if meta.etag is None else hash(meta.etag)
        if meta.type is not None and meta.type != self.type:
            self.type = meta.type

    def _differs(self, meta: ObjectMeta) -> bool:
        """Whether `meta` is of another state of the object, as far as both say."""
        return (
            self.size != meta.size
            or _at_odds(self._tag, meta.etag and hash(meta.etag))
            or _at_odds(self.modified, meta.last_modified)
            or _at_odds(self.type, meta.type)
        )

    def __repr__(self) -> str:
        return f"<Row {self.ref} {self.size}>"


R = TypeVar("R", bound=Row)


@dataclass(slots=True)
class Changes(Generic[R]):
    """What a census found since it was last taken. Every change is in one `Changes` only.

    `gone`: no complete listing shows them any more. `old`: their partition by time is closed, and nothing is asked
    about them again; they may be new or moved as well, and are to be read to their end. Both have left the census.
    `errors` are by address: what they hide is neither new nor gone. `refused` are keys that cannot be asked for, each
    told once. `count`: rows there are now; `ignored` of them are too old to be read.
    """

    new: list[R] = field(default_factory=list)
    moved: list[R] = field(default_factory=list)
    gone: list[R] = field(default_factory=list)
    old: list[R] = field(default_factory=list)
    errors: dict[str, TailerError] = field(default_factory=dict)
    refused: list[AddressError] = field(default_factory=list)
    count: int = 0
    ignored: int = 0


class Census(Generic[R]):
    """The objects that some addresses name, as of the last time that the census was taken.

    It has no task and no clock of its own. `row` is the class of its rows. Patterns may hold ``%Y %m %d %H``, the
    time in UTC: those of the last `look_back` seconds are listed. A new object that was not modified for
    `ignore_older` seconds is left alone until it moves, unless `was_read`. There are never more than `max_objects`
    rows: further objects are an error of their listing, and those that are known go on.
    """

    def __init__(
        self,
        surveyor: Surveyor,
        addresses: Iterable[Address],
        *,
        row: type[R],
        look_back: float = 2 * 86400.0,
        ignore_older: float | None = None,
        was_read: Callable[[ObjectRef], bool] = lambda ref: False,
        max_objects: int = 300_000,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Raises ConfigError for partitions that are too many to be listed."""
        self._surveyor = surveyor
        self._make = row
        self._was_read = was_read
        self._sleep = sleep
        self._round = 0
        self._rows: dict[tuple[str, str], dict[str, R]] = {}
        self._count = 0
        self._refused: set[tuple[str, str]] = set()
        self._reconsider = False  # what was ignored as too old: another age may hold now
        self._new: dict[R, None] = {}
        self._moved: dict[R, None] = {}
        self._changes: Changes[R] = Changes()
        self._lists: list[Scope] = []
        self._partitions: list[Partitions] = []
        self._configure(addresses, look_back, ignore_older, max_objects)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[R]:
        for rows in self._rows.values():
            yield from rows.values()

    def find(self, ref: ObjectRef) -> R | None:
        """The row of an object, None for one that the census does not know."""
        return self._rows.get((ref.scheme, ref.bucket), {}).get(ref.key)

    def names(self, ref: ObjectRef) -> bool:
        """Whether an address names the object, be it there or not."""
        scopes = (*self._lists, *(partitions.resting for partitions in self._partitions))
        return any(scope.names(ref) for scope in scopes)

    def missing(self) -> list[ObjectRef]:
        """The objects named one by one that are not there."""
        return [scope.ref for scope in self._lists if scope.single and scope.absent]

    def listed(self) -> set[str]:
        """The addresses of which everything was listed at least once."""
        found = {partitions.name for partitions in self._partitions if partitions.listed}
        return found.union(*(scope.addresses for scope in self._lists if scope.listed))

    def unread(self) -> dict[str, float]:
        """By address with a time in it: when its oldest partition begins that was not seen whole after its time."""
        return {one.name: one.since for one in self._partitions if math.isfinite(one.since)}

    def resume(self, unread: Mapping[str, float]) -> None:
        """Look back so far as well, the next time: what `unread` was by then, or something earlier."""
        for one in self._partitions:
            one.resume(unread.get(one.name, math.inf))

    async def take(self, now: float) -> Changes[R]:
        """Ask the service for all that can still change; `now` is in seconds since 1970. Never two at once.

        Raises no TailerError: they are in `Changes.errors`. What was found before a cancellation is in the next one.
        """
        self._round += 1
        scopes = self._due(now)
        async with asyncio.TaskGroup() as group:
            for single, at_once in ((False, _LISTS_AT_ONCE), (True, _HEADS_AT_ONCE)):
                queue = deque(scope for scope in scopes if scope.single is single)
                for _ in range(min(at_once, len(queue))):
                    group.create_task(self._work(queue, now))
        if self._reconsider:
            self._reconsider = False
            self._take_back()
        self._sweep(now)
        return self._hand_out()

    def revise(
        self,
        addresses: Iterable[Address],
        *,
        look_back: float = 2 * 86400.0,
        ignore_older: float | None = None,
        max_objects: int = 300_000,
    ) -> list[R]:
        """Go on with other addresses. Returns the rows that none of them names: they have left the census.

        What is still named is not disturbed. Raises ConfigError, and nothing has changed then.
        """
        self._configure(addresses, look_back, ignore_older, max_objects)
        self._reconsider = True
        return self._drop([row for row in self if not self._adopt(row)])

    # --- what is asked

    def _configure(
        self, addresses: Iterable[Address], look_back: float, ignore_older: float | None, max_objects: int
    ) -> None:
        addresses = list(dict.fromkeys(addresses))
        partitions = [Partitions(address, look_back) for address in addresses if is_partitioned(address)]
        known = {scope.name: scope for scope in self._lists}
        scopes = merged(Scope.of(address) for address in addresses if not is_partitioned(address))
        for scope in scopes:
            scope.first = self._round == 0
        for one in partitions:
            one.first = self._round == 0
        self._lists = [known.get(scope.name, scope) for scope in scopes]
        before = {old.name: old for old in self._partitions}
        for one in partitions:
            one.resume(before[one.name].since if one.name in before else math.inf)
        self._partitions = [old if (old := before.get(one.name)) and old.same(one) else one for one in partitions]
        self._ignore_older, self._max_objects = ignore_older, max_objects

    def _due(self, now: float) -> list[Scope]:
        self._ignored_before = -math.inf if self._ignore_older is None else now - self._ignore_older
        return [*self._lists, *(scope for partitions in self._partitions for scope in partitions.due(now))]

    def _adopt(self, row: R) -> bool:
        """Whether an address still names `row`, which belongs to that one from now on."""
        ref = row.ref
        for scope in self._lists:
            if scope.names(ref):
                row._scope = scope
                return True
        for partitions in self._partitions:
            if partitions.resting.names(ref):
                row._scope = partitions.adopted(row._scope)
                return True
        return False

    async def _work(self, queue: deque[Scope], now: float) -> None:
        while queue:
            scope = queue.popleft()
            try:
                await (self._look(scope) if scope.single else self._list(scope))
            except TailerError as error:
                self._changes.errors[scope.name] = without_frames(error)
            else:
                scope.complete_in = self._round
                scope.listed |= scope.name not in self._changes.errors

    async def _list(self, scope: Scope) -> None:
        def ask(token: str | None) -> Awaitable[ListPage]:
            return self._patiently(lambda: scope.ask(self._surveyor, token))

        await walk(scope, ask, lambda page, asked: self._show(scope, page.objects, asked), self._max_objects)

    async def _look(self, scope: Scope) -> None:
        from tailer.oss.messages import ListedObject

        asked = tick()
        try:
            meta = await self._patiently(lambda: self._surveyor.head(scope.ref))
        except ObjectNotFound:
            scope.absent = True
            return
        scope.absent = False
        self._show(scope, [ListedObject(scope.prefix, meta)], asked)

    async def _patiently(self, ask: Callable[[], Awaitable[_Result]]) -> _Result:
        attempt = 1
        while True:
            try:
                return await ask()
            except TailerError as error:
                if not error.retriable or attempt == _ATTEMPTS:
                    raise
                await self._sleep(back_off(attempt, random.random(), error.retry_after))
            attempt += 1

    # --- what is answered

    def _show(self, scope: Scope, listed: Iterable[ListedObject], asked: int) -> None:
        """Compare one page with the rows that there are. This is where the time goes: a few operations for each."""
        rows = self._rows.setdefault((scope.scheme, scope.bucket), {})
        this_round = self._round
        for one in listed:
            row = rows.get(one.key)
            if row is None:
                if scope.matches(one.key):
                    self._add(scope, rows, one)
                continue
            row._seen = this_round
            row._missed = False
            if row._scope is not scope and scope.until >= row._scope.until:
                row._scope = scope
            # What was asked for before a reader saw the object may be of before; if not, the next listing tells.
            if row._differs(one.meta) and (row._stamp < asked or one.meta.size > row.size):
                self._move(row, one.meta)

    def _add(self, scope: Scope, rows: dict[str, R], one: ListedObject) -> None:
        name = (scope.bucket, one.key)
        if name in self._refused:
            return
        try:
            check_key(one.key)
        except AddressError as error:
            self._refused.add(name)
            self._changes.refused.append(error)
            return
        if self._count >= self._max_objects:
            self._changes.errors[scope.name] = too_many(self._max_objects)
            return
        row = rows[one.key] = self._make(scope, one.key, one.meta)
        self._count += 1
        row._seen = self._round
        modified = one.meta.last_modified
        row.ignored = modified is not None and modified < self._ignored_before and not self._was_read(row.ref)
        if not row.ignored:
            self._new[row] = None

    def _move(self, row: R, meta: ObjectMeta) -> None:
        row._note(meta)
        if row.ignored:
            row.ignored = False
            self._new[row] = None
        elif row not in self._new:
            self._moved[row] = None

    def _take_back(self) -> None:
        """Of what was ignored, follow what is not too old by what holds now."""
        for row in self:
            if row.ignored and (row.modified is None or row.modified >= self._ignored_before):
                row.ignored = False
                self._new[row] = None

    def _sweep(self, now: float) -> None:
        """Drop what two complete listings in a row did not show, then what lies in partitions that are closed.

        Twice, as nothing says that a listing can never be of a moment ago (OSS documentation, "ListObjectsV2").
        """
        gone: list[R] = []
        for row in self:
            if row._seen != self._round and row._scope.complete_in == self._round:
                if row._missed:
                    gone.append(row)
                row._missed = True
        self._changes.gone += self._drop(gone)
        closed = {scope for partitions in self._partitions for scope in partitions.close(now, self._round)}
        if closed:
            old = [row for row in self if row._scope in closed]
            self._changes.old += [row for row in old if not row.ignored]
            self._take_out(old)

    def _drop(self, rows: list[R]) -> list[R]:
        """Take `rows` out; returns those that somebody was told of, and forgets what is not told of the others."""
        told = [row for row in rows if row not in self._new and not row.ignored]
        for row in rows:
            self._new.pop(row, None)
            self._moved.pop(row, None)
        self._take_out(rows)
        return told

    def _take_out(self, rows: list[R]) -> None:
        for row in rows:
            del self._rows[row._scope.scheme, row._scope.bucket][row.key]
        self._count -= len(rows)

    def _hand_out(self) -> Changes[R]:
        changes, self._changes = self._changes, Changes()
        changes.new, changes.moved = list(self._new), list(self._moved)
        self._new, self._moved = {}, {}
        changes.count = self._count
        changes.ignored = sum(row.ignored for row in self)
        return changes


def _at_odds(one: object, other: object) -> bool:
    return one != other and one is not None and other is not None
