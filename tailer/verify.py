"""Is this file that object? Proven by CRC-64, without any state of a former run.

A file of the object's length needs a single HEAD: its CRC-64 is compared with the one that the service states. A
shorter one is a prefix of the object if the object's rest, read and added to it, gives the stated CRC-64; or
if the object's own first bytes have the file's CRC-64: whichever is less to read.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from tailer.core import crc64
from tailer.core.position import Position
from tailer.core.ranges import ByteRange
from tailer.errors import CrcMissing, ObjectReplaced, RangeNotSatisfiable, TailerError

if TYPE_CHECKING:
    from tailer.core.position import ObjectMeta, ObjectRef
    from tailer.follow import ObjectReader

_BLOCK = 1 << 20
_WINDOW = 8 << 20


class Verdict(Enum):
    """What a file is to an object."""

    EQUAL = "equal"
    PREFIX = "prefix"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Comparison:
    """`size` and `crc64` are of the file, `object_size` is of the object, in bytes."""

    verdict: Verdict
    size: int
    crc64: int
    object_size: int


async def verify_file(reader: ObjectReader, ref: ObjectRef, path: str | os.PathLike[str]) -> Comparison:
    """Compare the file at `path` with the object as it is now; of the file, what is there when it is read.

    An empty file is a prefix of any object. Raises TailerError when the file cannot be read, CrcMissing when
    the service states none, ObjectReplaced when the object changes while it is read, and what `reader` raises.
    """
    local = await asyncio.to_thread(_measure, Path(path))
    crc = local.crc64 or 0
    meta = await reader.head(ref)
    if meta.crc64 is None:
        raise CrcMissing(f"{ref}: the service states no CRC-64 for it, so nothing can be proven", hint="compare bytes")
    verdict = await _judge(reader, ref, local.offset, crc, meta)
    return Comparison(verdict, local.offset, crc, meta.size)


async def _judge(reader: ObjectReader, ref: ObjectRef, size: int, crc: int, meta: ObjectMeta) -> Verdict:
    if size > meta.size:
        return Verdict.DIFFERENT
    if size == meta.size:
        return Verdict.EQUAL if crc == meta.crc64 else Verdict.DIFFERENT
    if meta.size - size <= size:
        rest = await _crc_of(reader, ref, size, meta.size)
        same = crc64.combine(crc, rest, meta.size - size) == meta.crc64
    else:
        same = await _crc_of(reader, ref, 0, size) == crc
    if same:
        return Verdict.PREFIX
    await _check_still(reader, ref, meta)
    return Verdict.DIFFERENT


async def _crc_of(reader: ObjectReader, ref: ObjectRef, start: int, stop: int) -> int:
    """The CRC-64 of bytes [start, stop) of the object."""
    crc = 0
    try:
        while start < stop:
            window = await reader.fetch(ref, ByteRange(start, min(stop, start + _WINDOW)))
            crc = crc64.update(window.data, crc)
            start += len(window.data)
    except RangeNotSatisfiable as error:
        raise ObjectReplaced(f"{ref}: it became shorter while it was compared") from error
    return crc


async def _check_still(reader: ObjectReader, ref: ObjectRef, meta: ObjectMeta) -> None:
    """A difference counts only if the object held still meanwhile, or just grew."""
    now = await reader.head(ref)
    if now.size < meta.size or (now.size == meta.size and now.crc64 != meta.crc64):
        raise ObjectReplaced(f"{ref}: it changed while it was compared")


def _measure(path: Path) -> Position:
    """Length and CRC-64 of the file."""
    crc = offset = 0
    block = memoryview(bytearray(_BLOCK))
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(block):
                crc = crc64.update(block[:count], crc)
                offset += count
    except OSError as error:
        raise TailerError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    return Position(offset, crc)
