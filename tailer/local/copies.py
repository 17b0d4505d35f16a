"""Copies inside the server (OSS documentation, CopyObject and UploadPartCopy)."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote

from tailer.local import attributes, conditions
from tailer.local.attributes import CRC, OBJECT_CLASSES, version_header
from tailer.local.call import Answer, Call, xml_answer, xml_date
from tailer.local.names import check_key
from tailer.local.refusal import Refusal, invalid_argument
from tailer.local.store import NULL_VERSION, Attributes

if TYPE_CHECKING:
    from tailer.local.service import Service
    from tailer.local.store import Contents, ObjectInfo, Upload

_PIECE = 1 << 20
_HEADER = "x-oss-copy-source"


@dataclass(frozen=True, slots=True)
class Source:
    """The object that ``x-oss-copy-source`` names, and its bytes, which must be closed."""

    bucket: str
    key: str
    info: ObjectInfo
    contents: Contents

    @property
    def version_header(self) -> dict[str, str]:
        """In a bucket that keeps versions: which one is copied."""
        return {} if self.info.version is None else {"x-oss-copy-source-version-id": self.info.version}


async def copy_object(service: Service, call: Call) -> Answer:
    """PUT /key with x-oss-copy-source. An appendable is copied onto itself alone, to change what is said of it."""
    bucket, key = call.object
    service.store.bucket(bucket)
    check_key(key)
    source = open_source(service, call)
    try:
        if _not_modified(call, source.info):
            return Answer(304)
        attrs = _attributes(call, source.info)
        if source.info.appendable:
            info = await _restate(service, call, source, attrs)
        else:
            info = await _copy(service, call, source, attrs)
    finally:
        source.contents.close()
    answer = xml_answer("CopyObjectResult", [("ETag", f'"{info.etag}"'), ("LastModified", xml_date(info.modified))])
    answer.headers |= {CRC: str(info.crc64), **version_header(info), **source.version_header}
    return answer


def open_source(service: Service, call: Call) -> Source:
    """Raises NoSuchBucket, NoSuchKey, NoSuchVersion, and InvalidArgument for what names no object."""
    text = call.headers.get(_HEADER, "")
    path, _, query = text.partition("?")
    bucket, _, key = unquote(path).removeprefix("/").partition("/")
    if not bucket or not key:
        raise invalid_argument(_HEADER, text, "A copy source is /bucket/key.")
    version = parse_qs(query, keep_blank_values=True).get("versionId", [None])[0]
    if version == NULL_VERSION and service.store.bucket(bucket).versioning is None:
        version = None
    info, contents = service.store.open(bucket, key, version)
    return Source(bucket, key, info, contents)


def refuse_appendable(info: ObjectInfo) -> None:
    """Raises OperationNotSupported: AppendObject and UploadPartCopy have it that such an object cannot be copied."""
    if info.appendable:
        message = "An appendable object can not be the source of a copy."
        raise Refusal(400, "OperationNotSupported", message)


async def fill(service: Service, upload: Upload, source: Source, start: int, stop: int) -> str:
    """Copy bytes [start, stop) of the source; their MD5 as an ETag."""
    work = partial(_fill, upload, source.contents, start, stop)
    return await asyncio.to_thread(work) if service.store.engine.on_disk else work()


def _fill(upload: Upload, contents: Contents, start: int, stop: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    while start < stop:
        piece = bytes(contents.read(start, min(_PIECE, stop - start)))
        if not piece:
            raise Refusal(500, "InternalError", "The source lost bytes while it was copied.")
        upload.write(piece)
        digest.update(piece)
        start += len(piece)
    return digest.hexdigest().upper()


async def _copy(service: Service, call: Call, source: Source, attrs: Attributes) -> ObjectInfo:
    bucket, key = call.object
    overwrite = call.headers.get("x-oss-forbid-overwrite", "false").lower() != "true"
    upload = service.store.upload()
    try:
        etag = await fill(service, upload, source, 0, source.info.size)
        work = partial(service.store.put, bucket, key, upload, attrs, etag=etag, overwrite=overwrite)
        return await service.commit(bucket, key, upload.size, work)
    finally:
        upload.close()


async def _restate(service: Service, call: Call, source: Source, attrs: Attributes) -> ObjectInfo:
    bucket, key = call.object
    replaces = call.headers.get("x-oss-metadata-directive", "COPY").upper() == "REPLACE"
    if (source.bucket, source.key) != (bucket, key) or not replaces or source.info.version is not None:
        refuse_appendable(source.info)
    return await service.commit(bucket, key, 0, partial(service.store.restate, bucket, key, attrs))


def _attributes(call: Call, info: ObjectInfo) -> Attributes:
    """Those of the source, or of the request, as its two directives say."""
    own = {name: value for name, value in call.headers.items() if name != _HEADER}
    asked = attributes.from_headers(own, OBJECT_CLASSES)
    replaces = _directive(call, "x-oss-metadata-directive")
    tags = asked.tags if _directive(call, "x-oss-tagging-directive") else info.tags
    storage_class = asked.storage_class if "x-oss-storage-class" in own or replaces else info.storage_class
    return Attributes(asked.headers if replaces else info.headers, storage_class, asked.acl, tags)


def _directive(call: Call, name: str) -> bool:
    """Whether it says REPLACE."""
    word = call.headers.get(name, "COPY").upper()
    if word not in ("COPY", "REPLACE"):
        raise invalid_argument(name, word, f"{name} must be COPY or REPLACE.")
    return word == "REPLACE"


def _not_modified(call: Call, info: ObjectInfo) -> bool:
    prefix = f"{_HEADER}-"
    asked = {name.removeprefix(prefix): value for name, value in call.headers.items() if name.startswith(prefix)}
    return conditions.not_modified(asked, info.etag, info.modified)
