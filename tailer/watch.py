"""A growing local file as one stream of bytes: through renames, copy-and-truncate, deletion and a restart.

The stream is told by its CRC-64: `Mark` says at which position of the object the present file begins, so that a file
is the one that was being sent exactly if its next bytes take the CRC-64 from there to the object's own. A name, an
inode or a time is only where the search begins.

The file is looked at again and again (`FileFollower.poll`): a look costs microseconds, misses nothing, and works
on network file systems, which tell nobody of what other machines do.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailer.core import crc64
from tailer.core.position import Position
from tailer.errors import CheckpointError, PositionConflict, SourceLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_CHUNK = 1 << 20
# So much of the beginning, and of what was read last, is compared at each look: it finds a file out that was
# truncated and has grown again.
_WINDOW = 1024
_REMEMBERED = 64
_VERSION = 1
_ROTATED = r"[.-](?:old$|\d)[\w.:+-]*"
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".Z")


@dataclass(frozen=True, slots=True)
class Sent:
    """A file that is not to be sent again: its first `length` bytes take a CRC-64 from `before` to `after`.

    It was sent to its end, or is a copy of what was. `is_older`: it was there before anything was sent, and `length`
    is that of its head.
    """

    device: int
    inode: int
    length: int
    before: int
    after: int
    is_older: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """Which file is being sent, and where in the object it begins.

    `began` is the file's modification time (ns) then, `head` the length and CRC-64 of what it began with.
    """

    device: int
    inode: int
    began: int
    head: tuple[int, int]
    start: Position
    sent: tuple[Sent, ...] = ()


@dataclass(slots=True, eq=False)
class _File:
    """An open file of which `at` bytes were read, and the name that it had when it was opened."""

    path: Path
    descriptor: int
    status: os.stat_result
    at: int = 0
    first: bytes = b""
    last: bytes = b""
    is_copy: bool = False
    is_followed: bool = False

    def took(self, data: bytes) -> None:
        self.at += len(data)
        self.first = (self.first + data[:_WINDOW])[:_WINDOW]
        self.last = (self.last + data[-_WINDOW:])[-_WINDOW:]

    def resume(self, at: int) -> None:
        """All before `at` counts as read."""
        self.at = at
        self.first = os.pread(self.descriptor, min(at, _WINDOW), 0)
        self.last = os.pread(self.descriptor, min(at, _WINDOW), at - min(at, _WINDOW))

    def is_intact(self) -> bool:
        """Whether what was read is there still. Asked behind a reading, it vouches for that, too."""
        first = os.pread(self.descriptor, len(self.first), 0)
        last = os.pread(self.descriptor, len(self.last), self.at - len(self.last))
        return (first, last) == (self.first, self.last)

    def was_truncated(self) -> bool:
        """Whether it was since it was opened, as far as that can be seen."""
        return os.fstat(self.descriptor).st_size < self.status.st_size or not self.is_intact()

    def is_same(self, other: _File) -> bool:
        return os.path.samestat(self.status, other.status)

    def is_of(self, mark: Mark) -> bool:
        return (self.status.st_dev, self.status.st_ino) == (mark.device, mark.inode)

    def begins_with(self, other: _File) -> bool:
        """Whether it has all that `other` has, at its beginning."""
        at, size = 0, _WINDOW  # most differ in their first bytes, or behind a banner
        while data := os.pread(other.descriptor, size, at):
            if os.pread(self.descriptor, len(data), at) != data:
                return False
            at, size = at + len(data), min(4 * size, _CHUNK)
        return True

    def began_with(self, other: _File) -> bool:
        """`begins_with` for what was read. After a truncation no more of that is known than its first bytes."""
        if self.is_intact():
            return self.begins_with(other)
        return other.status.st_size <= self.at and self.first.startswith(os.pread(other.descriptor, _WINDOW, 0))

    def is_at(self, path: Path) -> bool:
        status = path.stat()
        return (status.st_dev, status.st_ino) == (self.status.st_dev, self.status.st_ino)


class FileFollower:
    """Follows what `path` names, as ``tail -F`` does, and finds again what was rotated away.

    `on_note` is told of what a person should know. `linger`: a renamed file counts as finished when for so many
    seconds its successor had bytes and it got none.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_note: Callable[[str], None],
        skip_lost: bool = False,
        linger: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._note = on_note
        self._skip_lost = skip_lost
        self._linger = linger
        self._clock = clock
        self._file: _File | None = None
        self._mark: Mark | None = None
        self._sent: tuple[Sent, ...] = ()
        self._queue: list[_File] = []
        self._finished_at = 0
        self._compressed: set[Path] = set()
        self._late: set[Sent] = set()
        self._copies: set[tuple[int, int]] = set()
        self._position = Position()
        self._quiet_since: float | None = None  # when it was first seen that it may be finished
        self._said = ""
        self._is_live = False

    def resume(self, mark: Mark | None, end: Position) -> None:
        """Find what comes behind `end`, the object's present length and CRC-64. Reads all that the object has
        of the file.

        Raises PositionConflict when the object cannot have come from here, SourceLost when what comes next is not to
        be found (not with `skip_lost`), and OSError for what is no regular file or cannot be read.
        """
        self._position = end
        with suppress(FileNotFoundError):
            os.close(_open(self._path).descriptor)
        if mark is None:
            self._resume_without(end)
        else:
            self._resume_behind(mark, end)
        self._is_live = True

    @property
    def mark(self) -> Mark | None:
        """Of the file that is being sent; None before there is one."""
        return self._mark

    def poll(self) -> bytes | Mark | None:
        """What comes next: bytes; or a mark, when another file begins, to be kept before any byte of that is
        sent; or None when there is nothing now.

        Raises SourceLost like `resume`.
        """
        if self._file is None:
            return self._begin_next()
        data = os.pread(self._file.descriptor, _CHUNK, self._file.at)
        if self._file.at == 0 and self._is_overtaken(self._file, data):
            return None
        if not self._file.is_intact():
            self._find_copy(self._file)
            return None
        if data:
            self._file.took(data)
            self._position = _behind(self._position, data)
            self._quiet_since = None
            return data
        if self._is_finished(self._file):
            self._finish(self._file)
            return self._begin_next()
        return None

    def close(self) -> None:
        """Close all files."""
        self._let_go()
        self._line_up([])

    def _let_go(self) -> None:
        if self._file is not None:
            os.close(self._file.descriptor)
            self._file = None

    def _line_up(self, queue: list[_File]) -> None:
        """These come next, and nothing else."""
        _close_all(self._queue)
        self._queue = queue

    # --- where to go on

    def _resume_behind(self, mark: Mark, end: Position) -> None:
        self._mark, self._sent = mark, mark.sent
        length = end.offset - mark.start.offset
        if length < 0:
            raise _conflict(f"the object has {end.offset} bytes, and had {mark.start.offset} before: it was replaced",
                            mark.start, end)  # fmt: skip
        if length == 0 and end.crc64 == mark.start.crc64:
            self._resume_at_beginning(mark)
        elif (file := self._find(mark, length, end)) is not None:
            self._file = file
        else:
            self._give_up(
                f"no file beside {self._path}, nor itself, begins with the {length} bytes that the object has of it: "
                "it was removed, compressed or truncated, or the object has another writer"
            )

    def _resume_without(self, end: Position) -> None:
        """Without a mark the object must be the beginning of the file; or there is nothing yet."""
        if end.offset == 0:
            return
        with suppress(FileNotFoundError):
            file = _open(self._path)
            file.resume(end.offset)
            if _has(file.descriptor, end.offset, 0, end.crc64):
                self._file = file
                self._sent = self._older(file)
                self._mark = _mark(file, Position(), self._sent)
                return
            os.close(file.descriptor)
        raise _conflict(
            f"the object has {end.offset} bytes, and they are not the beginning of {self._path}", Position(), end
        )

    def _resume_at_beginning(self, mark: Mark) -> None:
        """Nothing of the file was sent. It, or its copy, is the first of those that were written to since."""
        length, crc = mark.head
        for _ in range(2):  # it may be truncated, and its copy completed, during the first look
            queue = self._newer(mark, with_marked=True)
            if not length or any(_has(file.descriptor, length, 0, crc) for file in queue):
                break
            _close_all(queue)
        else:
            self._give_up(f"no file beside {self._path}, nor itself, begins as it did: it was removed or truncated")
            return
        if not _is_among(mark, queue):
            self._note(f"what {self._path} was when it was begun is not there: what it had, if anything, is lost")
        self._line_up(queue)

    def _find(self, mark: Mark, length: int, end: Position, *, truncated: _File | None = None) -> _File | None:
        """The file of the mark, renamed or as a copy, proven to have what the object has of it."""
        files = self._files()
        others = [file for file in files if truncated is None or not file.is_same(truncated)]
        fitting = [file for file in others if self._may_be(mark, file) and _is_of(mark, file, length, end)]
        found = self._original(mark, fitting)
        if files and files[-1].is_followed and files[-1].was_truncated():  # meanwhile: all of that is in doubt
            _close_all(files)
            return self._find(mark, length, end, truncated=truncated)
        _close_all(file for file in files if file is not found)
        if found is not None:
            found.is_copy = not found.is_of(mark)
            if truncated is None and not _is_among(mark, files):
                self._note(
                    f"the file that was being sent is not there any more: going on in {found.path}, which begins with "
                    f"the {length} bytes that were sent of it"
                )
        return found

    def _may_be(self, mark: Mark, file: _File) -> bool:
        return file.is_of(mark) or (file.status.st_mtime_ns >= mark.began and not self._was_sent(file))

    def _original(self, mark: Mark, files: list[_File]) -> _File | None:
        """Of files that begin alike the oldest one: behind it the file was truncated. But one of which a later one has
        all is a copy, made by somebody or being made."""
        for number, file in enumerate(files):
            other = next((other for other in files[number + 1 :] if other.begins_with(file)), None)
            if other is None or file.is_of(mark):
                return file
            self._say_copy(file, other if other.is_followed else None)
        return None

    def _find_copy(self, file: _File) -> None:
        """The file was truncated: go on in the copy that was made of it, or, if there is none, at its beginning."""
        assert self._mark is not None  # since a file was begun
        length = self._position.offset - self._mark.start.offset
        copy = self._find(replace(self._mark, inode=-1), length, self._position, truncated=file)
        if copy is None:
            self._note(
                f"{self._path}: file truncated, and there is no copy of it: what it had behind byte {length}, if "
                "anything, is lost"
            )
            self._line_up(self._newer(self._mark, finished=file))
        self._let_go()
        self._file = copy

    def _is_overtaken(self, file: _File, data: bytes) -> bool:
        """Whether it was copied and truncated before any of it was read: then the copy comes first."""
        assert self._mark is not None  # since a file was begun
        status = os.fstat(file.descriptor)
        if not data and status.st_mtime_ns == file.status.st_mtime_ns:
            return False
        file.status = status
        queue = self._newer(self._mark, with_marked=True)
        # First of all, or not there any more: removed or moved, it is read all the same.
        if not any(other.is_same(file) for other in queue[1:]):
            _close_all(queue)
            return False
        self._let_go()
        self._line_up(queue)
        return True

    def _give_up(self, what: str) -> None:
        assert self._mark is not None  # it is what was looked for
        if not self._skip_lost:
            raise SourceLost(what, hint="--skip-lost goes on without it")
        self._note(f"{what}: going on with what is there")
        self._line_up(self._newer(self._mark, with_marked=True))

    # --- from one file to the next

    def _is_finished(self, file: _File) -> bool:
        """Whether another file stands in its place, and it gets no more bytes."""
        try:
            has_successor = self._has_successor(file)
        except OSError as error:
            self._say_waiting(error)
            return False
        if file.is_copy:
            return has_successor is not None
        if not has_successor:
            self._quiet_since = None
            return False
        if self._quiet_since is None:
            self._quiet_since = self._clock()
        return self._is_long_past(file) or self._clock() - self._quiet_since >= self._linger

    def _has_successor(self, file: _File) -> bool | None:
        """Whether what comes next has bytes; None when `file` is in its place. Raises OSError when nothing is there."""
        if self._queue:
            next_ = self._queue[0]
            return os.fstat(next_.descriptor).st_size > 0 or not next_.is_at(self._path)
        return None if file.is_at(self._path) else self._path.stat().st_size > 0

    def _is_long_past(self, file: _File) -> bool:
        """Whether its successor was rotated away, too, and got bytes when it got none any more."""
        if len(self._queue) < 2:
            return False
        quiet = self._queue[0].status.st_mtime_ns - os.fstat(file.descriptor).st_mtime_ns
        return quiet >= self._linger * 10**9

    def _finish(self, file: _File) -> None:
        assert self._mark is not None  # since a file was begun
        assert self._position.crc64 is not None  # a writer's object states it
        status = os.fstat(file.descriptor)
        if file.at:
            before = self._mark.start.crc64 or 0
            self._remember(Sent(status.st_dev, status.st_ino, file.at, before, self._position.crc64))
        self._finished_at = status.st_mtime_ns
        if not self._queue:
            self._line_up(self._newer(self._mark, finished=file))
        self._let_go()

    def _remember(self, *sent: Sent) -> None:
        self._sent = (*self._sent, *sent)[-_REMEMBERED:]

    def _begin_next(self) -> Mark | None:
        if not self._queue:
            self._line_up(self._first() if self._mark is None else self._newer(self._mark))
        if not self._queue:
            return None
        self._said = ""
        self._file = self._queue.pop(0)
        if not self._file.is_followed:
            self._note(f"{self._file.path} was rotated away meanwhile: sending it first")
        self._quiet_since = None
        self._mark = _mark(self._file, self._position, self._sent)
        return self._mark

    def _first(self) -> list[_File]:
        try:
            file = _open(self._path)
        except OSError as error:
            self._say_waiting(error)
            return []
        file.is_followed = True
        self._sent = self._older(file)
        return [file]

    def _older(self, first: _File) -> tuple[Sent, ...]:
        """What was rotated away before anything was sent: none of that is ours, whatever becomes of it."""
        files = self._files()
        try:
            return tuple(_head_of(file) for file in files if not file.is_same(first))[-_REMEMBERED:]
        finally:
            _close_all(files)

    def _say_waiting(self, error: OSError) -> None:
        if (words := f"cannot open {self._path}: {error.strerror}; waiting for it") != self._said:
            self._said = words
            self._note(words)

    def _newer(self, mark: Mark, *, with_marked: bool = False, finished: _File | None = None) -> list[_File]:
        """What comes behind the file of the mark, oldest first: what was rotated away, then the file itself.

        `with_marked`: nothing of the marked file was read, and it, or its copy, is among them. What has nothing but
        what the `finished` one or the followed one begins with is a copy of that. Raises SourceLost like `_files`.
        """
        files = self._files()
        here = files.pop() if files and files[-1].is_followed else None
        # One that is the followed one by another name: that is a link.
        away = [file for file in files if here is None or not file.is_same(here)]
        newer = [file for file in away if (with_marked and file.is_of(mark)) or self._is_newer(file, mark.began)]
        found = list[_File]()
        for number, file in enumerate(newer):
            others = [*found, *newer[number + 1 :]]
            if file.is_of(mark) or not self._is_copy(file, others, here, finished):
                found.append(file)
        _close_all(file for file in files if file not in found)
        return found if here is None else [*found, here]

    def _is_newer(self, file: _File, than: int) -> bool:
        """Times have the resolution of the kernel's clock tick: what has the same one may well be newer."""
        return file.status.st_mtime_ns >= than and file.status.st_size > 0 and not self._was_sent(file)

    def _is_copy(self, file: _File, others: list[_File], here: _File | None, finished: _File | None) -> bool:
        """Whether another one has all of it, at its beginning."""
        # Being copied, or copied and not yet truncated, the followed file is whole, and its copy perhaps not.
        if here is not None and here.begins_with(file):
            self._say_copy(file, here)
            return True
        of_finished = finished is not None and not file.is_same(finished) and finished.began_with(file)
        if of_finished or any(other.begins_with(file) for other in others):
            self._say_copy(file, None)
            self._remember(_all_of(file))
            return True
        return False

    def _say_copy(self, file: _File, original: _File | None) -> None:
        """Unless it was written to as late as its `original` that is followed: that is being rotated now, and all
        as it should be."""
        if original is not None and file.status.st_mtime_ns >= original.status.st_mtime_ns:
            return
        key = (file.status.st_dev, file.status.st_ino)
        if key not in self._copies:
            self._copies.add(key)
            self._note(
                f"{file.path} has {file.status.st_size} bytes, with which another one begins, too: "
                "taken for a copy, and not sent"
            )

    def _files(self) -> list[_File]:
        """The followed file and those that rotation made of it, open; oldest first, the followed one last.

        Files are renamed while we look: only what is the same twice is believed. Raises SourceLost for one that
        cannot be read, and at a start for one that was compressed meanwhile.
        """
        while True:
            before = self._listed()
            files = {path: file for path in before if (file := self._open_or_none(path)) is not None}
            if {path: (file.status.st_dev, file.status.st_ino) for path, file in files.items()} == self._listed():
                break
            _close_all(files.values())
        here = files.pop(self._path, None)
        rotated = [files[path] for path in sorted(files, key=lambda path: _age(path, files[path].status))]
        if here is not None:
            here.is_followed = True
        return rotated + ([here] if here is not None else [])

    def _open_or_none(self, path: Path) -> _File | None:
        try:
            return _open(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            if path != self._path:
                raise SourceLost(f"{path} was rotated away and cannot be read: {error.strerror}") from error
            self._say_waiting(error)
            return None

    def _listed(self) -> dict[Path, tuple[int, int]]:
        """The followed file and its relatives: app.log.1, app.log-20260102, app-2026.log; with device and inode."""
        stem, suffix = re.escape(self._path.stem), re.escape(self._path.suffix)
        packed = "|".join(map(re.escape, _COMPRESSED))
        pattern = re.compile(rf"{re.escape(self._path.name)}({_ROTATED})?|{stem}{_ROTATED}{suffix}({packed})?")
        found = {}
        for path in self._path.parent.iterdir():
            if pattern.fullmatch(path.name):
                with suppress(FileNotFoundError):
                    status = path.stat()
                    if path.name.endswith(_COMPRESSED):
                        self._check_compressed(path, status)
                    elif stat.S_ISREG(status.st_mode) and not self._is_none_of_ours(path, status):
                        found[path] = (status.st_dev, status.st_ino)
        return found

    def _is_none_of_ours(self, path: Path, status: os.stat_result) -> bool:
        """Whether it may not be read, and need not: it was rotated away before what is being sent was begun."""
        is_old = self._mark is None or status.st_mtime_ns < self._mark.began
        return is_old and path != self._path and not os.access(path, os.R_OK)

    def _check_compressed(self, path: Path, status: os.stat_result) -> None:
        """A compressed file keeps the time of what is in it."""
        began = self._mark.began if self._mark is not None else status.st_mtime_ns
        if status.st_mtime_ns <= began or path in self._compressed:
            return
        if int(status.st_mtime) == self._finished_at // 10**9:
            return
        self._compressed.add(path)
        what = f"{path} was compressed, perhaps before it was sent"
        if not (self._skip_lost or self._is_live):
            raise SourceLost(what, hint="--skip-lost goes on without it")
        self._note(f"{what}: going on with what is there")

    def _was_sent(self, file: _File) -> bool:
        for one in self._sent:
            same = (one.device, one.inode) == (file.status.st_dev, file.status.st_ino)
            if same and _has(file.descriptor, one.length, one.before, one.after):
                if file.status.st_size > one.length and one not in self._late and not one.is_older:
                    self._late.add(one)
                    self._note(
                        f"{file.status.st_size - one.length} bytes were added to what {self._path} was before, "
                        "long after it was rotated away: not sent"
                    )
                return True
        return False


# --- files


def _open(path: Path) -> _File:
    """Raises OSError, also for what is no regular file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        is_folder = stat.S_ISDIR(status.st_mode)
        raise IsADirectoryError(21, "Is a directory") if is_folder else OSError(22, "Not a regular file")
    return _File(path, descriptor, status)


def _has(descriptor: int, length: int, before: int, after: int | None) -> bool:
    """Whether the first `length` bytes take the CRC-64 from `before` to `after`."""
    done, crc = 0, before
    while done < length:
        data = os.pread(descriptor, min(_CHUNK, length - done), done)
        if not data:
            return False
        done, crc = done + len(data), crc64.update(data, crc)
    return crc == after


def _is_of(mark: Mark, file: _File, length: int, end: Position) -> bool:
    """Whether it begins as the file of the mark did, and its first `length` bytes, which then count as read, lead to
    `end`."""
    head, crc = mark.head
    if os.fstat(file.descriptor).st_size < length:
        return False
    file.resume(length)  # before the proof: from then on a truncation is seen
    return _has(file.descriptor, head, 0, crc) and _has(file.descriptor, length, mark.start.crc64 or 0, end.crc64)


def _is_among(mark: Mark, files: list[_File]) -> bool:
    """Whether its inode is there. Network file systems have another device number after each mount."""
    return any(file.status.st_ino == mark.inode for file in files)


def _close_all(files: Iterable[_File]) -> None:
    for file in files:
        os.close(file.descriptor)


def _age(path: Path, status: os.stat_result) -> tuple[int, int, str]:
    """Sorts by the time of the last change; where that is the same app.log.2 before app.log.1, and dates as dates."""
    number = re.search(r"[.-](\d{1,3})$", path.name)
    return status.st_mtime_ns, -int(number[1]) if number else 0, path.name


def _head_of(file: _File) -> Sent:
    head = os.pread(file.descriptor, _WINDOW, 0)
    return Sent(file.status.st_dev, file.status.st_ino, len(head), 0, crc64.update(head), is_older=True)


def _all_of(file: _File) -> Sent:
    length, crc = 0, 0
    while data := os.pread(file.descriptor, _CHUNK, length):
        length, crc = length + len(data), crc64.update(data, crc)
    return Sent(file.status.st_dev, file.status.st_ino, length, 0, crc)


def _mark(file: _File, start: Position, sent: tuple[Sent, ...]) -> Mark:
    head = os.pread(file.descriptor, _WINDOW, 0)
    status = file.status
    return Mark(
        status.st_dev, status.st_ino, status.st_mtime_ns, (len(head), crc64.update(head)),
        Position(start.offset, start.crc64), sent,
    )  # fmt: skip


def _behind(position: Position, data: bytes) -> Position:
    assert position.crc64 is not None  # a writer's object states it
    return replace(position, offset=position.offset + len(data), crc64=crc64.update(data, position.crc64))


def _conflict(message: str, ours: Position, theirs: Position) -> PositionConflict:
    error = PositionConflict(message)
    error.ours, error.theirs = (ours.offset, ours.crc64), (theirs.offset, theirs.crc64)
    return error


# --- the checkpoint


def load_mark(checkpoint: Path, *, target: str, source: Path) -> Mark | None:
    """What `save_mark` kept for this object and this file; None when there is nothing.

    Raises CheckpointError for a file that is not right, or that belongs to others.
    """
    try:
        kept = json.loads(checkpoint.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read the checkpoint {checkpoint}: {error}") from error
    try:
        if kept["version"] != _VERSION:
            raise CheckpointError(f"the checkpoint {checkpoint} has version {kept['version']}, not {_VERSION}")
        if (kept["object"], kept["file"]) != (target, str(source)):
            raise CheckpointError(f"the checkpoint {checkpoint} is of {kept['file']} to {kept['object']}")
        mark = kept["mark"]
        start = Position(int(mark["start"]["offset"]), int(mark["start"]["crc64"]))
        sent = tuple(Sent(**one) for one in mark["sent"])
        length, crc = mark["head"]
        return Mark(int(mark["device"]), int(mark["inode"]), int(mark["began"]), (int(length), int(crc)), start, sent)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint} is no checkpoint of oss-append") from error


@contextmanager
def owning(checkpoint: Path) -> Iterator[None]:
    """Meanwhile no other process can have this checkpoint; the kernel lets go of it however the process ends.

    Raises CheckpointError when another has it, or it cannot be had.
    """
    path = checkpoint.with_name(f".{checkpoint.name}.lock")  # the file itself is replaced again and again
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise CheckpointError(f"cannot lock the checkpoint {checkpoint}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        in_use = isinstance(error, BlockingIOError)
        reason = "another oss-append uses it" if in_use else error.strerror
        raise CheckpointError(f"cannot lock the checkpoint {checkpoint}: {reason}") from error
    try:
        yield
    finally:
        os.close(descriptor)


def save_mark(checkpoint: Path, mark: Mark, *, target: str, source: Path) -> None:
    """Keep it, whole or not at all, for the owner's eyes only. Raises CheckpointError."""
    fields: dict[str, Any] = {
        **asdict(mark),
        "start": {"offset": mark.start.offset, "crc64": mark.start.crc64},
    }
    text = json.dumps({"version": _VERSION, "object": target, "file": str(source), "mark": fields}, indent=1) + "\n"
    draft = checkpoint.with_name(f".{checkpoint.name}.{os.getpid()}.new")
    try:
        draft.unlink(missing_ok=True)  # of a process that had our number, or of one that wants us to write elsewhere
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        draft.replace(checkpoint)
        folder = os.open(checkpoint.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise CheckpointError(f"cannot keep the checkpoint {checkpoint}: {error.strerror}") from error
