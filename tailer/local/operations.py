"""Which operation a request asks for: one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailer.local import buckets, copies, multipart, objects
from tailer.local.attributes import OVERRIDES
from tailer.local.auth import SUB_RESOURCES
from tailer.local.refusal import not_implemented

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tailer.local.call import Answer, Call
    from tailer.local.service import Service


@dataclass(frozen=True, slots=True)
class Operation:
    """A name, who may ask for it, and what answers it."""

    name: str
    handler: Callable[[Service, Call], Awaitable[Answer]]
    access: str
    """``read`` and ``write`` may be opened to everybody by an ACL; ``owner`` never."""


_NOT_SIGNED_BY_V1 = """
    accessmonitor bucketArchiveDirectRead cleanRestoredObject cloudboxes dataPipeline legalHold metadataConfiguration
    metadataInventoryTable metadataJournalTable MetaQuery objectInfo objectWorm overwriteConfig quota
    redundancyTransition regions retention seal symlink userDefinedLogFieldsConfig
"""
# What is missing here is taken for a parameter that OSS does not know: PUT /key?retention would replace the object.
_SUB_RESOURCES = (SUB_RESOURCES | {*_NOT_SIGNED_BY_V1.split()}) - {
    # These come along with an operation and never are one.
    "position",
    "partNumber",
    "continuation-token",
    "security-token",
    "x-oss-traffic-limit",
    "x-oss-request-payer",
    *OVERRIDES,
}

COPY = "x-oss-copy-source"
"""A header that makes a copy of a PUT."""

_OF_A_VERSION = {("GET", "object"), ("HEAD", "object"), ("DELETE", "object")}
"""What can be asked of one version of an object."""

_OPERATIONS: dict[tuple[str, str, str], Operation] = {
    (method, scope, marker): Operation(name, handler, access)
    for method, scope, marker, name, handler, access in (
        ("GET", "service", "", "ListBuckets", buckets.list_buckets, "owner"),
        ("PUT", "bucket", "", "PutBucket", buckets.put_bucket, "owner"),
        ("DELETE", "bucket", "", "DeleteBucket", buckets.delete_bucket, "owner"),
        ("PUT", "bucket", "acl", "PutBucketAcl", buckets.put_bucket_acl, "owner"),
        ("GET", "bucket", "acl", "GetBucketAcl", buckets.get_bucket_acl, "owner"),
        ("GET", "bucket", "location", "GetBucketLocation", buckets.get_bucket_location, "owner"),
        ("GET", "bucket", "bucketInfo", "GetBucketInfo", buckets.get_bucket_info, "owner"),
        ("PUT", "bucket", "versioning", "PutBucketVersioning", buckets.put_bucket_versioning, "owner"),
        ("GET", "bucket", "versioning", "GetBucketVersioning", buckets.get_bucket_versioning, "owner"),
        ("GET", "bucket", "versions", "ListObjectVersions", buckets.list_object_versions, "read"),
        ("GET", "bucket", "stat", "GetBucketStat", buckets.get_bucket_stat, "owner"),
        ("HEAD", "bucket", "", "HeadBucket", buckets.head_bucket, "owner"),
        ("GET", "bucket", "", "ListObjects", buckets.list_objects, "read"),
        ("GET", "bucket", "list-type=2", "ListObjectsV2", buckets.list_objects_v2, "read"),
        ("POST", "bucket", "delete", "DeleteMultipleObjects", objects.delete_multiple_objects, "write"),
        ("POST", "object", "append", "AppendObject", objects.append_object, "write"),
        ("POST", "object", "seal", "SealAppendObject", objects.seal_append_object, "write"),
        ("PUT", "object", COPY, "CopyObject", copies.copy_object, "write"),
        ("POST", "object", "uploads", "InitiateMultipartUpload", multipart.initiate_multipart_upload, "write"),
        ("PUT", "object", "uploadId", "UploadPart", multipart.upload_part, "write"),
        ("PUT", "object", f"uploadId {COPY}", "UploadPartCopy", multipart.upload_part_copy, "write"),
        ("POST", "object", "uploadId", "CompleteMultipartUpload", multipart.complete_multipart_upload, "write"),
        ("DELETE", "object", "uploadId", "AbortMultipartUpload", multipart.abort_multipart_upload, "write"),
        ("GET", "object", "uploadId", "ListParts", multipart.list_parts, "write"),
        ("GET", "bucket", "uploads", "ListMultipartUploads", multipart.list_multipart_uploads, "write"),
        ("PUT", "object", "", "PutObject", objects.put_object, "write"),
        ("DELETE", "object", "", "DeleteObject", objects.delete_object, "write"),
        ("HEAD", "object", "", "HeadObject", objects.head_object, "read"),
        ("HEAD", "object", "objectMeta", "GetObjectMeta", objects.get_object_meta, "read"),
        ("GET", "object", "", "GetObject", objects.get_object, "read"),
        ("PUT", "object", "acl", "PutObjectACL", objects.put_object_acl, "owner"),
        ("GET", "object", "acl", "GetObjectACL", objects.get_object_acl, "owner"),
        ("PUT", "object", "tagging", "PutObjectTagging", objects.put_object_tagging, "owner"),
        ("GET", "object", "tagging", "GetObjectTagging", objects.get_object_tagging, "owner"),
        ("DELETE", "object", "tagging", "DeleteObjectTagging", objects.delete_object_tagging, "owner"),
    )
}


def choose(
    method: str, bucket: str | None, key: str | None, query: Mapping[str, str], *, is_copy: bool = False
) -> Operation:
    """The operation that a request asks for; `is_copy` when it has the header of one. Raises NotImplemented for every
    other one.

    A parameter that OSS does not know is ignored, as there; one that it knows and this server does not
    serve makes another operation of the request, which must not look like a success.
    """
    scope = "service" if bucket is None else "bucket" if key is None else "object"
    markers = [name for name in query if name in _SUB_RESOURCES]
    if "versionId" in markers and (method, scope) in _OF_A_VERSION and set(markers) <= {"versionId", "objectMeta"}:
        markers.remove("versionId")
    if scope == "bucket" and query.get("list-type") == "2" and not markers:
        markers = ["list-type=2"]
    if is_copy and method == "PUT" and scope == "object" and markers in ([], ["uploadId"]):
        markers = [" ".join([*markers, COPY])]
    marker = markers[0] if markers else ""
    operation = _OPERATIONS.get((method, scope, marker))
    if operation is None or len(markers) > 1:
        raise not_implemented(f"{method} on {scope}" + (f" with {', '.join(markers)}" if markers else ""))
    return operation


OPERATION_NAMES = tuple(operation.name for operation in _OPERATIONS.values())
