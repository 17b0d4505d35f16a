"""The write side of one object: each append states its position and proves what it left behind.

AppendObject takes bytes only at the object's present length, and answers with the new length and the CRC-64 of the
whole object (OSS documentation, AppendObject). A writer that carries the CRC-64 of all it knows can therefore tell,
after any accident, what became of its bytes.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeVar
from urllib.parse import quote

from tailer.core import crc64
from tailer.core.position import Position
from tailer.core.ranges import ByteRange
from tailer.core.schedule import back_off
from tailer.errors import (
    AccessDenied,
    AppendMisfits,
    ChainBroken,
    CrcMissing,
    NotAppendable,
    ObjectFull,
    ObjectNotFound,
    ObjectSealed,
    PositionConflict,
    PositionMismatch,
    RangeNotSatisfiable,
    TailerError,
    Throttled,
    UsageError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tailer.core.position import ObjectMeta, ObjectRef
    from tailer.oss.client import Client
    from tailer.oss.transport import Data

    OnTrouble = Callable[[TailerError, float], None]
    """Told before a request is tried again: what went wrong, and the seconds until then."""

_Result = TypeVar("_Result")

OnConflict = Literal["stop", "continue"]

APPEND_LIMIT = 5 * 2**30
"""Bytes that an appendable object can have ("5 GB", which ossutil takes for 5 * 2**30)."""

_METADATA_NAME = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_MAX_METADATA = 8 * 1024
_MAX_TAGS = 10
_ACLS = ("default", "private", "public-read", "public-read-write")


@dataclass(frozen=True, slots=True)
class Attributes:
    """What an object is made with. It counts at the first append alone (OSS documentation, AppendObject).

    `metadata` becomes x-oss-meta-*: names of a-z, 0-9 and "-", 8 KiB in all. `acl` is one of default,
    private, public-read and public-read-write. At most ten `tags`. `encryption` is AES256, KMS or SM4.
    Raises UsageError for what no request could carry.
    """

    content_type: str | None = None
    storage_class: str | None = None
    acl: str | None = None
    encryption: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in {**self._plain(), **self.metadata}.items():
            if not (value.isascii() and value.isprintable()) or value != value.strip():
                raise UsageError(f"{name}={value!r}: a header takes printable ASCII without blanks at its ends")
        for name in self.metadata:
            if not name or not _METADATA_NAME.issuperset(name.lower()):
                raise UsageError(f"metadata {name!r}: a name has letters, digits and - only")
        if sum(len(name) + len(value) for name, value in self.metadata.items()) > _MAX_METADATA:
            raise UsageError("more than 8 KiB of metadata")
        if len(self.tags) > _MAX_TAGS or not all(self.tags):
            raise UsageError(f"an object takes at most {_MAX_TAGS} tags, each with a name")
        if self.acl is not None and self.acl not in _ACLS:
            raise UsageError(f"acl {self.acl!r}: it can be {', '.join(_ACLS)}")

    def _plain(self) -> dict[str, str]:
        named = {
            "content-type": self.content_type,
            "x-oss-storage-class": self.storage_class,
            "x-oss-object-acl": self.acl,
            "x-oss-server-side-encryption": self.encryption,
        }
        return {name: value for name, value in named.items() if value is not None}

    def headers(self) -> dict[str, str]:
        """The headers of the first append; none when nothing was asked for."""
        headers = self._plain()
        headers.update((f"x-oss-meta-{name.lower()}", value) for name, value in self.metadata.items())
        if self.tags:
            pairs = (f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in self.tags.items())
            headers["x-oss-tagging"] = "&".join(pairs)
        return headers


class Appended(NamedTuple):
    """Where the bytes of one append stand: from `start` to `end`."""

    start: Position
    end: Position


class ObjectWriter:
    """Appends to one object, one append at a time.

    An append without an answer, or with one that does not fit, is decided by a HEAD: it is done if length *and*
    CRC-64 say so, it was not taken if both are the old ones, and anything else is another writer. (One that was
    refused at each try is not done, though the very same bytes stand there.) With `on_conflict` ``"stop"`` that is
    PositionConflict. With ``"continue"`` the bytes behind the old end are read back: they are ours, or ours are sent
    again behind the new end. (Only of two writers that send the very same bytes to the same place, one of them
    without an answer, that cannot tell whose they are.)

    What may pass by itself is tried again for `patience` seconds. What is raised after that, and any error
    raised while an answer is outstanding, leaves unknown whether the bytes of that append were taken;
    `position` then is the last one known.
    """

    def __init__(
        self,
        client: Client,
        ref: ObjectRef,
        attributes: Attributes | None = None,
        *,
        on_conflict: OnConflict = "stop",
        patience: float = 300.0,
        limit: int = APPEND_LIMIT,
        on_trouble: OnTrouble | None = None,
    ) -> None:
        """`limit` is the length in bytes that the object may reach."""
        self.ref = ref
        self.position = Position()
        self.exists = False
        self._client = client
        self._headers = (attributes or Attributes()).headers()
        self._on_conflict = on_conflict
        self._patience = patience
        self._limit = limit
        self._on_trouble = on_trouble

    @property
    def room(self) -> int:
        """Bytes that the object still takes."""
        return self._limit - self.position.offset

    async def open(self) -> Position:
        """Look at the object: its end, or 0 where it is missing.

        Raises NotAppendable, ObjectSealed, CrcMissing, and what a HEAD is refused with.
        """
        self._adopt(await self._look(self._retrying()))
        return self.position

    async def append(self, data: Data, *, unsure: bool = False) -> Appended:
        """Add `data` at the end and return when the object has it. Nothing (b"") makes a missing object.

        `unsure`: the same call with the same bytes was cancelled, and perhaps the object has them already.
        Raises ObjectFull before anything is sent, PositionConflict, ChainBroken when the service took the bytes and
        states another CRC-64 than they have, CrcMissing, ObjectSealed, NotAppendable, and what the service
        refuses the request with.
        """
        if not len(data) and self.exists:
            return Appended(self.position, self.position)
        attempts = self._retrying()
        unknown = unsure
        while True:
            self._check_room(len(data))
            before, wanted = self.position, self._behind(data)
            outcome = await self._try(data, wanted)
            if outcome is None:
                self.position, self.exists = wanted, True
                return Appended(before, wanted)
            unknown = unknown or not isinstance(outcome, PositionMismatch | Throttled)
            if isinstance(outcome, Throttled):
                await attempts.pause(outcome)
                continue
            now = await self._look(attempts)
            if await self._is_done(data, wanted, now, outcome, attempts, unknown=unknown):
                return Appended(before, wanted)
            if self.position == before:
                await attempts.pause(outcome)
            else:  # behind another writer's bytes, for which nothing is outstanding
                unknown = False

    async def seal(self) -> None:
        """No byte shall come any more; a missing object is made first. Again is a success.

        Raises PositionConflict when it is longer than is known here, and ServiceError where the service
        offers no sealing.
        """
        if not self.exists:
            await self.append(b"")
        attempts = self._retrying()
        try:
            await attempts.run(lambda: self._client.seal(self.ref, self.position.offset))
        except (PositionMismatch, ObjectNotFound) as error:
            now = await self._look(attempts)
            raise self._conflict(_position_of(now)) from error

    # --- what became of an append

    async def _try(self, data: Data, wanted: Position) -> TailerError | None:
        """None when it is done beyond doubt; else what came instead. Raises what trying again does not mend."""
        headers = None if self.exists else self._headers
        try:
            result = await self._client.append(self.ref, self.position.offset, data, headers)
        except PositionMismatch as error:
            return error
        except AccessDenied as error:
            tags = ", and with tags oss:PutObjectTagging" if headers and "x-oss-tagging" in headers else ""
            error.hint = error.hint or f"a writer needs oss:PutObject{tags}"
            raise
        except TailerError as error:
            if not error.retriable:
                raise
            return error
        if (result.next_position, result.crc64) == (wanted.offset, wanted.crc64):
            return None
        stated = "no CRC-64" if result.crc64 is None else f"CRC-64 {result.crc64}"
        return AppendMisfits(f"{self.ref}: an append was answered with length {result.next_position} and {stated}")

    async def _is_done(
        self,
        data: Data,
        wanted: Position,
        meta: ObjectMeta | None,
        outcome: TailerError,
        attempts: _Attempts,
        *,
        unknown: bool,
    ) -> bool:
        """Whether the object, as `meta` says it is, has the bytes. True moves `position`; False: send them again.

        Not `unknown`: each try was refused, so that what came to the object is another writer's, whatever it is.
        """
        before, now = self.position, _position_of(meta)
        if unknown and meta is not None and (now.offset, now.crc64) == (wanted.offset, wanted.crc64):
            self.position, self.exists = wanted, True
            return True
        if (now.offset, now.crc64) == (before.offset, before.crc64):
            self.exists = meta is not None
            return False
        if meta is not None:
            _check_appendable(self.ref, meta)
        if isinstance(outcome, AppendMisfits) and now.offset == wanted.offset:
            raise ChainBroken(
                f"{self.ref}: the service took bytes [{before.offset}, {wanted.offset}) and states CRC-64 {now.crc64}, "
                f"not {wanted.crc64}: they were damaged on the way, or the object was replaced before"
            )
        if self._on_conflict == "stop":
            raise self._conflict(now)
        ours = unknown and await attempts.run(lambda: self._holds(before.offset, data))
        self._adopt(meta)
        return ours

    async def _holds(self, start: int, data: Data) -> bool:
        """Whether the object has `data` at offset `start`."""
        done = 0
        while done < len(data):
            try:
                window = await self._client.fetch(self.ref, ByteRange(start + done, start + len(data)))
            except (RangeNotSatisfiable, ObjectNotFound):
                return False
            if bytes(window.data) != bytes(data[done : done + len(window.data)]):
                return False
            done += len(window.data)
        return True

    def _check_room(self, length: int) -> None:
        if length > self.room:
            raise ObjectFull(
                f"{self.ref} has {self.position.offset} bytes and takes {self.room} more, not {length}",
                hint="go on in another object",
            )

    def _behind(self, data: Data) -> Position:
        """The position behind `data`, once that is appended."""
        before = self.position
        assert before.crc64 is not None  # _adopt takes no object without one
        return Position(before.offset + len(data), crc64.update(data, before.crc64))

    def _conflict(self, theirs: Position) -> PositionConflict:
        ours = self.position
        what = (
            "was replaced"
            if ours.offset == theirs.offset
            else f"ends at byte {theirs.offset}, not at {ours.offset} where it was left"
        )
        error = PositionConflict(f"{self.ref} {what}: it has another writer")
        error.ours, error.theirs = (ours.offset, ours.crc64), (theirs.offset, theirs.crc64)
        return error

    # --- looking

    def _retrying(self) -> _Attempts:
        return _Attempts(self._patience, self._on_trouble)

    async def _look(self, attempts: _Attempts) -> ObjectMeta | None:
        """None when it is not there."""
        try:
            return await attempts.run(lambda: self._client.head(self.ref))
        except ObjectNotFound:
            return None
        except AccessDenied as error:
            error.hint = error.hint or "a writer looks at its object, too: it needs oss:GetObject"
            raise

    def _adopt(self, meta: ObjectMeta | None) -> None:
        if meta is not None:
            _check_appendable(self.ref, meta)
        self.position, self.exists = _position_of(meta), meta is not None


class _Attempts:
    """Trying again for a while: waits longer and longer, and raises the last error when the time is over."""

    def __init__(self, patience: float, on_trouble: OnTrouble | None) -> None:
        self._patience = patience
        self._on_trouble = on_trouble
        self._since: float | None = None
        self._count = 0

    async def run(self, request: Callable[[], Awaitable[_Result]]) -> _Result:
        """What `request` gives, as soon as it does."""
        failures = 0
        while True:
            try:
                return await request()
            except TailerError as error:
                if not error.retriable:
                    raise
                failures += 1
                await self._wait(error, failures)

    async def pause(self, error: TailerError) -> None:
        """Wait before the next attempt. Raises `error` when there is to be none.

        Only these pauses grow longer by each other: a service that answered `run` after an outage is there again.
        """
        self._count += 1
        await self._wait(error, self._count)

    async def _wait(self, error: TailerError, failures: int) -> None:
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        delay = back_off(failures, random.random(), error.retry_after)
        if now + delay > self._since + self._patience:
            raise error
        if self._on_trouble is not None:
            self._on_trouble(error, delay)
        await asyncio.sleep(delay)


def _position_of(meta: ObjectMeta | None) -> Position:
    return Position() if meta is None else Position(meta.size, meta.crc64 if meta.size else 0)


def _check_appendable(ref: ObjectRef, meta: ObjectMeta) -> None:
    """Raises NotAppendable, ObjectSealed, CrcMissing."""
    if meta.type not in (None, "Appendable"):
        raise NotAppendable(f"{ref} is of type {meta.type}, not Appendable", status=409, code="ObjectNotAppendable")
    if meta.sealed:
        raise ObjectSealed(f"{ref} is sealed", status=400, code="AppendSealedObjectNotAllowed")
    if meta.size and meta.crc64 is None:
        raise CrcMissing(f"{ref}: the service states no CRC-64, so no append to it can be proven", hint="")
