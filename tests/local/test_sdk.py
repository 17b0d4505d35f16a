"""The official Python SDK against the server: a client that was not written here."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import alibabacloud_oss_v2 as oss
import pytest

if TYPE_CHECKING:
    from tailer.local.server import LocalServer


@pytest.fixture(params=["v4", "v1"])
def client(server: LocalServer, request: pytest.FixtureRequest) -> oss.Client:
    """With either signature."""
    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider("local", "local-secret")
    config.region, config.endpoint, config.signature_version = server.region, server.endpoint, request.param
    return oss.Client(config)


KEYS = ["log", "a/b c.log", "ä/+%&?#=.log", "a//b", "日本"]


@pytest.mark.parametrize("key", KEYS)
def test_append_head_get_seal(client: oss.Client, key: str) -> None:
    """Positions, CRC, type and ranges come through its own models."""
    first = client.append_object(oss.AppendObjectRequest(bucket="demo", key=key, position=0, body=b"hello "))
    second = client.append_object(
        oss.AppendObjectRequest(bucket="demo", key=key, position=first.next_position, body=io.BytesIO(b"world"))
    )
    assert (second.next_position, second.hash_crc64) == (11, "5981764153023615706")
    head = client.head_object(oss.HeadObjectRequest(bucket="demo", key=key))
    assert (head.object_type, head.content_length, head.next_append_position) == ("Appendable", 11, 11)
    part = client.get_object(
        oss.GetObjectRequest(bucket="demo", key=key, range_header="bytes=6-99", range_behavior="standard")
    )
    assert (part.status_code, part.content_range, part.body.content) == (206, "bytes 6-10/11", b"world")
    sealed = client.seal_append_object(oss.SealAppendObjectRequest(bucket="demo", key=key, position=11))
    assert sealed.sealed_time == client.head_object(oss.HeadObjectRequest(bucket="demo", key=key)).sealed_time
    with pytest.raises(oss.exceptions.OperationError, match="AppendSealedObjectNotAllowed"):
        client.append_object(oss.AppendObjectRequest(bucket="demo", key=key, position=11, body=b"x"))


def test_put_list_delete(client: oss.Client) -> None:
    """Its paginator walks all pages, in order, with keys unescaped."""
    keys = sorted([*KEYS, *(f"n/{number:03}" for number in range(25))], key=str.encode)
    for key in keys:
        client.put_object(oss.PutObjectRequest(bucket="demo", key=key, body=key.encode()))
    pages = client.list_objects_v2_paginator(limit=7).iter_page(oss.ListObjectsV2Request(bucket="demo"))
    assert [row.key for page in pages for row in page.contents or ()] == keys
    pages = client.list_objects_paginator(limit=4).iter_page(oss.ListObjectsRequest(bucket="demo", prefix="n/"))
    assert [row.key for page in pages for row in page.contents or ()] == [key for key in keys if key[:2] == "n/"]
    shown = client.list_objects_v2(oss.ListObjectsV2Request(bucket="demo", delimiter="/"))
    assert [row.prefix for row in shown.common_prefixes] == ["a/", "n/", "ä/"]
    deleted = client.delete_multiple_objects(
        oss.DeleteMultipleObjectsRequest(bucket="demo", objects=[oss.DeleteObject(key=key) for key in keys])
    )
    assert sorted((row.key for row in deleted.deleted_objects), key=str.encode) == keys
    assert not client.list_objects_v2(oss.ListObjectsV2Request(bucket="demo")).contents
    client.delete_object(oss.DeleteObjectRequest(bucket="demo", key="none"))


@pytest.mark.parametrize("key", KEYS)
def test_presigned(client: oss.Client, key: str) -> None:
    """GET by URL alone; changed, it is refused."""
    client.put_object(oss.PutObjectRequest(bucket="demo", key=key, body=b"content"))
    url = client.presign(oss.GetObjectRequest(bucket="demo", key=key)).url
    assert urllib.request.urlopen(url).read() == b"content"
    changed = url.replace("&x-oss-expires=", "&x-oss-expires=1").replace("&Expires=", "&Expires=1")
    with pytest.raises(urllib.error.HTTPError, match=r"40[03]") as refused:
        urllib.request.urlopen(changed)
    refused.value.close()


def test_errors_reach_its_exceptions(client: oss.Client) -> None:
    """Code, EC and request id, also of a HEAD."""
    with pytest.raises(oss.exceptions.OperationError) as raised:
        client.head_object(oss.HeadObjectRequest(bucket="demo", key="none"))
    cause = raised.value.unwrap()
    assert (cause.status_code, cause.code, cause.ec) == (404, "NoSuchKey", "0026-00000001")
    assert len(cause.request_id) == 24
    client.append_object(oss.AppendObjectRequest(bucket="demo", key="log", position=0, body=b"abc"))
    with pytest.raises(oss.exceptions.OperationError) as raised:
        client.append_object(oss.AppendObjectRequest(bucket="demo", key="log", position=9, body=b"x"))
    assert raised.value.unwrap().headers["x-oss-next-append-position"] == "3"


def test_buckets_acl_tags_meta(client: oss.Client) -> None:
    """What else its models read."""
    client.put_bucket(oss.PutBucketRequest(bucket="other", acl="private"))
    assert [bucket.name for bucket in client.list_buckets(oss.ListBucketsRequest()).buckets] == ["demo", "other"]
    info = client.get_bucket_info(oss.GetBucketInfoRequest(bucket="other")).bucket_info
    assert (info.name, info.location, info.acl) == ("other", "oss-cn-local", "private")
    assert client.get_bucket_location(oss.GetBucketLocationRequest(bucket="other")).location == "oss-cn-local"
    assert client.get_bucket_acl(oss.GetBucketAclRequest(bucket="other")).acl == "private"
    stat = client.get_bucket_stat(oss.GetBucketStatRequest(bucket="other"))
    assert (stat.storage, stat.object_count, stat.deep_cold_archive_real_storage) == (0, 0, 0)
    client.put_object(oss.PutObjectRequest(bucket="other", key="k", body=b"x", metadata={"a": "1"}, tagging="t=1"))
    assert client.head_object(oss.HeadObjectRequest(bucket="other", key="k")).metadata == {"a": "1"}
    client.put_object_acl(oss.PutObjectAclRequest(bucket="other", key="k", acl="public-read"))
    assert client.get_object_acl(oss.GetObjectAclRequest(bucket="other", key="k")).acl == "public-read"
    tags = oss.Tagging(tag_set=oss.TagSet(tags=[oss.Tag(key="x", value="y")]))
    client.put_object_tagging(oss.PutObjectTaggingRequest(bucket="other", key="k", tagging=tags))
    found = client.get_object_tagging(oss.GetObjectTaggingRequest(bucket="other", key="k"))
    assert [(tag.key, tag.value) for tag in found.tag_set.tags] == [("x", "y")]
    assert client.get_object_meta(oss.GetObjectMetaRequest(bucket="other", key="k")).content_length == 1
    assert client.is_object_exist("other", "k")
    assert not client.is_object_exist("other", "none")
    client.delete_object(oss.DeleteObjectRequest(bucket="other", key="k"))
    client.delete_bucket(oss.DeleteBucketRequest(bucket="other"))
    assert not client.is_bucket_exist("other")


def test_its_file_writer_and_reader(client: oss.Client) -> None:
    """Which append in their own pieces and read with ranges."""
    with client.append_file(bucket="demo", key="file") as file:
        for number in range(20):
            file.write(f"line {number}\n".encode())
    with client.open_file("demo", "file") as file:
        file.seek(7)
        assert file.read(6) == b"line 1"


def test_upload_and_download_with_its_own_checks(client: oss.Client) -> None:
    """The SDK compares CRC-64 with its own sum."""
    body = bytes(range(256)) * 2000
    client.put_object(oss.PutObjectRequest(bucket="demo", key="k", body=body))
    found = client.get_object(oss.GetObjectRequest(bucket="demo", key="k"))
    assert b"".join(found.body.iter_bytes()) == body
