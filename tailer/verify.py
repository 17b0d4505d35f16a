"""Is this file that object? Proven by CRC-64, without any state of a former run.

A file of the object's length needs a single HEAD: its CRC-64 is compared with the one that the service states. A
shorter one is a part of the object if the object's other bytes, read and added to it, give the stated CRC-64; or
if the object's own bytes at that place have the file's CRC-64: whichever is less to read.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from tailer.core import crc64
from tailer.core.ranges import ByteRange
from tailer.errors import CrcMissing, ObjectReplaced, RangeNotSatisfiable, TailerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailer.core.position import ObjectMeta, ObjectRef
    from tailer.follow import ObjectReader

_BLOCK = 1 << 20
_WINDOW = 8 << 20


class Verdict(Enum):
    """What a file is to an object."""

    EQUAL = "equal"
    PREFIX = "prefix"
    PART = "part"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Comparison:
    """`size` and `crc64` are of the file, whose bytes begin at `start` of the object; all in bytes."""

    verdict: Verdict
    start: int
    size: int
    crc64: int
    object_size: int


async def verify_files(
    reader: ObjectReader, ref: ObjectRef, paths: Sequence[str | os.PathLike[str]], *, start: int = 0
) -> Comparison:
    """Compare the files at `paths`, one after the other, with the object as it is now, from its byte `start` on.

    Of the files counts what is there when they are read. An empty one is a prefix of any object.

    Raises TailerError when a file cannot be read, CrcMissing when the service states none, ObjectReplaced when the
    object changes while it is read, and what `reader` raises.
    """
    size, crc = await asyncio.to_thread(_measure, [Path(path) for path in paths])
    meta = await reader.head(ref)
    if meta.crc64 is None:
        raise CrcMissing(f"{ref}: the service states no CRC-64 for it, so nothing can be proven", hint="compare bytes")
    verdict = await _judge(reader, ref, range(start, start + size), crc, meta)
    return Comparison(verdict, start, size, crc, meta.size)


async def _judge(reader: ObjectReader, ref: ObjectRef, local: range, crc: int, meta: ObjectMeta) -> Verdict:
    if local.stop > meta.size:
        return Verdict.DIFFERENT
    missing = meta.size - len(local)
    if missing <= len(local):
        before = await _crc_of(reader, ref, 0, local.start)
        behind = await _crc_of(reader, ref, local.stop, meta.size)
        whole = crc64.combine(crc64.combine(before, crc, len(local)), behind, meta.size - local.stop)
        same = whole == meta.crc64
    else:
        same = await _crc_of(reader, ref, local.start, local.stop) == crc
    if same:
        return Verdict.PART if local.start else Verdict.PREFIX if missing else Verdict.EQUAL
    if missing:
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


def _measure(paths: list[Path]) -> tuple[int, int]:
    """Length and CRC-64 of the files, one after the other."""
    crc = size = 0
    block = memoryview(bytearray(_BLOCK))
    for path in paths:
        try:
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(block):
                    crc = crc64.update(block[:count], crc)
                    size += count
        except OSError as error:
            raise TailerError(f"cannot read {str(path)!r}: {error.strerror or error}") from error
    return size, crc
