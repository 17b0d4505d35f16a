"""Where output begins: the last lines or bytes, a byte from the start, or byte 0; found with few requests."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tailer.core import crc64
from tailer.core.events import Batch, Event, Rewound
from tailer.core.framing import LastRecords
from tailer.core.options import Integrity
from tailer.core.position import Claim, Link, Mark, ObjectMeta, ObjectRef, Position
from tailer.core.ranges import ByteRange
from tailer.errors import ChainBroken, ObjectReplaced, RangeNotSatisfiable

if TYPE_CHECKING:
    from tailer.cli.options import Amount
    from tailer.follow import CheckpointStore, ObjectReader, Sink, Window

_MOST_IN_HAND = 8 * 1024 * 1024
_SMALL = 1024 * 1024
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Start:
    """Where to follow from, and what of the output is in hand already.

    `ready` goes out first and ends at `mark`; `complete`: when it was read, nothing lay behind it. Bytes
    below `skip_bytes`, and the first `skip_lines` lines, are read (to prove them, or to count them) but not output.
    """

    mark: Mark = field(default_factory=Mark)
    links: tuple[Link, ...] = ()
    ready: Batch | None = None
    complete: bool = False
    skip_bytes: int = 0
    skip_lines: int = 0


async def find_start(
    reader: ObjectReader, ref: ObjectRef, amount: Amount, *, delimiter: bytes, integrity: Integrity, in_hand: bool
) -> Start:
    """Find it. `in_hand`: bytes that had to be read for this may be handed over as `Start.ready`.

    Costs nothing when output begins at byte 0, else a HEAD, and for the last lines one ranged GET or few; once
    again so much when the object grew between the two.
    Raises what the reader raises, ObjectReplaced when the object does not hold still while it is read, and
    ChainBroken when all of it was read, several times, and its CRC-64 is never the one that is stated.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return await _Search(reader, ref, amount, delimiter, integrity, in_hand).run()
        except (ChainBroken, ObjectReplaced, RangeNotSatisfiable):
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


@dataclass(frozen=True, slots=True)
class _Search:
    reader: ObjectReader
    ref: ObjectRef
    amount: Amount
    delimiter: bytes
    integrity: Integrity
    in_hand: bool

    async def run(self) -> Start:
        amount = self.amount
        if amount.from_start and amount.lines:
            return Start(skip_lines=max(0, amount.count - 1))
        if amount.from_start and amount.count <= 1:
            return Start()
        meta = await self.reader.head(self.ref)
        if amount.from_start:
            return self._at(min(amount.count - 1, meta.size), meta, skip_bytes=amount.count - 1)
        return await self._from_end(meta)

    def _at(self, offset: int, meta: ObjectMeta, *, skip_bytes: int) -> Start:
        """Begin to read at `offset`, which the CRC-64 of `meta` ties; strictly, nothing is proven but from byte 0."""
        if self.integrity is Integrity.STRICT or offset == 0:
            return Start(skip_bytes=skip_bytes)
        crc = meta.crc64 if offset == meta.size else None
        links = () if meta.link is None else (meta.link,)
        mark = Mark.at(Position.unread(offset, crc))
        return Start(mark, links, complete=offset == meta.size, skip_bytes=skip_bytes)

    async def _from_end(self, meta: ObjectMeta, *, is_fresh: bool = False) -> Start:
        """The last lines or bytes of what `meta` describes; of more than that if it turns out to be old."""
        search = self._last_lines(meta) if self.amount.lines else self._last_bytes(meta)
        start, windows = await search
        newest = max((window.meta for window in windows), key=lambda answer: answer.size, default=meta)
        if newest.size > meta.size and not is_fresh:
            return await self._from_end(newest, is_fresh=True)
        return self._ready(start, meta, windows)

    async def _last_bytes(self, meta: ObjectMeta) -> tuple[int, list[Window]]:
        start = max(0, meta.size - self.amount.count)
        if not 0 < meta.size - start <= _SMALL:
            return start, []
        return start, [await self._read(ByteRange(start, meta.size), meta)]

    async def _last_lines(self, meta: ObjectMeta) -> tuple[int, list[Window]]:
        """Their offset, and what was read for it and is not too much to keep, backwards."""
        search = LastRecords(meta.size, self.amount.count, self.delimiter)
        windows: list[Window] = []
        while (wanted := search.next_range()) is not None:
            window = await self._read(wanted, meta)
            search.feed(window.data)
            if meta.size - window.start <= _MOST_IN_HAND:
                windows.append(window)
        return search.start, windows

    async def _read(self, wanted: ByteRange, meta: ObjectMeta) -> Window:
        """A part of the very object that `meta` describes; it may have grown."""
        window = await self.reader.fetch(self.ref, wanted)
        if len(window.data) != len(wanted) or not _continues(meta, window.meta):
            raise ObjectReplaced(f"{self.ref}: it changes while its end is looked for")
        return window

    def _ready(self, start: int, meta: ObjectMeta, windows: list[Window]) -> Start:
        """Hand over [start, size) if it is all there and may go out as it is."""
        whole = windows and windows[-1].start <= start
        if not (whole and self.in_hand and self._may_go_out([meta, *(window.meta for window in windows)])):
            return self._at(start, meta, skip_bytes=start)
        joined = b"".join(bytes(window.data) for window in reversed(windows))
        proven = windows[-1].start == 0 and meta.crc64 is not None and self.integrity is not Integrity.OFF
        if proven and (computed := crc64.update(joined)) != meta.crc64:
            if start == 0:
                # Noise or a replacement: reading from byte 0 by the rules decides which.
                return Start()
            raise ChainBroken(
                f"{self.ref}: CRC-64 of the first {meta.size} bytes is {computed}, the service states {meta.crc64}"
            )
        output = memoryview(joined)[start - windows[-1].start :]
        return Start(
            Mark.at(Position(meta.size, meta.crc64) if proven else self._behind(start, output, meta)),
            ready=Batch(self.ref, 0, start, meta.size, output, verified=proven),
            complete=all(window.meta.size == meta.size for window in windows),
        )

    def _behind(self, start: int, output: memoryview, meta: ObjectMeta) -> Position:
        """The end of what `meta` describes; only the bytes below `start` can prove the output that begins there."""
        if self.integrity is Integrity.OFF:
            return Position(meta.size, None)
        return Position(meta.size, meta.crc64, claim=Claim(start, meta.size, crc64.update(output), meta.crc64))

    def _may_go_out(self, answers: list[ObjectMeta]) -> bool:
        """Without a CRC the machine has its say; strictly, only proven bytes go out."""
        if self.integrity is Integrity.STRICT:
            return False
        return self.integrity is Integrity.OFF or all(answer.crc64 is not None for answer in answers)


def _continues(meta: ObjectMeta, later: ObjectMeta) -> bool:
    """Can `later` be the object of `meta`, the same or grown?"""
    if later.size < meta.size or (meta.type and later.type and meta.type != later.type):
        return False
    if meta.version_id and later.version_id and meta.version_id != later.version_id:
        return False
    return later.size > meta.size or later.crc64 is None or meta.crc64 is None or later.crc64 == meta.crc64


class Skipping:
    """Leaves out the bytes below `offset`, or the first `lines` lines, of the first generation; the rest passes.

    They are counted by their offsets, so that a rewind does not count a line twice.
    """

    def __init__(self, sink: Sink, *, offset: int = 0, lines: int = 0, delimiter: bytes = b"\n") -> None:
        self._sink = sink
        self._delimiter = delimiter
        self._lines = lines
        self._offset: int | None = offset if lines == 0 else None
        self._seen = [(0, 0)]  # (offset, lines that end at or before it), for every batch left out whole

    async def write(self, batch: Batch) -> None:
        """Pass on what is not to be left out; nothing when that is all of it."""
        if batch.generation > 0:
            await self._sink.write(batch)
            return
        if self._offset is None:
            self._count(batch)
        offset = batch.end if self._offset is None else self._offset
        if offset < batch.end:
            cut = max(0, offset - batch.start)
            await self._sink.write(replace(batch, start=batch.start + cut, data=memoryview(batch.data)[cut:]))

    async def notice(self, event: Event) -> None:
        """Pass it on; a rewind over what was left out takes back the count, and is nobody's concern."""
        if isinstance(event, Rewound) and event.generation == 0:
            if self._offset is None:
                del self._seen[bisect_right(self._seen, (event.to, self._lines)) :]
            if self._offset is None or event.end <= self._offset:
                return
            event = replace(event, to=max(event.to, self._offset))
        await self._sink.notice(event)

    async def close(self) -> None:
        """Close the sink."""
        await self._sink.close()

    def end(self) -> None:
        """The lines to leave out were all that there are: as with GNU tail, what is appended now goes out."""
        if self._offset is None:
            self._offset = self._seen[-1][0]

    def leaves_out(self, mark: Mark) -> bool:
        """Has output not begun yet, when so much was read?"""
        at = mark.delivered
        return at.generation == 0 and (self._offset is None or at.offset < self._offset)

    def _count(self, batch: Batch) -> None:
        _, before = self._seen[-1]
        data = bytes(batch.data)
        found = data.count(self._delimiter)
        if before + found < self._lines:
            self._seen.append((batch.end, before + found))
            return
        index = -1
        for _ in range(self._lines - before):
            index = data.find(self._delimiter, index + 1)
        self._offset = batch.start + index + 1


class HeldBack:
    """A `CheckpointStore` that keeps no mark while all was left out so far: a restart must leave it out again."""

    def __init__(self, store: CheckpointStore, skipping: Skipping) -> None:
        self._store = store
        self._skipping = skipping
        self._held: tuple[ObjectRef, Mark] | None = None

    async def commit(self, ref: ObjectRef, mark: Mark) -> None:
        """Keep the mark, or hold it back."""
        if self._skipping.leaves_out(mark):
            self._held = ref, mark
        else:
            await self._store.commit(ref, mark)

    async def release(self) -> None:
        """Output begins behind what was left out, though nothing of it came yet (`Skipping.end`)."""
        if self._held is not None:
            await self.commit(*self._held)
