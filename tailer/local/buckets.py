"""What can be asked of a bucket, and of the service about its buckets."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from tailer.local import attributes, xml
from tailer.local.call import Answer, Call, acl_answer, owner, xml_answer
from tailer.local.refusal import Refusal
from tailer.local.store import decode_token, encode_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tailer.local.service import Service
    from tailer.local.store import Listing
    from tailer.local.xml import Node

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
                ("CreationDate", _xml_date(info.created)),
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
    """DELETE /bucket/."""
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
        ("CreationDate", _xml_date(info.created)),
        *_endpoints(service),
        ("Location", f"oss-{service.region}"),
        ("Name", info.name),
        owner(),
        ("AccessControlList", [("Grant", info.acl)]),
        ("StorageClass", "Standard"),
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
        ("MultipartUploadCount", "0"),
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
    nodes: list[Node] = [("Marker", encode(marker)), *_bounds(call, encode, listing)]
    if listing.next is not None:
        nodes.append(("NextMarker", encode(listing.next)))
    return xml_answer("ListBucketResult", [*nodes, *_rows(listing, encode, with_owner=True)])


async def list_objects_v2(service: Service, call: Call) -> Answer:
    """GET /bucket/?list-type=2."""
    token, start = call.query.get("continuation-token"), call.query.get("start-after", "")
    listing, encode = await _page(service, call, start if token is None else decode_token(token))
    nodes: list[Node] = _bounds(call, encode, listing)
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


def _endpoints(service: Service) -> list[Node]:
    host = service.endpoint.partition("://")[2]
    return [("ExtranetEndpoint", host), ("IntranetEndpoint", host)]


def _bounds(call: Call, encode: Callable[[str], str], listing: Listing) -> list[Node]:
    """What both versions of a list repeat of the question."""
    nodes: list[Node] = [
        ("Name", call.bucket or ""),
        ("Prefix", encode(call.query.get("prefix", ""))),
        ("MaxKeys", str(call.max_keys)),
        ("Delimiter", encode(call.query.get("delimiter", ""))),
        ("IsTruncated", "false" if listing.next is None else "true"),
    ]
    if "encoding-type" in call.query:
        nodes.append(("EncodingType", "url"))
    return nodes


def _rows(listing: Listing, encode: Callable[[str], str], *, with_owner: bool) -> Iterator[Node]:
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
        yield "Contents", [*contents, owner()] if with_owner else contents


def _xml_date(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
