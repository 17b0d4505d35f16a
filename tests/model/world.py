"""A toy OSS object and a toy sink, both too simple to be wrong, for the random-action test of `Tail`.

The world keeps every incarnation that ever stood under the name, so that "a true prefix of a version of the
object" can be looked up. Its answers may be spoilt on the way; the service itself never lies.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from tailer import errors
from tailer.core import crc64
from tailer.core.position import ObjectMeta
from tailer.core.ranges import ByteRange

REFUSED = errors.ServiceUnavailable("injected", status=503)
CUT = errors.ConnectionLost("injected: the body was cut")
MISSING = errors.ObjectNotFound("no such key", status=404, code="NoSuchKey")
OUT_OF_RANGE = errors.RangeNotSatisfiable("no such range", status=416, code="InvalidRange")

Answer = tuple[int, bytes, ObjectMeta]


@dataclass
class Incarnation:
    number: int
    data: bytes
    type: str = "Appendable"
    sealed: bool = False

    def meta(self) -> ObjectMeta:
        return ObjectMeta(
            len(self.data),
            crc64.update(self.data),
            self.type,
            etag=f"{self.number}-{len(self.data)}",
            sealed_time=1.0 if self.sealed else None,
        )


@dataclass
class World:
    """The object under one name. `noise`: the probability that an answer is spoilt; `spoils`: so that it lies, too."""

    chance: random.Random
    noise: float = 0.0
    spoils: bool = True
    current: Incarnation | None = None
    history: list[Incarnation] = field(default_factory=list)
    previous_meta: ObjectMeta | None = None

    def bytes_of(self, most: int) -> bytes:
        return bytes(self.chance.choice(b"ab\n") for _ in range(self.chance.randint(1, most)))

    def append(self, most: int = 200) -> None:
        if self.current is None:
            self.create(self.bytes_of(most))
        elif self.current.type == "Appendable" and not self.current.sealed:
            self.previous_meta = self.current.meta()
            self.current.data += self.bytes_of(most)

    def create(self, data: bytes, type: str = "Appendable") -> None:
        self.current = Incarnation(len(self.history), data, type)
        self.history.append(self.current)
        self.previous_meta = None

    def delete(self) -> None:
        self.current = self.previous_meta = None

    def put(self) -> None:
        """PutObject over the key: shorter, as long, or longer; often beginning alike; a Normal object."""
        self.create(self.similar(), "Normal")

    def recreate(self) -> None:
        """Deleted and appended anew between two looks."""
        self.create(self.similar())

    def similar(self) -> bytes:
        old = b"" if self.current is None else self.current.data
        keep = old[: self.chance.randint(0, len(old))]
        tail = self.bytes_of(60) if self.chance.random() < 0.8 else b""
        return self.chance.choice([keep + tail, self.bytes_of(max(1, len(old))), old[:-1] + b"x" if old else b"x"])

    def seal(self) -> None:
        if self.current is not None and self.current.type == "Appendable":
            self.current.sealed = True

    def had_prefix(self, data: bytes) -> bool:
        """Did any object under this name ever begin with `data`?"""
        return self.had(0, data)

    def had(self, start: int, data: bytes) -> bool:
        """Did any object under this name ever hold `data` from byte `start` on?"""
        return any(one.data.startswith(data, start) for one in self.history) or not data

    def had_crc(self, size: int, crc: int) -> bool:
        """Was there ever one whose first `size` bytes have this CRC-64?"""
        return any(len(one.data) >= size and crc64.update(one.data[:size]) == crc for one in self.history) or not size

    # --- answers

    def head(self) -> ObjectMeta | errors.TailerError:
        if self._noisy():
            if self.previous_meta is not None and self.chance.random() < 0.5:
                return self.previous_meta  # a stale HEAD
            return REFUSED
        return MISSING if self.current is None else self.current.meta()

    def get(self, asked: ByteRange) -> Answer | errors.TailerError:
        if self.current is None:
            return REFUSED if self._noisy() else MISSING
        data, meta = self.current.data[asked.start : asked.stop], self.current.meta()
        if self._noisy():
            return self._spoil(asked.start, data, meta)
        return (asked.start, data, meta) if data else OUT_OF_RANGE

    def _noisy(self) -> bool:
        return self.chance.random() < self.noise

    def _spoil(self, start: int, data: bytes, meta: ObjectMeta) -> Answer | errors.TailerError:
        kind = self.chance.randrange(4 if self.spoils else 2)
        if kind == 0 or not data:
            return REFUSED
        if kind == 1:
            return CUT
        if kind == 2:
            return start, data, replace(meta, crc64=(meta.crc64 or 0) ^ 1 << self.chance.randrange(64))
        at = self.chance.randrange(len(data))
        return start, data[:at] + bytes([data[at] ^ 1 << self.chance.randrange(8)]) + data[at + 1 :], meta
