"""`-o PATH --rotate-size SIZE`: one object mirrored into segments, which are one after the other a prefix of it.

A segment is named by the offset of its first byte, in 20 digits: ``PATH.00000000000000000000`` and so on. In the
order of their names they are the object. What is certain of one file (`FileMirror`) is certain of all together.

A new generation of the object begins at ``PATH%g1.00000000000000000000``, the next one at ``PATH%g2.…``; those of the
old one stay. The latest that has a segment is the one to go on with.

Below a folder each object has its own segments, see `names.segments_path`.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tailer.core import crc64
from tailer.core.position import Position
from tailer.errors import SinkError
from tailer.sinks.file import OPEN_FLAGS, FileMirror, Left, Manner, Place, is_at, opening, regular, write_in_full
from tailer.sinks.fsync import NEVER, Fsync
from tailer.sinks.names import segments_path
from tailer.sinks.proven import ProvenNote

if TYPE_CHECKING:
    from tailer.core.events import Batch
    from tailer.core.position import ObjectRef

_READ_BLOCK = 1 << 20
_DEFAULT_SIZE = 64 << 20
_MARK = re.compile(r"(?:%g([1-9][0-9]{0,8}))?\.([0-9]{20})")
_OLD = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NEW = _OLD | os.O_CREAT | os.O_EXCL


class RotatedMirror(FileMirror):
    """A sink that keeps the segments at `path` a prefix of one object. Made by `open` or `open_below`.

    The first segment of all is locked as long as the mirror is open. A segment that was closed is not written again,
    unless its bytes turn out void.
    """

    def __init__(self, descriptor: int, place: Place, path: Path, manner: Manner) -> None:
        """Take over `descriptor`, the first segment, open for reading and writing and locked."""
        super().__init__(descriptor, place, path, manner)
        self._locked_first = os.dup(descriptor)
        self._size = _DEFAULT_SIZE
        self._enter_generation(0)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        rotate_size: int = _DEFAULT_SIZE,
        fsync: Fsync = NEVER,
        expect_proof: bool = True,
        keep_generations: bool = True,
    ) -> RotatedMirror:
        """Open the segments at `path`, or create the first, without changing what stands there.

        `rotate_size`: a segment has at most so many bytes; a record (of framed batches) that is longer has one of its
        own. It may be another on every run. Old generations stay, whatever `keep_generations` says. The rest is as for
        `FileMirror.open`.

        Raises SinkError when there are segments but not the first one, and as `FileMirror.open` does.
        """
        path = Path(path)
        if path.is_dir():
            raise SinkError(f"cannot mirror to {str(path)!r}: is a directory", hint="end it with / to mirror into it")
        true = Path(os.path.realpath(path))
        manner = Manner(fsync, expect_proof, keep_generations)
        return cls._with_size(rotate_size, path, Place(true.parent, (true.name,)), manner)

    @classmethod
    def open_below(
        cls,
        folder: str | os.PathLike[str],
        ref: ObjectRef,
        *,
        rotate_size: int = _DEFAULT_SIZE,
        fsync: Fsync = NEVER,
        expect_proof: bool = True,
        keep_generations: bool = True,
    ) -> RotatedMirror:
        """Open the segments of `ref` below `folder`, and make the folders on the way (`segments_path`).

        `folder` itself may be reached through symbolic links; below it none is followed. The rest is as for `open`.
        Raises SinkError like it.
        """
        folder = Path(folder)
        path = segments_path(folder, ref)
        manner = Manner(fsync, expect_proof, keep_generations)
        with opening(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return cls._with_size(rotate_size, path, Place(folder, path.relative_to(folder).parts), manner)

    @classmethod
    def _with_size(cls, size: int, path: Path, place: Place, manner: Manner) -> RotatedMirror:
        mirror = cls._locked(partial(_open_first, place), place, place.path(_mark(0, 0)), manner)
        mirror.path = mirror._asked = path
        mirror._size = size
        return mirror

    # --- what stands there

    def _measure(self) -> tuple[Position, Position]:
        with self._changing("cannot read the segments of"), self._place.entered() as folder:
            found = _segments(self._place.name, os.listdir(folder))
            self._enter_generation(max(found, default=0))
            starts = found.get(self._generation, [0])
            noted = self._note.noted()
            offset = crc = 0
            proven: Position | None = None
            for self._starts in (starts[: count + 1] for count in range(len(starts))):
                if self._starts[-1] != offset:
                    raise _gap(self.path, offset, self._segment())
                self._turn_to(os.open(self._segment(), _OLD, dir_fd=folder))
                here, end = 0, os.fstat(self._descriptor).st_size
                while here < end:
                    until = end
                    if noted is not None and offset < noted.offset:
                        until = min(end, here + noted.offset - offset)
                    block = os.pread(self._descriptor, min(_READ_BLOCK, until - here), here)
                    if not block:
                        break
                    if noted is not None and noted == Position(offset, crc):
                        proven = noted
                    crc = crc64.update(block, crc)
                    here, offset = here + len(block), offset + len(block)
        whole = Position(offset, crc)
        return whole, proven or whole  # a note about other bytes than those that stand there counts as none

    def _find_end(self, left: Left) -> None:
        with self._place.entered() as folder:
            found = _segments(self._place.name, os.listdir(folder))
            self._enter_generation(max(found, default=0))
            self._starts = found.get(self._generation, [0])
            if self._starts[-1] == left.position.offset - left.size:
                self._turn_to(os.open(self._segment(), _OLD, dir_fd=folder))

    def is_in_place(self) -> bool:
        return is_at(self._descriptor, self._place.path(_mark(self._generation, self._starts[-1])))

    def _length(self) -> int:
        return self._starts[-1] + super()._length()

    def _segment(self) -> str:
        """The name of the one that is written now."""
        return self._place.name + _mark(self._generation, self._starts[-1])

    def _turn_to(self, descriptor: int) -> None:
        regular(descriptor, self._place.path(_mark(self._generation, self._starts[-1])))
        os.close(self._descriptor)
        self._descriptor = descriptor

    def _enter_generation(self, number: int) -> None:
        self._generation = number
        self._starts = [0]
        # The note of PATH itself is another mirror's.
        self._note = ProvenNote(self._place.path(f"%g{number}"), durable=self._manner.fsync.at_close)

    # --- what comes and goes

    async def write(self, batch: Batch) -> None:
        """As `FileMirror.write`; in a thread where a segment that is closed has to be forced to the disk."""
        self._slow = self._slow or self._manner.fsync.at_close
        await super().write(batch)

    def _put(self, batch: Batch, offset: int) -> None:
        left, within = memoryview(batch.data).cast("B"), not batch.first
        while left:
            used = offset - self._starts[-1]
            count = _share(left, self._size - used, batch.delimiter, may_close=used > 0 and not within)
            if count:
                write_in_full(self._descriptor, left[:count], used)
                left, offset, within = left[count:], offset + count, False
            if left:
                self._next_segment(offset)

    def _next_segment(self, start: int) -> None:
        """Close the segment and begin the one at `start`. Raises OSError, and SinkError for a failed fsync."""
        if self._manner.fsync.at_close:
            self._force(os.dup(self._descriptor))
        with self._place.entered() as folder:
            descriptor = os.open(self._place.name + _mark(self._generation, start), _NEW, 0o666, dir_fd=folder)
        self._starts.append(start)
        self._turn_to(descriptor)
        self._named = False

    def _cut(self, length: int) -> None:
        if length >= self._length():
            return
        with self._changing(f"cannot cut back to {length} bytes"), self._place.entered() as folder:
            while self._starts[-1] > length:  # the last one first: a kill between leaves no gap
                os.unlink(self._segment(), dir_fd=folder)
                self._starts.pop()
                self._turn_to(os.open(self._segment(), _OLD, dir_fd=folder))
            os.ftruncate(self._descriptor, length - self._starts[-1])

    def _start_over(self, why: str) -> None:
        if self._inherited or not self._proven.offset:
            self._take_back(0, why)
            return
        self._cut(self._proven.offset)
        self._drop_note()
        with self._changing("cannot begin a new generation beside"):
            number = self._generation + 1
            with self._place.entered() as folder:
                descriptor = os.open(self._place.name + _mark(number, 0), _NEW, 0o666, dir_fd=folder)
            self._enter_generation(number)
            self._turn_to(descriptor)
        self._proven, self._named = Position(), False

    def _close(self) -> None:
        if self._descriptor < 0:
            return
        try:
            if self._generation and not self._length():
                with self._changing("cannot remove an empty segment of"), self._place.entered() as folder:
                    os.unlink(self._segment(), dir_fd=folder)
                self._drop_note()
        finally:
            os.close(self._locked_first)
            super()._close()


def _mark(generation: int, start: int) -> str:
    """What the name of a segment has behind that of the mirror."""
    return f"{f'%g{generation}' if generation else ''}.{start:020}"


def _segments(name: str, names: list[str]) -> dict[int, list[int]]:
    """Of each generation where its segments begin, in order."""
    marks = sorted(one[len(name) :] for one in names if one.startswith(name))  # few, where a folder has many objects
    found: dict[int, list[int]] = {}
    for match in filter(None, map(_MARK.fullmatch, marks)):
        found.setdefault(int(match[1] or 0), []).append(int(match[2]))
    return found


def segment_paths(path: str | os.PathLike[str]) -> dict[int, Path]:
    """The segments of the mirror at `path` by the offset of their first byte, in order: of its latest generation.

    Empty where there is none; the first ones may have been moved away. Raises SinkError where they do not join
    otherwise, or cannot be read.
    """
    path = Path(path)
    try:
        found = _segments(path.name, os.listdir(path.parent))
        latest = max(found, default=0)
        segments = {start: path.with_name(path.name + _mark(latest, start)) for start in found.get(latest, [])}
        end = min(segments, default=0)
        for start, segment in segments.items():
            if start != end:
                raise _gap(path, end, segment.name)
            end += segment.stat().st_size
    except OSError as error:
        raise SinkError(f"cannot read the segments of {str(path)!r}: {error.strerror or error}") from error
    return segments


def _open_first(place: Place) -> int:
    first = place.path(_mark(0, 0))
    with place.entered() as folder:
        starts = _segments(place.name, os.listdir(folder)).get(0)
        if starts and starts[0]:
            raise _gap(place.path(), 0, place.name + _mark(0, starts[0]))
        try:
            return regular(os.open(first.name, OPEN_FLAGS | os.O_NOFOLLOW, 0o666, dir_fd=folder), first)
        except IsADirectoryError as error:
            hint = "move it away or mirror to another path"
            raise SinkError(f"cannot mirror to {str(first)!r}: is a directory", hint=hint) from error


def _gap(path: Path, offset: int, name: str) -> SinkError:
    return SinkError(
        f"the segments of {str(path)!r} do not join: byte {offset} is wanted, but the next one is {name!r}",
        hint="nothing was changed; move them away or mirror to another path",
    )


def _share(data: memoryview, room: int, delimiter: bytes | None, *, may_close: bool) -> int:
    """How many bytes of `data` go into a segment with so much `room`: records (if `delimiter`) stay whole."""
    if len(data) <= room:
        return len(data)
    if delimiter is None:
        return max(0, room)
    cut = bytes(data[: max(0, room)]).rfind(delimiter)
    if cut >= 0:
        return cut + len(delimiter)
    if may_close:
        return 0
    end = bytes(data).find(delimiter)
    return len(data) if end < 0 else end + len(delimiter)
