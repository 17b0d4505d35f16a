"""Bytes in, whole records out, the remainder kept; and where the last records of an object begin."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

from tailer.core.ranges import ByteRange

_LOOKED_THROUGH = 64 * 1024
_FIRST_BLOCK = 16 * 1024
_LARGEST_BLOCK = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Frame:
    """Bytes that end where a record ends, or, with `last` false, inside one longer than the limit.

    `first` is false when they begin inside such a record.
    """

    data: bytes | bytearray | memoryview
    first: bool = True
    last: bool = True


class Framer:
    """Cuts a stream after a delimiter of one byte; without one, everything passes as it comes.

    A record longer than `limit` bytes (its delimiter not counted) is passed on in pieces of exactly `limit`
    bytes from its beginning, so that the pieces do not depend on how the bytes happened to arrive. At most
    `limit` bytes are kept.
    """

    def __init__(self, delimiter: bytes | None, limit: int, *, inside: bool = False) -> None:
        if delimiter is not None and len(delimiter) != 1:
            raise ValueError(f"a delimiter is one byte, not {delimiter!r}")
        if limit < 1:
            raise ValueError(f"a record has at least one byte, not {limit}")
        self._delimiter = delimiter
        self._limit = limit
        self._kept = b""
        self.inside = inside

    @property
    def kept(self) -> bytes:
        """The bytes that wait for the end of their record."""
        return self._kept

    def before(self, length: int) -> Framer:
        """This framer as it was when only the first `length` of the `kept` bytes had come."""
        earlier = copy(self)
        earlier._kept = self._kept[:length]
        return earlier

    def feed(self, data: bytes | bytearray | memoryview) -> Frame | None:
        """Take the next bytes; give what can be handed on, None when no record (or piece) is complete."""
        if self._delimiter is None:
            return Frame(data) if len(data) else None
        view, before = memoryview(data), len(self._kept)
        cut = _end_of_records(view, self._delimiter)
        unfinished = len(view) - cut + (0 if cut else before)
        whole = max(0, unfinished - 1) // self._limit * self._limit
        if not cut + whole:
            self._kept += view
            return None
        end = cut + whole - (0 if cut else before)
        frame = Frame(b"".join((self._kept, view[:end])), first=not self.inside, last=not whole)
        self._kept = bytes(view[end:])
        self.inside = not frame.last
        return frame

    def rest(self) -> Frame | None:
        """At the very end of an object: the last record, which has no delimiter."""
        return Frame(self._kept, first=not self.inside) if self._kept else None


def _end_of_records(view: memoryview, delimiter: bytes) -> int:
    """The index behind the last delimiter, 0 when there is none. Mostly it is near the end: little is copied."""
    for stop in range(len(view), 0, -_LOOKED_THROUGH):
        start = max(0, stop - _LOOKED_THROUGH)
        if found := bytes(view[start:stop]).rfind(delimiter) + 1:
            return start + found
    return 0


class LastRecords:
    """Finds where the last `count` records of an object of `size` bytes begin, by reading it backwards.

    Ask `next_range`, read it, `feed` the bytes, until it gives None; then `start` is the offset (bytes).
    As with GNU tail, a last record without its delimiter counts as one. The first block is 16 KiB, each
    further one four times larger, up to 4 MiB: the usual case costs one request, a far one few.
    """

    def __init__(self, size: int, count: int, delimiter: bytes = b"\n") -> None:
        if len(delimiter) != 1:
            raise ValueError(f"a delimiter is one byte, not {delimiter!r}")
        self._delimiter = delimiter
        self._stop = size
        self._wanted = count
        self._block = _FIRST_BLOCK
        self._at_end = True
        self._done = count <= 0 or size == 0
        self.start = size

    def next_range(self) -> ByteRange | None:
        """The bytes to read next, None when `start` is known."""
        if self._done:
            return None
        return ByteRange(max(0, self._stop - self._block), self._stop)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Take the bytes of the range asked for last. Raises ValueError if they are not all there."""
        asked = self.next_range()
        if asked is None or len(data) != len(asked):
            raise ValueError(f"{len(data)} bytes for {asked}")
        block = bytes(data)
        end = len(block)
        if self._at_end and block.endswith(self._delimiter):
            end -= 1
        self._at_end = False
        found = block.count(self._delimiter, 0, end)
        if found >= self._wanted:
            self._finish(asked.start + self._nth_from_end(block, end) + 1)
        elif asked.start == 0:
            self._finish(0)
        else:
            self._wanted -= found
            self._stop = asked.start
            self._block = min(self._block * 4, _LARGEST_BLOCK)

    def _nth_from_end(self, block: bytes, end: int) -> int:
        """The index of the delimiter before the first wanted record."""
        for _ in range(self._wanted):
            end = block.rfind(self._delimiter, 0, end)
        return end

    def _finish(self, start: int) -> None:
        self.start, self._done = start, True
