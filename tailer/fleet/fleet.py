"""Drives one group. An object is a row, a few hundred bytes; listings tell which of them moved, and those are visited.

A *visit* is a `Follower` that hands on all there is, from the mark on, and is dropped again. An object that lately grew
and would be looked at sooner than the next listing comes is visited by a timer; all others rest until a listing shows
that they moved, and cost nothing. Whatever ends a visit, the next one begins from the mark.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import random
import time
from dataclasses import replace
from functools import partial
from itertools import chain, count
from typing import TYPE_CHECKING

from tailer.core.events import Failed, Grew, Replaced, Rewound, Truncated, Unconfirmed
from tailer.core.options import Follow, Integrity, Poll, TailOptions
from tailer.core.position import Mark, Position
from tailer.core.schedule import back_off, next_look
from tailer.core.sequence import Sequence
from tailer.discovery import Census
from tailer.errors import (
    CheckpointError,
    IntegrityError,
    ObjectNotFound,
    ObjectReplaced,
    SinkError,
    TailerError,
    without_frames,
)
from tailer.fleet.kept import LOADED_AT_ONCE, Kept
from tailer.fleet.lanes import Lanes
from tailer.fleet.marks import Marks
from tailer.fleet.rows import FleetRow
from tailer.fleet.tally import Tally
from tailer.fleet.visit import Enough, Visit
from tailer.logs import of_error
from tailer.oss.address import parse_address
from tailer.status import GroupStatus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tailer.checkpoints import Checkpoint, Checkpoints
    from tailer.configfile import GroupConfig
    from tailer.core.events import Batch, Event
    from tailer.core.position import ObjectRef
    from tailer.discovery import Changes
    from tailer.fleet.governor import Reader
    from tailer.fleet.lanes import Lane
    from tailer.outlets import Outlet
    from tailer.status import ObjectStatus, Observer, Stage

_SKEW = 900.0  # seconds by which the clocks may differ: OSS refuses requests signed by one that is further off
_LONG = (60.0, 3600.0)  # seconds after an error that no retry helps: at first, and at most
_FORGOTTEN_AFTER = 300.0  # seconds of rest after which nothing is known of an object but its row
_BEAT = 1.0
_DAY = 86400.0
_LAST_COMMIT = 5.0  # seconds that a drain takes at least for the marks

_log = logging.getLogger("tailer.fleet")


class Fleet:
    """One group, from its listings to its sink. `run` it; the other methods are called meanwhile.

    `beat` is the moment (monotonic) of its last sign of life, at least one each second; `ready`: all of its objects
    were listed once; `writing`: how many batches the sink was handed and has not taken.
    """

    def __init__(
        self,
        group: GroupConfig,
        reader: Reader,
        checkpoints: Checkpoints,
        outlet: Outlet,
        observer: Observer,
        *,
        buffer_bytes: int,
    ) -> None:
        """`buffer_bytes`: what all visits together may hold in memory. Raises ConfigError, AddressError."""
        self.beat = time.monotonic()
        self.ready = False
        self.writing = 0
        self._reader = reader
        self._outlet = outlet
        self._observer = observer
        self._lanes = Lanes(buffer_bytes)
        self._marks = Marks(checkpoints, outlet.sync, observer, group.name)
        self._tally = Tally()
        self._began = self.beat
        self._ignored = 0
        self._listing_failed: dict[str, type[TailerError]] = {}
        self._ending: FleetRow | None = None
        self._leaving: dict[FleetRow, float] = {}  # since when, monotonic
        self._under_way: dict[ObjectRef, FleetRow] = {}
        self._visits: set[asyncio.Task[None]] = set()
        self._timers: list[tuple[float, int, FleetRow]] = []
        self._number = count().__next__
        self._listing = asyncio.Lock()
        self._list_now = asyncio.Event()
        self._sooner = asyncio.Event()
        self._stopping = False
        self._stopped = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._loops: list[asyncio.Task[None]] = []
        self._take_up(group)
        self._kept = Kept(checkpoints, self._marks, self._fields, partial(self._told, "checkpoint"))
        self._census = Census(
            reader,
            [parse_address(text) for text in group.objects],
            row=FleetRow,
            was_read=self._kept.was_read,
            look_back=group.look_back,
            ignore_older=group.ignore_older,
            max_objects=group.max_objects,
        )

    def _take_up(self, group: GroupConfig) -> None:
        self.group = group
        self._fields = {"group": group.name}
        self._slowest = max(group.poll_min, group.poll_max)
        self._sequence: Sequence[FleetRow] | None = Sequence(group.poll_max) if group.sequence else None

    def _options(self, reserved: int, lane: Lane) -> TailOptions:
        group, small = self.group, lane is self._lanes.small
        window = reserved if small else max(1, reserved // 2)
        if self._outlet.largest is not None:  # a batch is a window and what was left of a record before it
            window = min(window, self._outlet.largest * 15 // 16)
        return TailOptions(
            follow=Follow.NAME if group.replaced == "restart" else Follow.DESCRIPTOR,
            retry=True,
            integrity=group.integrity,
            poll=Poll.GET,
            delimiter=group.delimiter,
            max_record=group.max_record,
            max_window=window,
            max_depth=1 if small else 4,
            max_ahead=reserved,
        )

    # --- from begin to end

    async def run(self) -> None:
        """Follow the group until `drain`. Raises CheckpointError when the checkpoints cannot be read."""
        addresses = [str(parse_address(text)) for text in self.group.objects]
        await self._kept.begin(addresses)
        self._census.resume(self._kept.unread)
        try:
            async with asyncio.TaskGroup() as self._tasks:
                loops = (self._list_for_ever(), self._tick_for_ever())
                self._loops = [self._tasks.create_task(loop) for loop in loops]
                committing = self._tasks.create_task(self._marks.run())
                await self._stopped.wait()
                committing.cancel()
        finally:
            self._tasks = None
            if not self._stopping:
                await self._commit_at_last()

    async def _commit_at_last(self) -> None:
        """What ends the fleet is raised anyway: a mark that is not kept is said in the log."""
        try:
            await self._marks.flush()
        except TailerError as error:
            _log.error("marks were not kept at the end: %s", error, extra=self._fields)

    async def drain(self, seconds: float) -> int:
        """End: visit nobody more, let those under way end at their next batch, and keep all marks.

        How many had to be broken off after `seconds`: nothing is lost by that, some may be delivered again. Raises
        CheckpointError, and SinkError, where the marks could not be kept.
        """
        self._stopping = True
        ends_at = time.monotonic() + seconds
        for task in self._loops:
            task.cancel()
        left: set[asyncio.Task[None]] = set()
        if self._visits:
            _, left = await asyncio.wait(self._visits, timeout=seconds)
        for visit in left:
            visit.cancel()
        if left:
            await asyncio.wait(left)
        try:
            async with asyncio.timeout(max(_LAST_COMMIT, ends_at - time.monotonic())):
                await self._marks.flush()
        except TimeoutError:
            raise CheckpointError("the last marks could not be kept in time: what they tell of comes again") from None
        finally:
            self._stopped.set()
        return len(left)

    async def apply(self, group: GroupConfig) -> None:
        """Go on as `group` says, of which the name and the sink are the same.

        Raises ConfigError or AddressError, and nothing has changed then. What is still named is not disturbed; a visit
        under way ends as it began.
        """
        async with self._listing:
            before = self.group
            gone = self._census.revise(
                [parse_address(text) for text in group.objects],
                look_back=group.look_back,
                ignore_older=group.ignore_older,
                max_objects=group.max_objects,
            )
            ordered = self._sequence
            self._take_up(group)
            if group.sequence and before.sequence and group.poll_max == before.poll_max:
                self._sequence = ordered
            elif self._sequence is not None:
                self._order(chain(self._leaving, (row for row in self._census if not row.ignored)))
            self._release(gone, "config")
            for row in (*self._tally.failed(), *self._tally.behind()):  # some stood behind others in a sequence
                self._enqueue(row)
        self._list_now.set()

    def _retry_failed(self) -> None:
        for row in self._tally.failed():
            if not self._is_final(row):
                self._enqueue(row)

    def limit_buffer(self, buffer_bytes: int) -> None:
        """All visits together may hold so many bytes from now on."""
        self._lanes.limit(buffer_bytes)
        self._pump()

    def wake(self, ref: ObjectRef) -> bool:
        """A hint that `ref` grew: look at it now, but not sooner than `poll_min` after the last look.

        Whether it is followed. One that is not known yet, but named, is looked for by a listing.
        """
        row = self._census.find(ref)
        if row is None or row.ignored:
            named = row is not None or self._census.names(ref)
            if named:
                self._list_now.set()
            return named
        if self._is_final(row):
            return True
        due = 0.0 if row.pulse is None else row.pulse.polled + self.group.poll_min
        if due > time.monotonic():
            self._set_timer(row, due)
        else:
            self._enqueue(row)
        return True

    # --- listings

    async def _list_for_ever(self) -> None:
        while True:
            started = time.monotonic()
            async with self._listing:
                changes = await self._census.take(time.time())
                await self._digest(changes, time.monotonic() - started)
            now = time.monotonic()
            # However long a listing takes, there is some air between two of them.
            pause = max(started + self.group.list_interval - now, (now - started) / 10)
            await self._pause(self._list_now, pause, least=min(self.group.poll_min, pause))
            self._list_now.clear()

    async def _pause(self, event: asyncio.Event, seconds: float, *, least: float) -> None:
        await asyncio.sleep(least)
        await _either(event, seconds - least)

    async def _digest(self, changes: Changes[FleetRow], seconds: float) -> None:
        """Act on what a census found."""
        self._note_errors(changes, seconds)
        await self._welcome(changes.new)
        for row in changes.moved:
            self._look_at(row)
        self._release(changes.gone, "gone")
        for row in changes.old:
            self._see_off(row)
        self._give_up()
        self._tally.missing = len(self._census.missing())
        self._ignored = changes.ignored
        unlisted = self._kept.unlisted
        await self._kept.note_listed(unlisted & self._census.listed() if changes.errors else {*unlisted})
        await self._kept.note_unread(self._unread())
        if not changes.errors:
            await self._complete(changes.count, seconds)
        self._enqueue_current()

    def _note_errors(self, changes: Changes[FleetRow], seconds: float) -> None:
        tally, known = self._tally, self._listing_failed
        tally.listing_seconds = seconds
        tally.listing_error = next((f"{name}: {error}" for name, error in changes.errors.items()), None)
        self._listing_failed = {name: type(error) for name, error in changes.errors.items()}
        for name, error in changes.errors.items():
            self._observer.on_error(self.group.name, "discover", error)
            if known.get(name) is not type(error):
                _log.warning("listing failed: %s", name, extra={**self._fields, **of_error(error)})
        if known and not changes.errors:
            _log.info("the listing works again", extra=self._fields)
            self._retry_failed()  # what hindered it may have hindered them as well
        for refused in changes.refused:
            self._observer.on_error(self.group.name, "discover", refused)
            _log.warning("an object is left out: %s", refused, extra=self._fields)

    async def _complete(self, rows: int, seconds: float) -> None:
        """All that there is was listed."""
        self._tally.listed_at, self._tally.listed_when = time.time(), time.monotonic()
        self._observer.on_listing(self.group.name, seconds, rows)
        if not self._is_overdue():
            await self._kept.prune(self.group.keep_checkpoints, self._followed)
        self.ready = True

    def _is_overdue(self) -> bool:
        """Does something wait to be read for longer than checkpoints are kept? Another process would open its partition
        again, and needs to know what was read there."""
        before = time.monotonic() - self.group.keep_checkpoints
        return any(left < before for left in self._leaving.values())

    def _unread(self) -> dict[str, float]:
        """By address, when its oldest partition begins that was not seen whole, or not read to its end."""
        unread = self._census.unread()
        for address, since in {row.partition for row in self._leaving}:
            if math.isfinite(since):
                unread[address] = min(since, unread.get(address, since))
        return unread

    def _followed(self, refs: Iterable[ObjectRef]) -> set[ObjectRef]:
        """Which of them are listed, being looked at, or read to their end."""
        leaving = {row.ref for row in self._leaving}
        return {ref for ref in refs if ref in leaving or ref in self._under_way or self._census.find(ref) is not None}

    # --- objects that come and go

    async def _welcome(self, rows: list[FleetRow]) -> None:
        for start in range(0, len(rows), LOADED_AT_ONCE):
            some = rows[start : start + LOADED_AT_ONCE]
            noted = {row.ref: self._marks.latest(row.ref) for row in some}  # it may be kept while we load
            known = await self._kept.load([row.ref for row in some])
            leaving = {row.ref: row for row in self._leaving}  # a longer look-back, say, names them again
            for row in some:
                mark = noted[row.ref]
                if (former := leaving.get(row.ref)) is not None:
                    self._release([former], "old")
                    mark = former.mark if former.begun else mark
                self._begin(row, known.get(row.ref), mark)
            if self._decides:
                await self._marks.insist()
            for row in some:
                self._begin_to_look(row, known.get(row.ref))
        self._order(rows)
        if rows:
            self._observer.on_discovered(self.group.name, len(rows))

    @property
    def _decides(self) -> bool:
        """Is it still to be decided of some objects whether they begin at their end?"""
        return self.group.start == "end" and bool(self._kept.unlisted)

    def _begin(self, row: FleetRow, known: Checkpoint | None, noted: Mark | None) -> None:
        """Where an object begins that is followed from now on.

        While that depends on when it is listed first, it is kept: the next process is not to decide it again.
        """
        ref = row.ref
        mark = self._marks.latest(ref) or noted or (known.mark if known else None)
        if row.begun:  # `_pass_on` was here meanwhile
            mark = row.mark
        if mark is None and self._decides:
            was_there = row.first and self._kept.unlisted.issuperset(row.addresses)
            mark = Mark.at(Position.unread(row.size if was_there else 0))
            self._marks.note(ref, mark)
        if mark is not None:
            row.begin_at(mark)
        self._weigh(row)

    def _begin_to_look(self, row: FleetRow, known: Checkpoint | None) -> None:
        """Look at it, unless there is nothing to be found."""
        row.phase = "resting"
        if row.again or row.size != row.read or (known is not None and not _at_rest(row, known)):
            self._enqueue(row)

    def _order(self, rows: Iterable[FleetRow]) -> None:
        """Let them take their places in the sequence: all of them, before the first is looked at."""
        sequence = self._sequence
        if sequence is None:
            return
        for row in rows:
            begun = row.begun and row.mark != Mark()  # that it is to begin at 0 may be all that is kept of it
            if not sequence.join(row, time.monotonic(), begun=begun, behind=row.size != row.read):
                _log.warning("comes out of its order", extra={**self._fields, "object": str(row.ref)})
        self._enqueue_current()

    def _enqueue_current(self) -> None:
        """Of a sequence: the one whose turn it is, unless that is known to be looked at later."""
        current = None if self._sequence is None else self._sequence.current
        if current is not None and current.phase == "resting" and not current.due and not self._is_final(current):
            self._enqueue(current)

    def _look_at(self, row: FleetRow) -> None:
        """A listing shows it in another state than it was seen in."""
        if self._sequence is not None and not self._sequence.moved(row, time.monotonic()):
            _log.warning("grew after the next one was begun", extra={**self._fields, "object": str(row.ref)})
        self._weigh(row)
        if not self._is_final(row):
            self._enqueue(row)

    def _is_final(self, row: FleetRow) -> bool:
        """Did it end as its group wants it to: not followed any more after it was replaced?"""
        error = None if row.pulse is None else row.pulse.error
        return isinstance(error, ObjectReplaced) and self.group.replaced == "stop"

    def _see_off(self, row: FleetRow) -> None:
        """Nothing is asked about it again: once it is read to its end, it is over."""
        row.leaving = "old"
        self._leaving[row] = self._left_at(row)
        if row.phase == "resting" and not row.lag:
            self._hand_on_the_rest(row)
            if not row.ending:
                self._release([row], "old")

    def _left_at(self, row: FleetRow) -> float:
        """When its partition was closed, by the first process that did so; but each has a day to try to read it."""
        now, ago = time.monotonic(), row.closed_since(time.time())
        return now - min(ago, max(0.0, self.group.keep_checkpoints - _DAY))

    def _give_up(self) -> None:
        """Of closed partitions: no longer try what could not be read to its end for as long as checkpoints are kept."""
        before = time.monotonic() - self.group.keep_checkpoints
        for row in [row for row, left in self._leaving.items() if left < before and self._was_tried(row, left)]:
            fields = {"object": str(row.ref), "offset": row.mark.delivered.offset, "size": row.size}
            error = None if row.pulse is None else row.pulse.error
            known = {} if error is None else of_error(error)
            _log.error("given up: never read to its end", extra={**self._fields, **fields, **known})
            self._release([row], "failed")

    def _was_tried(self, row: FleetRow, since: float) -> bool:
        """And is it not being tried? One of a sequence may never have had its turn."""
        looked = row.pulse is not None and row.pulse.polled > since
        return row.phase == "resting" and (looked or self._is_final(row))

    def _release(self, rows: Iterable[FleetRow], reason: str) -> None:
        """They are not followed any more. Nothing is kept of that: it would look as if they had been looked at now."""
        released = 0
        for row in rows:
            released += 1
            row.leaving = reason
            if reason == "gone" and (loose := row.mark.unproven):
                fields = {**self._fields, "object": str(row.ref), "offset": row.mark.delivered.offset}
                _log.warning("is gone; of what was delivered, %d bytes were never proven", loose, extra=fields)
            row.ending = False  # a sequence goes on without it
            self._leaving.pop(row, None)
            self._tally.drop(row)
            if self._sequence is not None:
                self._sequence.leave(row)
        if released:
            self._observer.on_released(self.group.name, reason, released)
        self._enqueue_current()

    # --- who is visited when

    def _enqueue(self, row: FleetRow, due: float | None = None) -> None:
        """Visit it as soon as it is its turn."""
        if self._stopping or (row.leaving is not None and row not in self._leaving):
            return
        if self._sequence is not None and not self._is_its_turn(self._sequence, row):
            return
        if row.phase in ("new", "visiting"):
            row.again = True
        elif row.phase == "resting":
            row.phase, row.due = "waiting", time.monotonic() if due is None else due
            lane, _ = self._lanes.of(row)
            lane.queue.append(row)
            self._pump_lane(lane)

    def _is_its_turn(self, sequence: Sequence[FleetRow], row: FleetRow) -> bool:
        """The last record of one comes before the first of the next."""
        if self._ending is not None and self._ending.ending:
            return row is self._ending
        return self.ready and sequence.current is row

    def _set_timer(self, row: FleetRow, due: float) -> None:
        """Visit it at `due`, unless that is to be done sooner."""
        if row.phase == "waiting" or 0 < row.due <= due:
            return
        row.due = due
        heapq.heappush(self._timers, (due, self._number(), row))
        if self._timers[0][2] is row:
            self._sooner.set()

    async def _tick_for_ever(self) -> None:
        while True:
            now = self.beat = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                due, _, row = heapq.heappop(self._timers)
                if row.due == due and row.phase != "waiting":
                    row.due = 0.0
                    self._enqueue(row, due)
            self._tally.forget(now, _FORGOTTEN_AFTER)
            self._sooner.clear()
            await _either(self._sooner, min(_BEAT, self._timers[0][0] - now if self._timers else _BEAT))

    def _pump(self) -> None:
        self._pump_lane(self._lanes.small)
        self._pump_lane(self._lanes.large)

    def _pump_lane(self, lane: Lane) -> None:
        """Begin the visits that may begin."""
        while lane.queue and self._tasks is not None and not self._stopping:
            row = lane.queue[0]
            if row.phase != "waiting" or (row.leaving is not None and row not in self._leaving):
                lane.queue.popleft()
                row.phase = "resting"
                continue
            if row.ref in self._under_way:  # it went, came again, and is still read as what went: see _pass_on
                lane.queue.popleft()
                row.phase = "resting"
                continue
            reserved = lane.enter(self._lanes.of(row)[1])
            if reserved is None:
                return
            lane.queue.popleft()
            row.phase = "visiting"
            self._under_way[row.ref] = row
            task = self._tasks.create_task(self._visit(row, lane, reserved))
            self._visits.add(task)
            task.add_done_callback(self._visits.discard)

    # --- a visit

    async def _visit(self, row: FleetRow, lane: Lane, reserved: int) -> None:
        visit = Visit(self, row, self._reader, self._marks, lane.turn)
        lateness, before = visit.began - row.due, row.read
        row.due, row.again = 0.0, False
        visit.ends = row.ending
        error: TailerError | None = None
        enough = False
        try:
            options = self._options(reserved, lane)
            if visit.ends:
                options = replace(options, follow=Follow.NO)
            await visit.run(self._outlet, options, row.mark if row.begun else None)
        except Enough:
            enough = True
        except TailerError as failure:
            error = without_frames(failure)
        finally:
            lane.leave(reserved)
            del self._under_way[visit.ref]
            row.phase = "resting"
        if (error is None and not enough) or isinstance(error, ObjectReplaced | ObjectNotFound):
            row.ending = False
        grew = row.read > before or visit.delivered > 0
        self._account(visit, error, lateness, grew=grew)
        if row.leaving is not None and row not in self._leaving:
            self._pass_on(visit)
        elif visit.ends and isinstance(error, ObjectReplaced | ObjectNotFound):
            self._look_anew(visit)
        elif error is not None:
            self._fail(visit, error)
        else:
            self._conclude(visit, grew=grew, enough=enough)
        self._pump()

    def _look_anew(self, visit: Visit) -> None:
        """It went, or another one stands there, just when it was thought to be over: what that means, a visit of the
        usual kind finds out. The rest of it nobody has any more."""
        row = visit.row
        fields = {**self._fields, "object": str(visit.ref), "offset": row.mark.delivered.offset}
        _log.warning("went with a last record that had no end and was not handed on", extra=fields)
        if self._sequence is not None:
            self._sequence.moved(row, time.monotonic())
        if row in self._leaving:
            self._enqueue(row)
        self._enqueue_current()

    def is_enough(self, visit: Visit) -> bool:
        """Asked before each batch: is the visit to end?"""
        if self._stopping or visit.row.leaving == "config":
            return True
        if visit.delivered < visit.turn or self.group.integrity is Integrity.STRICT:
            return False  # what was proven and is not handed on would have to be read again, from the beginning
        return visit.turn < self._lanes.large.turn or bool(self._lanes.large.queue)

    def on_fetched(self, visit: Visit, end: int) -> None:
        """All before `end` has come. What is proven before any of it is delivered may be hours away from that."""
        if self.group.integrity is Integrity.STRICT and not self.writing:
            self._tally.fetched(visit.row, end, time.monotonic())

    def on_delivered(self, visit: Visit, batch: Batch) -> None:
        """The sink took `batch`."""
        row, now = visit.row, time.time()
        row.read = batch.end
        self._tally.delivered(row, batch.end - batch.start, time.monotonic())
        self._observer.on_event(self.group.name, self._outlet.name, visit.ref, batch)
        if row.modified is not None:
            self._observer.on_latency(self.group.name, self._outlet.name, now - row.modified)

    def on_event(self, visit: Visit, event: Event) -> None:
        """An event that is no batch."""
        self._observer.on_event(self.group.name, self._outlet.name, visit.ref, event)
        if isinstance(event, Grew):
            self._weigh(visit.row)  # the sink may take its time, and no listing may tell of it
        elif isinstance(event, Failed):
            self._observer.on_error(self.group.name, "read", event.error)
        elif isinstance(event, Replaced | Truncated | Rewound | Unconfirmed):
            fields = {**self._fields, "object": str(visit.ref), "generation": event.generation}
            told = event if isinstance(event, Unconfirmed) else f"the object was {type(event).__name__.lower()}"
            _log.warning("%s", told, extra=fields)

    def _account(self, visit: Visit, error: TailerError | None, lateness: float, *, grew: bool) -> None:
        """Tell the observer, and note, what a visit came to."""
        found = {"error": error, "missing": visit.missing, "replaced": visit.replaced, "grew": grew}
        result = next((name for name, value in found.items() if value), "unchanged")
        self._observer.on_poll(self.group.name, result, max(0.0, lateness))
        if visit.fetched > visit.delivered:
            self._observer.on_wasted(self.group.name, visit.fetched - visit.delivered)

    def _pass_on(self, visit: Visit) -> None:
        """It went while it was being read: whoever stands under its name by now goes on from there."""
        self._tally.drop(visit.row)  # what came of the visit since then is nobody's
        heir = self._census.find(visit.ref)
        if heir is not None and not heir.ignored:
            if visit.row.begun:
                heir.begin_at(visit.row.mark)
            self._weigh(heir)
            self._enqueue(heir)

    def _fail(self, visit: Visit, error: TailerError) -> None:
        """It is tried again, soon where that may help, and later and later where somebody has to act."""
        row = visit.row
        known = None if row.pulse is None else row.pulse.error
        self._tally.visited(row, time.monotonic(), grew=False, delivered=0)
        passes = error.retriable or error is visit.failure  # at that one the follower itself would go on trying
        self._tally.fail(row, error, passes=passes)
        if error is not visit.failure and not isinstance(error, SinkError):  # these were told before
            self._observer.on_error(self.group.name, _stage(error), error)
        if type(known) is not type(error):
            position = row.mark.delivered
            fields = {"object": str(visit.ref), "offset": position.offset, "generation": position.generation}
            _log.warning("reading failed", extra={**self._fields, **fields, **of_error(error)})
        if not self._is_final(row):
            failures = row.awake().failures
            delay = back_off(failures, random.random(), error.retry_after)
            if row.again and not passes:  # it moved, or somebody told of it, meanwhile: that may have helped
                delay = max(self.group.poll_min, error.retry_after or 0.0)
            elif not passes:
                delay = min(_LONG[1], _LONG[0] * 2.0 ** min(failures - 1, 16))
            self._set_next(row, delay)

    def _conclude(self, visit: Visit, *, grew: bool, enough: bool) -> None:
        """A visit ended well: when is the next one?"""
        row, now = visit.row, time.monotonic()
        self._tally.visited(row, now, grew=grew, delivered=visit.delivered)
        self._tally.succeed(row, "missing" if visit.missing else "sealed" if visit.sealed else None)
        if enough or (row.again and not visit.ends):
            self._enqueue(row)
        elif row in self._leaving and (visit.missing or not row.lag):
            if not visit.missing and not visit.ends:
                self._hand_on_the_rest(row)
            if not row.ending:
                self._release([row], "gone" if visit.missing else "old")
        elif visit.ends and self._sequence is not None:
            self._enqueue_current()
        elif visit.missing:
            self._set_next(row, self._slowest)
        elif self._sequence is not None and not row.lag:
            self._advance(self._sequence, visit, grew=grew)
        elif not visit.sealed and (delay := self._next_look(row)) is not None:
            self._set_next(row, delay)

    def _hand_on_the_rest(self, row: FleetRow) -> None:
        """It gets no more bytes: if its last record has no end, one more visit hands that on as it is."""
        if row.begun and row.read > row.mark.delivered.offset:
            row.ending = True
            self._ending = row
            self._enqueue(row)

    def _next_look(self, row: FleetRow) -> float | None:
        """Seconds to the next look at it that no listing asks for; None: there is none."""
        pulse, group = row.awake(), self.group
        if row.lag:  # a listing and the object itself contradict each other
            return next_look(pulse.unchanged, 0.0, group.poll_min, self._slowest, math.inf)
        if pulse.gap:  # it was seen to grow at least twice
            delay = next_look(pulse.unchanged, pulse.gap, group.poll_min, self._slowest, group.list_interval)
            if delay is not None:
                return delay
        if row.read > row.mark.delivered.offset:
            # Whether the object was sealed, and its last record is over, no listing says.
            return min(_LONG[1], self._slowest * 1.5 ** min(64, pulse.unchanged))
        return None

    def _advance(self, sequence: Sequence[FleetRow], visit: Visit, *, grew: bool) -> None:
        """One of a sequence was read to its present end: the next may begin, or it is looked at again."""
        row = visit.row
        if sequence.looked(row, visit.began, time.monotonic(), grew=grew, sealed=visit.sealed):
            self._hand_on_the_rest(row)
            if not row.ending:
                self._enqueue_current()
            return
        pulse = row.awake()
        self._set_next(row, next_look(pulse.unchanged, pulse.gap, self.group.poll_min, self._slowest, math.inf) or 0.0)

    def _set_next(self, row: FleetRow, delay: float) -> None:
        row.awake().interval = delay
        due = time.monotonic() + delay
        if not 0.0 < row.due < due:  # else a hint that came during the visit wants it sooner
            self._set_timer(row, due)

    def _weigh(self, row: FleetRow) -> None:
        self._tally.weigh(row, time.monotonic())

    def _told(self, stage: Stage, error: TailerError) -> None:
        self._observer.on_error(self.group.name, stage, error)
        _log.error("%s", error, extra={**self._fields, **of_error(error)})

    # --- what is asked

    def status(self) -> GroupStatus:
        """How the group fares."""
        tally, now = self._tally, time.monotonic()
        rows = len(self._census) + len(self._leaving) - self._ignored
        return GroupStatus(
            name=self.group.name,
            sink=self._outlet.name,
            objects=tally.counts(rows),
            lag=tally.lag,
            largest_lag=tally.largest_lag,
            oldest_unread=tally.oldest_unread(now),
            stalled=tally.stalled(now),
            unproven=tally.unproven,
            buffered=self._lanes.reserved,
            delivered_bytes=tally.delivered_bytes,
            rate=tally.rates.now(now),
            poll_interval=self.group.poll_min if tally.behind() else self.group.list_interval,
            listed_at=tally.listed_at,
            listing_seconds=tally.listing_seconds,
            listing_error=tally.listing_error,
            committed_at=self._marks.committed_at,
            uncommitted=self._marks.uncommitted,
        )

    def objects(self, most: int) -> list[ObjectStatus]:
        """Those with the most lag, then those that grew last, then others."""
        return self._tally.objects(self.group, chain(self._leaving, self._census), most)

    def problems(self, stuck: float) -> list[str]:
        """Why the group is not well, a line each: what has been wrong for longer than `stuck` seconds."""
        tally, now = self._tally, time.monotonic()
        found = []
        listed = self._began if tally.listed_when is None else tally.listed_when
        if tally.listing_error is not None and now - listed > stuck:
            found.append(
                f"group {self.group.name}: no complete listing for {now - listed:.0f} s: {tally.listing_error}"
            )
        stalled = tally.stalled(now)
        if stalled > stuck:
            found.append(f"group {self.group.name}: {tally.lag} bytes behind, nothing delivered for {stalled:.0f} s")
        if unsafe := self._marks.unsafe:
            why = next(iter(unsafe.values()))
            found.append(f"group {self.group.name}: no mark is kept of {len(unsafe):,} of its objects: {why}")
        if self._marks.error is not None and self._marks.uncommitted > stuck:
            found.append(f"group {self.group.name}: {self._marks.error}")
        return found


def _at_rest(row: FleetRow, known: Checkpoint) -> bool:
    """Is it older than its checkpoint beyond doubt, so that it cannot be another one than was read?"""
    return row.modified is not None and row.modified + _SKEW < known.committed_at


def _stage(error: TailerError) -> Stage:
    return "verify" if isinstance(error, IntegrityError) else "read"


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Return when the event is set, or after so many seconds."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return
