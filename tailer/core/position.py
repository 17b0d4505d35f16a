"""What names an object, what a place in it is, and what one answer of the service says of it."""

from __future__ import annotations

from dataclasses import dataclass, field


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
class Position:
    """A place in one generation of an object, and the proof of what lies before it.

    All that a resume needs. `generation` counts the objects that stood under the name, from 0; `offset` is
    in bytes, the first byte not covered; `crc64` covers bytes [0, offset), None when they were not read.
    """

    offset: int = 0
    crc64: int | None = 0
    generation: int = 0


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
