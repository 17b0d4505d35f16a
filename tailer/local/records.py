"""What is known of a file, how it is written down, and how a file that changed from outside is read again."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from tailer.core import crc64
from tailer.local.files import PIECE
from tailer.local.store import ObjectInfo

if TYPE_CHECKING:
    from tailer.local.store import BucketInfo

_EDGE = 64 * 1024
_TRUSTED_FROM = 1 << 20
_OUTSIDE_HEADERS = {"Content-Type": "application/octet-stream"}


class Signature(NamedTuple):
    """What tells that a file is still the one that was looked at."""

    inode: int
    size: int
    mtime_ns: int


@dataclass(slots=True)
class Record:
    """What is known of one file. `edges` sums up its first and last bytes, where it was read from outside."""

    info: ObjectInfo
    signature: Signature
    edges: int | None = None


def read_anew(file: int, known: Record | None) -> Record | None:
    """Sum up a file that changed from outside; None when it lost bytes meanwhile.

    Where the file is the known one and longer, only what was added is read, if the known part is large and
    both of its ends are unchanged; otherwise all is, which also tells whether the known part is still there.
    """
    signature = signature_of(os.fstat(file))
    if known is not None and (known.signature.inode != signature.inode or known.info.size > signature.size):
        known = None
    start = known.info.size if known else 0
    trusted = known is not None and start > _TRUSTED_FROM and known.edges == _edges(file, start)
    prefix = known.info.crc64 if known is not None and trusted else _sum(file, 0, start, 0)
    total = None if prefix is None else _sum(file, start, signature.size, prefix)
    if total is None:
        return None
    found = ObjectInfo(
        size=signature.size,
        crc64=total,
        etag=outside_etag(signature),
        modified=signature.mtime_ns / 1e9,
        headers=_OUTSIDE_HEADERS,
    )
    if known is not None and prefix == known.info.crc64:
        found = _continued(known.info, found)
    return Record(found, signature, _edges(file, signature.size))


def _continued(known: ObjectInfo, found: ObjectInfo) -> ObjectInfo:
    """The same object, longer or only touched: it keeps what was said of it."""
    if found.size == known.size:
        return replace(known, modified=found.modified)
    return replace(found, headers=known.headers, acl=known.acl, tags=known.tags, storage_class=known.storage_class)


def _sum(file: int, start: int, stop: int, crc: int) -> int | None:
    """The CRC-64 carried on over bytes [start, stop); None when they are not all there."""
    while start < stop:
        data = os.pread(file, min(PIECE, stop - start), start)
        if not data:
            return None
        crc = crc64.update(data, crc)
        start += len(data)
    return crc


def _edges(file: int, size: int) -> int:
    length = min(size, _EDGE)
    return crc64.update(os.pread(file, length, size - length), crc64.update(os.pread(file, length, 0)))


def signature_of(status: os.stat_result) -> Signature:
    return Signature(status.st_ino, status.st_size, status.st_mtime_ns)


def outside_etag(signature: Signature) -> str:
    digest = hashlib.blake2b(repr(tuple(signature)).encode(), digest_size=12)
    return digest.hexdigest().upper() + "00000000"


def bucket_line(info: BucketInfo) -> list[Any]:
    return ["bucket", info.name, info.created, info.acl, info.versioning]


def object_line(bucket: str, key: str, record: Record) -> list[Any]:
    return ["object", bucket, key, asdict(record.info), record.signature]


def former_line(bucket: str, key: str, info: ObjectInfo) -> list[Any]:
    return ["former", bucket, key, asdict(info)]


def append_line(bucket: str, key: str, record: Record) -> list[Any]:
    info = record.info
    facts = [info.size, info.crc64, info.etag, info.modified, info.acl]
    return ["append", bucket, key, *facts, record.signature]


def info_of(facts: dict[str, Any]) -> ObjectInfo:
    tags = tuple((name, value) for name, value in facts.pop("tags"))
    return ObjectInfo(**facts, tags=tags)
