"""A file that lines are appended to, by one process at a time, however often it is moved away (logrotate)."""

from __future__ import annotations

import asyncio
import fcntl
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from tailer.errors import SinkError
from tailer.sinks.stdout import OutputStream

if TYPE_CHECKING:
    from typing_extensions import Buffer

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK


class AppendedFile:
    """Whole lines at the end of the file at `path`, which is only ever added to.

    A part of a line that stands at its end, left by a run that was killed or by a full disk, is ended with a newline
    first: a reader finds one line that is none, and all others whole. Where the name leads to another file now, or to
    none, that one is written from then on. The file is locked (``flock``) meanwhile.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises SinkError when the file cannot be opened, is no regular file, or is written by another process."""
        self._path = Path(path)
        self._lock = asyncio.Lock()
        self._take(self._opened())

    def _take(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._stream, self._torn = OutputStream(descriptor), True

    def _opened(self) -> int:
        """A descriptor of the file under the name, which nobody else writes to."""
        try:
            descriptor = os.open(self._path, _FLAGS, 0o666)
        except OSError as error:
            raise self._refused(error) from error
        try:
            self._own(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _own(self, descriptor: int) -> None:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SinkError(f"cannot append to {str(self._path)!r}: not a regular file")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SinkError(f"cannot append to {str(self._path)!r}: another process writes to it") from error
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> SinkError:
        return SinkError(f"cannot append to {str(self._path)!r}: {error.strerror or error}")

    async def write(self, data: Buffer) -> None:
        """Append `data`, which is whole lines. Raises SinkError; part of it may then stand there."""
        async with self._lock:
            if self._has_moved():
                await self._reopen()
            if self._torn and self._ends_inside_a_line():
                await self._stream.write(b"\n")
            self._torn = True
            await self._stream.write(data)
            self._torn = False

    def _has_moved(self) -> bool:
        try:
            return not os.path.samestat(os.fstat(self._descriptor), os.stat(self._path))
        except FileNotFoundError:
            return True
        except OSError as error:
            raise self._refused(error) from error

    async def _reopen(self) -> None:
        await self._stream.drain(float("inf"))
        former, opened = self._descriptor, self._opened()
        self._take(opened)
        os.close(former)

    def _ends_inside_a_line(self) -> bool:
        try:
            size = os.fstat(self._descriptor).st_size
            return size > 0 and os.pread(self._descriptor, 1, size - 1) != b"\n"
        except OSError as error:
            raise self._refused(error) from error

    async def close(self) -> None:
        """Finish what is under way and let go of the file."""
        async with self._lock:
            await self._stream.drain(float("inf"))
            os.close(self._descriptor)
