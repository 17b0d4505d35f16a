"""Files as bodies and contents of objects."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from tailer.core import crc64
from tailer.local.refusal import Refusal
from tailer.local.store import SMALL

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from tailer.local.store import Upload

IN_MEMORY = 1 << 20
PIECE = 1 << 20


def write_all(file: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write every byte at `offset`, however many calls that takes."""
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


class FileContents:
    """The first `size` bytes of an open file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self._size = size

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`."""
        return os.pread(self.file.fileno(), max(0, min(length, self._size - offset)), offset)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class FolderUpload:
    """A body: in memory while it is small, then in a file that has no name yet among the objects."""

    def __init__(self, folder: Path) -> None:
        self.size = 0
        self.crc64 = 0
        self._folder = folder
        self._memory = bytearray()
        self._file: int | None = None
        self._path: str | None = None

    def write(self, chunk: bytes) -> None:
        """Add bytes."""
        self.crc64 = crc64.update(chunk, self.crc64)
        if self._file is None and self.size + len(chunk) <= IN_MEMORY:
            self._memory += chunk
        else:
            write_all(self._spilled(), chunk, self.size)
        self.size += len(chunk)

    def adopt(self, other: Upload) -> None:
        """Add all bytes of another one."""
        assert isinstance(other, FolderUpload), "a body goes to the engine that it was made by"
        for start in range(0, other.size, PIECE):
            self.write(other.read(start, PIECE))

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`."""
        if self._file is None:
            return bytes(self._memory[offset : offset + length])
        return os.pread(self._file, length, offset)

    def small(self) -> bytes | None:
        """All bytes, when they are few."""
        return bytes(self._memory) if self.size <= SMALL else None

    def copy_to(self, file: int, offset: int) -> None:
        """Write all bytes into another file."""
        if self._file is None:
            write_all(file, self._memory, offset)
            return
        for start in range(0, self.size, PIECE):
            write_all(file, os.pread(self._file, PIECE, start), offset + start)

    def into_file(self, *, fsync: bool) -> tuple[str, os.stat_result]:
        """The path of a file with all bytes, to be renamed, and its status."""
        file = self._spilled()
        if fsync:
            os.fsync(file)
        assert self._path is not None, "a file that was made has a path"
        return self._path, os.fstat(file)

    def close(self) -> None:
        """Forget what was not renamed."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            self._path = None

    def _spilled(self) -> int:
        """The file, which now has all bytes so far."""
        if self._file is None:
            self._path = str(self._folder / os.urandom(12).hex())
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            write_all(self._file, self._memory, 0)
            self._memory.clear()
        return self._file


def open_regular(path: str) -> BinaryIO | None:
    """The file, open for reading; None when there is none. Raises AccessDenied for one that cannot be read."""
    try:
        # Never waits on a pipe that somebody put there.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise Refusal(403, "AccessDenied", "The server may not read this file.") from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        return None
    return os.fdopen(file, "rb", buffering=0)


def status_of(path: str) -> os.stat_result | None:
    """The status of what is there, itself and not what it links to."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_file(path: str) -> bool:
    """Whether a regular file is there."""
    status = status_of(path)
    return status is not None and stat.S_ISREG(status.st_mode)


def sync_folder(path: str | Path) -> None:
    """Make the names in a folder survive a loss of power."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
