"""What can be asked of an upload in parts (OSS documentation, "Multipart upload")."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
from functools import partial
from typing import TYPE_CHECKING

from tailer.local import attributes, xml
from tailer.local.attributes import CRC, OBJECT_CLASSES, version_header
from tailer.local.call import Answer, Call, xml_answer, xml_date
from tailer.local.copies import fill, open_source, refuse_appendable
from tailer.local.names import check_key
from tailer.local.refusal import Refusal, invalid_argument, whole_number
from tailer.local.uploads import Part, Unfinished

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tailer.local.service import Service
    from tailer.local.store import ObjectInfo, Upload
    from tailer.local.xml import Node

_PART_LIMIT = 5 * 2**30
_SMALLEST = 100 * 1024
_MOST_PARTS = 10_000


async def initiate_multipart_upload(service: Service, call: Call) -> Answer:
    """POST /key?uploads."""
    bucket, key = call.object
    service.store.bucket(bucket)
    check_key(key)
    attrs = attributes.from_headers(call.headers, OBJECT_CLASSES)
    upload = service.uploads.begin(bucket, key, attrs, service.clock())
    encode = call.encoder
    nodes: list[Node] = [("Bucket", bucket), ("Key", encode(key)), ("UploadId", upload.id)]
    if "encoding-type" in call.query:
        nodes.insert(0, ("EncodingType", "url"))
    return xml_answer("InitiateMultipartUploadResult", nodes)


async def upload_part(service: Service, call: Call) -> Answer:
    """PUT /key?partNumber=N&uploadId=ID."""
    upload, number = _find(service, call), _number(call)
    call.require_length()
    body = service.store.upload()
    try:
        digest = await service.receive(call, body, _PART_LIMIT, always_digest=True)
        etag = digest.hexdigest().upper() if digest else ""
        service.uploads.add(upload, number, Part(body, etag, service.clock()))
    except BaseException:
        body.close()
        raise
    md5 = base64.b64encode(bytes.fromhex(etag)).decode()
    return Answer(headers={"ETag": f'"{etag}"', "Content-MD5": md5, CRC: str(body.crc64)})


async def upload_part_copy(service: Service, call: Call) -> Answer:
    """PUT /key?partNumber=N&uploadId=ID with x-oss-copy-source."""
    upload, number = _find(service, call), _number(call)
    source, body = open_source(service, call), service.store.upload()
    try:
        refuse_appendable(source.info)
        start, stop = _copied_range(call, source.info)
        etag = await fill(service, body, source, start, stop)
        part = Part(body, etag, service.clock())
        service.uploads.add(upload, number, part)
    except BaseException:
        body.close()
        raise
    finally:
        source.contents.close()
    answer = xml_answer("CopyPartResult", [("LastModified", xml_date(part.modified)), ("ETag", f'"{etag}"')])
    answer.headers |= {CRC: str(body.crc64), **source.version_header}
    return answer


async def complete_multipart_upload(service: Service, call: Call) -> Answer:
    """POST /key?uploadId=ID: the key is its parts, one behind the other, of type Multipart."""
    upload = _find(service, call)
    bucket, key = call.object
    parts = await _named_parts(service, call, upload)
    with service.uploads.completing(upload):
        info = await _put_whole(service, call, upload, parts)
    nodes: list[Node] = [
        ("Location", f"{service.endpoint}/{bucket}/{xml.url_encoded(key)}"),
        ("Bucket", bucket),
        ("Key", call.encoder(key)),
        ("ETag", f'"{info.etag}"'),
    ]
    if "encoding-type" in call.query:
        nodes.insert(0, ("EncodingType", "url"))
    answer = xml_answer("CompleteMultipartUploadResult", nodes)
    answer.headers |= {"ETag": f'"{info.etag}"', CRC: str(info.crc64), **version_header(info)}
    return answer


async def _put_whole(service: Service, call: Call, upload: Unfinished, parts: Sequence[Part]) -> ObjectInfo:
    overwrite = call.headers.get("x-oss-forbid-overwrite", "false").lower() != "true"
    whole = service.store.upload()
    try:
        work = partial(_join, whole, parts)
        await asyncio.to_thread(work) if service.store.engine.on_disk else work()
        put = partial(
            service.store.put, upload.bucket, upload.key, whole, upload.attributes,
            etag=_etag(parts), overwrite=overwrite, type="Multipart",
        )  # fmt: skip
        return await service.commit(upload.bucket, upload.key, whole.size, put)
    finally:
        whole.close()


async def abort_multipart_upload(service: Service, call: Call) -> Answer:
    """DELETE /key?uploadId=ID."""
    service.uploads.end(_find(service, call))
    return Answer(204)


async def list_parts(service: Service, call: Call) -> Answer:
    """GET /key?uploadId=ID."""
    upload, encode = _find(service, call), call.encoder
    marker, limit = _count(call, "part-number-marker", 0, 0), _count(call, "max-parts", 1000, 1)
    behind = [(number, part) for number, part in sorted(upload.parts.items()) if number > marker]
    page = behind[:limit]
    nodes: list[Node] = [
        ("Bucket", upload.bucket),
        ("Key", encode(upload.key)),
        ("UploadId", upload.id),
        ("StorageClass", upload.attributes.storage_class),
        ("PartNumberMarker", str(marker)),
        ("NextPartNumberMarker", str(page[-1][0] if page else 0)),
        ("MaxParts", str(limit)),
        ("IsTruncated", "true" if len(page) < len(behind) else "false"),
        *((_part_node(number, part)) for number, part in page),
    ]
    if "encoding-type" in call.query:
        nodes.insert(0, ("EncodingType", "url"))
    return xml_answer("ListPartsResult", nodes)


async def list_multipart_uploads(service: Service, call: Call) -> Answer:
    """GET /?uploads."""
    bucket = service.store.bucket(call.bucket or "").name
    encode, query = call.encoder, call.query
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    marker, limit = (
        (query.get("key-marker", ""), query.get("upload-id-marker", "")),
        _count(call, "max-uploads", 1000, 1),
    )
    rows = list(_rows(service.uploads.of_bucket(bucket), prefix, delimiter, marker))
    page = rows[:limit]
    nodes: list[Node] = [
        ("Bucket", bucket),
        ("KeyMarker", encode(marker[0])),
        ("UploadIdMarker", marker[1]),
        ("Delimiter", encode(delimiter)),
        ("Prefix", encode(prefix)),
        ("MaxUploads", str(limit)),
        ("IsTruncated", "true" if len(page) < len(rows) else "false"),
    ]
    if len(page) < len(rows):
        name, upload = page[-1]
        nodes += [("NextKeyMarker", encode(name)), ("NextUploadIdMarker", upload.id if upload else "")]
    if "encoding-type" in query:
        nodes.append(("EncodingType", "url"))
    for name, upload in page:
        if upload is None:
            nodes.append(("CommonPrefixes", [("Prefix", encode(name))]))
        else:
            facts = [("UploadId", upload.id), ("StorageClass", upload.attributes.storage_class)]
            nodes.append(("Upload", [("Key", encode(name)), *facts, ("Initiated", xml_date(upload.begun))]))
    return xml_answer("ListMultipartUploadsResult", nodes)


def _rows(
    uploads: Sequence[Unfinished], prefix: str, delimiter: str, marker: tuple[str, str]
) -> Iterator[tuple[str, Unfinished | None]]:
    """Keys and uploads, or common prefixes, behind the key and the upload's id `marker`."""
    key, upload_id = marker
    ids = [upload.id for upload in uploads if upload.key == key]
    seen = ids[: ids.index(upload_id) + 1] if upload_id in ids else ids
    group = key
    for upload in uploads:
        name = upload.key
        if not name.startswith(prefix) or name.encode() < key.encode() or upload.id in seen:
            continue
        cut = name.find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0:
            yield name, upload
            continue
        before, group = group, name[: cut + len(delimiter)]
        if group != before:
            yield group, None


# --- parts


def _find(service: Service, call: Call) -> Unfinished:
    """The upload that a request names. Raises NoSuchUpload."""
    return service.uploads.find(*call.object, call.query.get("uploadId", ""))


def _number(call: Call) -> int:
    text = call.query.get("partNumber", "")
    number = whole_number(text)
    if number is None or not 1 <= number <= _MOST_PARTS:
        raise invalid_argument("partNumber", text, f"Part number must be an integer between 1 and {_MOST_PARTS}.")
    return number


def _count(call: Call, name: str, default: int, least: int) -> int:
    text = call.query.get(name, str(default))
    count = whole_number(text)
    if count is None or not least <= count <= _MOST_PARTS:
        raise invalid_argument(name, text, f"{name} must be {least} to {_MOST_PARTS}.")
    return min(count, 1000) if least else count


def _copied_range(call: Call, info: ObjectInfo) -> tuple[int, int]:
    """``bytes=FIRST-LAST`` of the source, all of it where nothing is said."""
    text = call.headers.get("x-oss-copy-source-range")
    if text is None:
        return 0, info.size
    first, _, last = text.removeprefix("bytes=").partition("-")
    start, end = whole_number(first), whole_number(last)
    if not text.startswith("bytes=") or start is None or end is None or not start <= end < info.size:
        raise invalid_argument("x-oss-copy-source-range", text, "The range is not inside the source.")
    return start, end + 1


async def _named_parts(service: Service, call: Call, upload: Unfinished) -> list[Part]:
    """The parts that the request names, in order. Raises InvalidPart, InvalidPartOrder, EntityTooSmall."""
    if call.headers.get("x-oss-complete-all", "").lower() == "yes":
        numbers = sorted(upload.parts)
        parts = [upload.parts[number] for number in numbers]
    else:
        request = await service.read_xml(call, "CompleteMultipartUpload")
        nodes = list(request.iterfind("Part"))
        named = [(whole_number(node.findtext("PartNumber", "")), node.findtext("ETag", "")) for node in nodes]
        parts = [_named_part(upload, number, etag) for number, etag in named]
        numbers = [number or 0 for number, _ in named]
    if not parts:
        raise xml.malformed()
    if any(one >= other for one, other in itertools.pairwise(numbers)):
        raise Refusal(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
    for part in parts[:-1]:
        if part.body.size < _SMALLEST:
            message = "Your proposed upload is smaller than the minimum allowed size."
            raise Refusal(400, "EntityTooSmall", message, fields={"MinSizeAllowed": str(_SMALLEST)})
    return parts


def _named_part(upload: Unfinished, number: int | None, etag: str) -> Part:
    part = upload.parts.get(number or 0)
    if part is None or etag.strip().strip('"').upper() != part.etag:
        message = "A part that was named is not there, or has another ETag."
        raise Refusal(400, "InvalidPart", message, fields={"PartNumber": str(number or 0), "UploadId": upload.id})
    return part


def _join(whole: Upload, parts: Sequence[Part]) -> None:
    for part in parts:
        whole.adopt(part.body)


def _etag(parts: Sequence[Part]) -> str:
    """Of the MD5s of all parts, with their number."""
    together = b"".join(bytes.fromhex(part.etag) for part in parts)
    return f"{hashlib.md5(together, usedforsecurity=False).hexdigest().upper()}-{len(parts)}"


def _part_node(number: int, part: Part) -> Node:
    return "Part", [
        ("PartNumber", str(number)),
        ("LastModified", xml_date(part.modified)),
        ("ETag", f'"{part.etag}"'),
        ("HashCrc64ecma", str(part.body.crc64)),
        ("Size", str(part.body.size)),
    ]
