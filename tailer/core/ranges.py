"""Byte ranges as HTTP writes them (RFC 9110 section 14). Stops are exclusive here, inclusive on the wire."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes [start, stop) of an object; never empty, never negative."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.stop:
            raise ValueError(f"not a range of bytes: [{self.start}, {self.stop})")

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def header(self) -> str:
        """The value of a ``Range`` header: ``bytes=0-9`` for the first ten bytes."""
        return f"bytes={self.start}-{self.stop - 1}"


@dataclass(frozen=True, slots=True)
class ContentRange:
    """What a 206 says that it carries: bytes [start, stop) of an object of `size` bytes."""

    start: int
    stop: int
    size: int

    @classmethod
    def parse(cls, value: str) -> ContentRange:
        """Read a ``Content-Range`` header.

        Raises ValueError for anything but one complete satisfied range within its own object.
        """
        match = _CONTENT_RANGE.fullmatch(value.strip(" \t"))
        if match is None:
            raise ValueError(f"unreadable Content-Range {value[:80]!r}")
        first, last, size = map(int, match.groups())
        if not first <= last < size:
            raise ValueError(f"impossible Content-Range {value[:80]!r}")
        return cls(first, last + 1, size)
