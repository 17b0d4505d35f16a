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
from tailer.local.refusal import (
    Refusal,
    invalid_argument,
    no_such_bucket,
    no_such_key,
    no_such_version,
    position_mismatch,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from typing import BinaryIO

APPEND_LIMIT = 5 * 2**30
"""Bytes in one appendable object (ossutil and ossfs take "5 GB" to mean 5 * 2**30)."""

DELETE_MARKER = "DeleteMarker"
NULL_VERSION = "null"
"""The id of what was made while the bucket kept no versions."""

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
    """One object at one moment. `size` is in bytes, times are seconds since 1970, `etag` is without quotes.

    `version` is its id, None in a bucket that never had versions.
    """

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
    version: str | None = None

    @property
    def is_marker(self) -> bool:
        """Whether it is no object but says that one was deleted."""
        return self.type == DELETE_MARKER

    @property
    def appendable(self) -> bool:
        """Whether it was made by AppendObject."""
        return self.type == "Appendable"


@dataclass(frozen=True, slots=True)
class BucketInfo:
    """A bucket. `created` is seconds since 1970. `versioning` is ``Enabled``, ``Suspended``, or None: never was."""

    name: str
    created: float
    acl: str = "private"
    versioning: str | None = None


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


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One line of a list of versions: a version of `name`, or a common prefix when `info` is None."""

    name: str
    info: ObjectInfo | None
    is_latest: bool = False


@dataclass(frozen=True, slots=True)
class VersionListing:
    """A page of them; `next` is the key and the version (``""`` behind a common prefix) to go on behind."""

    rows: list[VersionRow]
    next: tuple[str, str] | None


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

    def adopt(self, other: Upload) -> None:
        """Add all bytes of a body that the same engine made."""
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

    def keep(self, bucket: str, key: str, info: ObjectInfo) -> None:
        """Add the present object, or a delete marker, to what was; a version of the same id is replaced."""
        ...

    def former(self, bucket: str, key: str) -> Sequence[ObjectInfo]:
        """What was kept, the oldest first."""
        ...

    def former_keys(self, bucket: str) -> Collection[str]:
        """The keys of which anything was kept."""
        ...

    def open_former(self, bucket: str, key: str, version: str) -> tuple[ObjectInfo, Contents] | None: ...

    def drop_former(self, bucket: str, key: str, version: str) -> None:
        """Forget a version that was kept, if there is one."""
        ...

    def restore(self, bucket: str, key: str, version: str) -> None:
        """Make a version that was kept the present object; there is no other one."""
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

    def set_versioning(self, name: str, status: str) -> None:
        """PutBucketVersioning: ``Enabled`` or ``Suspended``."""
        self.engine.put_bucket(replace(self.bucket(name), versioning=status))

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
        if self.engine.former_keys(name) or next(iter(self.engine.walk(name, "")), None) is not None:
            message = "The bucket has objects. Please delete them first."
            raise Refusal(409, "BucketNotEmpty", message, fields={"BucketName": name})
        self.engine.drop_bucket(name)

    # --- objects

    def upload(self) -> Upload:
        """A place for a body that is coming in."""
        return self.engine.upload()

    def head(self, bucket: str, key: str, version: str | None = None) -> ObjectInfo:
        """The object, or one of its versions. Raises NoSuchBucket, NoSuchKey, NoSuchVersion, and MethodNotAllowed for
        a delete marker."""
        info = self.find(bucket, key)
        if version is None:
            if info is None:
                raise self._missing(bucket, key)
            return info
        if info is not None and info.version == version:
            return info
        for former in self.engine.former(bucket, key):
            if former.version == version:
                return _no_marker(former)
        raise no_such_version(key, version)

    def find(self, bucket: str, key: str) -> ObjectInfo | None:
        """The object, or None. Raises NoSuchBucket."""
        container = self.bucket(bucket)
        check_key(key)
        return _versioned(container, self.engine.find(bucket, key))

    def _missing(self, bucket: str, key: str) -> Refusal:
        """Nothing, or a delete marker, stands under the key."""
        refusal = no_such_key(key)
        former = self.engine.former(bucket, key)
        if former and former[-1].is_marker:
            refusal.headers |= marker_headers(former[-1].version)
        return refusal

    def backlog(self, bucket: str, key: str) -> int:
        """Bytes that must be read before the object can be described."""
        self.bucket(bucket)
        check_key(key)
        return self.engine.backlog(bucket, key)

    def open(self, bucket: str, key: str, version: str | None = None) -> tuple[ObjectInfo, Contents]:
        """The object, or one of its versions, and its bytes, both of one moment. The contents must be closed.

        Raises like `head`.
        """
        container = self.bucket(bucket)
        check_key(key)
        opened = self.engine.open(bucket, key)
        if opened is not None:
            info = replace(opened[0], version=_version_of(container, opened[0]))
            if version in (None, info.version):
                return info, opened[1]
            opened[1].close()
        elif version is None:
            raise self._missing(bucket, key)
        _no_marker(self.head(bucket, key, version))
        former = self.engine.open_former(bucket, key, version or "")
        if former is None:
            raise no_such_version(key, version or "")
        return former

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
                after = replace(self._first(upload, attributes), version=self._succeed(bucket, key))
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
        type: str = "Normal",
    ) -> ObjectInfo:
        """PutObject: the key is this body from now on. Raises FileAlreadyExists."""
        attributes = attributes or Attributes()
        self.bucket(bucket)
        check_key(key)
        if isinstance(body, bytes):
            etag = hashlib.md5(body, usedforsecurity=False).hexdigest().upper()
        with self._as_upload(body) as upload, self._writer(bucket, key):
            if not overwrite and self.engine.find(bucket, key) is not None:
                message = "The object you specified already exists and can not be overwritten."
                raise Refusal(409, "FileAlreadyExists", message, fields={"Key": key})
            version = self._succeed(bucket, key)
            info = replace(self._first(upload, attributes), type=type, version=version)
            info = replace(info, etag=etag) if etag else info
            self.engine.replace(bucket, key, upload, info)
            self._changed(bucket, key, info)
        return info

    def delete(self, bucket: str, key: str) -> ObjectInfo | None:
        """DeleteObject; deleting what is not there is a success. In a bucket with versions: the delete marker."""
        container = self.bucket(bucket)
        check_key(key)
        with self._writer(bucket, key):
            marker = None
            version = self._succeed(bucket, key)
            if container.versioning is not None:
                marker = ObjectInfo(0, 0, "", self._clock(), DELETE_MARKER, version=version)
                self.engine.keep(bucket, key, marker)
            self.engine.remove(bucket, key)
            self._changed(bucket, key, None)
        return marker

    def delete_version(self, bucket: str, key: str, version: str) -> ObjectInfo | None:
        """DeleteObject of one version, for good: what it was, None where there was none.

        When it was the present one, the one before it is present again.
        """
        with self._writer(bucket, key):
            info = self.find(bucket, key)
            if info is not None and info.version == version:
                self.engine.remove(bucket, key)
                found: ObjectInfo | None = info
            else:
                former = self.engine.former(bucket, key)
                found = next((one for one in former if one.version == version), None)
                self.engine.drop_former(bucket, key, version)
            self._promote(bucket, key)
        return found

    def _promote(self, bucket: str, key: str) -> None:
        """Where no object is present: the youngest version is, unless it is a delete marker."""
        former = self.engine.former(bucket, key)
        if former and not former[-1].is_marker and self.engine.find(bucket, key) is None:
            self.engine.restore(bucket, key, former[-1].version or "")
        self._changed(bucket, key, self.find(bucket, key))

    def _succeed(self, bucket: str, key: str) -> str | None:
        """Keep what the next version of the key takes the place of, as the bucket wants it; that version's id."""
        container = self.bucket(bucket)
        if container.versioning is None:
            return None
        present = _versioned(container, self.engine.find(bucket, key))
        if container.versioning == "Suspended":
            self.engine.drop_former(bucket, key, NULL_VERSION)
            if present is not None and present.version != NULL_VERSION:
                self.engine.keep(bucket, key, present)
            return NULL_VERSION
        if present is not None:
            self.engine.keep(bucket, key, present)
        return new_version()

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

    def restate(self, bucket: str, key: str, attributes: Attributes) -> ObjectInfo:
        """Say other things of an object; its bytes stay (CopyObject onto itself)."""
        with self._writer(bucket, key):
            known = self.head(bucket, key)
            info = replace(
                known,
                headers=dict(attributes.headers),
                storage_class=attributes.storage_class,
                acl=attributes.acl or known.acl,
                tags=attributes.tags,
                modified=self._clock(),
            )
            return self._amend(bucket, key, info)

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

    def versions(self, bucket: str, key: str) -> Sequence[ObjectInfo]:
        """All of a key, the youngest first: objects and delete markers."""
        present = self.find(bucket, key)
        former = [
            one
            for one in reversed(self.engine.former(bucket, key))
            if present is None or one.version != present.version
        ]
        return [present, *former] if present is not None else former

    def list_versions(
        self, bucket: str, prefix: str = "", delimiter: str = "", after: tuple[str, str] = ("", ""), limit: int = 1000
    ) -> VersionListing:
        """At most `limit` rows behind the key and the version `after`, keys in byte order, versions youngest first."""
        self.bucket(bucket)
        rows: list[VersionRow] = []
        for row in self._version_rows(bucket, prefix, delimiter, after):
            if len(rows) == limit:
                last = rows[-1]
                return VersionListing(rows, (last.name, (last.info and last.info.version) or ""))
            rows.append(row)
        return VersionListing(rows, None)

    def _version_rows(self, bucket: str, prefix: str, delimiter: str, after: tuple[str, str]) -> Iterator[VersionRow]:
        marker, version = after
        keys = {key for key, _ in self.engine.walk(bucket, prefix, marker)} | set(self.engine.former_keys(bucket))
        below = sorted(
            (key for key in keys if key.startswith(prefix) and key.encode() >= marker.encode()), key=str.encode
        )
        group = marker
        for key in below:
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut >= 0:
                before, group = group, key[: cut + len(delimiter)]
                if group != before:
                    yield VersionRow(group, None)
                continue
            versions = self.versions(bucket, key)
            rows = [VersionRow(key, info, is_latest=index == 0) for index, info in enumerate(versions)]
            if key == marker:
                seen = next((index for index, info in enumerate(versions) if info.version == version), len(rows))
                rows = rows[seen + 1 :]
            yield from rows

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


def _version_of(container: BucketInfo, info: ObjectInfo) -> str | None:
    """What was made before the bucket had versions has the id ``null``, once it has."""
    return None if container.versioning is None else info.version or NULL_VERSION


def _versioned(container: BucketInfo, info: ObjectInfo | None) -> ObjectInfo | None:
    if info is None or info.version == (version := _version_of(container, info)):
        return info
    return replace(info, version=version)


def _no_marker(info: ObjectInfo) -> ObjectInfo:
    """Raises MethodNotAllowed for a delete marker (OSS documentation, HeadObject)."""
    if not info.is_marker:
        return info
    headers = {"Allow": "DELETE", **marker_headers(info.version)}
    message = "The specified method is not allowed against this resource."
    raise Refusal(405, "MethodNotAllowed", message, headers=headers)


def marker_headers(version: str | None) -> dict[str, str]:
    """What an answer says of a delete marker."""
    return {"x-oss-delete-marker": "true", "x-oss-version-id": version or NULL_VERSION}


def new_version() -> str:
    """An opaque id; no other one is the same, and none is ``null``."""
    return base64.urlsafe_b64encode(b"\x08\x01" + os.urandom(46)).decode()


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
