"""The proof, read afterwards, of what lies below a start in the middle of an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailer.core import crc64
from tailer.core.ranges import ByteRange

if TYPE_CHECKING:
    from tailer.core.chain import Claim


class Beginning:
    """Takes the bytes below ``claim.start``, in order, and says whether the claim holds."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.misfits = 0
        self._offset = self._crc = 0

    def next_range(self, most: int) -> ByteRange:
        """What to read next, at most `most` bytes."""
        return ByteRange(self._offset, min(self._offset + most, self.claim.start))

    def feed(self, data: bytes | bytearray | memoryview) -> bool | None:
        """Take what `next_range` asked for, or its first part. Does the claim hold? None while bytes are missing.

        After a misfit all is to be read once more.
        """
        self._crc = crc64.update(data, self._crc)
        self._offset += len(data)
        if self._offset < self.claim.start:
            return None
        claim = self.claim
        holds = crc64.combine(self._crc, claim.crc64, claim.link.size - claim.start) == claim.link.crc64
        if not holds:
            self.misfits += 1
            self._offset = self._crc = 0
        return holds
