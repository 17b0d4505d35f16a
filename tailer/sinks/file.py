"""`-o`: one object mirrored into one file, which is a prefix of the object at every moment.

A file that stands there already is continued: `FileMirror.resume` says how long it is and what its CRC-64
is, and the chain then checks that against the service before the first new byte counts. Whatever ends a run
(a full disk, a broken chain, a kill) leaves a prefix behind, so that the next run goes on from it. Whoever is
killed while bytes stand there that are not proven yet leaves a note as well, see `proven.ProvenNote`.

When another object comes to stand under the name, its bytes grow in a neighbour, ``PATH%new``, until they are
proven; only then does that file take the place of the good old one, at once. A ``PATH%new`` that a killed
run left behind is gone on with in the same way.

Below a folder each object has its own file, see `names.mirror_path`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import itertools
import os
import stat
import threading
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Self, TypeVar

from tailer.core import crc64
from tailer.core.events import Appeared, Replaced, Rewound, Truncated, Verified
from tailer.core.position import Mark, Position
from tailer.errors import CrcMissing, IntegrityError, ObjectReplaced, SinkBusy, SinkError
from tailer.sinks.fsync import NEVER, Fsync
from tailer.sinks.names import mirror_path
from tailer.sinks.proven import ProvenNote

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from typing_extensions import Buffer

    from tailer.core.events import Batch, Event
    from tailer.core.position import ObjectRef
    from tailer.errors import TailerError

_Result = TypeVar("_Result")

# Two threads over stripes of the file gain a third in the page cache and lose half on a disk.
_READ_BLOCK = 1 << 20
# In one write of megabytes the kernel takes pages of megabytes, for which a virtual machine has to ask its host for
# memory that it never had: with pieces of this size a new file of 1 GiB took 0.5, 0.5 and 0.7 of the time in three
# tries of seven to nine runs in turn; 64 and 256 KiB gained less.
_PIECE = 128 * 1024
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_SLOW = 0.02  # seconds; a window of 8 MiB takes 2 to 4 ms into the page cache
OPEN_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
# No name that `mirror_path` makes has a "%" with a letter behind it that is no hexadecimal digit.
_NEW = "%new"
_KEPT = "%g"
_ENTER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Manner:
    """How a mirror is kept; see `FileMirror.open`."""

    fsync: Fsync
    expect_proof: bool
    keep_generations: bool


@dataclass(frozen=True, slots=True)
class Left:
    """How a mirror was left: all of it is proven up to `position`, and the file is known again by the rest."""

    position: Position
    device: int
    inode: int
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a mirror stands: the names below `folder` that lead to it, none of them a link."""

    folder: Path
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.names[-1]

    def path(self, mark: str = "") -> Path:
        """The mirror, or its neighbour with `mark` at the end of the name."""
        return self.folder.joinpath(*self.names[:-1], self.name + mark)

    @contextlib.contextmanager
    def entered(self) -> Iterator[int]:
        """The folder of the file, open: reached step by step, each relative to the one before."""
        here = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in self.names[:-1]:
                below = _enter(here, name)
                os.close(here)
                here = below
            yield here
        finally:
            os.close(here)


class FileMirror:
    """A sink that keeps one file a prefix of one object. Made by `open` or `open_below`.

    The file is locked (``flock``) as long as the mirror is open, so that two of them never interleave.
    What this run wrote is cut off again when the chain turns out not to hold (`Rewound`, `settle`). A
    new generation of the object takes the file's place when its first bytes are proven, but never that of one
    which was there before this run and was not yet proven to be the object's beginning.

    `path` is the file that is written now: the one asked for, or its neighbour ``%new``.
    """

    def __init__(self, descriptor: int, place: Place, path: Path, manner: Manner) -> None:
        """Take over `descriptor`, a regular file open for reading and writing and locked."""
        self.path = self._asked = path
        self._descriptor = descriptor
        self._former: int | None = None  # the proven old generation, while the new one grows beside it
        self._place = place
        self._manner = manner
        self._inherited = 0  # bytes that stood there before, until they are proven to be the object's
        self._proven = Position()  # what a cut after a broken chain leaves standing
        self._former_proven = Position()
        self._keeps_former = manner.keep_generations
        self._note = ProvenNote(place.path(), durable=manner.fsync.at_close)
        self._noted = False
        self._slow = False
        self._refusal: ObjectReplaced | None = None
        self._busy = threading.Lock()  # a cancelled write goes on in its thread: whatever follows waits
        self._unsynced = 0
        self._named = False  # is the file's name on the disk as well?
        self._unsyncable: SinkError | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._syncing: asyncio.Task[None] | None = None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        fsync: Fsync = NEVER,
        expect_proof: bool = True,
        keep_generations: bool = False,
    ) -> FileMirror:
        """Open or create the file at `path`, without changing what stands there.

        `fsync`: when what was written is forced to the disk. `expect_proof`: false where nothing will ever be
        verified (integrity off): what is written then counts as it comes. `keep_generations`: the file of an
        object that was replaced becomes ``PATH%g0``, the next one ``PATH%g1`` and so on.

        Raises SinkError when it cannot be opened for writing, is no regular file, or has a mirror already.
        """
        path = Path(path)
        true = Path(os.path.realpath(path))  # what a link leads to is replaced, not the link
        manner = Manner(fsync, expect_proof, keep_generations)
        return cls._locked(lambda: _open_file(path), Place(true.parent, (true.name,)), path, manner)

    @classmethod
    def open_below(
        cls,
        folder: str | os.PathLike[str],
        ref: ObjectRef,
        *,
        fsync: Fsync = NEVER,
        expect_proof: bool = True,
        keep_generations: bool = False,
    ) -> FileMirror:
        """Open or create the file of `ref` below `folder`, and the folders on the way (`mirror_path`).

        `folder` itself may be reached through symbolic links; below it none is followed. The rest is as
        for `open`. Raises SinkError like it.
        """
        folder = Path(folder)
        path = mirror_path(folder, ref)
        place = Place(folder, path.relative_to(folder).parts)
        manner = Manner(fsync, expect_proof, keep_generations)
        return cls._locked(lambda: _open_below(place), place, path, manner)

    @classmethod
    def _locked(cls, open_descriptor: Callable[[], int], place: Place, path: Path, manner: Manner) -> Self:
        while True:
            with opening(path):
                descriptor = open_descriptor()
            try:
                _lock(descriptor, path)
                if is_at(descriptor, path):
                    return cls(descriptor, place, path, manner)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # another mirror put a new generation there just then

    async def resume(self, known: Collection[Position] = ()) -> Mark:
        """Length and CRC-64 of what stands in the file: where the object is to be read on from.

        What a killed run wrote and had not proven yet counts as delivered, not as verified. If it was killed while a
        new generation grew beside the file, that is gone on with. Reads the file once, in a thread.
        `known`: what was proven of this object before, as a checkpoint says or an earlier mirror (`owned`). With any of
        it the file counts as the object's own, and a new generation may take its place; one that is not just as
        `known` has it is kept beside then. Raises SinkError when it cannot be read.
        """
        whole, self._proven = await self._in_thread(self._measure)
        if self._former is None:
            here = (self._proven.offset, self._proven.crc64)
            self._inherited, self._noted = 0 if known else self._proven.offset, self._proven != whole
            if known and here not in [(one.offset, one.crc64) for one in known]:
                self._keeps_former = True
        return Mark(whole, self._proven)

    @property
    def unsafe(self) -> SinkError | None:
        """Why nobody knows what of the file is on the disk; None where no fsync failed."""
        return self._unsyncable

    def owned(self) -> Position | None:
        """What of the file under the name is proven to be the object's, as it is or as it was; for `resume`."""
        if self._inherited:
            return None
        return self._proven if self._former is None else self._former_proven

    def left(self) -> Left | None:
        """How the mirror stands now, for `take_up` by the next one; None where not all of it is proven."""
        if self._descriptor < 0 or self._former is not None or self._inherited or self._noted:
            return None
        status = os.fstat(self._descriptor)
        if not status.st_nlink or self._proven.offset != self._length() or self._unsyncable is not None:
            return None
        return Left(self._proven, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)

    def take_up(self, left: Left) -> bool:
        """Go on as the mirror was left, without reading it again. False where it is not as it was: `resume` then.

        Raises SinkError.
        """
        with self._changing("cannot read"):
            self._find_end(left)
            status = os.fstat(self._descriptor)
        if (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns) != (
            left.device,
            left.inode,
            left.size,
            left.mtime_ns,
        ):
            return False
        self._proven, self._inherited, self._noted = left.position, 0, False
        self._keeps_former = self._manner.keep_generations
        return True

    def _find_end(self, left: Left) -> None:
        """Open what holds the last byte, if that is not open already."""

    def is_in_place(self) -> bool:
        """Is the file that is open still the one under its name?"""
        return is_at(self._descriptor, self._place.path() if self._former is None else self.path)

    def _measure(self) -> tuple[Position, Position]:
        """All that stands there, and what is proven of it."""
        if self._former is None:
            self._find_new_generation()
        block = memoryview(bytearray(_READ_BLOCK))
        offset = crc = 0
        try:
            while count := os.preadv(self._descriptor, [block], offset):
                crc = crc64.update(block[:count], crc)
                offset += count
            whole = Position(offset, crc)
            return whole, self._note.read(self._descriptor, whole) if self._former is None else Position()
        except OSError as error:
            raise SinkError(f"cannot read {str(self.path)!r}: {_reason(error)}") from error

    def _find_new_generation(self) -> None:
        """Go on with what a killed run left beside the file; it was begun because that file's object is over."""
        with self._changing("cannot go on with the new generation beside"), contextlib.suppress(FileNotFoundError):
            self._grow_beside(os.O_RDWR)

    async def write(self, batch: Batch) -> None:
        """Put the batch at the end of the file.

        A thread would cost more than the page cache does; but a disk that turns out to be slow gets one, and a note
        that is forced to the disk, so that nothing else has to wait for it.

        Raises SinkError when the batch does not begin where the file ends, when it cannot be written in full
        (what was written of it is then cut off again), and when an fsync failed. SinkBusy when the disk, or a
        quota of it, is full.
        """
        if self._slow or (self._manner.fsync.at_close and not self._noted and self._needs_note(batch)):
            await self._in_thread(self._append, batch)
        else:
            with self._busy:
                self._append(batch)
        if self._former is not None and not self._manner.expect_proof:
            await self._in_thread(self._take_the_place)
        if self._manner.fsync.at_close:
            await self._keep_fsync_policy(len(batch.data))

    def _append(self, batch: Batch) -> None:
        length = self._length()
        if batch.start != length:
            raise SinkError(f"{str(self.path)!r} is {length} bytes long, but the next bytes belong at {batch.start}")
        started = perf_counter()
        try:
            if self._needs_note(batch):
                self._keep_note()
            self._put(batch, length)
        except OSError as error:
            self._cut(length)
            kind = SinkBusy if error.errno in _FULL else SinkError
            raise kind(
                f"cannot write {str(self.path)!r}: {_reason(error)}",
                hint=f"it holds the first {length} bytes and can be continued",
            ) from error
        self._slow = perf_counter() - started > _SLOW
        if not self._manner.expect_proof:
            self._inherited, self._proven = 0, Position(batch.end, None)

    def _put(self, batch: Batch, offset: int) -> None:
        write_in_full(self._descriptor, batch.data, offset)

    async def notice(self, event: Event) -> None:
        """Follow the object: cut off what became void, start over with a new generation.

        Raises ObjectReplaced when that would destroy a file which was never proven to be this object's.
        """
        match event:
            case Verified(position=position) if position.offset >= self._inherited:
                self._inherited, self._proven = 0, position
                if self._former is not None:
                    await self._in_thread(self._take_the_place)
                if self._noted:
                    await self._in_thread(self._drop_note_if_proven)
            case Rewound(to=offset):
                await self._in_thread(self._take_back, offset, "its CRC-64 is another")
            case Replaced(reason=reason):
                await self._in_thread(self._start_over, reason)
            case Truncated(size=size):
                await self._in_thread(self._start_over, "it is shorter" if size is None else f"it has {size} bytes")
            case Appeared():
                await self._in_thread(self._start_over, "it is a new object")
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

    def _needs_note(self, batch: Batch) -> bool:
        return not batch.verified and self._manner.expect_proof and self._former is None

    def _keep_note(self) -> None:
        """Before bytes that are not proven come to stand behind those that are. Raises OSError."""
        if not self._noted:
            self._note.keep(self._proven)
            self._noted = True

    def _drop_note_if_proven(self) -> None:
        if self._proven.offset >= self._length():
            self._drop_note()

    def _drop_note(self) -> None:
        try:
            self._note.drop()
        except OSError as error:
            raise SinkError(f"cannot remove the note beside {str(self.path)!r}: {_reason(error)}") from error
        self._noted = False

    def _start_over(self, why: str) -> None:
        """Begin a new generation at byte 0: beside what is proven of the old one, in place of what is not."""
        if self._former is not None or self._inherited or not self._proven.offset:
            self._take_back(0, why)
            return
        self._cut(self._proven.offset)
        self._drop_note()
        with self._changing("cannot begin a new generation beside"):
            self._grow_beside(OPEN_FLAGS)
        self._cut(0)
        self._former_proven, self._proven = self._proven, Position()

    def _grow_beside(self, flags: int) -> None:
        """Write to the neighbour ``%new`` from now on, opened with `flags`. Raises OSError and SinkError."""
        path = self._place.path(_NEW)
        with self._place.entered() as folder:
            opened = os.open(path.name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666, dir_fd=folder)
        descriptor = regular(opened, path)
        try:
            _lock(descriptor, path)
            os.fchmod(descriptor, stat.S_IMODE(os.fstat(self._descriptor).st_mode))
        except BaseException:
            os.close(descriptor)
            raise
        self._former, self._descriptor, self.path, self._named = self._descriptor, descriptor, path, False

    def _take_the_place(self) -> None:
        """The new generation is proven: its file gets the name, and the old one's is gone or kept beside it."""
        assert self._former is not None
        with self._changing("cannot put a new generation in the place of"), self._place.entered() as folder:
            name = self._place.name
            if not is_at(self._former, name, folder):
                raise SinkError(f"{str(self._asked)!r} was deleted or replaced while the object was mirrored into it")
            if self._manner.fsync.at_close:
                os.fsync(self._descriptor)
            if self._keeps_former and os.fstat(self._former).st_size:
                os.rename(name, _free_kept_name(name, folder), src_dir_fd=folder, dst_dir_fd=folder)
            if self._manner.expect_proof and self._proven.offset < self._length():
                self._keep_note()
            os.replace(self.path.name, name, src_dir_fd=folder, dst_dir_fd=folder)
            if self._manner.fsync.at_close:
                os.fsync(folder)
        os.close(self._former)
        self._former, self.path, self._keeps_former = None, self._asked, self._manner.keep_generations

    def _drop_new_generation(self) -> None:
        """Nothing of it is proven: go back to the file that stands in its place still."""
        assert self._former is not None
        with self._changing("cannot go back to"), self._place.entered() as folder:
            os.unlink(self.path.name, dir_fd=folder)
        os.close(self._descriptor)
        self._descriptor, self._former, self.path = self._former, None, self._asked
        self._proven = self._former_proven

    @contextlib.contextmanager
    def _changing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SinkError(f"{what} {str(self._asked)!r}: {_reason(error)}") from error

    def settle(self, error: TailerError) -> TailerError:
        """Put the file right after following ended with `error`; what to tell the user instead of it.

        After an IntegrityError the file is cut back to what is proven, and a new generation of which nothing is
        proven goes. The error returned names the file where it is not the beginning of the object.
        """
        if not isinstance(error, IntegrityError):
            return error
        try:
            with self._busy:
                if self._former is None:
                    self._cut(self._proven.offset)
                    self._drop_note()
                else:
                    self._drop_new_generation()
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

    async def _keep_fsync_policy(self, written: int) -> None:
        """After `written` bytes more: fsync if that is due, and see to it that one comes when nothing else does."""
        policy = self._manner.fsync
        self._unsynced += written
        if self._syncing is not None and self._syncing.done():
            syncing, self._syncing = self._syncing, None
            syncing.result()
        if policy.due(self._unsynced):
            await self.sync()
        elif policy.seconds is not None and self._timer is None and self._unsynced:
            self._begin_sync_later(policy.seconds)

    def _begin_sync_later(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._begin_sync, seconds)

    def _begin_sync(self, seconds: float) -> None:
        """One that is under way may have begun before the last bytes were written: then another one follows."""
        self._timer = None
        if self._syncing is not None and not self._syncing.done():
            self._begin_sync_later(seconds)
        elif self._syncing is None or self._syncing.exception() is None:
            self._syncing = asyncio.create_task(self.sync())

    async def sync(self) -> None:
        """Return when all that was written is on the disk; at once under the policy `NEVER`.

        Raises SinkError. What is on the disk is then unknown, and a second fsync could say that all is well
        though it is not: every later call raises the same error. The next run finds out, by the CRC-64.
        """
        if self._unsyncable is not None:
            raise self._unsyncable
        if self._manner.fsync.at_close and self._descriptor >= 0:
            # A descriptor of its own, and no lock: what is written meanwhile does not wait for the disk.
            unsynced, descriptor = self._unsynced, os.dup(self._descriptor)
            await asyncio.to_thread(self._force, descriptor)
            self._unsynced = max(0, self._unsynced - unsynced)

    def _force(self, descriptor: int) -> None:
        """fsync `descriptor` and close it; the first time its folder too, so that the file's name is there as well."""
        try:
            with self._changing("cannot sync"):
                os.fsync(descriptor)
                if not self._named:
                    with self._place.entered() as folder:
                        os.fsync(folder)
                    self._named = True
        except SinkError as error:
            self._unsyncable = error
            raise
        finally:
            os.close(descriptor)

    async def close(self) -> None:
        """Finish the write in hand and let go of the file. Raises SinkError for a failed fsync not yet told of."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            if self._syncing is not None:
                await self._syncing
            if self._unsyncable is None:
                await self.sync()
        finally:
            if self._busy.acquire(blocking=False):
                try:
                    self._close()
                finally:
                    self._busy.release()
            else:  # a write that nobody waits for any more is under way in its thread
                await self._in_thread(self._close)

    def _close(self) -> None:
        if self._descriptor < 0:
            return
        try:
            if self._former is not None and not os.fstat(self._descriptor).st_size:
                self._drop_new_generation()
        finally:
            for descriptor in (self._descriptor, self._former):
                if descriptor is not None:
                    os.close(descriptor)
            self._descriptor, self._former = -1, None

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
    return regular(os.open(path, OPEN_FLAGS, 0o666), path)


def _open_below(place: Place) -> int:
    """Open the file at `place` so that no link below its folder leads out."""
    place.folder.mkdir(parents=True, exist_ok=True)
    with place.entered() as here:
        return regular(os.open(place.name, OPEN_FLAGS | os.O_NOFOLLOW, 0o666, dir_fd=here), place.path())


@contextlib.contextmanager
def opening(path: Path) -> Iterator[None]:
    try:
        yield
    except IsADirectoryError as error:
        raise SinkError(
            f"cannot mirror to {str(path)!r}: is a directory", hint="end it with / to mirror into it"
        ) from error
    except OSError as error:
        raise SinkError(f"cannot mirror to {str(path)!r}: {_reason(error)}") from error


def _enter(parent: int, name: str) -> int:
    """The folder `name` of the open folder `parent`, made where it is missing."""
    try:
        return os.open(name, _ENTER_FLAGS, dir_fd=parent)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):  # another mirror made it just now
            os.mkdir(name, dir_fd=parent)
        return os.open(name, _ENTER_FLAGS, dir_fd=parent)


def regular(descriptor: int, path: Path) -> int:
    """`descriptor`, or SinkError when it is no regular file: nothing else can be cut back and continued."""
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise SinkError(f"cannot mirror to {str(path)!r}: not a regular file", hint="leave -o out and redirect")


def is_at(descriptor: int, path: str | Path, folder: int | None = None) -> bool:
    """Does `path` (from `folder` on) still name the open file?"""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, dir_fd=folder))
    except FileNotFoundError:
        return False


def _free_kept_name(name: str, folder: int) -> str:
    """The first name for a generation to keep that nothing in `folder` has."""
    taken = set(os.listdir(folder))
    return next(kept for number in itertools.count() if (kept := f"{name}{_KEPT}{number}") not in taken)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise SinkError(f"cannot mirror to {str(path)!r}: another mirror writes to it") from error
    except OSError as error:
        raise SinkError(f"cannot lock {str(path)!r}: {_reason(error)}") from error


def write_in_full(descriptor: int, data: Buffer, offset: int) -> None:
    left = memoryview(data).cast("B")
    while left:
        count = os.pwrite(descriptor, left[:_PIECE], offset)
        left = left[count:]
        offset += count


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
