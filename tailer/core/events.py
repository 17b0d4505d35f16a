"""What the machine of `core.tail` asks for (actions) and what it tells (events). Frozen, without behaviour.

Actions are for the driver: `Head`, `Fetch`, `Receive`, `Cancel`, `Wait`, `Stop`.
Events are for sinks and people: `Batch` and everything that changes what the bytes mean.
All offsets are bytes from the start of the object; `end` is exclusive.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailer.core.position import ObjectMeta, ObjectRef, Position
    from tailer.core.ranges import ByteRange
    from tailer.errors import TailerError

# --- actions


@dataclass(frozen=True, slots=True)
class Head:
    """Ask for the object's metadata; answer with `Tail.observe` or `Tail.fail`."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Start a ranged GET; its answer is wanted when a `Receive` names it.

    The range may reach past the object's end: the service clamps it (x-oss-range-behavior: standard).
    """

    range: ByteRange


@dataclass(frozen=True, slots=True)
class Receive:
    """Await the oldest `Fetch` under way; answer with `Tail.receive` or `Tail.fail`."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """Drop every `Fetch` under way: what they carry is no longer wanted."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until` (seconds on the clock that was passed in)."""

    until: float


@dataclass(frozen=True, slots=True)
class Stop:
    """The end. `error` says why, None when there is nothing more to read."""

    error: TailerError | None = None


Action = Head | Fetch | Receive | Cancel | Wait | Stop

# --- events


@dataclass(frozen=True, slots=True)
class Record:
    """One record, or a piece of one that is longer than the limit.

    `data` is without the delimiter, [start, end) is with it. `first` and `last` are both true for a whole
    record; a piece that does not begin (end) a record has `first` (`last`) false.
    """

    start: int
    end: int
    data: bytes
    first: bool = True
    last: bool = True


@dataclass(frozen=True, slots=True)
class Batch:
    """Bytes [start, end) of one generation of an object, in order, without gap or overlap to its neighbours.

    (object, generation, start, end) is its stable id. `verified`: every byte lies under a link that matched.
    `delimiter` is what ends a record, None for raw bytes; a record longer than `limit` bytes comes in pieces
    of exactly that size, the last one shorter. `first` is false when the batch begins inside a
    record longer than the limit, `last` when it ends inside one.
    """

    object: ObjectRef
    generation: int
    start: int
    end: int
    data: bytes | bytearray | memoryview
    verified: bool
    delimiter: bytes | None = None
    limit: int = 1024 * 1024
    first: bool = True
    last: bool = True

    @property
    def records(self) -> Records:
        """The records in order, to iterate over or to count; a raw batch is one record."""
        return Records(self)


class Records:
    """The records of a batch in order, as often as they are asked for; a raw batch is one record.

    ``len()`` counts them without making them, which is many times faster.
    """

    __slots__ = ("_batch",)

    def __init__(self, batch: Batch) -> None:
        """Had from ``batch.records``."""
        self._batch = batch

    def __iter__(self) -> Iterator[Record]:
        batch = self._batch
        if batch.delimiter is None:
            yield Record(batch.start, batch.end, bytes(batch.data))
            return
        *whole, rest = bytes(batch.data).split(batch.delimiter)
        start, first, limit = batch.start, batch.first, batch.limit
        for data in whole:
            end = start + len(data) + 1
            if len(data) <= limit:
                yield Record(start, end, data, first)
            else:
                yield from _pieces(data, start, end, limit, first, last=True)
            start, first = end, True
        if rest:
            yield from _pieces(rest, start, start + len(rest), limit, first, last=batch.last)

    def __len__(self) -> int:
        batch = self._batch
        if batch.delimiter is None:
            return 1
        data, limit = bytes(batch.data), batch.limit
        count = data.count(batch.delimiter) + (not data.endswith(batch.delimiter) and len(data) > 0)
        at = 0
        while len(data) - at > limit:
            # A stretch of limit + 1 bytes that holds a delimiter holds, up to its last one, no record over the limit.
            if found := data.rfind(batch.delimiter, at, at + limit + 1) + 1:
                at = found
                continue
            end = data.find(batch.delimiter, at + limit + 1)
            length = (len(data) if end < 0 else end) - at
            count += (length - 1) // limit
            at += length + 1
        return count


def _pieces(data: bytes, start: int, end: int, limit: int, first: bool, *, last: bool) -> Iterator[Record]:
    """`data` as one record that ends at `end`, or as several when it is over the limit."""
    while len(data) > limit:
        yield Record(start, start + limit, data[:limit], first, last=False)
        data, start, first = data[limit:], start + limit, False
    yield Record(start, end, data, first, last)


@dataclass(frozen=True, slots=True)
class Verified:
    """Every byte below `position` is proven, but the first `position.unproven` ones: reading began behind byte 0.

    After a resume it is said once even where nothing new came: what was read before is still the object. After a rewind
    it is said again of what still stands, which may be less than was said before.
    """

    position: Position


@dataclass(frozen=True, slots=True)
class Rewound:
    """The chain broke: what was handed out in [to, end) of this generation is void.

    What belongs there comes next, unless another generation begins or the follow ends. Whoever keeps a
    checkpoint commits `Tail.mark`, which has gone back, before a sink acts on this: a crash in between would
    otherwise go on behind bytes that the sink has already dropped.
    """

    generation: int
    to: int
    end: int


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """The bytes [start, end) of this generation were handed out and will never be proven: the object is over.

    Said before the event that begins the next generation. Nothing says that they are wrong. As text: in words.
    """

    generation: int
    start: int
    end: int

    def __str__(self) -> str:
        return f"bytes {self.start} to {self.end} of it went out and were never proven"


@dataclass(frozen=True, slots=True)
class Appeared:
    """The object is there now, after it was missing. A new generation begins at offset 0."""

    generation: int
    meta: ObjectMeta


@dataclass(frozen=True, slots=True)
class Replaced:
    """Another object stands under the name. `generation` is the new one; it begins at offset 0.

    `reason` says in a few words how that was known.
    """

    generation: int
    reason: str


@dataclass(frozen=True, slots=True)
class Truncated:
    """The object is shorter than what was read of it. `generation` is the new one; it begins at offset 0."""

    generation: int
    offset: int
    size: int | None


@dataclass(frozen=True, slots=True)
class Gone:
    """The object was there and is not any more."""

    generation: int
    offset: int


@dataclass(frozen=True, slots=True)
class Sealed:
    """The object is sealed at `size` bytes, and all of them were handed out."""

    size: int


@dataclass(frozen=True, slots=True)
class Unproven:
    """The service states no CRC-64 for this object: from here on nothing can be proven. Said once."""

    generation: int
    offset: int


@dataclass(frozen=True, slots=True)
class Failed:
    """A request failed with `error`; it is tried again after `delay` seconds, for the `attempt`-th time."""

    error: TailerError
    delay: float
    attempt: int


@dataclass(frozen=True, slots=True)
class Grew:
    """The service said that the object is now `size` bytes long: the high-water mark. [offset, size) is lag."""

    generation: int
    offset: int
    size: int


Event = (
    Batch
    | Verified
    | Rewound
    | Unconfirmed
    | Appeared
    | Replaced
    | Truncated
    | Gone
    | Sealed
    | Unproven
    | Failed
    | Grew
)
