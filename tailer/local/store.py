"""The service without its wire: buckets, objects, and the rules of appending.

`Store` decides; an `Engine` keeps. Everything here is synchronous, knows no HTTP and refuses with `Refusal`.
An `ObjectInfo` never changes: whoever holds one, and the `Contents` that came with it, sees the object as
it was at that moment, however it grows or goes afterwards.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import threading
import time
import weakref
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from tailer.core import crc64
from tailer.local.names import check_bucket, check_key
from tailer.local.refusal import Refusal, invalid_argument, no_such_bucket, no_such_key, position_mismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from typing import BinaryIO

APPEND_LIMIT = 5 * 2**30
"""Bytes in one appendable object (ossutil and ossfs take "5 GB" to mean 5 * 2**30)."""

SMALL = 64 * 1024
"""Up to so many bytes, summing them again is cheaper than combining two sums."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a write may say of an object beside its bytes. An append says it with the first piece alone.

    `headers` are stored and answered as they are (Content-Type, Cache-Control, x-oss-meta-*, …). `acl` None:
    not said.
    """

    headers: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = "Standard"
    acl: str | None = None
    tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object at one moment. `size` is in bytes, times are seconds since 1970, `etag` is without quotes."""

    size: int
    crc64: int
    etag: str
    modified: float
    type: str = "Appendable"
    headers: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = "Standard"
    acl: str = "default"
    tags: tuple[tuple[str, str], ...] = ()
    sealed: float | None = None

    @property
    def appendable(self) -> bool:
        """Whether it was made by AppendObject."""
        return self.type == "Appendable"


@dataclass(frozen=True, slots=True)
class BucketInfo:
    """A bucket. `created` is seconds since 1970."""

    name: str
    created: float
    acl: str = "private"


@dataclass(frozen=True, slots=True)
class Summary:
    """What a list says of an object."""

    size: int
    etag: str
    modified: float
    type: str
    storage_class: str

    @classmethod
    def of(cls, info: ObjectInfo) -> Summary:
        """The part of all that is known that a list says."""
        return cls(info.size, info.etag, info.modified, info.type, info.storage_class)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a list: an object, or a common prefix when `info` is None."""

    name: str
    info: Summary | None


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of a list; `next` is where to go on, None at the end."""

    rows: list[Row]
    next: str | None


class Contents(Protocol):
    """The bytes of an object as they were when it was opened."""

    def read(self, offset: int, length: int) -> bytes | bytearray:
        """At most `length` bytes from `offset`; fewer only when the object lost them meanwhile."""
        ...

    @property
    def file(self) -> BinaryIO | None:
        """The file that holds them at the same offsets, if there is one."""
        ...

    def close(self) -> None:
        """Let go of them."""
        ...


class Upload(Protocol):
    """A body on its way in: kept apart from every object until it is whole."""

    size: int
    crc64: int

    def write(self, chunk: bytes) -> None:
        """Add bytes."""
        ...

    def close(self) -> None:
        """Forget what was not taken over by an object."""
        ...

    def small(self) -> bytes | None:
        """All bytes, when they are in memory and few."""
        ...


class Engine(Protocol):
    """Where buckets and objects are kept. A key that it cannot keep is refused with InvalidObjectName."""

    on_disk: bool
    """Whether every look at an object asks the disk."""

    def buckets(self) -> Collection[BucketInfo]: ...

    def bucket(self, name: str) -> BucketInfo | None: ...

    def put_bucket(self, info: BucketInfo) -> None: ...

    def drop_bucket(self, name: str) -> None: ...

    def upload(self) -> Upload: ...

    def find(self, bucket: str, key: str) -> ObjectInfo | None: ...

    def open(self, bucket: str, key: str) -> tuple[ObjectInfo, Contents] | None: ...

    def extend(self, bucket: str, key: str, before: ObjectInfo, body: Upload, after: ObjectInfo) -> None: ...

    def replace(self, bucket: str, key: str, body: Upload, info: ObjectInfo) -> None: ...

    def amend(self, bucket: str, key: str, info: ObjectInfo) -> None: ...

    def remove(self, bucket: str, key: str) -> None: ...

    def walk(self, bucket: str, prefix: str, after: str = "") -> Iterator[tuple[str, Summary]]:
        """Objects whose key starts with `prefix` and is not before `after`, in the byte order of their keys."""
        ...

    def backlog(self, bucket: str, key: str) -> int:
        """Bytes that must be read before the object can be described, because it changed from outside."""
        ...

    def slow(self, size: int) -> bool:
        """Whether taking over a body of `size` bytes takes so long that others should not wait for it."""
        ...

    def close(self) -> None: ...


class Store:
    """The rules. Safe to use from several threads; writers of one key take turns."""

    def __init__(
        self,
        engine: Engine,
        *,
        clock: Callable[[], float] = time.time,
        append_limit: int = APPEND_LIMIT,
    ) -> None:
        self.engine = engine
        self.append_limit = append_limit
        self.on_change: Callable[[str, str, ObjectInfo | None], None] | None = None
        self._clock = clock
        self._writers: weakref.WeakValueDictionary[tuple[str, str], threading.Lock] = weakref.WeakValueDictionary()
        self._writers_guard = threading.Lock()

    # --- buckets

    def buckets(self) -> list[BucketInfo]:
        """All buckets by name."""
        return sorted(self.engine.buckets(), key=lambda info: info.name)

    def bucket(self, name: str) -> BucketInfo:
        """Raises InvalidBucketName and NoSuchBucket."""
        check_bucket(name)
        info = self.engine.bucket(name)
        if info is None:
            raise no_such_bucket(name)
        return info

    def create_bucket(self, name: str, acl: str | None = None) -> BucketInfo:
        """Make a bucket; one that exists only takes the new ACL, if one is given."""
        check_bucket(name)
        known = self.engine.bucket(name)
        if known is None:
            info = BucketInfo(name, self._clock(), acl or "private")
        elif acl is None or acl == known.acl:
            return known
        else:
            info = replace(known, acl=acl)
        self.engine.put_bucket(info)
        return info

    def delete_bucket(self, name: str) -> None:
        """Raises BucketNotEmpty."""
        self.bucket(name)
        if next(iter(self.engine.walk(name, "")), None) is not None:
            message = "The bucket has objects. Please delete them first."
            raise Refusal(409, "BucketNotEmpty", message, fields={"BucketName": name})
        self.engine.drop_bucket(name)

    # --- objects

    def upload(self) -> Upload:
        """A place for a body that is coming in."""
        return self.engine.upload()

    def head(self, bucket: str, key: str) -> ObjectInfo:
        """Raises NoSuchBucket and NoSuchKey."""
        info = self.find(bucket, key)
        if info is None:
            raise no_such_key(key)
        return info

    def find(self, bucket: str, key: str) -> ObjectInfo | None:
        """The object, or None. Raises NoSuchBucket."""
        self.bucket(bucket)
        check_key(key)
        return self.engine.find(bucket, key)

    def backlog(self, bucket: str, key: str) -> int:
        """Bytes that must be read before the object can be described."""
        self.bucket(bucket)
        check_key(key)
        return self.engine.backlog(bucket, key)

    def open(self, bucket: str, key: str) -> tuple[ObjectInfo, Contents]:
        """The object and its bytes, both of one moment. The contents must be closed."""
        self.bucket(bucket)
        check_key(key)
        opened = self.engine.open(bucket, key)
        if opened is None:
            raise no_such_key(key)
        return opened

    def read(self, bucket: str, key: str) -> bytes:
        """All bytes of a small object: for looking at it from within the same process."""
        info, contents = self.open(bucket, key)
        try:
            return bytes(contents.read(0, info.size))
        finally:
            contents.close()

    def check_append(self, bucket: str, key: str, position: int, size: int = 0) -> ObjectInfo | None:
        """What an append of `size` bytes at `position` would go to, None for a new object; or the refusal.

        A missing key takes position 0 alone, and says so with the same 409 as an existing one (OSS
        documentation, AppendObject; the SDKs' tests for the missing key).
        """
        info = self.find(bucket, key)
        if info is not None and not info.appendable:
            raise Refusal(409, "ObjectNotAppendable", "The object is not appendable", fields={"Key": key})
        if info is not None and info.sealed is not None:
            message = "The object is sealed and takes no more bytes."
            raise Refusal(400, "AppendSealedObjectNotAllowed", message, fields={"Key": key})
        length = 0 if info is None else info.size
        if position != length:
            raise position_mismatch(length)
        if length + size > self.append_limit:
            # The service's own answer is not documented: this one is our choice.
            message = "Your proposed upload exceeds the maximum allowed size."
            fields = {"ProposedSize": str(length + size), "MaxSizeAllowed": str(self.append_limit)}
            raise Refusal(400, "EntityTooLarge", message, fields=fields)
        return info

    def append(
        self,
        bucket: str,
        key: str,
        position: int,
        body: Upload | bytes,
        attributes: Attributes | None = None,
    ) -> ObjectInfo:
        """AppendObject: add `body` at `position`, which must be the object's length in bytes."""
        attributes = attributes or Attributes()
        with self._as_upload(body) as upload, self._writer(bucket, key):
            before = self.check_append(bucket, key, position, upload.size)
            if before is None:
                after = self._first(upload, attributes)
                self.engine.replace(bucket, key, upload, after)
            elif upload.size:
                after = self._grown(before, upload, attributes)
                self.engine.extend(bucket, key, before, upload, after)
            else:
                after = replace(before, acl=attributes.acl or before.acl)
                if after != before:
                    self.engine.amend(bucket, key, after)
            self._changed(bucket, key, after)
        return after

    def put(
        self,
        bucket: str,
        key: str,
        body: Upload | bytes,
        attributes: Attributes | None = None,
        *,
        etag: str | None = None,
        overwrite: bool = True,
    ) -> ObjectInfo:
        """PutObject: the key is this body from now on, of type Normal. Raises FileAlreadyExists."""
        attributes = attributes or Attributes()
        self.bucket(bucket)
        check_key(key)
        if isinstance(body, bytes):
            etag = hashlib.md5(body, usedforsecurity=False).hexdigest().upper()
        with self._as_upload(body) as upload, self._writer(bucket, key):
            if not overwrite and self.engine.find(bucket, key) is not None:
                message = "The object you specified already exists and can not be overwritten."
                raise Refusal(409, "FileAlreadyExists", message, fields={"Key": key})
            info = replace(self._first(upload, attributes), type="Normal")
            info = replace(info, etag=etag) if etag else info
            self.engine.replace(bucket, key, upload, info)
            self._changed(bucket, key, info)
        return info

    def delete(self, bucket: str, key: str) -> None:
        """DeleteObject; deleting what is not there is a success."""
        self.bucket(bucket)
        check_key(key)
        with self._writer(bucket, key):
            self.engine.remove(bucket, key)
            self._changed(bucket, key, None)

    def seal(self, bucket: str, key: str, position: int) -> ObjectInfo:
        """SealAppendObject at its length in bytes; again is a success and keeps the first time."""
        with self._writer(bucket, key):
            info = self.head(bucket, key)
            if not info.appendable:
                raise Refusal(409, "ObjectNotAppendable", "The object is not appendable", fields={"Key": key})
            if position != info.size:
                raise position_mismatch(info.size)
            if info.sealed is None:
                info = self._amend(bucket, key, replace(info, sealed=self._clock()))
        return info

    def set_acl(self, bucket: str, key: str, acl: str) -> None:
        """PutObjectACL."""
        with self._writer(bucket, key):
            self._amend(bucket, key, replace(self.head(bucket, key), acl=acl))

    def set_tags(self, bucket: str, key: str, tags: tuple[tuple[str, str], ...]) -> None:
        """PutObjectTagging; no tags is DeleteObjectTagging."""
        with self._writer(bucket, key):
            self._amend(bucket, key, replace(self.head(bucket, key), tags=tags))

    def list(self, bucket: str, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000) -> Listing:
        """At most `limit` rows behind `after`, in byte order; keys that share a part up to `delimiter` are one row."""
        self.bucket(bucket)
        rows: list[Row] = []
        for row in _rows(self.engine.walk(bucket, prefix, after), prefix, delimiter, after):
            if len(rows) == limit:
                return Listing(rows, rows[-1].name)
            rows.append(row)
        return Listing(rows, None)

    def close(self) -> None:
        """Let go of files."""
        self.engine.close()

    # --- helpers

    def _writer(self, bucket: str, key: str) -> threading.Lock:
        with self._writers_guard:
            return self._writers.setdefault((bucket, key), threading.Lock())

    @contextlib.contextmanager
    def _as_upload(self, body: Upload | bytes) -> Iterator[Upload]:
        if not isinstance(body, bytes):
            yield body
            return
        upload = self.engine.upload()
        try:
            upload.write(body)
            yield upload
        finally:
            upload.close()

    def _first(self, upload: Upload, attributes: Attributes) -> ObjectInfo:
        return ObjectInfo(
            size=upload.size,
            crc64=upload.crc64,
            etag=new_etag(),
            modified=self._clock(),
            headers=dict(attributes.headers),
            storage_class=attributes.storage_class,
            acl=attributes.acl or "default",
            tags=attributes.tags,
        )

    def _grown(self, before: ObjectInfo, upload: Upload, attributes: Attributes) -> ObjectInfo:
        data = upload.small()
        if data is not None:
            total = crc64.update(data, before.crc64)
        else:
            total = crc64.combine(before.crc64, upload.crc64, upload.size)
        return replace(
            before,
            size=before.size + upload.size,
            crc64=total,
            etag=new_etag(),
            modified=self._clock(),
            acl=attributes.acl or before.acl,
        )

    def _amend(self, bucket: str, key: str, info: ObjectInfo) -> ObjectInfo:
        self.engine.amend(bucket, key, info)
        self._changed(bucket, key, info)
        return info

    def _changed(self, bucket: str, key: str, info: ObjectInfo | None) -> None:
        if self.on_change is not None:
            self.on_change(bucket, key, info)


def new_etag() -> str:
    """An opaque tag in the shape that the service gives to appendables: 24 hex digits and eight zeros."""
    return os.urandom(12).hex().upper() + "00000000"


def _rows(objects: Iterator[tuple[str, Summary]], prefix: str, delimiter: str, after: str) -> Iterator[Row]:
    """Objects and common prefixes behind `after`, which is a key, or a common prefix of an earlier page."""
    group = None
    for key, info in objects:
        if key == after or (group is not None and key.startswith(group)):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            yield Row(key, info)
            continue
        group = key[: cut + len(delimiter)]
        if group != after:
            yield Row(group, None)


def encode_token(name: str) -> str:
    """An opaque continuation token."""
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def decode_token(token: str) -> str:
    """Raises InvalidArgument for what is no token of ours."""
    try:
        name = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise invalid_argument("continuation-token", token, "The continuation token is invalid.") from error
    return name
