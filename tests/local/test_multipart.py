"""Uploads in parts and copies, with the official SDK, in memory and over a folder."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import alibabacloud_oss_v2 as oss
import pytest

from tailer.core import crc64
from tailer.local import running
from tailer.local.memory import MemoryUpload
from tailer.local.refusal import Refusal
from tailer.local.store import Attributes
from tailer.local.uploads import Part, Uploads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tailer.local.server import LocalServer

BUCKET, KEY = "demo", "a/größe +1.bin"
PARTS = [b"a" * 200_000, b"b" * 150_000, b"end"]


@pytest.fixture(params=["memory", "folder"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalServer]:
    with running([BUCKET, "other"], root=tmp_path / "root" if request.param == "folder" else None) as server:
        yield server


@pytest.fixture
def client(server: LocalServer) -> oss.Client:
    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider("local", "local-secret")
    config.region, config.endpoint = server.region, server.endpoint
    return oss.Client(config)


def begin(client: oss.Client, **options: object) -> str:
    request = oss.InitiateMultipartUploadRequest(bucket=BUCKET, key=KEY, **options)
    upload_id: str = client.initiate_multipart_upload(request).upload_id
    return upload_id


def send(client: oss.Client, upload_id: str, number: int, body: bytes) -> oss.UploadPart:
    request = oss.UploadPartRequest(bucket=BUCKET, key=KEY, upload_id=upload_id, part_number=number, body=body)
    done = client.upload_part(request)
    assert done.hash_crc64 == str(crc64.update(body))
    return oss.UploadPart(part_number=number, etag=done.etag)


def complete(client: oss.Client, upload_id: str, parts: list[oss.UploadPart]) -> oss.CompleteMultipartUploadResult:
    return client.complete_multipart_upload(
        oss.CompleteMultipartUploadRequest(
            bucket=BUCKET,
            key=KEY,
            upload_id=upload_id,
            complete_multipart_upload=oss.CompleteMultipartUpload(parts=parts),
        )
    )


def append(client: oss.Client, key: str, position: int, body: bytes) -> None:
    client.append_object(oss.AppendObjectRequest(bucket=BUCKET, key=key, position=position, body=body))


def copy(client: oss.Client, key: str, source: str, **options: object) -> oss.CopyObjectResult:
    return client.copy_object(oss.CopyObjectRequest(bucket=BUCKET, key=key, source_key=source, **options))


def head(client: oss.Client, key: str) -> oss.HeadObjectResult:
    return client.head_object(oss.HeadObjectRequest(bucket=BUCKET, key=key))


def refused(call: object, *arguments: object, **options: object) -> tuple[int, str]:
    with pytest.raises(oss.exceptions.OperationError) as caught:
        call(*arguments, **options)  # type: ignore[operator]
    error = caught.value.unwrap()
    assert isinstance(error, oss.exceptions.ServiceError)
    return error.status_code, error.code


def test_parts_become_an_object(server: LocalServer, client: oss.Client) -> None:
    """In the order of their numbers, however they came; a part that came twice counts once. No append goes behind."""
    append(client, KEY, 0, b"an appendable before")
    upload_id = begin(client, metadata={"who": "me"})
    send(client, upload_id, 2, b"another")
    parts = {number: send(client, upload_id, number, PARTS[number - 1]) for number in (3, 2, 1)}
    assert server.store.read(BUCKET, KEY) == b"an appendable before"
    done = complete(client, upload_id, [parts[number] for number in (1, 2, 3)])
    whole = b"".join(PARTS)
    digests = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in PARTS)
    assert done.etag == f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest().upper()}-3"'
    assert (done.key, done.hash_crc64) == (KEY, str(crc64.update(whole)))
    found = head(client, KEY)
    assert (found.object_type, found.content_length, found.metadata["who"]) == ("Multipart", len(whole), "me")
    assert server.store.read(BUCKET, KEY) == whole
    assert refused(append, client, KEY, len(whole), b"x") == (409, "ObjectNotAppendable")
    assert refused(complete, client, upload_id, [parts[1]]) == (404, "NoSuchUpload")


def test_what_cannot_be_completed_is_refused_and_can_be_completed_later(client: oss.Client) -> None:
    upload_id = begin(client)
    first, second, small, last = (
        send(client, upload_id, number, body) for number, body in enumerate([*PARTS[:2], b"small", b"last"], 1)
    )
    wrong = oss.UploadPart(part_number=1, etag=f'"{"0" * 32}"')
    missing = oss.UploadPart(part_number=7, etag=first.etag)
    assert refused(complete, client, upload_id, [first, missing]) == (400, "InvalidPart")
    assert refused(complete, client, upload_id, [wrong]) == (400, "InvalidPart")
    assert refused(complete, client, upload_id, [second, first]) == (400, "InvalidPartOrder")
    assert refused(complete, client, upload_id, []) == (400, "MalformedXML")
    assert refused(complete, client, upload_id, [first, small, last]) == (400, "EntityTooSmall")
    assert refused(send, client, upload_id, 0, b"x") == (400, "InvalidArgument")
    assert refused(send, client, upload_id, 10_001, b"x") == (400, "InvalidArgument")
    assert refused(send, client, "nothing", 1, b"x") == (404, "NoSuchUpload")
    assert complete(client, upload_id, [first, second, last]).status_code == 200


def test_a_completion_that_was_refused_leaves_the_parts_as_they_were(server: LocalServer, client: oss.Client) -> None:
    """Of many pieces each: a second try sees the same bytes."""
    upload_id = begin(client)
    bodies = [b"a" * 2_500_000, b"b" * 150_000, b"c" * 1_500_000]
    parts = oss.CompleteMultipartUpload(
        parts=[send(client, upload_id, number, body) for number, body in enumerate(bodies, 1)]
    )
    append(client, KEY, 0, b"in the way")
    request = oss.CompleteMultipartUploadRequest(
        bucket=BUCKET, key=KEY, upload_id=upload_id, complete_multipart_upload=parts, forbid_overwrite="true"
    )
    for _ in range(2):
        assert refused(client.complete_multipart_upload, request) == (409, "FileAlreadyExists")
    request.forbid_overwrite = None
    assert client.complete_multipart_upload(request).hash_crc64 == str(crc64.update(b"".join(bodies)))
    assert server.store.read(BUCKET, KEY) == b"".join(bodies)


def test_nothing_meddles_with_an_upload_that_is_being_completed() -> None:
    """Nor with one that ended; what could not be completed is there again."""
    uploads = Uploads()
    upload = uploads.begin(BUCKET, KEY, Attributes(), 0.0)
    part = Part(MemoryUpload(), "", 0.0)

    def fail() -> None:
        with uploads.completing(upload):
            with pytest.raises(Refusal, match="NoSuchUpload"):
                uploads.add(upload, 1, part)
            with pytest.raises(Refusal, match="NoSuchUpload"):
                uploads.find(BUCKET, KEY, upload.id)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    uploads.add(uploads.find(BUCKET, KEY, upload.id), 1, part)
    with uploads.completing(upload):
        assert uploads.of_bucket(BUCKET) == []
    with pytest.raises(Refusal, match="NoSuchUpload"), uploads.completing(upload):
        pytest.fail("it ended")


def test_parts_and_uploads_are_listed_and_aborted(client: oss.Client) -> None:
    ids = [begin(client) for _ in range(3)]
    for number in (1, 2, 3, 9):
        send(client, ids[0], number, b"%d" % number)
    for size in (1, 2, 100):
        pages = client.list_parts_paginator(limit=size).iter_page(
            oss.ListPartsRequest(bucket=BUCKET, key=KEY, upload_id=ids[0])
        )
        assert [part.part_number for page in pages for part in page.parts or ()] == [1, 2, 3, 9]
        uploads = client.list_multipart_uploads_paginator(limit=size).iter_page(
            oss.ListMultipartUploadsRequest(bucket=BUCKET)
        )
        assert sorted(row.upload_id for page in uploads for row in page.uploads or ()) == sorted(ids)
    folded = client.list_multipart_uploads(oss.ListMultipartUploadsRequest(bucket=BUCKET, delimiter="/"))
    assert not folded.uploads
    assert refused(client.delete_bucket, oss.DeleteBucketRequest(bucket=BUCKET)) == (409, "BucketNotEmpty")
    for upload_id in ids:
        request = oss.AbortMultipartUploadRequest(bucket=BUCKET, key=KEY, upload_id=upload_id)
        assert client.abort_multipart_upload(request).status_code == 204
        assert refused(client.abort_multipart_upload, request) == (404, "NoSuchUpload")
    assert client.delete_bucket(oss.DeleteBucketRequest(bucket=BUCKET)).status_code == 204


def test_parts_are_copied_from_an_object(server: LocalServer, client: oss.Client) -> None:
    client.put_object(oss.PutObjectRequest(bucket=BUCKET, key="source", body=PARTS[0] + PARTS[1]))
    append(client, "log", 0, b"x" * 200_000)
    upload_id = begin(client)

    def take(number: int, source: str, range_: str | None) -> oss.UploadPart:
        request = oss.UploadPartCopyRequest(
            bucket=BUCKET, key=KEY, upload_id=upload_id, part_number=number, source_key=source, source_range=range_
        )
        return oss.UploadPart(part_number=number, etag=client.upload_part_copy(request).etag)

    parts = [take(1, "source", None), take(2, "source", "bytes=5-9")]
    assert refused(take, 3, "source", "bytes=0-350000") == (400, "InvalidArgument")
    assert refused(take, 3, "log", None) == (400, "OperationNotSupported")
    assert refused(take, 3, "nothing", None) == (404, "NoSuchKey")
    complete(client, upload_id, parts)
    assert server.store.read(BUCKET, KEY) == PARTS[0] + PARTS[1] + b"aaaaa"


def test_a_copy_is_a_normal_object_with_what_was_said_of_its_source(server: LocalServer, client: oss.Client) -> None:
    client.put_object(
        oss.PutObjectRequest(bucket=BUCKET, key=KEY, body=b"one", content_type="text/plain", metadata={"a": "1"})
    )
    append(client, "log", 0, b"an appendable before")
    done = copy(client, "log", KEY)
    assert done.hash_crc64 == str(crc64.update(b"one"))
    found = head(client, "log")
    assert (found.object_type, found.content_type, found.metadata["a"]) == ("Normal", "text/plain", "1")
    assert found.etag == head(client, KEY).etag == done.etag
    copy(client, "log", KEY, metadata_directive="REPLACE", metadata={"b": "2"})
    assert head(client, "log").metadata == {"b": "2"}
    assert refused(append, client, "log", 3, b"x") == (409, "ObjectNotAppendable")
    client.copy_object(oss.CopyObjectRequest("other", "far", source_bucket=BUCKET, source_key=KEY))
    assert server.store.read("other", "far") == b"one"


def test_what_a_copy_is_refused_for(client: oss.Client) -> None:
    """OSS documentation, AppendObject: an appendable cannot be copied, but onto itself to say other things of it."""
    append(client, "log", 0, b"one")
    client.put_object(oss.PutObjectRequest(bucket=BUCKET, key=KEY, body=b"one"))
    assert refused(copy, client, "copy", "log") == (400, "OperationNotSupported")
    assert refused(copy, client, "log", "log") == (400, "OperationNotSupported")
    assert refused(copy, client, "copy", "nothing") == (404, "NoSuchKey")
    assert refused(copy, client, "log", KEY, forbid_overwrite=True) == (409, "FileAlreadyExists")
    assert refused(copy, client, "copy", KEY, if_match='"no"') == (412, "PreconditionFailed")
    assert refused(copy, client, "copy", KEY, metadata_directive="MAYBE") == (400, "InvalidArgument")
    assert refused(head, client, "copy") == (404, "NoSuchKey")
    copy(client, "log", "log", metadata_directive="REPLACE", metadata={"b": "2"})
    found = head(client, "log")
    assert (found.object_type, found.metadata, found.next_append_position) == ("Appendable", {"b": "2"}, 3)
    append(client, "log", 3, b"two")


def test_a_version_is_copied(server: LocalServer, client: oss.Client) -> None:
    server.store.set_versioning(BUCKET, "Enabled")
    first = client.put_object(oss.PutObjectRequest(bucket=BUCKET, key=KEY, body=b"first")).version_id
    client.put_object(oss.PutObjectRequest(bucket=BUCKET, key=KEY, body=b"second"))
    done = copy(client, "copy", KEY, source_version_id=first)
    assert (done.source_version_id, done.version_id) == (first, head(client, "copy").version_id)
    assert server.store.read(BUCKET, "copy") == b"first"
