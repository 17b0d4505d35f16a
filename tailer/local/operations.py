"""Every operation: from a request that is understood and allowed to an answer. No socket is seen here."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import weakref
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from tailer.local import attributes, conditions, ranges, xml
from tailer.local.attributes import ARCHIVED, CRC, NEXT_POSITION, http_date, light_headers, object_headers
from tailer.local.auth import SUB_RESOURCES
from tailer.local.faults import NOTHING, History, Strikes
from tailer.local.names import check_key
from tailer.local.refusal import Refusal, invalid_argument, no_such_key, not_implemented
from tailer.local.store import Attributes, decode_token, encode_token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
    from xml.etree.ElementTree import Element

    from tailer.local.auth import AccessKey
    from tailer.local.store import Contents, Listing, ObjectInfo, Store, Upload
    from tailer.local.xml import Node

_T = TypeVar("_T")
OWNER = "local"
PUT_LIMIT = 5 * 2**30
_HEAVY = 4 << 20
_CLASSES = ("Standard", "IA", *ARCHIVED)
_APPEND_CLASSES = ("Standard", "IA", "Archive")
_OVERRIDES = {
    f"response-{name.lower()}": name
    for name in (
        "Content-Type",
        "Content-Language",
        "Expires",
        "Cache-Control",
        "Content-Disposition",
        "Content-Encoding",
    )
}


class Body(Protocol):
    """A request's body."""

    length: int | None
    """Content-Length in bytes; None for a chunked one."""

    present: bool
    """Whether the request says that there is one, be it of no bytes."""

    async def spool(self, upload: Upload, limit: int, digest: hashlib._Hash | None) -> None:
        """Read all of it into `upload` and `digest`. Raises EntityTooLarge behind `limit` bytes."""
        ...

    async def read(self, limit: int) -> bytes:
        """All of a small one."""
        ...


@dataclass(slots=True)
class Call:
    """One request. Header names are lower case; the first of several equal query parameters counts."""

    method: str
    bucket: str | None
    key: str | None
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Body
    caller: AccessKey | None = None
    strikes: Strikes = NOTHING


@dataclass(slots=True)
class Answer:
    """What goes back: `body`, or bytes [start, stop) of `contents`, which the wire closes.

    `rate` bounds the sending in bytes per second.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    contents: Contents | None = None
    start: int = 0
    stop: int = 0
    rate: float | None = None

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return self.stop - self.start if self.contents is not None else len(self.body)


@dataclass(frozen=True, slots=True)
class Operation:
    """A name, who may ask for it, and what answers it."""

    name: str
    handler: Callable[[Service, Call], Awaitable[Answer]]
    access: str
    """``read`` and ``write`` may be opened to everybody by an ACL; ``owner`` never."""


class Service:
    """The operations over a store. What an endpoint says of itself, beside its keys, is here too."""

    def __init__(
        self,
        store: Store,
        *,
        region: str,
        clock: Callable[[], float],
        elsewhere: Mapping[str, str],
    ) -> None:
        self.store = store
        self.region = region
        self.clock = clock
        self.elsewhere = elsewhere
        self.endpoint = ""
        self.history = History()
        self._writing: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = weakref.WeakValueDictionary()
        store.on_change = lambda bucket, key, info: self.history.note(clock(), bucket, key, info)

    def authorize(self, call: Call, operation: Operation) -> None:
        """Raises AccessDenied for a bucket of another region, and for what no ACL opens to everybody."""
        if call.bucket in self.elsewhere:
            message = (
                "The bucket you are attempting to access must be addressed using the specified endpoint. "
                "Please send all future requests to this endpoint."
            )
            fields = {"Bucket": call.bucket or "", "Endpoint": self.elsewhere[call.bucket or ""]}
            raise Refusal(403, "AccessDenied", message, fields=fields)
        if call.caller is not None:
            return
        if call.bucket is None:
            raise Refusal(403, "AccessDenied", "Anonymous access is forbidden for this operation.")
        if operation.access not in _opened_by(self._acl(call)):
            message = "You have no right to access this object because of bucket acl."
            raise Refusal(403, "AccessDenied", message, ec="0003-00000001", fields={"Bucket": call.bucket})
        if call.query.keys() & _OVERRIDES.keys():
            raise Refusal(400, "InvalidRequest", "An anonymous request can not override response headers.")

    def _acl(self, call: Call) -> str:
        bucket = self.store.bucket(call.bucket or "")
        info = self.store.find(bucket.name, call.key) if call.key else None
        return bucket.acl if info is None or info.acl == "default" else info.acl

    # --- objects: writing

    async def append_object(self, call: Call) -> Answer:
        """POST /key?append&position=N."""
        bucket, key = _object(call)
        position = _position(call)
        said = partial(attributes.from_headers, call.headers, _APPEND_CLASSES)
        await self._settle(bucket, key)
        _require_length(call)
        found = self.store.check_append(bucket, key, position, call.body.length or 0)
        # Metadata of a later append is not applied, so it is not checked either; its ACL is both.
        first = said() if found is None else None
        acl = attributes.acl_from(call.headers, "x-oss-object-acl", attributes.OBJECT_ACLS)
        upload = self.store.upload()
        try:
            await self._receive(call, upload, self.store.append_limit - position)
            attrs = first or Attributes(acl=acl)
            work = partial(self.store.append, bucket, key, position, upload, attrs)
            info = await self._commit(bucket, key, upload.size, work)
        finally:
            upload.close()
        headers = {NEXT_POSITION: str(info.size), CRC: str(info.crc64), "ETag": f'"{info.etag}"'}
        return Answer(headers=headers | _encryption(info))

    async def put_object(self, call: Call) -> Answer:
        """PUT /key."""
        bucket, key = _object(call)
        for name in ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"):
            if name in call.headers:
                message = "A header you provided implies functionality that is not implemented."
                raise Refusal(400, "NotImplemented", message, fields={"Header": name.title()})
        attrs = attributes.from_headers(call.headers, _CLASSES)
        self.store.bucket(bucket)
        _require_length(call)
        overwrite = call.headers.get("x-oss-forbid-overwrite", "false").lower() != "true"
        upload = self.store.upload()
        try:
            digest = await self._receive(call, upload, PUT_LIMIT, always_digest=True)
            etag = digest.hexdigest().upper() if digest else ""
            work = partial(self.store.put, bucket, key, upload, attrs, etag=etag, overwrite=overwrite)
            info = await self._commit(bucket, key, upload.size, work)
        finally:
            upload.close()
        md5 = base64.b64encode(bytes.fromhex(info.etag)).decode()
        return Answer(headers={"ETag": f'"{info.etag}"', "Content-MD5": md5, CRC: str(info.crc64)} | _encryption(info))

    async def seal_append_object(self, call: Call) -> Answer:
        """POST /key?seal&position=N."""
        bucket, key = _object(call)
        await self._settle(bucket, key)
        work = partial(self.store.seal, bucket, key, _position(call))
        info = await self._commit(bucket, key, 0, work)
        return Answer(headers={"x-oss-sealed-time": http_date(info.sealed or 0)})

    async def delete_object(self, call: Call) -> Answer:
        """DELETE /key: 204, whether it was there or not."""
        bucket, key = _object(call)
        await self._commit(bucket, key, 0, partial(self.store.delete, bucket, key))
        return Answer(204)

    async def delete_multiple_objects(self, call: Call) -> Answer:
        """POST /?delete."""
        bucket = self.store.bucket(call.bucket or "").name
        request = await self._xml(call, "Delete")
        keys = [node.findtext("Key", "") for node in request.iterfind("Object")]
        if not 1 <= len(keys) <= 1000:
            raise xml.malformed()
        for key in keys:
            check_key(key)
        for key in keys:
            await self._commit(bucket, key, 0, partial(self.store.delete, bucket, key))
        quiet = request.findtext("Quiet", "false").strip().lower() == "true"
        encode = _encoder(call.query.get("encoding-type"))
        nodes: list[Node] = [] if quiet else [("Deleted", [("Key", encode(key))]) for key in keys]
        if "encoding-type" in call.query:
            nodes.insert(0, ("EncodingType", "url"))
        return _xml_answer("DeleteResult", nodes)

    # --- objects: reading

    async def head_object(self, call: Call) -> Answer:
        """HEAD /key."""
        return await self._describe(call, object_headers)

    async def get_object_meta(self, call: Call) -> Answer:
        """HEAD /key?objectMeta: the light form, without type and next position."""
        return await self._describe(call, light_headers)

    async def _describe(self, call: Call, describe: Callable[[ObjectInfo], dict[str, str]]) -> Answer:
        bucket, key = _object(call)
        await self._settle(bucket, key)
        info = self._stale(call, bucket, key) or self.store.head(bucket, key)
        if conditions.not_modified(call.headers, info.etag, info.modified):
            return Answer(304, describe(info))
        return Answer(200, describe(info) | {"Content-Length": str(info.size)})

    def _stale(self, call: Call, bucket: str, key: str) -> ObjectInfo | None:
        fault = call.strikes.get("stale-head")
        if fault is None:
            return None
        info = self.history.as_of(self.clock(), fault.seconds, bucket, key)
        if info is None:
            raise no_such_key(key)
        return info

    async def get_object(self, call: Call) -> Answer:
        """GET /key, in both modes of Range."""
        bucket, key = _object(call)
        rate = attributes.traffic_limit(
            call.headers.get("x-oss-traffic-limit") or call.query.get("x-oss-traffic-limit")
        )
        await self._settle(bucket, key)
        info, contents = self.store.open(bucket, key)
        try:
            answer = self._select(call, info)
        except BaseException:
            contents.close()
            raise
        if answer.status == 304:
            contents.close()
        else:
            answer.contents, answer.rate = contents, rate
        return answer

    def _select(self, call: Call, info: ObjectInfo) -> Answer:
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
        headers |= {_OVERRIDES[name]: value for name, value in call.query.items() if name in _OVERRIDES}
        status = 206 if chosen.partial else 200
        return Answer(status, headers, start=chosen.start, stop=chosen.stop)

    # --- objects: ACL and tags

    async def put_object_acl(self, call: Call) -> Answer:
        """PUT /key?acl."""
        bucket, key = _object(call)
        acl = attributes.acl_from(call.headers, "x-oss-object-acl", attributes.OBJECT_ACLS)
        if acl is None:
            raise Refusal(400, "MissingArgument", "x-oss-object-acl is missing.")
        await self._commit(bucket, key, 0, partial(self.store.set_acl, bucket, key, acl))
        return Answer()

    async def get_object_acl(self, call: Call) -> Answer:
        """GET /key?acl."""
        return _acl_answer(self.store.head(*_object(call)).acl)

    async def put_object_tagging(self, call: Call) -> Answer:
        """PUT /key?tagging."""
        bucket, key = _object(call)
        tags = attributes.check_tags(xml.tags_of(await call.body.read(xml.MAX_BYTES)))
        await self._commit(bucket, key, 0, partial(self.store.set_tags, bucket, key, tags))
        return Answer()

    async def get_object_tagging(self, call: Call) -> Answer:
        """GET /key?tagging."""
        tags = self.store.head(*_object(call)).tags
        nodes: list[Node] = [("Tag", [("Key", key), ("Value", value)]) for key, value in tags]
        return _xml_answer("Tagging", [("TagSet", nodes)])

    async def delete_object_tagging(self, call: Call) -> Answer:
        """DELETE /key?tagging."""
        bucket, key = _object(call)
        await self._commit(bucket, key, 0, partial(self.store.set_tags, bucket, key, ()))
        return Answer(204)

    # --- buckets

    async def list_buckets(self, call: Call) -> Answer:
        """GET /."""
        prefix, marker = call.query.get("prefix", ""), call.query.get("marker", "")
        limit = _max_keys(call)
        buckets = [info for info in self.store.buckets() if info.name.startswith(prefix) and info.name > marker]
        page = buckets[:limit]
        rows: list[Node] = [
            (
                "Bucket",
                [
                    ("CreationDate", _xml_date(info.created)),
                    *self._endpoints(),
                    ("Location", f"oss-{self.region}"),
                    ("Name", info.name),
                    ("Region", self.region),
                    ("StorageClass", "Standard"),
                ],
            )
            for info in page
        ]
        more: list[Node] = []
        if len(page) < len(buckets):
            more = [("IsTruncated", "true"), ("NextMarker", page[-1].name)]
        return _xml_answer("ListAllMyBucketsResult", [*more, _owner(), ("Buckets", rows)])

    async def put_bucket(self, call: Call) -> Answer:
        """PUT /bucket/."""
        acl = attributes.acl_from(call.headers, "x-oss-acl", attributes.BUCKET_ACLS)
        body = await call.body.read(xml.MAX_BYTES)
        if body:
            xml.parse(body, "CreateBucketConfiguration")
        self.store.create_bucket(call.bucket or "", acl)
        return Answer(headers={"Location": f"/{call.bucket}"})

    async def delete_bucket(self, call: Call) -> Answer:
        """DELETE /bucket/."""
        self.store.delete_bucket(call.bucket or "")
        return Answer(204)

    async def put_bucket_acl(self, call: Call) -> Answer:
        """PUT /bucket/?acl."""
        self.store.bucket(call.bucket or "")
        acl = attributes.acl_from(call.headers, "x-oss-acl", attributes.BUCKET_ACLS)
        if acl is None:
            raise Refusal(400, "MissingArgument", "x-oss-acl is missing.")
        self.store.create_bucket(call.bucket or "", acl)
        return Answer()

    async def get_bucket_acl(self, call: Call) -> Answer:
        """GET /bucket/?acl."""
        return _acl_answer(self.store.bucket(call.bucket or "").acl)

    async def get_bucket_location(self, call: Call) -> Answer:
        """GET /bucket/?location."""
        self.store.bucket(call.bucket or "")
        return _xml_answer("LocationConstraint", f"oss-{self.region}")

    async def get_bucket_info(self, call: Call) -> Answer:
        """GET /bucket/?bucketInfo."""
        info = self.store.bucket(call.bucket or "")
        nodes: list[Node] = [
            ("CreationDate", _xml_date(info.created)),
            *self._endpoints(),
            ("Location", f"oss-{self.region}"),
            ("Name", info.name),
            _owner(),
            ("AccessControlList", [("Grant", info.acl)]),
            ("StorageClass", "Standard"),
        ]
        return _xml_answer("BucketInfo", [("Bucket", nodes)])

    async def list_objects(self, call: Call) -> Answer:
        """GET /bucket/: version 1, where the next page starts behind a key in plain words."""
        marker = call.query.get("marker", "")
        listing, encode = await self._page(call, marker)
        nodes: list[Node] = [("Marker", encode(marker)), *_bounds(call, encode, listing)]
        if listing.next is not None:
            nodes.append(("NextMarker", encode(listing.next)))
        return _xml_answer("ListBucketResult", [*nodes, *_rows(listing, encode, owner=True)])

    async def list_objects_v2(self, call: Call) -> Answer:
        """GET /bucket/?list-type=2."""
        token, start = call.query.get("continuation-token"), call.query.get("start-after", "")
        listing, encode = await self._page(call, start if token is None else decode_token(token))
        nodes: list[Node] = _bounds(call, encode, listing)
        nodes.append(("KeyCount", str(len(listing.rows))))
        if start:
            nodes.append(("StartAfter", encode(start)))
        if token is not None:
            nodes.append(("ContinuationToken", encode(token)))
        if listing.next is not None:
            nodes.append(("NextContinuationToken", encode(encode_token(listing.next))))
        owner = call.query.get("fetch-owner", "false").lower() == "true"
        return _xml_answer("ListBucketResult", [*nodes, *_rows(listing, encode, owner=owner)])

    async def _page(self, call: Call, after: str) -> tuple[Listing, Callable[[str], str]]:
        encode = _encoder(call.query.get("encoding-type"))
        query = call.query
        work = partial(
            self.store.list,
            call.bucket or "",
            query.get("prefix", ""),
            query.get("delimiter", ""),
            after,
            _max_keys(call),
        )
        # Walking a folder asks the disk about every file below it.
        listing = await asyncio.to_thread(work) if self.store.engine.on_disk else work()
        return listing, encode

    def _endpoints(self) -> list[Node]:
        host = self.endpoint.partition("://")[2]
        return [("ExtranetEndpoint", host), ("IntranetEndpoint", host)]

    # --- helpers

    async def _settle(self, bucket: str, key: str) -> None:
        """Sum up a file that changed from outside without making other requests wait for it."""
        self.store.bucket(bucket)
        if self.store.engine.backlog(bucket, key) > _HEAVY:
            await asyncio.to_thread(self.store.find, bucket, key)

    async def _receive(
        self, call: Call, upload: Upload, limit: int, *, always_digest: bool = False
    ) -> hashlib._Hash | None:
        """The body into `upload`, and its MD5 when one is wanted. Raises InvalidDigest."""
        claimed = call.headers.get("content-md5")
        digest = hashlib.md5(usedforsecurity=False) if claimed is not None or always_digest else None
        await call.body.spool(upload, limit, digest)
        if claimed is not None and digest is not None:
            _check_digest(claimed, digest)
        return digest

    async def _xml(self, call: Call, root: str) -> Element:
        """A small body that must be this element, with its Content-MD5 checked."""
        body = await call.body.read(xml.MAX_BYTES)
        claimed = call.headers.get("content-md5")
        if claimed is not None:
            _check_digest(claimed, hashlib.md5(body, usedforsecurity=False))
        return xml.parse(body, root)

    async def _commit(self, bucket: str, key: str, size: int, work: Callable[[], _T]) -> _T:
        """Do a write of `size` bytes; a slow one apart, while other writers of the key wait."""
        lock = self._writing.setdefault((bucket, key), asyncio.Lock())
        async with lock:
            return await asyncio.to_thread(work) if self.store.engine.slow(size) else work()


# --- pieces of requests


def _object(call: Call) -> tuple[str, str]:
    return call.bucket or "", call.key or ""


def _position(call: Call) -> int:
    """The `position` parameter. Raises MissingArgument and InvalidArgument."""
    text = call.query.get("position")
    if not text:
        raise Refusal(400, "MissingArgument", "The argument position is missing.", ec="0016-00000501")
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise invalid_argument("position", text, "The position must be a whole number of bytes, 0 or more.")
    return int(text)


def _require_length(call: Call) -> None:
    if not call.body.present:
        raise Refusal(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")


def _check_digest(claimed: str, digest: hashlib._Hash) -> None:
    try:
        wanted = base64.b64decode(claimed, validate=True)
    except binascii.Error:
        wanted = b""
    if wanted != digest.digest():
        message = "The Content-MD5 you specified was invalid."
        raise Refusal(400, "InvalidDigest", message, fields={"ContentMD5": claimed})


def _max_keys(call: Call) -> int:
    text = call.query.get("max-keys") or "100"
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1000):
        raise invalid_argument("max-keys", text, "max-keys must be 1 to 1000.")
    return int(text)


def _encoder(encoding: str | None) -> Callable[[str], str]:
    if encoding == "url":
        return xml.url_encoded
    if encoding:
        raise invalid_argument("encoding-type", encoding, "The encoding type must be url.")
    return str


def _opened_by(acl: str) -> Sequence[str]:
    return {"public-read": ("read",), "public-read-write": ("read", "write")}.get(acl, ())


# --- pieces of answers


def _xml_answer(name: str, children: str | Sequence[Node]) -> Answer:
    return Answer(headers={"Content-Type": "application/xml"}, body=xml.document(name, children))


def _acl_answer(acl: str) -> Answer:
    return _xml_answer("AccessControlPolicy", [_owner(), ("AccessControlList", [("Grant", acl)])])


def _owner() -> Node:
    return "Owner", [("ID", OWNER), ("DisplayName", OWNER)]


def _xml_date(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _encryption(info: ObjectInfo) -> dict[str, str]:
    name = "x-oss-server-side-encryption"
    return {name: info.headers[name]} if name in info.headers else {}


def _bounds(call: Call, encode: Callable[[str], str], listing: Listing) -> list[Node]:
    """What both versions of a list repeat of the question."""
    nodes: list[Node] = [
        ("Name", call.bucket or ""),
        ("Prefix", encode(call.query.get("prefix", ""))),
        ("MaxKeys", str(_max_keys(call))),
        ("Delimiter", encode(call.query.get("delimiter", ""))),
        ("IsTruncated", "false" if listing.next is None else "true"),
    ]
    if "encoding-type" in call.query:
        nodes.append(("EncodingType", "url"))
    return nodes


def _rows(listing: Listing, encode: Callable[[str], str], *, owner: bool) -> Iterator[Node]:
    for row in listing.rows:
        if row.info is None:
            yield "CommonPrefixes", [("Prefix", encode(row.name))]
            continue
        contents: list[Node] = [
            ("Key", encode(row.name)),
            ("LastModified", _xml_date(row.info.modified)),
            ("ETag", f'"{row.info.etag}"'),
            ("Type", row.info.type),
            ("Size", str(row.info.size)),
            ("StorageClass", row.info.storage_class),
        ]
        yield "Contents", [*contents, _owner()] if owner else contents


# --- which operation a request asks for

_SUB_RESOURCES = (SUB_RESOURCES | {"seal", "symlink", "objectInfo"}) - {
    # These come along with an operation and never are one.
    "position",
    "continuation-token",
    "security-token",
    "x-oss-traffic-limit",
    "x-oss-request-payer",
    *_OVERRIDES,
}

_OPERATIONS: dict[tuple[str, str, str], Operation] = {
    (method, scope, marker): Operation(name, handler, access)
    for method, scope, marker, name, handler, access in (
        ("GET", "service", "", "ListBuckets", Service.list_buckets, "owner"),
        ("PUT", "bucket", "", "PutBucket", Service.put_bucket, "owner"),
        ("DELETE", "bucket", "", "DeleteBucket", Service.delete_bucket, "owner"),
        ("PUT", "bucket", "acl", "PutBucketAcl", Service.put_bucket_acl, "owner"),
        ("GET", "bucket", "acl", "GetBucketAcl", Service.get_bucket_acl, "owner"),
        ("GET", "bucket", "location", "GetBucketLocation", Service.get_bucket_location, "owner"),
        ("GET", "bucket", "bucketInfo", "GetBucketInfo", Service.get_bucket_info, "owner"),
        ("GET", "bucket", "", "ListObjects", Service.list_objects, "read"),
        ("GET", "bucket", "list-type=2", "ListObjectsV2", Service.list_objects_v2, "read"),
        ("POST", "bucket", "delete", "DeleteMultipleObjects", Service.delete_multiple_objects, "write"),
        ("POST", "object", "append", "AppendObject", Service.append_object, "write"),
        ("POST", "object", "seal", "SealAppendObject", Service.seal_append_object, "write"),
        ("PUT", "object", "", "PutObject", Service.put_object, "write"),
        ("DELETE", "object", "", "DeleteObject", Service.delete_object, "write"),
        ("HEAD", "object", "", "HeadObject", Service.head_object, "read"),
        ("HEAD", "object", "objectMeta", "GetObjectMeta", Service.get_object_meta, "read"),
        ("GET", "object", "", "GetObject", Service.get_object, "read"),
        ("PUT", "object", "acl", "PutObjectACL", Service.put_object_acl, "owner"),
        ("GET", "object", "acl", "GetObjectACL", Service.get_object_acl, "owner"),
        ("PUT", "object", "tagging", "PutObjectTagging", Service.put_object_tagging, "owner"),
        ("GET", "object", "tagging", "GetObjectTagging", Service.get_object_tagging, "owner"),
        ("DELETE", "object", "tagging", "DeleteObjectTagging", Service.delete_object_tagging, "owner"),
    )
}


def choose(method: str, bucket: str | None, key: str | None, query: Mapping[str, str]) -> Operation:
    """The operation that a request asks for. Raises NotImplemented for every other one.

    A parameter that OSS does not know is ignored, as there; one that it knows and this server does not
    serve makes another operation of the request, which must not look like a success.
    """
    scope = "service" if bucket is None else "bucket" if key is None else "object"
    markers = [name for name in query if name in _SUB_RESOURCES]
    if query.get("versionId") == "null":
        markers.remove("versionId")
    if scope == "bucket" and query.get("list-type") == "2" and not markers:
        markers = ["list-type=2"]
    marker = markers[0] if markers else ""
    operation = _OPERATIONS.get((method, scope, marker))
    if operation is None or len(markers) > 1:
        raise not_implemented(f"{method} on {scope}" + (f" with {', '.join(markers)}" if markers else ""))
    return operation


OPERATION_NAMES = tuple(operation.name for operation in _OPERATIONS.values())
