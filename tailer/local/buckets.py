"""What can be asked of a bucket, and of the service about its buckets."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from tailer.local import attributes, xml
from tailer.local.call import Answer, Call, acl_answer, owner, xml_answer, xml_date
from tailer.local.refusal import Refusal, invalid_argument
from tailer.local.store import NULL_VERSION, decode_token, encode_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from tailer.local.service import Service
    from tailer.local.store import BucketInfo, Listing, Row, VersionRow
    from tailer.local.xml import Node

_Row = TypeVar("_Row", "Row", "VersionRow")

_STAT_CLASSES = {
    "Standard": "Standard",
    "IA": "InfrequentAccess",
    "Archive": "Archive",
    "ColdArchive": "ColdArchive",
    "DeepColdArchive": "DeepColdArchive",
}
"""How GetBucketStat calls each storage class."""


async def list_buckets(service: Service, call: Call) -> Answer:
    """GET /."""
    prefix, marker = call.query.get("prefix", ""), call.query.get("marker", "")
    limit = call.max_keys
    buckets = [info for info in service.store.buckets() if info.name.startswith(prefix) and info.name > marker]
    page = buckets[:limit]
    rows: list[Node] = [
        (
            "Bucket",
            [
                ("CreationDate", xml_date(info.created)),
                *_endpoints(service),
                ("Location", f"oss-{service.region}"),
                ("Name", info.name),
                ("Region", service.region),
                ("StorageClass", "Standard"),
            ],
        )
        for info in page
    ]
    more: list[Node] = []
    if len(page) < len(buckets):
        more = [("IsTruncated", "true"), ("NextMarker", page[-1].name)]
    return xml_answer("ListAllMyBucketsResult", [*more, owner(), ("Buckets", rows)])


async def put_bucket(service: Service, call: Call) -> Answer:
    """PUT /bucket/."""
    acl = attributes.acl_from(call.headers, "x-oss-acl", attributes.BUCKET_ACLS)
    body = await call.body.read(xml.MAX_BYTES)
    if body:
        xml.parse(body, "CreateBucketConfiguration")
    service.store.create_bucket(call.bucket or "", acl)
    return Answer(headers={"Location": f"/{call.bucket}"})


async def delete_bucket(service: Service, call: Call) -> Answer:
    """DELETE /bucket/: one with unfinished uploads is not empty."""
    if service.uploads.of_bucket(service.store.bucket(call.bucket or "").name):
        message = "The bucket has unfinished multipart uploads. Please abort them first."
        raise Refusal(409, "BucketNotEmpty", message, fields={"BucketName": call.bucket or ""})
    service.store.delete_bucket(call.bucket or "")
    return Answer(204)


async def put_bucket_acl(service: Service, call: Call) -> Answer:
    """PUT /bucket/?acl."""
    service.store.bucket(call.bucket or "")
    acl = attributes.acl_from(call.headers, "x-oss-acl", attributes.BUCKET_ACLS)
    if acl is None:
        raise Refusal(400, "MissingArgument", "x-oss-acl is missing.")
    service.store.create_bucket(call.bucket or "", acl)
    return Answer()


async def get_bucket_acl(service: Service, call: Call) -> Answer:
    """GET /bucket/?acl."""
    return acl_answer(service.store.bucket(call.bucket or "").acl)


async def get_bucket_location(service: Service, call: Call) -> Answer:
    """GET /bucket/?location."""
    service.store.bucket(call.bucket or "")
    return xml_answer("LocationConstraint", f"oss-{service.region}")


async def get_bucket_info(service: Service, call: Call) -> Answer:
    """GET /bucket/?bucketInfo."""
    info = service.store.bucket(call.bucket or "")
    nodes: list[Node] = [
        ("CreationDate", xml_date(info.created)),
        *_endpoints(service),
        ("Location", f"oss-{service.region}"),
        ("Name", info.name),
        owner(),
        ("AccessControlList", [("Grant", info.acl)]),
        ("StorageClass", "Standard"),
        *_versioning(info),
    ]
    return xml_answer("BucketInfo", [("Bucket", nodes)])


async def head_bucket(service: Service, call: Call) -> Answer:
    """HEAD /bucket/: not in the OSS documentation; the official SDK for C asks so where a bucket is."""
    service.store.bucket(call.bucket or "")
    return Answer(headers={"x-oss-bucket-region": f"oss-{service.region}"})


async def get_bucket_stat(service: Service, call: Call) -> Answer:
    """GET /bucket/?stat: what is stored, all in all and by storage class, in bytes."""
    work = partial(_stored, service, call.bucket or "")
    stored = await asyncio.to_thread(work) if service.store.engine.on_disk else work()
    count = sum(count for count, _ in stored.values())
    size = sum(size for _, size in stored.values())
    nodes: list[Node] = [
        ("Storage", str(size)),
        ("ObjectCount", str(count)),
        ("MultipartUploadCount", str(len(service.uploads.of_bucket(call.bucket or "")))),
        ("LiveChannelCount", "0"),
        ("LastModifiedTime", str(int(service.clock()))),
    ]
    for name, prefix in _STAT_CLASSES.items():
        count, size = stored.get(name, (0, 0))
        nodes += [(f"{prefix}Storage", str(size)), (f"{prefix}ObjectCount", str(count))]
        if name != "Standard":
            nodes.append((f"{prefix}RealStorage", str(size)))
    return xml_answer("BucketStat", nodes)


def _stored(service: Service, bucket: str) -> dict[str, tuple[int, int]]:
    """Objects and their bytes by storage class."""
    found: dict[str, tuple[int, int]] = {}
    after: str | None = ""
    while after is not None:
        page = service.store.list(bucket, after=after)
        for row in page.rows:
            if row.info is not None:
                count, size = found.get(row.info.storage_class, (0, 0))
                found[row.info.storage_class] = count + 1, size + row.info.size
        after = page.next
    return found


async def list_objects(service: Service, call: Call) -> Answer:
    """GET /bucket/: version 1, where the next page starts behind a key in plain words."""
    marker = call.query.get("marker", "")
    listing, encode = await _page(service, call, marker)
    nodes: list[Node] = [("Marker", encode(marker)), *_bounds(call, encode, truncated=listing.next is not None)]
    if listing.next is not None:
        nodes.append(("NextMarker", encode(listing.next)))
    return xml_answer("ListBucketResult", [*nodes, *_rows(listing, encode, with_owner=True)])


async def list_objects_v2(service: Service, call: Call) -> Answer:
    """GET /bucket/?list-type=2."""
    token, start = call.query.get("continuation-token"), call.query.get("start-after", "")
    listing, encode = await _page(service, call, start if token is None else decode_token(token))
    nodes: list[Node] = _bounds(call, encode, truncated=listing.next is not None)
    nodes.append(("KeyCount", str(len(listing.rows))))
    if start:
        nodes.append(("StartAfter", encode(start)))
    if token is not None:
        nodes.append(("ContinuationToken", encode(token)))
    if listing.next is not None:
        nodes.append(("NextContinuationToken", encode(encode_token(listing.next))))
    with_owner = call.query.get("fetch-owner", "false").lower() == "true"
    return xml_answer("ListBucketResult", [*nodes, *_rows(listing, encode, with_owner=with_owner)])


async def _page(service: Service, call: Call, after: str) -> tuple[Listing, Callable[[str], str]]:
    encode = call.encoder
    query = call.query
    work = partial(
        service.store.list,
        call.bucket or "",
        query.get("prefix", ""),
        query.get("delimiter", ""),
        after,
        call.max_keys,
    )
    # Walking a folder asks the disk about every file below it.
    listing = await asyncio.to_thread(work) if service.store.engine.on_disk else work()
    return listing, encode


async def put_bucket_versioning(service: Service, call: Call) -> Answer:
    """PUT /bucket/?versioning: what was on can be suspended, and is never off again."""
    service.store.bucket(call.bucket or "")
    status = (await service.read_xml(call, "VersioningConfiguration")).findtext("Status", "")
    if status not in ("Enabled", "Suspended"):
        raise xml.malformed()
    service.store.set_versioning(call.bucket or "", status)
    return Answer()


async def get_bucket_versioning(service: Service, call: Call) -> Answer:
    """GET /bucket/?versioning: without a status where it never was on."""
    info = service.store.bucket(call.bucket or "")
    return xml_answer("VersioningConfiguration", [] if info.versioning is None else [("Status", info.versioning)])


def _versioning(info: BucketInfo) -> list[Node]:
    return [] if info.versioning is None else [("Versioning", info.versioning)]


async def list_object_versions(service: Service, call: Call) -> Answer:
    """GET /bucket/?versions."""
    query, encode = call.query, call.encoder
    marker = query.get("key-marker", ""), query.get("version-id-marker", "")
    if marker[1] and not marker[0]:
        raise invalid_argument("version-id-marker", marker[1], "A version-id-marker needs a key-marker.")
    work = partial(
        service.store.list_versions,
        call.bucket or "",
        query.get("prefix", ""),
        query.get("delimiter", ""),
        marker,
        call.max_keys,
    )
    listing = await asyncio.to_thread(work) if service.store.engine.on_disk else work()
    nodes = _bounds(call, encode, truncated=listing.next is not None)
    nodes += [("KeyMarker", encode(marker[0])), ("VersionIdMarker", marker[1])]
    if listing.next is not None:
        nodes += [("NextKeyMarker", encode(listing.next[0])), ("NextVersionIdMarker", listing.next[1])]
    return xml_answer(
        "ListVersionsResult", [*nodes, *(_version_node(row, encode) for row in _objects_first(listing.rows))]
    )


def _version_node(row: VersionRow, encode: Callable[[str], str]) -> Node:
    info = row.info
    if info is None:
        return "CommonPrefixes", [("Prefix", encode(row.name))]
    nodes: list[Node] = [
        ("Key", encode(row.name)),
        ("VersionId", info.version or NULL_VERSION),
        ("IsLatest", "true" if row.is_latest else "false"),
        ("LastModified", xml_date(info.modified)),
    ]
    if info.is_marker:
        return "DeleteMarker", [*nodes, owner()]
    return "Version", [
        *nodes,
        ("ETag", f'"{info.etag}"'),
        ("Type", info.type),
        ("Size", str(info.size)),
        ("StorageClass", info.storage_class),
        owner(),
    ]


def _endpoints(service: Service) -> list[Node]:
    host = service.endpoint.partition("://")[2]
    return [("ExtranetEndpoint", host), ("IntranetEndpoint", host)]


def _bounds(call: Call, encode: Callable[[str], str], *, truncated: bool) -> list[Node]:
    """What every list repeats of the question."""
    nodes: list[Node] = [
        ("Name", call.bucket or ""),
        ("Prefix", encode(call.query.get("prefix", ""))),
        ("MaxKeys", str(call.max_keys)),
        ("Delimiter", encode(call.query.get("delimiter", ""))),
        ("IsTruncated", "true" if truncated else "false"),
    ]
    if "encoding-type" in call.query:
        nodes.append(("EncodingType", "url"))
    return nodes


def _objects_first(rows: Iterable[_Row]) -> list[_Row]:
    """Objects, then prefixes, as OSS writes them: a reader may take a run of elements for all of them."""
    return sorted(rows, key=lambda row: row.info is None)


def _rows(listing: Listing, encode: Callable[[str], str], *, with_owner: bool) -> Iterator[Node]:
    for row in _objects_first(listing.rows):
        if row.info is None:
            yield "CommonPrefixes", [("Prefix", encode(row.name))]
            continue
        contents: list[Node] = [
            ("Key", encode(row.name)),
            ("LastModified", xml_date(row.info.modified)),
            ("ETag", f'"{row.info.etag}"'),
            ("Type", row.info.type),
            ("Size", str(row.info.size)),
            ("StorageClass", row.info.storage_class),
        ]
        yield "Contents", [*contents, owner()] if with_owner else contents
