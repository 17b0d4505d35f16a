"""Buckets and objects in memory, gone when the process ends."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from tailer.core import crc64
from tailer.local.store import SMALL, BucketInfo, ObjectInfo, Summary, Upload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SEGMENT = 1 << 20


class Segments:
    """Bytes that only ever grow, in pieces that are never moved: a reader's view stays good while it grows."""

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytearray] = []
        self._starts: list[int] = []

    def write(self, data: bytes | bytearray) -> None:
        """Add bytes at the end."""
        if self._pieces and len(self._pieces[-1]) + len(data) <= _SEGMENT:
            self._pieces[-1] += data
        else:
            self._starts.append(self.size)
            self._pieces.append(bytearray(data))
        self.size += len(data)

    def adopt(self, other: Segments) -> None:
        """Add all of `other`, whose pieces are taken over when they are large."""
        if other.size <= _SEGMENT:
            for piece in other._pieces:
                self.write(piece)
            return
        for piece in other._pieces:
            self._starts.append(self.size)
            self._pieces.append(piece)
            self.size += len(piece)

    def pieces(self) -> Sequence[bytearray]:
        """All bytes, piece by piece, to be copied."""
        return self._pieces

    def read(self, offset: int, length: int) -> bytes | bytearray:
        """At most `length` bytes from `offset`: those that one piece holds come without joining."""
        found, stop = [], min(offset + length, self.size)
        while offset < stop:
            index = bisect_right(self._starts, offset) - 1
            skip = offset - self._starts[index]
            piece = self._pieces[index][skip : skip + stop - offset]
            found.append(piece)
            offset += len(piece)
        return found[0] if len(found) == 1 else b"".join(found)


class MemoryContents:
    """The first `size` bytes of segments that may have grown since."""

    file = None

    def __init__(self, segments: Segments, size: int) -> None:
        self._segments = segments
        self._size = size

    def read(self, offset: int, length: int) -> bytes | bytearray:
        """At most `length` bytes from `offset`."""
        return self._segments.read(offset, min(length, self._size - offset))

    def close(self) -> None:
        """Nothing is held."""


class MemoryUpload:
    """A body in memory."""

    def __init__(self) -> None:
        self.size = 0
        self.crc64 = 0
        self.segments = Segments()

    def write(self, chunk: bytes) -> None:
        """Add bytes."""
        self.crc64 = crc64.update(chunk, self.crc64)
        self.segments.write(chunk)
        self.size += len(chunk)

    def adopt(self, other: Upload) -> None:
        """Add all bytes of another one, which stays as it is."""
        segments = _segments(other)
        self.crc64 = crc64.combine(self.crc64, other.crc64, other.size)
        for piece in segments.pieces():
            self.segments.write(piece)
        self.size += other.size

    def small(self) -> bytes | None:
        """All bytes, when they are few."""
        return bytes(self.segments.read(0, self.size)) if self.size <= SMALL else None

    def close(self) -> None:
        """Nothing is held."""


class MemoryEngine:
    """Everything in dictionaries."""

    on_disk = False

    def __init__(self) -> None:
        self._buckets: dict[str, BucketInfo] = {}
        self._objects: dict[str, dict[str, tuple[ObjectInfo, Segments]]] = {}
        self._order: dict[str, list[tuple[bytes, str]]] = {}
        self._former: dict[str, dict[str, list[tuple[ObjectInfo, Segments]]]] = {}

    def bucket(self, name: str) -> BucketInfo | None:
        """The bucket, or None."""
        return self._buckets.get(name)

    def buckets(self) -> list[BucketInfo]:
        """All of them."""
        return list(self._buckets.values())

    def put_bucket(self, info: BucketInfo) -> None:
        """Make it, or change it."""
        self._objects.setdefault(info.name, {})
        self._buckets[info.name] = info

    def drop_bucket(self, name: str) -> None:
        """Forget an empty bucket."""
        del self._buckets[name]
        del self._objects[name]
        self._order.pop(name, None)

    def upload(self) -> MemoryUpload:
        """A body in memory."""
        return MemoryUpload()

    def find(self, bucket: str, key: str) -> ObjectInfo | None:
        """The object, or None."""
        found = self._objects[bucket].get(key)
        return found and found[0]

    def open(self, bucket: str, key: str) -> tuple[ObjectInfo, MemoryContents] | None:
        """The object and its bytes, both of one moment."""
        found = self._objects[bucket].get(key)
        if found is None:
            return None
        info, segments = found
        return info, MemoryContents(segments, info.size)

    def extend(self, bucket: str, key: str, before: ObjectInfo, body: Upload, after: ObjectInfo) -> None:
        """Add the body, then say so: nobody can see a size whose bytes are not there."""
        segments = self._objects[bucket][key][1]
        segments.adopt(_segments(body))
        self._objects[bucket][key] = after, segments

    def replace(self, bucket: str, key: str, body: Upload, info: ObjectInfo) -> None:
        """The key is this body from now on."""
        if key not in self._objects[bucket]:
            self._order.pop(bucket, None)
        self._objects[bucket][key] = info, _segments(body)

    def amend(self, bucket: str, key: str, info: ObjectInfo) -> None:
        """Other attributes, same bytes."""
        self._objects[bucket][key] = info, self._objects[bucket][key][1]

    def remove(self, bucket: str, key: str) -> None:
        """Forget the object, if it is there."""
        if self._objects[bucket].pop(key, None) is not None:
            self._order.pop(bucket, None)

    def walk(self, bucket: str, prefix: str, after: str = "") -> Iterator[tuple[str, Summary]]:
        """Objects below `prefix` and not before `after`, in the byte order of their keys."""
        order = self._order.get(bucket)
        if order is None:
            order = self._order[bucket] = sorted((key.encode(), key) for key in list(self._objects[bucket]))
        begin = max(prefix.encode(), after.encode())
        for index in range(bisect_left(order, (begin, "")), len(order)):
            key = order[index][1]
            if not key.startswith(prefix):
                return
            info = self.find(bucket, key)
            if info is not None:
                yield key, Summary.of(info)

    def keep(self, bucket: str, key: str, info: ObjectInfo) -> None:
        """Add the present object, or a delete marker, to what was."""
        segments = Segments() if info.is_marker else self._objects[bucket][key][1]
        self.drop_former(bucket, key, info.version or "")
        self._former.setdefault(bucket, {}).setdefault(key, []).append((info, segments))

    def former(self, bucket: str, key: str) -> list[ObjectInfo]:
        """What was kept, the oldest first."""
        return [info for info, _ in self._former.get(bucket, {}).get(key, ())]

    def former_keys(self, bucket: str) -> list[str]:
        """The keys of which anything was kept."""
        return list(self._former.get(bucket, ()))

    def open_former(self, bucket: str, key: str, version: str) -> tuple[ObjectInfo, MemoryContents] | None:
        """A version that was kept, and its bytes."""
        for info, segments in self._former.get(bucket, {}).get(key, ()):
            if info.version == version:
                return info, MemoryContents(segments, info.size)
        return None

    def drop_former(self, bucket: str, key: str, version: str) -> None:
        """Forget a version that was kept, if there is one."""
        keys = self._former.get(bucket, {})
        left = [one for one in keys.get(key, ()) if one[0].version != version]
        if left:
            keys[key] = left
        else:
            keys.pop(key, None)

    def restore(self, bucket: str, key: str, version: str) -> None:
        """Make a version that was kept the present object."""
        kept = next(one for one in self._former[bucket][key] if one[0].version == version)
        self._order.pop(bucket, None)
        self._objects[bucket][key] = kept
        self.drop_former(bucket, key, version)

    def backlog(self, bucket: str, key: str) -> int:
        """Nothing changes memory from outside."""
        return 0

    def slow(self, size: int) -> bool:
        """Taking over a body moves no bytes."""
        return False

    def close(self) -> None:
        """Nothing is held."""


def _segments(body: Upload) -> Segments:
    assert isinstance(body, MemoryUpload), "a body goes to the engine that it was made by"
    return body.segments
