"""Mirrors of many objects below one folder, of which only some are open at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tailer.core.position import Mark
from tailer.errors import SinkError, without_frames
from tailer.sinks.file import FileMirror
from tailer.sinks.fsync import NEVER, Fsync
from tailer.sinks.rotated import RotatedMirror

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from tailer.core.events import Batch, Event
    from tailer.core.position import ObjectRef, Position
    from tailer.errors import TailerError
    from tailer.sinks.file import Left

_MOST_OPEN = 256
_MOST_REMEMBERED = 1 << 18  # objects, some 300 bytes each
_LOOKED_AT = 8  # files, in search of one to close
_SYNCS_AT_ONCE = 8


class Mirrors:
    """The mirrors below `folder`, made by `open`: each object is written by one `Mirror` at a time.

    Whatever the number of mirrors, about `most_open` files are open: one that all is proven of may be closed between
    two writes. It is opened again without being read where it is as it was left (device, inode, length and time of the
    last change); any other is read, and proven by its CRC-64. Where two keys have one name for the file system, which
    may take ``A`` for ``a``, the second is refused.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        rotate_size: int | None = None,
        fsync: Fsync = NEVER,
        most_open: int = _MOST_OPEN,
    ) -> None:
        """`rotate_size`: mirror into segments of so many bytes (`RotatedMirror`)."""
        self._folder = Path(folder)
        self._fsync = fsync
        self._most_open = most_open
        self._make: Callable[..., FileMirror] = FileMirror.open_below
        if rotate_size is not None:
            self._make = partial(RotatedMirror.open_below, rotate_size=rotate_size)
        self._folds: bool | None = None
        self._in_use: set[ObjectRef] = set()
        self._open: OrderedDict[ObjectRef, FileMirror] = OrderedDict()  # the one used last is the last
        self._busy: set[ObjectRef] = set()  # something is done with it just now
        self._closing: dict[ObjectRef, asyncio.Task[None]] = {}
        self._left: OrderedDict[ObjectRef, Left] = OrderedDict()
        self._owned: dict[ObjectRef, Position] = {}  # of those that are not as they are to be: what was proven of them
        self._unsynced: set[ObjectRef] = set()
        self._unsafe: dict[ObjectRef, SinkError] = {}
        self._syncing = asyncio.Lock()
        self._trouble: dict[ObjectRef, SinkError] = {}  # of one that was closed while nobody was there to be told

    async def open(self, ref: ObjectRef, mark: Mark | None, *, expect_proof: bool = True) -> tuple[Mirror, Mark]:
        """The mirror of `ref`, and where the object is to be read on from: at the end of its file.

        `mark` is what a checkpoint says. Raises SinkError when the file cannot be had, or is being written already.
        """
        if ref in self._in_use:
            raise SinkError(f"cannot mirror {ref}: another group mirrors it into the same folder just now")
        self._in_use.add(ref)
        try:
            mirror = Mirror(self, ref, expect_proof)
            async with self._at_work(ref):
                return mirror, await self._resume(ref, mark, expect_proof)
        except BaseException:
            self._in_use.discard(ref)
            await self._forget(ref)
            raise

    async def sync(self) -> Mapping[ObjectRef, SinkError]:
        """Return when all that was written is on the disk; at once under the policy `NEVER`.

        But for the objects returned, each with the reason: what is in the file of such a one nobody knows, and no
        second fsync would tell. The next process finds out, by the CRC-64.
        """
        async with self._syncing:  # what another group is just about is not on the disk yet
            await self._sync_all([*self._unsynced])
        return self._unsafe

    async def _sync_all(self, refs: list[ObjectRef]) -> None:
        slots = asyncio.Semaphore(_SYNCS_AT_ONCE)
        for error in await asyncio.gather(*(self._sync(ref, slots) for ref in refs), return_exceptions=True):
            if error is not None:
                try:
                    raise error
                finally:
                    del error  # it holds this frame

    async def close(self) -> None:
        """Let go of all files. Raises the first SinkError of a failed fsync that was not told yet."""
        for ref in [*self._open]:
            await self._close(ref)
        if self._closing:
            await asyncio.wait(self._closing.values())
        for error in self._trouble.values():
            raise error

    # --- for a Mirror

    @contextlib.asynccontextmanager
    async def writing(self, ref: ObjectRef, expect_proof: bool) -> AsyncIterator[FileMirror]:
        """The open file of `ref`. Raises SinkError when it had been closed, and was changed meanwhile."""
        async with self._at_work(ref):
            if ref not in self._open:
                left = self._left.pop(ref, None)
                mirror = self._opened(ref, expect_proof)
                if left is None or not mirror.take_up(left):
                    raise SinkError(f"{str(mirror.path)!r} was changed while the object was mirrored into it")
            if self._fsync.at_close and ref not in self._unsafe:
                self._unsynced.add(ref)
            yield self._open[ref]
        await self._close_some()

    async def end(self, ref: ObjectRef) -> None:
        """Nobody mirrors `ref` now. Its file stays open for the next one where all of it is proven."""
        self._in_use.discard(ref)
        error = self._trouble.pop(ref, None)
        mirror = self._open.get(ref)
        if mirror is not None and (left := mirror.left()) is None:
            if (owned := mirror.owned()) is not None:
                self._owned[ref] = owned
            await self._forget(ref)
        elif mirror is not None and left is not None:
            self._remember(ref, left)
        if error is not None:
            raise error

    # --- one file

    @contextlib.asynccontextmanager
    async def _at_work(self, ref: ObjectRef) -> AsyncIterator[None]:
        """Meanwhile the file is not closed."""
        if (closing := self._closing.get(ref)) is not None:
            await asyncio.wait([closing])
        if (error := self._trouble.pop(ref, None)) is not None:
            raise error
        self._busy.add(ref)
        try:
            yield
        finally:
            self._busy.discard(ref)

    async def _resume(self, ref: ObjectRef, mark: Mark | None, expect_proof: bool) -> Mark:
        left = self._left.pop(ref, None)
        mirror = self._open.get(ref)
        if mirror is not None and (left is None or mirror.left() != left or not mirror.is_in_place()):
            await self._forget(ref)
            mirror = None
        if mirror is not None and left is not None and (found := _joined(left, mark)):
            return found
        mirror = mirror or self._opened(ref, expect_proof)
        if left is not None and mirror.take_up(left) and (found := _joined(left, mark)):
            return found
        owned = self._owned.pop(ref, None)
        known = ([] if mark is None else [mark.verified]) + ([] if owned is None else [owned])
        return _of_generation(await mirror.resume(known), mark)

    def _opened(self, ref: ObjectRef, expect_proof: bool) -> FileMirror:
        mirror = self._make(self._folder, ref, fsync=self._fsync, expect_proof=expect_proof)
        self._open[ref] = mirror
        if self._folds is None:
            self._folds = _folds_names(self._folder)
        if self._folds:
            _check_name(self._folder, mirror.path)
        return mirror

    def _remember(self, ref: ObjectRef, left: Left) -> None:
        self._left[ref] = left
        if len(self._left) > _MOST_REMEMBERED:
            self._left.popitem(last=False)

    async def _forget(self, ref: ObjectRef) -> None:
        """Close the file, and trust nothing that is known of it."""
        await self._close(ref)
        self._left.pop(ref, None)

    async def _close_some(self) -> None:
        """As many as there are too many; one of which not all is proven has to stay open."""
        for _ in range(min(_LOOKED_AT, len(self._open) - self._most_open)):
            ref, mirror = next(iter(self._open.items()))
            self._open.move_to_end(ref)
            if ref not in self._busy and (left := mirror.left()) is not None:
                self._remember(ref, left)
                await self._close(ref)

    async def _close(self, ref: ObjectRef) -> None:
        if (mirror := self._open.pop(ref, None)) is None:
            return
        closing = self._closing[ref] = asyncio.ensure_future(self._closed(ref, mirror))
        closing.add_done_callback(lambda _: self._closing.pop(ref))
        await asyncio.wait([closing])

    async def _closed(self, ref: ObjectRef, mirror: FileMirror) -> None:
        try:
            await mirror.close()
        except SinkError as error:
            self._trouble[ref] = error
        finally:
            if (reason := mirror.unsafe) is not None:
                self._unsafe[ref] = without_frames(reason)

    async def _sync(self, ref: ObjectRef, slots: asyncio.Semaphore) -> None:
        async with slots:
            try:
                async with self._at_work(ref):
                    self._unsynced.discard(ref)  # what is written from now on is for the next time
                    if (mirror := self._open.get(ref)) is not None:
                        await mirror.sync()
            except SinkError as error:
                self._unsynced.discard(ref)
                self._unsafe[ref] = without_frames(error)
                if ref not in self._in_use:
                    await self._forget(ref)
            except BaseException:
                self._unsynced.add(ref)
                raise


class Mirror:
    """A sink: the mirror of one object, whose file may be closed between two writes. Made by `Mirrors.open`."""

    def __init__(self, mirrors: Mirrors, ref: ObjectRef, expect_proof: bool) -> None:
        self._mirrors = mirrors
        self._ref = ref
        self._expect_proof = expect_proof

    async def write(self, batch: Batch) -> None:
        """As `FileMirror.write`."""
        async with self._mirrors.writing(self._ref, self._expect_proof) as mirror:
            await mirror.write(batch)

    async def notice(self, event: Event) -> None:
        """As `FileMirror.notice`."""
        async with self._mirrors.writing(self._ref, self._expect_proof) as mirror:
            await mirror.notice(event)

    async def settle(self, error: TailerError) -> TailerError:
        """As `FileMirror.settle`."""
        async with self._mirrors.writing(self._ref, self._expect_proof) as mirror:
            return mirror.settle(error)

    async def close(self) -> None:
        """The next one may be opened. Raises SinkError for a failed fsync that was not told yet."""
        await self._mirrors.end(self._ref)


def _joined(left: Left, mark: Mark | None) -> Mark | None:
    """Where to go on in a file that is as it was left; None where its CRC-64 is not known and `mark` is not there.

    All of such a file is proven, also where the checkpoint does not know of that yet.
    """
    at = left.position
    if mark is not None and mark.delivered.offset == at.offset and at.crc64 in (None, mark.delivered.crc64):
        return mark if at.crc64 is None else replace(mark, verified=replace(at, generation=mark.delivered.generation))
    return None if at.crc64 is None else Mark(at, at)


def _of_generation(found: Mark, mark: Mark | None) -> Mark:
    """`found` in a file, which knows of no generations, beside what a checkpoint says."""
    if mark is None:
        return found
    at = mark.delivered
    if (found.delivered.offset, found.delivered.crc64) == (at.offset, at.crc64):
        return mark
    delivered, verified = (replace(one, generation=at.generation) for one in (found.delivered, found.verified))
    return Mark(delivered, verified)


def _folds_names(folder: Path) -> bool:
    """Does the file system take one name for another, as those do that ignore case? Raises SinkError."""
    try:
        # A "%" with a letter behind it that is no hexadecimal digit: no key has that name.
        with tempfile.NamedTemporaryFile(dir=folder, prefix="%probe-a-") as probe:
            name = Path(probe.name).name
            return (folder / name.swapcase()).exists()
    except OSError as error:
        raise SinkError(f"cannot write below {str(folder)!r}: {error.strerror or error}") from error


def _check_name(folder: Path, path: Path) -> None:
    """Raises SinkError where a name on the way to `path` stands there in another spelling: for another key."""
    here = folder
    for name in path.relative_to(folder).parts:
        names = os.listdir(here)
        if name not in names and not any(one.startswith(f"{name}.") for one in names):
            raise SinkError(
                f"cannot mirror to {str(path)!r}: the file system takes its name for that of another key",
                hint="it ignores the case of letters, say: mirror into a folder on one that does not",
            )
        here /= name
