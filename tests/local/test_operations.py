"""HEAD, GET, lists, buckets, ACL and tags, over a real socket."""

from __future__ import annotations

import base64
import gzip
import hashlib
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailer.local import running
from tailer.local.memory import MemoryEngine
from tailer.local.store import Store

if TYPE_CHECKING:
    from conftest import Requester

    from tailer.local.server import LocalServer

HUNDRED = bytes(range(100))


# --- HEAD


def test_head_of_an_appendable(ask: Requester) -> None:
    """All that the documentation lists, and no Content-MD5."""
    appended = ask.append("log", 0, HUNDRED)
    head = ask("HEAD", "log")
    assert (head.status, head.body) == (200, b"")
    expected = {
        "Content-Length": "100",
        "Content-Type": "application/octet-stream",
        "ETag": appended.headers["ETag"],
        "Accept-Ranges": "bytes",
        "x-oss-object-type": "Appendable",
        "x-oss-hash-crc64ecma": str(appended.crc),
        "x-oss-next-append-position": "100",
        "x-oss-storage-class": "Standard",
        "Server": "AliyunOSS",
        "Connection": "keep-alive",
    }
    assert {name: head.headers.get(name) for name in expected} == expected
    assert head.headers["Last-Modified"].endswith(" GMT")
    assert "Content-MD5" not in head.headers
    assert len(head.headers["x-oss-request-id"]) == 24
    assert head.headers["x-oss-server-time"].isdigit()


def test_object_meta_is_the_light_form(ask: Requester) -> None:
    """Length, ETag, Last-Modified and the CRC; neither type nor next position."""
    ask.append("log", 0, b"abc", x_oss_meta_a="1")
    meta = ask("HEAD", "log", "objectMeta")
    assert (meta.status, meta.headers["Content-Length"]) == (200, "3")
    assert meta.crc == ask("HEAD", "log").crc
    assert not {"x-oss-object-type", "x-oss-next-append-position", "x-oss-meta-a"} & set(meta.headers)


@pytest.mark.parametrize(
    ("bucket", "code", "ec"),
    [("demo", "NoSuchKey", "0026-00000001"), ("nowhere", "NoSuchBucket", "0015-00000101")],
)
def test_head_errors_are_in_headers(ask: Requester, bucket: str, code: str, ec: str) -> None:
    """No body; x-oss-err is the document in base64, x-oss-ec the EC."""
    reply = ask("HEAD", "none", bucket=bucket)
    assert (reply.status, reply.body, reply.code, reply.headers["x-oss-ec"]) == (404, b"", code, ec)
    assert reply.error["RequestId"] == reply.headers["x-oss-request-id"]
    assert int(reply.headers["Content-Length"]) == len(base64.b64decode(reply.headers["x-oss-err"]))


def test_errors_are_documents(ask: Requester) -> None:
    """Code, Message, RequestId, HostId, what they are about, EC and where to read on."""
    reply = ask("GET", "a&b<c>")
    assert reply.headers["Content-Type"] == "application/xml"
    assert reply.error["Key"] == "a&b<c>"
    assert reply.error["HostId"] == ask.server.endpoint.removeprefix("http://")
    assert reply.error["RecommendDoc"].endswith(f"q={reply.error['EC']}")


# --- ranges: default mode, standard mode


@pytest.mark.parametrize(
    ("range_", "default", "standard"),
    [
        # (first, last) of a 206, "all" for 200 and the whole object, 416
        ("bytes=0-9", (0, 9), (0, 9)),
        ("bytes=10-10", (10, 10), (10, 10)),
        ("bytes=10-99", (10, 99), (10, 99)),
        ("bytes=10-100", "all", (10, 99)),
        ("bytes=10-200", "all", (10, 99)),
        ("bytes=10-", (10, 99), (10, 99)),
        ("bytes=99-", (99, 99), (99, 99)),
        ("bytes=100-", "all", 416),
        ("bytes=100-200", "all", 416),
        ("bytes=1000-", "all", 416),
        ("bytes=-1", (99, 99), (99, 99)),
        ("bytes=-100", (0, 99), (0, 99)),
        ("bytes=-101", "all", (0, 99)),
        ("bytes=-0", "all", 416),
        ("bytes=9-5", "all", "all"),
        ("bytes=a-b", "all", "all"),
        ("bytes=-", "all", "all"),
        ("bytes=", "all", "all"),
        ("bytes 0-9", "all", "all"),
        ("lines=0-9", "all", "all"),
        ("bytes=+1-5", "all", "all"),
        ("bytes=0-4,10-14", (0, 4), (0, 4)),
        ("bytes=99999999999999999999999-", "all", 416),
    ],
)
@pytest.mark.parametrize("mode", ["default", "standard"])
def test_ranges(ask: Requester, range_: str, default: object, standard: object, mode: str) -> None:
    """Both modes of a 100-byte object; CRC, length and type are the object's, whatever part is sent."""
    crc = ask.append("log", 0, HUNDRED).crc
    expected = default if mode == "default" else standard
    headers = {"x_oss_range_behavior": "standard"} if mode == "standard" else {}
    reply = ask("GET", "log", Range=range_, **headers)
    if expected == 416:
        assert (reply.status, reply.code) == (416, "InvalidRange")
        assert reply.headers["Content-Range"] == "bytes */100"
        return
    first, last = (0, 99) if expected == "all" else expected
    assert reply.status == (200 if expected == "all" else 206)
    assert reply.body == HUNDRED[first : last + 1]
    assert reply.headers.get("Content-Range") == (None if expected == "all" else f"bytes {first}-{last}/100")
    assert reply.headers["Content-Length"] == str(len(reply.body))
    assert (reply.crc, reply.position) == (crc, 100)


def test_range_of_an_empty_object(ask: Requester) -> None:
    """Default: 200 and nothing; standard: 416."""
    ask.append("log", 0, b"")
    reply = ask("GET", "log", Range="bytes=0-")
    assert (reply.status, reply.body) == (200, b"")
    assert ask("GET", "log", Range="bytes=0-", x_oss_range_behavior="standard").status == 416


# --- conditions


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_conditions(ask: Requester, method: str) -> None:
    """304 and 412, also together with Range."""
    etag = ask.append("log", 0, b"abc").headers["ETag"]
    modified = ask.server.store.head("demo", "log").modified
    before, same, after = (formatdate(int(modified) + shift, usegmt=True) for shift in (-5, 0, 60))
    table = [
        ({"If_Match": etag}, 200),
        ({"If_Match": etag.strip('"')}, 200),
        ({"If_Match": '"other"'}, 412),
        ({"If_None_Match": etag}, 304),
        ({"If_None_Match": '"other"'}, 200),
        ({"If_Modified_Since": before}, 200),
        ({"If_Modified_Since": same}, 304),
        ({"If_Modified_Since": after}, 304),
        ({"If_Modified_Since": "yesterday"}, 200),
        ({"If_Unmodified_Since": before}, 412),
        ({"If_Unmodified_Since": same}, 200),
        ({"If_Unmodified_Since": after}, 200),
        ({"If_Match": etag, "If_None_Match": etag}, 304),
        ({"If_Modified_Since": before, "If_Unmodified_Since": after}, 200),
    ]
    assert [ask(method, "log", **headers).status for headers, _ in table] == [status for _, status in table]
    assert ask("GET", "log", If_None_Match=etag, Range="bytes=1-").status == 304
    failed = ask(method, "log", If_Match='"other"')
    assert (failed.code, failed.error["Condition"]) == ("PreconditionFailed", "If-Match")
    assert ask(method, "log", If_None_Match=etag).body == b""


def test_put_with_a_condition_is_refused(ask: Requester) -> None:
    """400 NotImplemented that names the header (OSS documentation, "Error responses")."""
    reply = ask("PUT", "log", body=b"x", If_Modified_Since=formatdate(0, usegmt=True))
    assert (reply.status, reply.code, reply.error["Header"]) == (400, "NotImplemented", "If-Modified-Since")


def test_response_overrides(ask: Requester, server: LocalServer) -> None:
    """Applied for a signed request, refused for an anonymous one."""
    ask.append("log", 0, b"abc", Content_Type="text/plain")
    query = "response-cache-control=no-store&response-content-type=text%2Fcsv"
    headers = ask("GET", "log", query).headers
    assert (headers["Content-Type"], headers["Cache-Control"]) == ("text/csv", "no-store")
    server.store.set_acl("demo", "log", "public-read")
    assert ask("GET", "log", query, sign=False).code == "InvalidRequest"


def test_uploaded_content_encoding_stays(ask: Requester) -> None:
    """Bytes come back as they were sent, whatever they claim to be."""
    packed = gzip.compress(b"hello" * 100)
    ask.append("log", 0, packed, Content_Encoding="gzip", Content_Type="text/plain")
    reply = ask("GET", "log", Accept_Encoding="gzip")
    assert (reply.body, reply.headers["Content-Encoding"]) == (packed, "gzip")


def test_archived_object_is_described_but_not_sent(ask: Requester) -> None:
    """HEAD 200, GET 403 InvalidObjectState."""
    ask("PUT", "old", body=b"x", x_oss_storage_class="Archive")
    assert ask("HEAD", "old").headers["x-oss-storage-class"] == "Archive"
    assert ask("GET", "old").code == "InvalidObjectState"


def test_traffic_limit_bounds_the_rate(ask: Requester) -> None:
    """Out of range is refused; within, the bytes are the same."""
    ask.append("log", 0, b"x" * 1000)
    assert ask("GET", "log", x_oss_traffic_limit="819200").body == b"x" * 1000
    assert ask("GET", "log", "x-oss-traffic-limit=819200").status == 200
    assert ask("GET", "log", x_oss_traffic_limit="1").code == "InvalidArgument"


# --- lists


def names(body: bytes, tag: str = "Contents/Key") -> list[str]:
    """The texts of all such elements."""
    return [node.text or "" for node in ET.fromstring(body).findall(tag)]


def test_list_v2(ask: Requester) -> None:
    """Type, size, ETag and date of each; owner only when asked for."""
    appended = ask.append("a.log", 0, b"abc")
    ask("PUT", "b.log", body=b"xy")
    root = ET.fromstring(ask("GET", None, "list-type=2").body)
    assert (root.tag, root.findtext("Name"), root.findtext("KeyCount")) == ("ListBucketResult", "demo", "2")
    assert (root.findtext("MaxKeys"), root.findtext("IsTruncated")) == ("100", "false")
    first, second = root.findall("Contents")
    assert [first.findtext(tag) for tag in ("Key", "Size", "Type", "ETag", "StorageClass")] == [
        "a.log",
        "3",
        "Appendable",
        appended.headers["ETag"],
        "Standard",
    ]
    assert (first.findtext("LastModified") or "").endswith(".000Z")
    assert second.findtext("Type") == "Normal"
    assert first.find("Owner") is None
    assert ET.fromstring(ask("GET", None, "fetch-owner=true&list-type=2").body).find("Contents/Owner/ID") is not None
    assert ET.fromstring(ask("GET", None).body).find("Contents/Owner/ID") is not None


def test_order_is_that_of_bytes(server: LocalServer, ask: Requester) -> None:
    """Not that of a language, nor of folders before files."""
    keys = ["B", "a", "a/b", "a-b", "a.b", "ä", "zz", "\U0001f600", "\uffee"]
    for key in keys:
        server.store.append("demo", key, 0, b"")
    assert names(ask("GET", None, "list-type=2").body) == sorted(keys, key=str.encode)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_pages_join_to_the_whole(server: LocalServer, ask: Requester, version: int, size: int) -> None:
    """With and without a delimiter: nothing twice, nothing left out, prefixes counted as rows."""
    keys = ["a", "a/1", "a/2", "a/b/c", "b/1", "c", "d/", "d/x", "e+f g", "é/é"]
    for key in keys:
        server.store.append("demo", key, 0, b"")
    for delimiter, expected in (("", keys), ("/", ["a", "a/", "b/", "c", "d/", "e+f g", "é/"])):
        found, token = [], ""
        for _ in range(50):
            query = "&".join(
                sorted(
                    [
                        *([f"delimiter={quote(delimiter, safe='')}"] if delimiter else []),
                        "encoding-type=url",
                        f"max-keys={size}",
                        *(["list-type=2"] if version == 2 else []),
                        *(
                            [f"{'continuation-token' if version == 2 else 'marker'}={quote(token, safe='')}"]
                            if token
                            else []
                        ),
                    ]
                )
            )
            reply = ask("GET", None, query)
            assert reply.status == 200, reply.body
            rows = names(reply.body) + names(reply.body, "CommonPrefixes/Prefix")
            found += [unquote(row) for row in rows]
            root = ET.fromstring(reply.body)
            token = unquote(root.findtext("NextContinuationToken" if version == 2 else "NextMarker") or "")
            assert len(rows) == size or root.findtext("IsTruncated") == "false"
            if not token:
                break
        assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("query", ["delimiter=%2F", "delimiter=%2F&list-type=2", "delimiter=%2F&versions"])
def test_objects_come_before_prefixes(server: LocalServer, ask: Requester, query: str) -> None:
    """Two runs of elements, as OSS writes them; Java SDK 2 keeps only the last run of objects."""
    for key in ("a", "b/1", "c"):
        server.store.append("demo", key, 0, b"")
    kinds = [node.tag for node in ET.fromstring(ask("GET", None, query).body)]
    assert [kind for kind in kinds if kind in ("Contents", "Version", "CommonPrefixes")] == [
        *["Version" if "versions" in query else "Contents"] * 2,
        "CommonPrefixes",
    ]


def test_prefix_start_after_and_marker(server: LocalServer, ask: Requester) -> None:
    """A start is not part of the list; it need not exist; a token wins over it."""
    for key in ("a", "b/1", "b/2", "b/3", "c"):
        server.store.append("demo", key, 0, b"")
    assert names(ask("GET", None, "list-type=2&prefix=b%2F").body) == ["b/1", "b/2", "b/3"]
    assert names(ask("GET", None, "list-type=2&prefix=b%2F&start-after=b%2F1").body) == ["b/2", "b/3"]
    assert names(ask("GET", None, "list-type=2&start-after=b%2F1x").body) == ["b/2", "b/3", "c"]
    assert names(ask("GET", None, "marker=b%2F3").body) == ["c"]
    shown = ask("GET", None, "delimiter=%2F&list-type=2&start-after=b%2F1").body
    assert (names(shown), names(shown, "CommonPrefixes/Prefix")) == (["c"], ["b/"])
    behind = ask("GET", None, "delimiter=%2F&list-type=2&start-after=b%2F").body
    assert (names(behind), names(behind, "CommonPrefixes/Prefix")) == (["c"], [])


@pytest.mark.parametrize(
    "query",
    [
        "list-type=2&max-keys=0",
        "list-type=2&max-keys=1001",
        "list-type=2&max-keys=x",
        "encoding-type=base64&list-type=2",
        "continuation-token=%21%21&list-type=2",
        "continuation-token=gICA&list-type=2",
    ],
)
def test_bad_list_arguments(ask: Requester, query: str) -> None:
    """400 InvalidArgument that names the argument."""
    reply = ask("GET", None, query)
    assert (reply.status, reply.code) == (400, "InvalidArgument")
    assert reply.error["ArgumentName"] in query


def test_keys_that_xml_cannot_carry(server: LocalServer, ask: Requester) -> None:
    """With encoding-type=url they come back; without, the document is at least well-formed."""
    key = "a\nb\x01<&>\r"
    server.store.append("demo", key, 0, b"")
    encoded = names(ask("GET", None, "encoding-type=url&list-type=2").body)
    assert [unquote(name) for name in encoded] == [key]
    assert names(ask("GET", None, "list-type=2").body) == ["a\nb\ufffd<&>\r"]


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.text(alphabet="ab/é", min_size=1, max_size=5).filter(lambda key: key[0] != "/"), max_size=12),
    st.sampled_from(["", "a", "a/", "b/a"]),
    st.sampled_from(["", "/", "a"]),
    st.sampled_from(["", "a", "a/", "a/b", "b"]),
    st.integers(1, 4),
)
def test_any_list_joins_to_the_whole(keys: set[str], prefix: str, delimiter: str, after: str, limit: int) -> None:
    """Pages of the store against a list made in one go, by the plain definition."""
    store = Store(MemoryEngine())
    store.create_bucket("demo")
    for key in keys:
        store.append("demo", key, 0, b"")
    expected = set()
    for key in keys:
        if key.startswith(prefix) and key.encode() > after.encode():
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            expected.add(key if cut < 0 else key[: cut + len(delimiter)])
    if delimiter and after.find(delimiter, len(prefix)) == len(after) - len(delimiter):
        expected.discard(after)
    found, position = [], after
    while True:
        page = store.list("demo", prefix, delimiter, position, limit)
        found += [row.name for row in page.rows]
        if page.next is None:
            break
        position = page.next
    assert found == sorted(expected, key=str.encode)


# --- buckets, ACL, tags, what is not there


def test_buckets(ask: Requester) -> None:
    """Made, seen, described, refused while full, removed."""
    assert ask("PUT", None, bucket="other", body=b"").status == 200
    assert ask("PUT", None, bucket="other", body=b"").status == 200
    assert names(ask("GET", None, bucket=None).body, "Buckets/Bucket/Name") == ["demo", "other"]
    page = ask("GET", None, "max-keys=1", bucket=None).body
    assert (names(page, "Buckets/Bucket/Name"), names(page, "NextMarker")) == (["demo"], ["demo"])
    info = ET.fromstring(ask("GET", None, "bucketInfo", bucket="other").body)
    assert info.findtext("Bucket/Name") == "other"
    assert info.findtext("Bucket/AccessControlList/Grant") == "private"
    assert ET.fromstring(ask("GET", None, "location", bucket="other").body).text == "oss-cn-local"
    ask("PUT", "x", bucket="other", body=b"1")
    assert ask("DELETE", None, bucket="other").code == "BucketNotEmpty"
    ask("DELETE", "x", bucket="other")
    assert ask("DELETE", None, bucket="other").status == 204
    assert ask("GET", None, bucket="other").code == "NoSuchBucket"


def test_where_a_bucket_is_and_what_is_in_it(server: LocalServer, ask: Requester) -> None:
    """By HEAD and by GetBucketStat, over more than one page of a list."""
    reply = ask("HEAD", None)
    assert (reply.status, reply.headers["x-oss-bucket-region"], reply.body) == (200, "oss-cn-local", b"")
    assert (ask("HEAD", None, bucket="nothere").status, ask("HEAD", None, sign=False).status) == (404, 403)
    for number in range(1001):
        server.store.put("demo", f"n/{number:04}", b"ab")
    ask("PUT", "cold", body=b"abc", x_oss_storage_class="IA")
    stat = {node.tag: int(node.text or "") for node in ET.fromstring(ask("GET", None, "stat").body)}
    assert (stat["Storage"], stat["ObjectCount"]) == (2005, 1002)
    assert (stat["StandardStorage"], stat["StandardObjectCount"]) == (2002, 1001)
    assert [stat[f"InfrequentAccess{what}"] for what in ("Storage", "RealStorage", "ObjectCount")] == [3, 3, 1]
    assert stat["ArchiveStorage"] == stat["DeepColdArchiveRealStorage"] == stat["ColdArchiveObjectCount"] == 0
    assert abs(stat["LastModifiedTime"] - time.time()) < 60
    assert ask("GET", None, "stat", bucket="nothere").code == "NoSuchBucket"


@pytest.mark.parametrize("name", ["ab", "-ab", "ab-", "Abc", "a_b", "a" * 64])
def test_bucket_names(ask: Requester, name: str) -> None:
    """400 InvalidBucketName."""
    assert ask("PUT", None, bucket=name, body=b"").code == "InvalidBucketName"


def test_anonymous_reads_by_acl(server: LocalServer, ask: Requester) -> None:
    """Nothing of a private bucket, whether the key is there or not; the object's ACL before the bucket's."""
    ask.append("log", 0, b"abc")
    for reply in (ask("GET", "log", sign=False), ask("HEAD", "log", sign=False), ask("GET", "none", sign=False)):
        assert (reply.status, reply.code) == (403, "AccessDenied")
    server.store.set_acl("demo", "log", "public-read")
    assert ask("GET", "log", sign=False).body == b"abc"
    assert ask("POST", "log", "append&position=3", b"x", sign=False).code == "AccessDenied"
    assert ask("GET", None, "list-type=2", sign=False).code == "AccessDenied"
    ask("PUT", None, "acl", b"", x_oss_acl="public-read")
    assert ask("GET", None, "list-type=2", sign=False).status == 200
    assert ask("GET", "none", sign=False).code == "NoSuchKey"
    server.store.set_acl("demo", "log", "private")
    assert ask("GET", "log", sign=False).code == "AccessDenied"
    ask("PUT", None, "acl", b"", x_oss_acl="public-read-write")
    assert ask("POST", "new", "append&position=0", b"x", sign=False).status == 200
    assert ask("GET", "new", "acl", sign=False).code == "AccessDenied"
    assert ask("GET", None, bucket=None, sign=False).code == "AccessDenied"


def test_object_acl_and_tags(ask: Requester) -> None:
    """Set, read, removed; bad ones refused."""
    ask.append("log", 0, b"abc", x_oss_tagging="a=1&b=%20x")
    assert names(ask("GET", "log", "tagging").body, "TagSet/Tag/Value") == ["1", " x"]
    document = b"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>"
    assert ask("PUT", "log", "tagging", document).status == 200
    assert names(ask("GET", "log", "tagging").body, "TagSet/Tag/Key") == ["k"]
    assert ask("HEAD", "log").headers["x-oss-tagging-count"] == "1"
    assert ask("DELETE", "log", "tagging").status == 204
    assert "x-oss-tagging-count" not in ask("HEAD", "log").headers
    for bad in (b"", b"<Tagging>", b"<Other/>", b"<!DOCTYPE x [<!ENTITY a 'b'>]><Tagging/>"):
        assert ask("PUT", "log", "tagging", bad).code == "MalformedXML"
    assert ask("PUT", "log", "acl", b"", x_oss_object_acl="public-read").status == 200
    assert names(ask("GET", "log", "acl").body, "AccessControlList/Grant") == ["public-read"]
    assert ask("PUT", "log", "acl", b"").code == "MissingArgument"
    assert ask("PUT", "log", "acl", b"", x_oss_object_acl="none").code == "InvalidArgument"
    assert ask("GET", "none", "tagging").code == "NoSuchKey"


def test_delete_multiple(ask: Requester) -> None:
    """Those that are there and those that are not; quietly, and with the digest checked."""
    for key in ("a", "b", "c&d"):
        ask.append(key, 0, b"x")
    body = b"".join(b"<Object><Key>%s</Key></Object>" % key for key in (b"a", b"c&amp;d", b"z"))
    body = b"<Delete>" + body + b"</Delete>"
    digest = base64.b64encode(hashlib.md5(body).digest()).decode()
    assert names(ask("POST", None, "delete", body, Content_MD5=digest).body, "Deleted/Key") == ["a", "c&d", "z"]
    assert ask("POST", None, "delete", body + b"\n", Content_MD5=digest).code == "InvalidDigest"
    quiet = b"<Delete><Quiet>true</Quiet><Object><Key>b</Key></Object></Delete>"
    assert names(ask("POST", None, "delete", quiet).body, "Deleted/Key") == []
    assert names(ask("GET", None, "list-type=2").body) == []


@pytest.mark.parametrize(
    ("method", "key", "query"),
    [
        ("PUT", "log", "uploads"),
        ("GET", "log", "acl&versionId=abc"),
        ("PUT", "log", "tagging&versionId=null"),
        ("GET", "log", "x-oss-process=image%2Fresize"),
        ("PUT", "log", "symlink"),
        ("GET", "log", "symlink"),
        ("POST", "log", "restore"),
        ("GET", None, "lifecycle"),
        ("DELETE", None, "versioning"),
        ("DELETE", None, "policy"),
        ("HEAD", None, "stat"),
        ("POST", "log", ""),
        ("POST", None, ""),
        ("OPTIONS", "log", ""),
        ("PATCH", "log", ""),
        ("GET", "log", "acl&tagging"),
    ],
)
def test_everything_else_is_not_implemented(ask: Requester, method: str, key: str | None, query: str) -> None:
    """501 and never a success for something that was not done; the object stays."""
    ask.append("log", 0, b"abc")
    reply = ask(method, key, query, b"" if method in ("POST", "PUT", "PATCH") else None)
    assert (reply.status, reply.code) == (501, "NotImplemented")
    assert ask("GET", "log").body == b"abc"


OF_OBJECTS = "asyncFetch cleanRestoredObject legalHold objectInfo retention symlink x-oss-async-process"
OF_BUCKETS = """
    accessmonitor bucketArchiveDirectRead cors dataPipeline encryption httpsConfig inventory legalHold lifecycle logging
    metadataConfiguration metadataInventoryTable metadataJournalTable metaQuery MetaQuery objectWorm overwriteConfig
    policy policyStatus publicAccessBlock quota redundancyTransition referer replication requestPayment resourceGroup
    tagging transferAcceleration userDefinedLogFieldsConfig website worm wormExtend
"""


@pytest.mark.parametrize("name", OF_OBJECTS.split())
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_no_sub_resource_of_an_object_is_taken_for_the_object(ask: Requester, method: str, name: str) -> None:
    """OSS documentation, "List of operations by function": a PUT of one would else replace the object."""
    ask.append("log", 0, b"abc")
    reply = ask(method, "log", name, b"<X/>" if method in ("PUT", "POST") else None)
    assert (reply.status, reply.code) == (501, "NotImplemented")
    assert ask("GET", "log").body == b"abc"


@pytest.mark.parametrize("name", OF_BUCKETS.split())
@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
def test_no_sub_resource_of_a_bucket_is_taken_for_the_bucket(ask: Requester, method: str, name: str) -> None:
    """A DELETE of one would else delete the bucket, which is empty here."""
    reply = ask(method, None, name, b"<X/>" if method in ("PUT", "POST") else None)
    assert (reply.status, reply.code) == (501, "NotImplemented")
    assert ask("HEAD").status == 200


@pytest.mark.parametrize("name", ["cloudboxes", "regions"])
def test_no_other_list_is_taken_for_that_of_the_buckets(ask: Requester, name: str) -> None:
    assert ask("GET", None, name, bucket=None).status == 501


def test_unknown_parameters_are_ignored(ask: Requester) -> None:
    """As the service ignores them; they are signed all the same."""
    ask.append("log", 0, b"abc")
    assert ask("GET", "log", "foo=bar&versionId=null").body == b"abc"


def test_bucket_of_another_region(ask: Requester) -> None:
    """403 AccessDenied that names the bucket and where it is."""
    with running(["demo"], elsewhere={"far-away": "oss-us-west-1.example.com"}) as server:
        reply = replace(ask, server=server)("GET", "log", bucket="far-away")
        assert (reply.status, reply.code) == (403, "AccessDenied")
        assert (reply.error["Bucket"], reply.error["Endpoint"]) == ("far-away", "oss-us-west-1.example.com")


KEYS = st.text(min_size=1, max_size=40).filter(
    lambda key: key[0] not in "/\\" and not any(0xD800 <= ord(character) <= 0xDFFF for character in key)
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(KEYS)
def test_any_key_round_trips(ask: Requester, key: str) -> None:
    """Append, GET and list agree on every name, and no other object is touched."""
    server = ask.server
    for row in server.store.list("demo").rows:
        server.store.delete("demo", row.name)
    assert ask.append(key, 0, key.encode()).status == 200
    assert ask("GET", key).body == key.encode()
    listed = names(ask("GET", None, "encoding-type=url&list-type=2").body)
    assert [unquote(name) for name in listed] == [key]
