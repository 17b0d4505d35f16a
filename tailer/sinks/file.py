"""`-o`: one object mirrored into one file, which is a prefix of the object at every moment.

A file that stands there already is continued: `FileMirror.resume` says how long it is and what its CRC-64
is, and the chain then checks that against the service before the first new byte counts. Whatever ends a run
(a full disk, a broken chain, a kill) leaves a prefix behind, so that the next run goes on from it. Whoever is
killed while bytes stand there that are not proven yet leaves a note as well, see `proven.ProvenNote`.

Below a folder each object has its own file, see `names.mirror_path`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import stat
import threading
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from tailer.core import crc64
from tailer.core.events import Appeared, Replaced, Rewound, Truncated, Verified
from tailer.core.position import Mark, Position
from tailer.errors import CrcMissing, IntegrityError, ObjectReplaced, SinkBusy, SinkError
from tailer.sinks.names import mirror_path
from tailer.sinks.proven import ProvenNote

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from tailer.core.events import Batch, Event
    from tailer.core.position import ObjectRef
    from tailer.errors import TailerError

_Result = TypeVar("_Result")

_READ_BLOCK = 1 << 20
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_SLOW = 0.02  # seconds; a window of 8 MiB takes 2 to 4 ms into the page cache
_OPEN_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_ENTER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FileMirror:
    """A sink that keeps one file a prefix of one object. Made by `open` or `open_below`.

    The file is locked (``flock``) as long as the mirror is open, so that two of them never interleave.
    What this run wrote is cut off again when the chain turns out not to hold (`Rewound`, `settle`); a
    new generation of the object starts the file over, but never one that was there before this run and
    was not yet proven to be the object's beginning.
    """

    def __init__(self, descriptor: int, path: Path, *, sync: bool = False, expect_proof: bool = True) -> None:
        """Take over `descriptor`, a regular file open for reading and writing and locked.

        `sync`: close with an fsync. `expect_proof`: false where nothing will ever be verified (integrity
        off): what is written then counts as it comes.
        """
        self.path = path
        self._descriptor = descriptor
        self._sync = sync
        self._expect_proof = expect_proof
        self._inherited = 0  # bytes that stood there before, until they are proven to be the object's
        self._proven = Position()  # what a cut after a broken chain leaves standing
        self._note = ProvenNote(path)
        self._noted = False
        self._slow = False
        self._refusal: ObjectReplaced | None = None
        self._busy = threading.Lock()  # a cancelled write goes on in its thread: whatever follows waits

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, sync: bool = False, expect_proof: bool = True) -> FileMirror:
        """Open or create the file at `path`, without changing what stands there.

        Raises SinkError when it cannot be opened for writing, is no regular file, or has a mirror already.
        """
        path = Path(path)
        return cls._locked(lambda: _open_file(path), path, sync=sync, expect_proof=expect_proof)

    @classmethod
    def open_below(
        cls, folder: str | os.PathLike[str], ref: ObjectRef, *, sync: bool = False, expect_proof: bool = True
    ) -> FileMirror:
        """Open or create the file of `ref` below `folder`, and the folders on the way (`mirror_path`).

        `folder` itself may be reached through symbolic links; below it none is followed.
        Raises SinkError like `open`.
        """
        folder = Path(folder)
        path = mirror_path(folder, ref)
        names = path.relative_to(folder).parts
        return cls._locked(lambda: _open_below(folder, names), path, sync=sync, expect_proof=expect_proof)

    @classmethod
    def _locked(cls, open_descriptor: Callable[[], int], path: Path, *, sync: bool, expect_proof: bool) -> FileMirror:
        try:
            descriptor = open_descriptor()
        except IsADirectoryError as error:
            raise SinkError(
                f"cannot mirror to {str(path)!r}: is a directory", hint="end it with / to mirror into it"
            ) from error
        except OSError as error:
            raise SinkError(f"cannot mirror to {str(path)!r}: {_reason(error)}") from error
        try:
            _lock(descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, path, sync=sync, expect_proof=expect_proof)

    async def resume(self) -> Mark:
        """Length and CRC-64 of what stands in the file: where the object is to be read on from.

        What a killed run wrote and had not proven yet counts as delivered, not as verified.

        Reads the file once, in a thread. Raises SinkError when it cannot be read.
        """
        whole, self._proven = await self._in_thread(self._measure)
        self._inherited, self._noted = self._proven.offset, self._proven != whole
        return Mark(whole, self._proven)

    def _measure(self) -> tuple[Position, Position]:
        block = memoryview(bytearray(_READ_BLOCK))
        offset = crc = 0
        try:
            while count := os.preadv(self._descriptor, [block], offset):
                crc = crc64.update(block[:count], crc)
                offset += count
            whole = Position(offset, crc)
            return whole, self._note.read(self._descriptor, whole)
        except OSError as error:
            raise SinkError(f"cannot read {str(self.path)!r}: {_reason(error)}") from error

    async def write(self, batch: Batch) -> None:
        """Put the batch at the end of the file.

        A thread would cost more than the page cache does; but a disk that turns out to be slow gets one, so
        that nothing else has to wait for it.

        Raises SinkError when the batch does not begin where the file ends, and when it cannot be written in
        full: what was written of it is then cut off again. SinkBusy when the disk, or a quota of it, is full.
        """
        if self._slow:
            await self._in_thread(self._append, batch)
        else:
            with self._busy:
                self._append(batch)

    def _append(self, batch: Batch) -> None:
        length = self._length()
        if batch.start != length:
            raise SinkError(f"{str(self.path)!r} is {length} bytes long, but the next bytes belong at {batch.start}")
        started = perf_counter()
        try:
            if not (batch.verified or self._noted) and self._expect_proof:
                self._note.keep(self._proven)
                self._noted = True
            _write_in_full(self._descriptor, batch.data, length)
        except OSError as error:
            self._cut(length)
            kind = SinkBusy if error.errno in _FULL else SinkError
            raise kind(
                f"cannot write {str(self.path)!r}: {_reason(error)}",
                hint=f"it holds the first {length} bytes and can be continued",
            ) from error
        self._slow = perf_counter() - started > _SLOW
        if not self._expect_proof:
            self._inherited, self._proven = 0, Position(batch.end)

    async def notice(self, event: Event) -> None:
        """Follow the object: cut off what became void, start over with a new generation.

        Raises ObjectReplaced when that would destroy a file which was never proven to be this object's.
        """
        match event:
            case Verified(position=position) if position.offset >= self._inherited:
                self._inherited, self._proven = 0, position
                if self._noted:
                    await self._in_thread(self._drop_note_if_proven)
            case Rewound(to=offset):
                await self._in_thread(self._take_back, offset, "its CRC-64 is another")
            case Replaced(reason=reason):
                await self._in_thread(self._take_back, 0, reason)
            case Truncated(size=size):
                await self._in_thread(self._take_back, 0, "it is shorter" if size is None else f"it has {size} bytes")
            case Appeared():
                await self._in_thread(self._take_back, 0, "it is a new object")
            case _:
                pass

    def _take_back(self, offset: int, why: str) -> None:
        """Cut the file back to `offset` bytes, because of `why`."""
        if offset < self._inherited:
            self._cut(self._inherited)
            raise self._disowned(why)
        length = self._length()
        if offset > length:
            raise SinkError(f"{str(self.path)!r} is {length} bytes long, and cannot be cut back to {offset}")
        self._cut(offset)
        if offset < self._proven.offset:
            self._proven = Position()
        if offset <= self._proven.offset:
            self._drop_note()

    def _drop_note_if_proven(self) -> None:
        if self._proven.offset >= self._length():
            self._drop_note()

    def _drop_note(self) -> None:
        try:
            self._note.drop()
        except OSError as error:
            raise SinkError(f"cannot remove the note beside {str(self.path)!r}: {_reason(error)}") from error
        self._noted = False

    def settle(self, error: TailerError) -> TailerError:
        """Put the file right after following ended with `error`; what to tell the user instead of it.

        After an IntegrityError the file is cut back to what is proven. The error returned names the file
        where it is not the beginning of the object.
        """
        if not isinstance(error, IntegrityError):
            return error
        try:
            with self._busy:
                self._cut(self._proven.offset)
                self._drop_note()
        except SinkError as trouble:
            return trouble
        if not self._inherited or error is self._refusal or isinstance(error, CrcMissing):
            return error
        refusal = self._disowned(str(error.args[0]))
        refusal.__cause__ = error
        return refusal

    def _disowned(self, why: str) -> ObjectReplaced:
        self._refusal = ObjectReplaced(
            f"the {self._inherited} bytes of {str(self.path)!r} are not the beginning of the object: {why}",
            hint="they were left as they are; move the file away or mirror into another one",
        )
        return self._refusal

    async def close(self) -> None:
        """Finish the write in hand and let go of the file. Raises SinkError when its fsync failed."""
        await self._in_thread(self._close)

    def _close(self) -> None:
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            if self._sync:
                os.fsync(descriptor)
        except OSError as error:
            raise SinkError(f"cannot sync {str(self.path)!r}: {_reason(error)}") from error
        finally:
            os.close(descriptor)

    def _length(self) -> int:
        """The file's length as the file system knows it: somebody else may have changed it."""
        try:
            status = os.fstat(self._descriptor)
        except OSError as error:
            raise SinkError(f"cannot use {str(self.path)!r}: {_reason(error)}") from error
        if status.st_nlink == 0:
            raise SinkError(f"{str(self.path)!r} was deleted while the object was mirrored into it")
        return status.st_size

    def _cut(self, length: int) -> None:
        if length >= self._length():  # truncating upwards would add zeros
            return
        try:
            os.ftruncate(self._descriptor, length)
        except OSError as error:
            raise SinkError(f"cannot cut {str(self.path)!r} back to {length} bytes: {_reason(error)}") from error

    async def _in_thread(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        def run() -> _Result:
            with self._busy:
                return function(*arguments)

        return await asyncio.to_thread(run)


# --- opening


def _open_file(path: Path) -> int:
    return _regular(os.open(path, _OPEN_FLAGS, 0o666), path)


def _open_below(folder: Path, names: Sequence[str]) -> int:
    """Open `names` below `folder` step by step, each relative to the one before: no link leads out."""
    folder.mkdir(parents=True, exist_ok=True)
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names[:-1]:
            below = _enter(here, name)
            os.close(here)
            here = below
        path = folder.joinpath(*names)
        return _regular(os.open(names[-1], _OPEN_FLAGS | os.O_NOFOLLOW, 0o666, dir_fd=here), path)
    finally:
        os.close(here)


def _enter(parent: int, name: str) -> int:
    """The folder `name` of the open folder `parent`, made where it is missing."""
    try:
        return os.open(name, _ENTER_FLAGS, dir_fd=parent)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):  # another mirror made it just now
            os.mkdir(name, dir_fd=parent)
        return os.open(name, _ENTER_FLAGS, dir_fd=parent)


def _regular(descriptor: int, path: Path) -> int:
    """`descriptor`, or SinkError when it is no regular file: nothing else can be cut back and continued."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise SinkError(f"cannot mirror to {str(path)!r}: not a regular file", hint="leave -o out and redirect")


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SinkError(f"cannot mirror to {str(path)!r}: another mirror writes to it") from error
    except OSError as error:
        raise SinkError(f"cannot lock {str(path)!r}: {_reason(error)}") from error


def _write_in_full(descriptor: int, data: Buffer, offset: int) -> None:
    left = memoryview(data).cast("B")
    while left:
        count = os.pwrite(descriptor, left, offset)
        left = left[count:]
        offset += count


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
