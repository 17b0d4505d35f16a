"""How much of a mirror is proven, kept beside it for as long as it holds more than that.

While catching up, bytes go into the file before the service's CRC-64 has vouched for them. Whoever is killed then
may leave wrong ones behind; the note tells the next run how far it may cut the file back, and no further.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING

from tailer.core import crc64
from tailer.core.position import Position

if TYPE_CHECKING:
    from pathlib import Path

_MARK = "%ok"  # no name that `mirror_path` makes has a "%" with a letter behind it that is no hexadecimal digit
_TEXT = re.compile(rb"(\d+) (\d+)\n")
_BLOCK = 1 << 20


class ProvenNote:
    """The neighbour ``PATH%ok``: offset and CRC-64 up to which the mirror at PATH is proven.

    `durable`: it is on the disk before `keep` returns, for a mirror whose bytes are forced there as well: bytes that
    survive a power cut without their note would count as proven.
    """

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        self._path = path.with_name(path.name + _MARK)
        self._durable = durable
        self._stands = True  # as far as is known

    def read(self, descriptor: int, whole: Position) -> Position:
        """How much of the file open as `descriptor`, which is `whole`, is proven: all of it where there is no note.

        A note that is half written counts as none, since no byte is written before it is whole; so does one about
        other bytes than those that stand there. Raises OSError.
        """
        noted = self.noted()
        if noted is None or noted.offset > whole.offset:
            return whole
        return noted if _crc64(descriptor, noted.offset) == noted.crc64 else whole

    def noted(self) -> Position | None:
        """What the note says, None where there is none or half of one. Raises OSError."""
        try:
            opened = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            self._stands = False
            return None
        with os.fdopen(opened, "rb") as file:
            text = _TEXT.fullmatch(file.read(100))
        return None if text is None else Position(int(text[1]), int(text[2]))

    def keep(self, proven: Position) -> None:
        """Before the first byte behind `proven` is written. Raises OSError, and then there is no note."""
        self._stands = True
        try:
            opened = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(opened, "wb") as file:
                file.write(b"%d %d\n" % (proven.offset, proven.crc64 or 0))
                if self._durable:
                    file.flush()
                    os.fsync(file.fileno())
            if self._durable:
                self._sync_name()
        except OSError:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                self.drop()
            raise

    def _sync_name(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def drop(self) -> None:
        """All that the file holds is proven. Raises OSError.

        One that a power cut brings back does no harm: it says of less that it is proven, or is about other bytes.
        """
        if self._stands:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            self._stands = False


def _crc64(descriptor: int, length: int) -> int:
    """Of the first `length` bytes, or of as many as there are."""
    offset = crc = 0
    while block := os.pread(descriptor, min(_BLOCK, length - offset), offset):
        crc = crc64.update(block, crc)
        offset += len(block)
    return crc
