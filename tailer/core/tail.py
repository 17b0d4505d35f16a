"""The machine that follows one object. It never awaits, reads no clock, draws no chance and knows no HTTP.

Contract: **one input, then drain**. Inputs are `observe`, `receive`, `fail`, `acknowledge`, `wake`. After
each, take every event of `events()`, deliver it and acknowledge its batches; then ask `next_action` until it
says `Receive`, `Wait` or `Stop`. Between two inputs nothing changes.

Theory of operation. What was read is a `Chain` from a proven position; a *plan* of windows runs ahead of it,
several under way at once, received in the order in which they were asked for. Every window brings the size
and CRC-64 of the whole object from the same answer, so the window that reaches the end proves everything
before it. Bytes of a window that reaches the end are therefore handed out only when they are proven; those of
a window in the middle (catching up) are handed out as they come and are void if the next proof fails
(`Rewound`). One reading that does not fit is read again from the last proven position; the same bytes
with the same misfit are another object under the name, different bytes are noise on the way. Nothing is
concluded from a HEAD alone: a length, a CRC, a type or a version in it that does not fit makes the machine ask
for the last byte it has and all behind it, and that answer decides (a stale HEAD then does no harm). When an
object is over for us, the record that it left unfinished is handed on before the word of what came after it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from tailer import errors
from tailer.core.chain import Break, Chain
from tailer.core.events import (
    Action,
    Appeared,
    Batch,
    Cancel,
    Event,
    Failed,
    Fetch,
    Gone,
    Grew,
    Head,
    Receive,
    Replaced,
    Rewound,
    Sealed,
    Stop,
    Truncated,
    Unconfirmed,
    Unproven,
    Verified,
    Wait,
)
from tailer.core.framing import Frame, Framer
from tailer.core.options import Follow, Integrity, Poll, TailOptions
from tailer.core.position import Claim, Link, Mark, ObjectMeta, ObjectRef, Position
from tailer.core.ranges import ByteRange
from tailer.core.schedule import Readahead, back_off

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MOST_READINGS = 6


class _HandedOut(NamedTuple):
    """Bytes [start, end) that wait for their acknowledgement, and where the mark stands `then`."""

    generation: int
    start: int
    end: int
    then: Position
    inside: bool


@dataclass(frozen=True, slots=True)
class _Proof:
    """Where to read on from when what was read behind it does not fit.

    The bytes below `position` are proven; `framer` stands there, and `cut` is the end of what it let go.
    """

    position: Position
    cut: Position
    framer: Framer

    def vouched(self, claim: Claim, beginning: int) -> _Proof:
        """See `Position.vouched`."""
        return replace(self, position=self.position.vouched(claim, beginning), cut=self.cut.vouched(claim, beginning))


class Tail:
    """Follows one object from `mark` on. `links` are statements known from earlier answers about the same
    object: they tie a start whose CRC-64 is not known. A start that has one needs none."""

    def __init__(
        self,
        ref: ObjectRef,
        options: TailOptions | None = None,
        mark: Mark | None = None,
        *,
        now: float = 0.0,
        links: Iterable[Link] = (),
    ) -> None:
        self.ref = ref
        self.options = options or TailOptions()
        self._mark = mark or Mark()
        self._generation = self._mark.delivered.generation
        self._events: deque[Event] = deque()
        self._asked: deque[tuple[ByteRange, float]] = deque()
        self._readahead = Readahead(self.options.max_window, self.options.max_depth, self.options.max_ahead)
        self._stop: Stop | None = None
        self._cancel = False
        self._seen: ObjectMeta | None = None
        self._gone = False
        self._warned = False
        self._attempt = 0
        self._unchanged = 0
        self._due = now
        self._pause = now
        self._grown_at = now
        self._restarts = 0
        self._told_size = -1
        self._anchors = tuple(links)
        self._resumed = self._mark.delivered.offset > 0
        self._begin_at(self._mark)

    def _begin_at(self, mark: Mark) -> None:
        """Read an object from where a mark says: a stop before, or its very beginning."""
        start, proven = mark.delivered, mark.verified
        self._safe = proven
        self._proof = _Proof(proven, proven, self._new_framer())
        self._begin(self._new_chain(start, proven), self._new_framer(inside=mark.inside), start)
        if not mark.inside:
            self._note_end(start)

    def _begin(self, chain: Chain, framer: Framer, cut: Position) -> None:
        """Read on from where `chain` and `framer` stand, as if nothing had been read behind it."""
        self._chain, self._framer, self._cut = chain, framer, cut
        self._told = chain.proven
        self._handed_out = cut.offset
        self._ends: deque[Position] = deque()
        self._emitted: deque[_HandedOut] = deque()
        self._next = chain.position.offset
        self._target = 0
        self._break: Break | None = None
        self._readings = 0
        self._doubt: ObjectMeta | None = None
        self._doubted = 0
        self._idle = False
        self._cancel = self._cancel or bool(self._asked)

    def _new_framer(self, *, inside: bool = False) -> Framer:
        return Framer(self.options.delimiter, self.options.max_record, inside=inside)

    def _new_chain(self, start: Position, proven: Position, *, watch: int | None = None) -> Chain:
        if self.options.integrity is Integrity.OFF:
            return Chain(start, proven=proven, checked=False)
        if start.crc64 is not None:
            return Chain(start, proven=proven, watch=watch)
        chain = Chain(start, proven=proven, links=self._anchors, watch=watch)
        chain.feed(b"")
        return chain

    # --- what a user may ask

    @property
    def mark(self) -> Mark:
        """What may be committed: moved by acknowledgements, in order, and back by a rewind."""
        return self._mark

    @property
    def generation(self) -> int:
        """How many objects stood under the name before this one."""
        return self._generation

    @property
    def size(self) -> int | None:
        """The high-water mark: the object's length as last stated, in bytes; None before the first answer."""
        return None if self._seen is None or self._gone else self._seen.size

    @property
    def claim(self) -> Claim | None:
        """With `Integrity.FULL`, what is to be proven by the bytes below the start (`prove_beginning`)."""
        claim = self._chain.position.claim
        stated = claim is not None and claim.stated is not None
        return claim if stated and self.options.integrity is Integrity.FULL else None

    @property
    def idle(self) -> bool:
        """All that exists was handed out, or the object is missing and waited for: only time brings news."""
        return self._idle

    def events(self) -> Iterator[Event]:
        """Take what happened since the last input, in order."""
        while self._events:
            yield self._events.popleft()

    # --- what to do next

    def next_action(self, now: float) -> Action:
        """What the driver is to do now (see the module's contract)."""
        if self._cancel:
            self._cancel = False
            self._asked.clear()
            return Cancel()
        if self._stop is not None:
            return self._stop
        if now < self._pause:
            return Wait(self._pause)
        if self._next < self._target and len(self._asked) < self._readahead.depth:
            return self._ask(ByteRange(self._next, self._next + self._readahead.window), now)
        if self._asked:
            return Receive()
        if now < self._due:
            return Wait(self._due)
        return self._look(now)

    def _ask(self, range: ByteRange, now: float) -> Fetch:
        self._asked.append((range, now))
        self._next = range.stop
        return Fetch(range)

    def _look(self, now: float) -> Action:
        """Ask whether there is news.

        A refused GET is all that an empty object gives, and does not say whether it is sealed. HEAD does, at one
        request a poll as well.
        """
        if self._doubt is None and (self.options.poll is Poll.HEAD or self.size == 0):
            return Head()
        return self._ask(self._overlapping(), now)

    def _overlapping(self) -> ByteRange:
        """The last byte that we have and a window behind it.

        One byte that exists makes the answer a 206 with size and CRC even when nothing is new, and a 416
        proves that the object shrank.
        """
        offset = 0 if self._gone else self._chain.position.offset
        return ByteRange(max(0, offset - 1), offset + self._readahead.window)

    # --- inputs

    def wake(self, now: float) -> None:
        """Poll at once. A hint only: it says nothing about the object."""
        self._due = min(self._due, now)
        self._idle = False

    def begin_anew(self, now: float) -> None:
        """Read again from the mark, as after a crash: what was handed out and not acknowledged is void."""
        self._events.clear()
        self._stop = None
        self._generation = self._mark.delivered.generation
        self._begin_at(self._mark)
        self._due = now
        self._tell_what_stands(self._mark.verified)

    def prove_beginning(self, claim: Claim, beginning: int) -> None:
        """The bytes below the start were read, `beginning` is their CRC-64, and `claim` holds.

        One about an object that is over, or about a reading that was taken back, is nothing.
        """
        if claim != self.claim:
            return
        self._chain.vouch(claim, beginning)
        self._mark = self._mark.vouched(claim, beginning)
        self._safe, self._cut = self._safe.vouched(claim, beginning), self._cut.vouched(claim, beginning)
        self._proof = self._proof.vouched(claim, beginning)
        self._ends = deque(end.vouched(claim, beginning) for end in self._ends)
        self._emitted = deque(one._replace(then=one.then.vouched(claim, beginning)) for one in self._emitted)
        self._events.append(Verified(self._chain.proven))

    def acknowledge(self, batch: Batch) -> None:
        """The sink took `batch`. Raises ValueError unless it is the next one in order: nothing is stepped over."""
        oldest = self._emitted[0] if self._emitted else None
        if oldest is None or oldest[:3] != (batch.generation, batch.start, batch.end):
            given = f"[{batch.start}, {batch.end}) of generation {batch.generation}"
            raise ValueError(f"{given} is not what was handed out next after {self._mark.delivered}")
        self._emitted.popleft()
        self._mark = self._marked(oldest.then, oldest.inside)

    def observe(self, meta: ObjectMeta, now: float) -> None:
        """A HEAD (or a row of a list) says `meta`. Decides nothing but that there is something to ask for."""
        if self._seen is not None and not self._gone and _changed(self._seen, meta):
            self._attempt = 0
            self._doubt, self._due = meta, now
            return
        self._meet(meta, now)
        offset = self._chain.position.offset
        if meta.size > offset:
            self._extend(meta.size)
        elif self._fits(meta, offset):
            self._doubted = 0
            self._confirm(meta)
            self._settle(meta, now)
        else:
            self._doubt, self._due = meta, now

    def receive(self, start: int, data: bytes | bytearray | memoryview, meta: ObjectMeta, now: float) -> None:
        """The oldest window asked for has come: bytes from `start` on, and what the same answer says.

        Raises ValueError for bytes that were not asked for.
        """
        asked, asked_at = self._asked.popleft()
        if start != asked.start or not 0 < len(data) <= len(asked) or start + len(data) > meta.size:
            raise ValueError(f"[{start}, {start + len(data)}) of {meta.size} bytes in answer to {asked}")
        came_back = self._gone
        if not self._meet(meta, now) or came_back:
            return
        self._doubt, self._doubted = None, 0
        self._readahead.learn(len(data), asked_at, now)
        if start + len(data) < asked.stop:
            self._next = start + len(data)
            self._cancel = self._cancel or bool(self._asked)
        self._extend(meta.size)
        overlap = self._chain.position.offset - start
        if overlap < 0:
            raise ValueError(f"a window at {start} would leave a gap behind {self._chain.position.offset}")
        self._take(memoryview(data)[overlap:], meta, now)

    def fail(self, error: errors.TailerError, now: float, chance: float = 0.5) -> None:
        """The HEAD, or the oldest window asked for, failed. `chance` in [0, 1) spreads the next try."""
        fetching = bool(self._asked)
        asked = self._asked.popleft()[0] if fetching else None
        self._drop_plan()
        if isinstance(error, errors.NotFound):
            self._miss(error, now)
        elif isinstance(error, errors.RangeNotSatisfiable) and asked is not None:
            self._run_out(asked, error, now, chance)
        elif error.retriable and not self._hopeless(error):
            self._try_again(error, now, chance)
        else:
            self._stop = Stop(error)

    # --- an answer that names the object

    def _meet(self, meta: ObjectMeta, now: float) -> bool:
        """Is this still the object that we follow? If not, begin the new one, or stop."""
        self._attempt = 0
        known, self._seen = self._seen, meta
        if self._gone:
            self._gone = False
            self._due = now
            if meta != known and not _is_same_version(known, meta):
                self._appear(known, meta, now)
            return True
        if known is not None and (changed := _changed(known, meta)):
            self._replace(changed, now)
            return False
        self._tell_size(meta)
        return True

    def _tell_size(self, meta: ObjectMeta) -> None:
        if meta.size > self._told_size:
            self._told_size = meta.size
            self._events.append(Grew(self._generation, self._chain.position.offset, meta.size))

    def _appear(self, known: ObjectMeta | None, meta: ObjectMeta, now: float) -> None:
        """After it was missing: the very same object, or version, again needs no word, another one begins at 0."""
        if known is not None or self._chain.position.offset:
            self._next_generation(now)
        self._grown_at = now
        self._events.append(Appeared(self._generation, meta))
        self._tell_size(meta)

    def _next_generation(self, now: float) -> None:
        """Begin at 0 of the object that stands under the name now.

        One that does not even last to its first proof is followed by a pause, so that two answers that
        contradict each other for ever do not make us ask for ever without a breath.
        """
        remains = self._unfinished()
        self._tell_unconfirmed()
        self._generation += 1
        start = Position(0, 0, self._generation)
        self._anchors = ()
        self._told_size = -1
        self._begin_at(Mark.at(start))
        if remains is None:
            self._mark = Mark.at(start)
        else:
            self._hand_out(remains[0], start)
        if self._restarts:
            self._pause = now + back_off(self._restarts, 0.5)
        self._restarts += 1

    def _unfinished(self) -> tuple[Batch, Position] | None:
        """The last record of an object that is over for us: proven, not handed out, and never to be ended."""
        if self.options.integrity is Integrity.STRICT and self._handed_out > self._proof.cut.offset:
            self._void()  # what the driver keeps back will never be proven; the part of it that is comes by itself
        if self.options.integrity is Integrity.OFF:
            last = _Proof(self._chain.position, self._cut, self._framer)
        else:
            last = self._proof
        frame = last.framer.rest()
        if frame is None or self._handed_out != last.cut.offset:
            return None
        return self._batch(frame, last.position), last.position

    def _part(self) -> None:
        """The end, and no more comes of this object: hand on the record that it left unfinished."""
        if (remains := self._unfinished()) is not None:
            self._hand_out(*remains)
            self._safe = remains[1] if remains[0].verified else self._safe

    def _unconfirmed(self) -> Unconfirmed | None:
        """What was handed out of an object that is over, and will never be proven."""
        proven = self._proof.cut.offset
        proves = self.options.integrity in (Integrity.CHAIN, Integrity.FULL)
        return Unconfirmed(self._generation, proven, self._handed_out) if proves and self._handed_out > proven else None

    def _tell_unconfirmed(self) -> None:
        if (loose := self._unconfirmed()) is not None:
            self._events.append(loose)

    def _unproven(self) -> str:
        """The same in words, behind others."""
        loose = self._unconfirmed()
        return "" if loose is None else f"; {loose}"

    def _replace(self, reason: str, now: float) -> None:
        """Another object stands under the name."""
        self._drop_plan()
        if self.options.follow is not Follow.NAME:
            self._part()
            reason = f"{self.ref}: {reason}{self._unproven()}"
            self._stop = Stop(errors.ObjectReplaced(reason, hint="-F goes on with the new one"))
            return
        self._next_generation(now)
        self._grown_at = self._due = now
        self._events.append(Replaced(self._generation, reason))
        if self._seen is not None:
            self._tell_size(self._seen)

    def _shrink(self, meta: ObjectMeta | None, now: float) -> None:
        """The object is shorter than what we have of it, by two answers; `meta` is what a HEAD said of it."""
        known, self._seen = self._seen, meta
        if known and meta and (changed := _changed(known, meta)):
            self._replace(changed, now)
            return
        offset, size = self._chain.position.offset, meta.size if meta else None
        if self.options.follow is not Follow.NAME:
            length = "" if size is None else f"to {size} bytes "
            self._part()
            reason = f"{self.ref}: truncated {length}after {offset} were read{self._unproven()}"
            self._stop = Stop(errors.ObjectReplaced(reason, hint="-F starts over"))
            return
        self._next_generation(now)
        self._grown_at = self._due = now
        self._events.append(Truncated(self._generation, offset, size))

    def _extend(self, size: int) -> None:
        """There are bytes up to `size`."""
        self._target = max(self._target, size)
        self._idle = self._idle and size <= self._chain.position.offset

    def _fits(self, meta: ObjectMeta, offset: int) -> bool:
        """Does a statement without bytes agree with all that we have read?"""
        if meta.size != offset:
            return False
        if self.options.integrity is Integrity.OFF or offset == 0:
            return True
        crc = self._chain.position.crc64
        return crc is not None and crc == meta.crc64

    def _confirm(self, meta: ObjectMeta) -> None:
        """A statement without bytes that agrees is a proof like any other (after a resume, the first one)."""
        if meta.link is not None and self.options.integrity is not Integrity.OFF:
            self._chain.expect(meta.link)
            self._chain.feed(b"")
            self._note_proof()

    # --- bytes

    def _take(self, data: memoryview, meta: ObjectMeta, now: float) -> None:
        """Run the chain and the framer over the next bytes, hand out what is complete, see what comes next."""
        if not self._may_go_on_without_crc(meta):
            return
        if meta.link is not None and self.options.integrity is not Integrity.OFF:
            self._chain.expect(meta.link)
        frame = self._framer.feed(data)
        cut = len(data) - len(self._framer.kept)
        found = self._chain.feed(data[: max(0, cut)])
        boundary = self._chain.position
        found = found or self._chain.feed(data[max(0, cut) :])
        if found is not None:
            self._doubt_bytes(found, now)
            return
        if frame is not None:
            self._emit(frame, boundary)
        self._note_proof()
        if len(data):
            self._grown_at, self._unchanged = now, 0
        self._settle(meta, now)

    def _may_go_on_without_crc(self, meta: ObjectMeta) -> bool:
        if meta.crc64 is not None:
            return True
        if self.options.integrity is not Integrity.OFF:
            self._drop_plan()
            self._stop = Stop(errors.CrcMissing(f"{self.ref}: the service states no CRC-64 for it"))
            return False
        if not self._warned:
            self._warned = True
            self._events.append(Unproven(self._generation, self._chain.position.offset))
        return True

    def _emit(self, frame: Frame, boundary: Position) -> None:
        """Hand out what ends at `boundary`."""
        self._hand_out(self._batch(frame, boundary), boundary)
        self._handed_out, self._cut = boundary.offset, boundary
        if frame.last:
            self._note_end(boundary)

    def _note_end(self, boundary: Position) -> None:
        """A record ends here: a place to rewind to, once it is proven. Without proofs none is kept."""
        if self.options.integrity is not Integrity.OFF:
            self._ends.append(boundary)

    def _hand_out(self, batch: Batch, then: Position) -> None:
        self._emitted.append(_HandedOut(batch.generation, batch.start, batch.end, then, not batch.last))
        self._events.append(batch)

    def _batch(self, frame: Frame, boundary: Position) -> Batch:
        start = boundary.offset - len(frame.data)
        proven = self._chain.proven.offset >= boundary.offset and start >= self._chain.proven.unproven
        return Batch(
            self.ref,
            self._generation,
            start,
            boundary.offset,
            frame.data,
            verified=proven and self.options.integrity is not Integrity.OFF,
            delimiter=self.options.delimiter,
            limit=self.options.max_record,
            first=frame.first,
            last=frame.last,
        )

    def _note_proof(self) -> None:
        proven = self._chain.proven
        while self._ends and self._ends[0].offset <= proven.offset:
            self._safe = self._ends.popleft()
        if self._cut.offset <= proven.offset:
            self._proof = _Proof(proven, self._cut, self._framer.before(proven.offset - self._cut.offset))
        elif self._safe.offset > self._proof.position.offset:
            self._proof = _Proof(self._safe, self._safe, self._new_framer())
        self._mark = self._marked(self._mark.delivered, self._mark.inside)
        if self._break is not None and proven.offset >= self._break.size:
            self._break, self._readings = None, 0
        if proven.offset > self._told.offset or (self._resumed and self._chain.confirmed):
            self._told, self._resumed = proven, False
            self._restarts = 0
            self._events.append(Verified(proven))

    def _marked(self, delivered: Position, inside: bool) -> Mark:
        verified = self._safe if self._safe.offset <= delivered.offset else self._mark.verified
        return Mark(delivered, verified, inside)

    def _settle(self, meta: ObjectMeta, now: float) -> None:
        """Is this the present end? Then flush, stop, or say when to look again."""
        offset = self._chain.position.offset
        if offset < meta.size or (self._asked and not self._cancel):
            return
        if meta.sealed:
            self._finish(Sealed(meta.size))
        elif self.options.follow is Follow.NO:
            self._finish()
        else:
            self._rest(now)

    def _finish(self, event: Event | None = None) -> None:
        self._part()
        if event is not None:
            self._events.append(event)
        self._stop = Stop()

    def _rest(self, now: float) -> None:
        """Nothing more for now."""
        self._idle = True
        self._restarts = 0
        self._target = 0
        self._next = self._chain.position.offset
        self._readahead.restart()
        self._due = now + self.options.pace.after(self._unchanged)
        self._unchanged += 1
        if self.options.exit_idle is not None:
            deadline = self._grown_at + self.options.exit_idle
            self._due = min(self._due, deadline)
            if now >= deadline:
                self._finish()

    # --- what does not fit

    def _doubt_bytes(self, found: Break, now: float) -> None:
        """Bytes and statement disagree: read again from the last proven place; decide at the second reading."""
        self._readings += 1
        self._void()
        first, seen_again = self._break, self._chain.watched
        if first is not None and seen_again == first.computed:
            self._judge(found, now)
        elif self._readings >= _MOST_READINGS:
            self._stop = Stop(self._broken(found, f"{self._readings} readings that never agree"))
        else:
            self._rewind(found, now)

    def _void(self) -> None:
        """Take back what was handed out behind the last proof."""
        cut, proven = self._proof.cut, self._proof.position
        if self._handed_out > cut.offset:
            self._events.append(Rewound(self._generation, cut.offset, self._handed_out))
            if self._told.offset > cut.offset:
                self._tell_what_stands(proven)
        if self._mark.delivered.offset > cut.offset:
            self._mark = self._marked(cut, self._proof.framer.inside)
        self._handed_out = cut.offset
        self._emitted.clear()

    def _tell_what_stands(self, proven: Position) -> None:
        """The proof goes back to a place between two that were told: a sink that keeps the last one knows no other."""
        if proven.offset:
            self._events.append(Verified(proven))

    def _rewind(self, found: Break, now: float) -> None:
        readings, proof, claim = self._readings, self._proof, self._chain.position.claim
        if proof.position.crc64 is None and claim is not None and claim.stated is not None:
            # What tied the loose chain must tie it again, or the next reading would trust anything.
            self._anchors = (Link(claim.size, claim.stated),)
        chain = self._new_chain(proof.position, proof.position, watch=found.size)
        self._begin(chain, proof.framer.before(len(proof.framer.kept)), proof.cut)
        self._break, self._readings = found, readings
        self._target = found.size
        if readings > 1:
            self._pause = now + back_off(readings, 0.5)

    def _judge(self, found: Break, now: float) -> None:
        """The same bytes twice, and they are not the ones that the statement is about."""
        if self._proof.position.offset == 0:
            self._stop = Stop(self._broken(found, "read twice alike"))
        else:
            self._replace("its CRC-64 does not continue what was read", now)

    def _broken(self, found: Break, how: str) -> errors.ChainBroken:
        return errors.ChainBroken(
            f"{self.ref}: CRC-64 of the first {found.size} bytes is {found.computed}, "
            f"the service states {found.stated} ({how})"
        )

    # --- refusals

    def _drop_plan(self) -> None:
        self._cancel = self._cancel or bool(self._asked)
        self._next = self._chain.position.offset

    def _miss(self, error: errors.NotFound, now: float) -> None:
        """404."""
        options = self.options
        was_there = self._seen is not None and not self._gone
        waits = options.retry and options.follow is not Follow.NO
        if was_there:
            waits = waits and options.follow is Follow.NAME
        elif isinstance(error, errors.BucketNotFound) and self._seen is None:
            waits = False
        if was_there and not waits:
            self._part()
            self._tell_unconfirmed()
        if was_there or (waits and not self._gone):
            self._events.append(Gone(self._generation, self._chain.position.offset))
        self._gone = True
        self._doubt = None
        if waits:
            self._rest(now)
        else:
            self._stop = Stop(error)

    def _run_out(self, asked: ByteRange, error: errors.TailerError, now: float, chance: float) -> None:
        """416: no byte at the first offset asked for."""
        offset = self._chain.position.offset
        if self._gone or (offset == 0 and self._may_be_empty()):
            self._meet_empty(now)
        elif asked.start < offset and self._doubt is not None and self._doubt.size < offset:
            self._shrink(self._doubt, now)
        elif asked.start < offset and self._doubted:
            self._shrink(None, now)
        elif self._doubted >= self.options.attempts and self.options.follow is Follow.NO:
            self._stop = Stop(error)
        else:
            self._look_again(error, now, chance)

    def _look_again(self, error: errors.TailerError, now: float, chance: float) -> None:
        """Two answers contradict each other: one of them is old. The next one may tell which."""
        # Each HEAD that succeeds makes `_attempt` 0 again, so the contradictions count by themselves.
        self._attempt = max(self._attempt, self._doubted)
        self._doubted += 1
        self._target = 0
        self._doubt = None
        self._try_again(error, now, chance)

    def _may_be_empty(self) -> bool:
        """Is an empty object what the other answers speak of, too? Without HEAD two refusals must do."""
        known = self._doubt or self._seen
        return known is None or known.size == 0 or (self._doubted > 0 and self.options.poll is Poll.GET)

    def _meet_empty(self, now: float) -> None:
        """416 for the first byte: the object is there and empty."""
        known = self._doubt or self._seen
        empty = ObjectMeta(0) if known is None or self._gone else replace(known, size=0, crc64=0)
        self._doubt, self._doubted = None, 0
        if self._meet(empty, now):
            self._target = 0
            self._settle(empty, now)

    def _hopeless(self, error: errors.TailerError) -> bool:
        """Has this request been tried as often as makes sense?"""
        options = self.options
        if options.follow is Follow.NO or (self._seen is None and not options.retry):
            return self._attempt + 1 >= options.attempts
        return isinstance(error, errors.ProtocolError) and self._attempt + 1 >= 3 * options.attempts

    def _try_again(self, error: errors.TailerError, now: float, chance: float) -> None:
        self._attempt += 1
        delay = back_off(self._attempt, chance, error.retry_after)
        self._pause = now + delay
        self._due = self._pause
        self._readahead.restart()
        self._events.append(Failed(error, delay, self._attempt))


def _is_same_version(known: ObjectMeta | None, meta: ObjectMeta) -> bool:
    """Is it the version that a delete marker hid for a while? An append makes no other one ("null" is many's id)."""
    if known is None or known.version_id in (None, "null"):
        return False
    return known.version_id == meta.version_id and known.size <= meta.size


def _changed(known: ObjectMeta, meta: ObjectMeta) -> str | None:
    """Why these two cannot be one growing object, as far as metadata alone can tell."""
    if known.type and meta.type and known.type != meta.type:
        return f"its type was {known.type} and is {meta.type}"
    if known.version_id and meta.version_id and known.version_id != meta.version_id:
        return "its version changed"
    return None
