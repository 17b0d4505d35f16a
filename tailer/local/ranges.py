"""What a ``Range`` header means to OSS, in both of its modes (OSS documentation, GetObject)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_RANGE = re.compile(r"bytes=(\d{0,64})-(\d{0,64})(?:,.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Slice:
    """Bytes [start, stop); `partial` makes it a 206."""

    start: int
    stop: int
    partial: bool


def decide(header: str | None, size: int, *, standard: bool) -> Slice | None:
    """The bytes to answer with, for an object of `size` bytes; None is 416 (standard mode alone).

    By default a range that is not wholly inside the object is ignored and the whole object is sent. With
    ``x-oss-range-behavior: standard`` the end is clamped, and a start at or behind the end is refused.
    Text that is not a range is ignored in both modes (RFC 9110 section 14.2); of several ranges only the
    first counts.
    """
    whole = Slice(0, size, partial=False)
    bounds = _parse(header, size)
    if bounds is None:
        return whole
    start, last = bounds
    if 0 <= start <= last < size:
        return Slice(start, last + 1, partial=True)
    if not standard:
        return whole
    start, last = max(start, 0), min(last, size - 1)
    return Slice(start, last + 1, partial=True) if start <= last else None


def _parse(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte as asked for, which may lie outside of the object; None when it is not a range."""
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    first, last = match.groups()
    if not first:
        # A suffix of nothing begins behind the last byte, so that it is outside in both modes.
        return (size - int(last), size - 1) if last else None
    if not last:
        return int(first), max(size - 1, int(first))
    return (int(first), int(last)) if int(first) <= int(last) else None
