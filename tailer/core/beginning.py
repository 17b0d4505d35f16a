"""The proof, read afterwards, of what lies below a start in the middle of an object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailer.core import crc64
from tailer.core.ranges import ByteRange

if TYPE_CHECKING:
    from tailer.core.position import Claim


class Beginning:
    """Takes the bytes below ``claim.start``, in order, and says whether the claim holds.

    `crc64` is of those that were taken.
    """

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.misfits = 0
        self._offset = self.crc64 = 0

    def next_range(self, most: int) -> ByteRange:
        """What to read next, at most `most` bytes."""
        return ByteRange(self._offset, min(self._offset + most, self.claim.start))

    def feed(self, data: bytes | bytearray | memoryview) -> bool | None:
        """Take what `next_range` asked for, or its first part. Does the claim hold? None while bytes are missing.

        After a misfit all is to be read once more.
        """
        self.crc64 = crc64.update(data, self.crc64)
        self._offset += len(data)
        if self._offset < self.claim.start:
            return None
        claim = self.claim
        holds = crc64.combine(self.crc64, claim.crc64, claim.size - claim.start) == claim.stated
        if not holds:
            self.misfits += 1
            self._offset = self.crc64 = 0
        return holds
