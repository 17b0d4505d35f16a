"""What names an object, what a place in it is, and what one answer of the service says of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from tailer.core import crc64 as crc


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """The name of one object. ``str()`` is its address, without any credential.

    `scheme` is ``oss``, or ``https``/``http`` for an object known by its URL alone; `bucket` is then the
    host (with port), `key` the decoded path without its first slash.
    """

    bucket: str
    key: str
    scheme: str = "oss"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"


@dataclass(frozen=True, slots=True)
class Claim:
    """What only the bytes below `start` can prove, which were not read.

    Bytes [start, size) were read, and `crc64` is of them alone. With those below `start` before them they must give
    `stated`: what the service states of the first `size` bytes, None where it has not yet.
    """

    start: int
    size: int
    crc64: int
    stated: int | None


@dataclass(frozen=True, slots=True)
class Position:
    """A place in one generation of an object, and the proof of what lies before it.

    All that a resume needs. `generation` counts the objects that stood under the name, from 0; `offset` is
    in bytes, the first byte not covered; `crc64` covers bytes [0, offset), None when it is not known.
    `claim` is what is not proven of them where reading began behind byte 0: keep it, too, or a resume takes all
    that `crc64` covers for proven.
    """

    offset: int = 0
    crc64: int | None = 0
    generation: int = 0
    claim: Claim | None = None

    @classmethod
    def unread(cls, offset: int, crc64: int | None = None, generation: int = 0) -> Position:
        """A place behind bytes that were never read; `crc64` is what the service states of them."""
        if offset == 0:
            return cls(0, 0, generation)
        return cls(offset, crc64, generation, Claim(offset, offset, 0, crc64))

    @property
    def unproven(self) -> int:
        """How many bytes from byte 0 on nothing vouches for, because reading began behind it."""
        if self.claim is not None:
            return self.claim.size
        return self.offset if self.crc64 is None else 0

    def vouched(self, claim: Claim, beginning: int) -> Position:
        """The same, now that `claim` holds: `beginning` is the CRC-64 of the bytes below its start."""
        mine = self.claim
        if mine is None or mine.start != claim.start:
            return self
        whole = crc.combine(beginning, mine.crc64, mine.size - mine.start) if self.crc64 is None else self.crc64
        return Position(self.offset, whole, self.generation)


@dataclass(frozen=True, slots=True)
class Mark:
    """Where to go on after a stop: all that a checkpoint holds.

    Bytes below `delivered` were acknowledged; those below `verified` are proven as well. `inside` is true
    when `delivered` lies inside a record longer than the limit.
    """

    delivered: Position = field(default_factory=Position)
    verified: Position = field(default_factory=Position)
    inside: bool = False

    @classmethod
    def at(cls, position: Position) -> Mark:
        """Delivered and verified up to the same place."""
        return cls(position, position)

    @property
    def unproven(self) -> int:
        """How many bytes were delivered that nothing vouches for: read behind a start in the middle, or not verified.

        Bytes that were neither read nor delivered are not among them.
        """
        delivered, claim = self.delivered, self.delivered.claim
        if claim is None:
            return delivered.offset - min(self.verified.offset, delivered.offset)
        return claim.size - claim.start + delivered.offset - max(self.verified.offset, claim.size)

    def vouched(self, claim: Claim, beginning: int) -> Mark:
        """The same, now that `claim` holds (`Position.vouched`)."""
        delivered, verified = self.delivered.vouched(claim, beginning), self.verified.vouched(claim, beginning)
        return Mark(delivered, verified, self.inside)


@dataclass(frozen=True, slots=True)
class Link:
    """A length in bytes and the CRC-64 of the whole object, which the service stated in one answer."""

    size: int
    crc64: int


@dataclass(frozen=True, slots=True)
class ObjectMeta:
    """What one answer (HEAD, GET, or a row of a list) says of an object. None: the answer did not say.

    `size` is in bytes; `crc64` is of the whole object, also on a 206 (protocol: GetObject);
    `type` is ``Appendable``, ``Normal``, ``Multipart`` or ``Symlink``; `etag` is opaque and without quotes;
    `last_modified` and `sealed_time` are seconds since 1970.
    """

    size: int
    crc64: int | None = None
    type: str | None = None
    etag: str | None = None
    last_modified: float | None = None
    version_id: str | None = None
    sealed_time: float | None = None
    storage_class: str | None = None

    @property
    def link(self) -> Link | None:
        """The pair that the chain is checked against."""
        return None if self.crc64 is None else Link(self.size, self.crc64)

    @property
    def sealed(self) -> bool:
        """No more bytes will ever come (SealAppendObject)."""
        return self.sealed_time is not None


@dataclass(frozen=True, slots=True)
class Window:
    """A ranged GET read to its end: bytes [start, start + len(data)), and the object as that answer states it."""

    start: int
    data: bytes | bytearray | memoryview
    meta: ObjectMeta
