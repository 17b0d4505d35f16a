"""What can be asked of an object."""

from __future__ import annotations

import base64
from functools import partial
from typing import TYPE_CHECKING

from tailer.local import attributes, conditions, ranges, xml
from tailer.local.attributes import (
    ARCHIVED,
    CRC,
    NEXT_POSITION,
    OVERRIDES,
    http_date,
    light_headers,
    object_headers,
)
from tailer.local.call import Answer, Call, acl_answer, xml_answer
from tailer.local.names import check_key
from tailer.local.refusal import Refusal, no_such_key
from tailer.local.store import NULL_VERSION, Attributes, marker_headers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tailer.local.service import Service
    from tailer.local.store import ObjectInfo
    from tailer.local.xml import Node

PUT_LIMIT = 5 * 2**30
_APPEND_CLASSES = ("Standard", "IA", "Archive")

# --- writing


async def append_object(service: Service, call: Call) -> Answer:
    """POST /key?append&position=N."""
    bucket, key = call.object
    position = call.position
    call.require_length()
    found = service.store.check_append(bucket, key, position, call.body.length or 0)
    attributes.refuse_unserved(call.headers)
    # Metadata of a later append is not applied, so it is not checked either; its ACL is both.
    first = attributes.from_headers(call.headers, _APPEND_CLASSES) if found is None else None
    acl = attributes.acl_from(call.headers, "x-oss-object-acl", attributes.OBJECT_ACLS)
    upload = service.store.upload()
    try:
        await service.receive(call, upload, service.store.append_limit - position)
        attrs = first or Attributes(acl=acl)
        work = partial(service.store.append, bucket, key, position, upload, attrs)
        info = await service.commit(bucket, key, upload.size, work)
    finally:
        upload.close()
    headers = {NEXT_POSITION: str(info.size), CRC: str(info.crc64), "ETag": f'"{info.etag}"'}
    return Answer(headers=headers | _encryption(info) | attributes.version_header(info))


async def put_object(service: Service, call: Call) -> Answer:
    """PUT /key."""
    bucket, key = call.object
    for name in ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"):
        if name in call.headers:
            message = "A header you provided implies functionality that is not implemented."
            raise Refusal(400, "NotImplemented", message, fields={"Header": name.title()})
    attrs = attributes.from_headers(call.headers, attributes.OBJECT_CLASSES)
    service.store.bucket(bucket)
    check_key(key)
    call.require_length()
    overwrite = call.headers.get("x-oss-forbid-overwrite", "false").lower() != "true"
    upload = service.store.upload()
    try:
        digest = await service.receive(call, upload, PUT_LIMIT, always_digest=True)
        etag = digest.hexdigest().upper() if digest else ""
        work = partial(service.store.put, bucket, key, upload, attrs, etag=etag, overwrite=overwrite)
        info = await service.commit(bucket, key, upload.size, work)
    finally:
        upload.close()
    md5 = base64.b64encode(bytes.fromhex(info.etag)).decode()
    headers = {"ETag": f'"{info.etag}"', "Content-MD5": md5, CRC: str(info.crc64)}
    return Answer(headers=headers | _encryption(info) | attributes.version_header(info))


async def seal_append_object(service: Service, call: Call) -> Answer:
    """POST /key?seal&position=N."""
    bucket, key = call.object
    work = partial(service.store.seal, bucket, key, call.position)
    info = await service.commit(bucket, key, 0, work)
    return Answer(headers={"x-oss-sealed-time": http_date(info.sealed or 0)})


async def delete_object(service: Service, call: Call) -> Answer:
    """DELETE /key: 204, whether it was there or not; with versionId, of one version for good."""
    bucket, key = call.object
    return Answer(204, await _delete(service, bucket, key, call.query.get("versionId")))


async def _delete(service: Service, bucket: str, key: str, version: str | None) -> dict[str, str]:
    """Delete; what is said of it: the version and whether that was, or is now, a delete marker."""
    store = service.store
    if version is None or store.bucket(bucket).versioning is None:
        marker = await service.commit(bucket, key, 0, partial(store.delete, bucket, key))
        return {} if marker is None else marker_headers(marker.version)
    found = await service.commit(bucket, key, 0, partial(store.delete_version, bucket, key, version))
    is_marker = found is not None and found.is_marker
    return {"x-oss-version-id": version, **({"x-oss-delete-marker": "true"} if is_marker else {})}


async def delete_multiple_objects(service: Service, call: Call) -> Answer:
    """POST /?delete."""
    bucket = service.store.bucket(call.bucket or "").name
    request = await service.read_xml(call, "Delete")
    named = [(node.findtext("Key", ""), node.findtext("VersionId")) for node in request.iterfind("Object")]
    if not 1 <= len(named) <= 1000:
        raise xml.malformed()
    for key, _ in named:
        check_key(key)
    said = [(key, version, await _delete(service, bucket, key, version)) for key, version in named]
    quiet = request.findtext("Quiet", "false").strip().lower() == "true"
    encode = call.encoder
    nodes: list[Node] = [] if quiet else [_deleted(encode(key), version, headers) for key, version, headers in said]
    if "encoding-type" in call.query:
        nodes.insert(0, ("EncodingType", "url"))
    return xml_answer("DeleteResult", nodes)


def _deleted(key: str, version: str | None, headers: Mapping[str, str]) -> Node:
    nodes: list[Node] = [("Key", key)]
    if version is not None:
        nodes.append(("VersionId", version))
    if "x-oss-delete-marker" in headers:
        nodes += [("DeleteMarker", "true"), ("DeleteMarkerVersionId", headers["x-oss-version-id"])]
    return "Deleted", nodes


def _encryption(info: ObjectInfo) -> dict[str, str]:
    name = "x-oss-server-side-encryption"
    return {name: info.headers[name]} if name in info.headers else {}


# --- reading


async def head_object(service: Service, call: Call) -> Answer:
    """HEAD /key."""
    return await _describe(service, call, object_headers)


async def get_object_meta(service: Service, call: Call) -> Answer:
    """HEAD /key?objectMeta: the light form, without type and next position."""
    return await _describe(service, call, light_headers)


async def _describe(service: Service, call: Call, describe: Callable[[ObjectInfo], dict[str, str]]) -> Answer:
    bucket, key = call.object
    info = _stale(service, call, bucket, key) or service.store.head(bucket, key, _version(service, call))
    if conditions.not_modified(call.headers, info.etag, info.modified):
        return Answer(304, describe(info))
    return Answer(200, describe(info) | {"Content-Length": str(info.size)})


def _version(service: Service, call: Call) -> str | None:
    """The version that is asked for. A bucket that never had versions has the object alone, whose id is ``null``."""
    version = call.query.get("versionId")
    unversioned = version == NULL_VERSION and service.store.bucket(call.bucket or "").versioning is None
    return None if unversioned else version


def _stale(service: Service, call: Call, bucket: str, key: str) -> ObjectInfo | None:
    fault = call.strikes.get("stale-head")
    if fault is None:
        return None
    info = service.history.as_of(service.clock(), fault.seconds, bucket, key)
    if info is None:
        raise no_such_key(key)
    return info


async def get_object(service: Service, call: Call) -> Answer:
    """GET /key, in both modes of Range."""
    bucket, key = call.object
    rate = attributes.traffic_limit(call.headers.get("x-oss-traffic-limit") or call.query.get("x-oss-traffic-limit"))
    info, contents = service.store.open(bucket, key, _version(service, call))
    try:
        answer = _select(service, call, info)
    except BaseException:
        contents.close()
        raise
    if answer.status == 304:
        contents.close()
    else:
        answer.contents, answer.rate = contents, rate
    return answer


def _select(service: Service, call: Call, info: ObjectInfo) -> Answer:
    """Status, headers and the range of bytes for a GET."""
    headers = object_headers(info)
    if conditions.not_modified(call.headers, info.etag, info.modified):
        return Answer(304, headers)
    if info.storage_class in ARCHIVED:
        message = "The operation is not valid for the object's state"
        raise Refusal(403, "InvalidObjectState", message, fields={"ObjectName": call.key or ""})
    standard = call.headers.get("x-oss-range-behavior", "").lower() == "standard"
    asked = None if call.strikes.get("ignore-range") else call.headers.get("range")
    chosen = ranges.decide(asked, info.size, standard=standard)
    if chosen is None:
        # Whether the service sends this header with a 416 is not known: it is our choice (RFC 9110).
        extra = {"Content-Range": f"bytes */{info.size}"}
        message = "The requested range cannot be satisfied"
        raise Refusal(416, "InvalidRange", message, headers=extra)
    if chosen.partial:
        headers["Content-Range"] = f"bytes {chosen.start}-{chosen.stop - 1}/{info.size}"
    headers |= {OVERRIDES[name]: value for name, value in call.query.items() if name in OVERRIDES}
    status = 206 if chosen.partial else 200
    return Answer(status, headers, start=chosen.start, stop=chosen.stop)


# --- ACL and tags


async def put_object_acl(service: Service, call: Call) -> Answer:
    """PUT /key?acl."""
    bucket, key = call.object
    acl = attributes.acl_from(call.headers, "x-oss-object-acl", attributes.OBJECT_ACLS)
    if acl is None:
        raise Refusal(400, "MissingArgument", "x-oss-object-acl is missing.")
    await service.commit(bucket, key, 0, partial(service.store.set_acl, bucket, key, acl))
    return Answer()


async def get_object_acl(service: Service, call: Call) -> Answer:
    """GET /key?acl."""
    return acl_answer(service.store.head(*call.object).acl)


async def put_object_tagging(service: Service, call: Call) -> Answer:
    """PUT /key?tagging."""
    bucket, key = call.object
    tags = attributes.check_tags(xml.tags_of(await call.body.read(xml.MAX_BYTES)))
    await service.commit(bucket, key, 0, partial(service.store.set_tags, bucket, key, tags))
    return Answer()


async def get_object_tagging(service: Service, call: Call) -> Answer:
    """GET /key?tagging."""
    tags = service.store.head(*call.object).tags
    nodes: list[Node] = [("Tag", [("Key", key), ("Value", value)]) for key, value in tags]
    return xml_answer("Tagging", [("TagSet", nodes)])


async def delete_object_tagging(service: Service, call: Call) -> Answer:
    """DELETE /key?tagging."""
    bucket, key = call.object
    await service.commit(bucket, key, 0, partial(service.store.set_tags, bucket, key, ()))
    return Answer(204)
