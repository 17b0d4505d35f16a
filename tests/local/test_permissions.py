"""What a key may do: the words for it, and every refusal over a real socket."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tailer.local import AccessKey
from tailer.local.operations import OPERATION_NAMES
from tailer.local.permissions import ACTIONS, GRANTS, actions_of, needed, permits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Requester

    from tailer.local.server import LocalServer

WRITER, READER, TAGGER = "writer", "reader", "tagger"


@pytest.fixture
def keys(server: LocalServer) -> Iterator[LocalServer]:
    """The server with a key of each kind."""
    known = server.authenticator.keys
    before = dict(known)
    for key in (
        AccessKey(WRITER, "secret", allow=["append-only"]),
        AccessKey(READER, "secret", allow=["read-only"]),
        AccessKey(TAGGER, "secret", allow=["append-only", "oss:PutObjectTagging"]),
    ):
        known[key.id] = key
    yield server
    known.clear()
    known.update(before)


@pytest.fixture
def writer(ask: Requester, keys: LocalServer) -> Requester:
    """With a key that may append alone."""
    return replace(ask, server=keys, id=WRITER, secret="secret")


@pytest.fixture
def reader(writer: Requester) -> Requester:
    """With a key that may read alone."""
    return replace(writer, id=READER)


def test_every_operation_has_its_action() -> None:
    """So that none is decided by its name alone."""
    assert [name for name in OPERATION_NAMES if name not in ACTIONS] == []


@pytest.mark.parametrize(
    ("words", "allowed", "denied"),
    [
        (["full"], ["oss:PutObject", "oss:DeleteBucket"], []),
        (["read-only"], ["oss:GetObject", "oss:ListObjects"], ["oss:PutObject", "oss:DeleteObject"]),
        (["append-only"], ["oss:PutObject"], ["oss:GetObject", "oss:PutObjectTagging", "oss:DeleteObject"]),
        (["append-only", "oss:GetObject"], ["oss:PutObject", "oss:GetObject"], ["oss:GetObjectAcl"]),
        (["oss:*Tagging"], ["oss:PutObjectTagging"], ["oss:PutObject"]),
        ([], [], ["oss:GetObject"]),
    ],
)
def test_words(words: list[str], allowed: list[str], denied: list[str]) -> None:
    """Names for actions, actions, and patterns of them; nothing allows nothing."""
    actions = actions_of(words)
    assert [action for action in allowed if not permits(actions, action)] == []
    assert [action for action in denied if permits(actions, action)] == []


@pytest.mark.parametrize("word", ["", "read", "oss:PutObjcet", "PutObject", "oss:", "*x", "READ-ONLY"])
def test_a_word_that_allows_nothing_is_an_error(word: str) -> None:
    """A slip of the pen must not become a key that may do nothing."""
    with pytest.raises(ValueError, match="unknown permission"):
        AccessKey("id", "secret", allow=[word])


def test_a_single_word_is_not_taken_letter_by_letter() -> None:
    """Both forms are one; so are their keys."""
    assert AccessKey("id", "secret", allow="read-only") == AccessKey("id", "secret", allow=["read-only"])
    assert AccessKey("id", "secret", allow="read-only").actions == GRANTS["read-only"]


@pytest.mark.parametrize(
    ("operation", "query", "headers", "actions"),
    [
        ("AppendObject", {"append": "", "position": "0"}, {}, ["oss:PutObject"]),
        ("AppendObject", {}, {"x-oss-tagging": "a=b"}, ["oss:PutObject", "oss:PutObjectTagging"]),
        ("HeadObject", {}, {}, ["oss:GetObject"]),
        ("GetObject", {"versionId": "x"}, {}, ["oss:GetObjectVersion"]),
        ("DeleteObject", {"versionId": "x"}, {}, ["oss:DeleteObjectVersion"]),
        ("GetObjectACL", {"versionId": "x"}, {}, ["oss:GetObjectVersionAcl"]),
        ("GetObject", {}, {"x-oss-tagging": "a=b"}, ["oss:GetObject"]),
        ("CopyObject", {}, {"x-oss-copy-source": "/b/k"}, ["oss:PutObject", "oss:GetObject"]),
        (
            "CopyObject",
            {},
            {"x-oss-copy-source": "/b/k?versionId=1", "x-oss-tagging": ""},
            ["oss:PutObject", "oss:GetObjectVersion", "oss:PutObjectTagging"],
        ),
    ],
)
def test_actions_of_a_request(
    operation: str, query: dict[str, str], headers: dict[str, str], actions: list[str]
) -> None:
    """The page of each operation in the OSS documentation, "Permissions"."""
    assert needed(operation, query, headers) == actions


# --- over the socket


def test_a_writer_appends_and_reads_nothing(writer: Requester) -> None:
    """The position comes with the answer; HEAD is refused like every other read."""
    assert writer.append("log", 0, b"one").position == 3
    assert writer("PUT", "other", body=b"x").status == 200
    for method, key, query in [
        ("GET", "log", ""),
        ("HEAD", "log", ""),
        ("HEAD", "log", "objectMeta"),
        ("GET", None, "list-type=2"),
        ("GET", "log", "acl"),
        ("DELETE", "log", ""),
        ("POST", "log", "seal&position=3"),
        ("PUT", None, "acl"),
    ]:
        reply = writer(method, key, query)
        assert (reply.status, reply.code) == (403, "AccessDenied"), (method, key, query)
    assert writer.append("log", 3, b"two").position == 6


def test_a_reader_reads_and_appends_nothing(ask: Requester, reader: Requester) -> None:
    """Nothing of what it sends is kept."""
    ask.append("log", 0, b"one")
    assert reader("GET", "log").body == b"one"
    assert reader("HEAD", "log").position == 3
    assert reader("GET", None, "list-type=2").status == 200
    assert reader("GET", None, bucket=None).status == 200
    for reply in (reader.append("log", 3, b"two"), reader.append("new", 0, b"x"), reader("DELETE", "log")):
        assert (reply.status, reply.code) == (403, "AccessDenied")
    assert ask("HEAD", "log").position == 3
    assert ask("HEAD", "new").code == "NoSuchKey"


def test_a_refused_append_is_the_services_document(reader: Requester) -> None:
    """All that it has, and which action was lacking."""
    reply = reader.append("log", 0, b"x")
    assert (reply.status, reply.headers["Content-Type"]) == (403, "application/xml")
    assert reply.error | {"RequestId": "", "HostId": "", "AccessDeniedDetail": ""} == {
        "Code": "AccessDenied",
        "Message": "You have no right to access this object because of bucket acl.",
        "RequestId": "",
        "HostId": "",
        "AccessDeniedDetail": "",
        "Bucket": "demo",
        "EC": "0003-00000001",
        "RecommendDoc": "https://api.aliyun.com/troubleshoot?q=0003-00000001",
    }
    assert reply.headers["x-oss-ec"] == "0003-00000001"
    detail = ET.fromstring(reply.body).find("AccessDeniedDetail")
    assert detail is not None
    assert {node.tag: node.text for node in detail} == {
        "PolicyType": "AccountLevelIdentityBasedPolicy",
        "AuthPrincipalType": "SubUser",
        "AuthPrincipalDisplayName": READER,
        "NoPermissionType": "ImplicitDeny",
        "AuthAction": "oss:PutObject",
    }


def test_a_refused_head_has_no_body(writer: Requester) -> None:
    """Its document is in x-oss-err."""
    reply = writer("HEAD", "log")
    assert (reply.status, reply.code, reply.body) == (403, "AccessDenied", b"")
    assert reply.headers["x-oss-ec"] == "0003-00000001"


def test_tags_need_their_own_permission(ask: Requester, writer: Requester, keys: LocalServer) -> None:
    """Of the first append and of a later one, where they would be ignored; nothing is appended without it."""
    reply = writer.append("log", 0, b"one", x_oss_tagging="a=b")
    assert (reply.status, reply.code, reply.error["EC"]) == (403, "AccessDenied", "0003-00000905")
    assert ask("HEAD", "log").code == "NoSuchKey"
    tagger = replace(writer, id=TAGGER)
    assert tagger.append("log", 0, b"one", x_oss_tagging="a=b").position == 3
    assert keys.store.head("demo", "log").tags == (("a", "b"),)
    assert writer.append("log", 3, b"two", x_oss_tagging="a=b").code == "AccessDenied"
    assert writer.append("log", 3, b"two").position == 6


def test_what_is_open_to_everybody_is_open_to_every_key(
    ask: Requester, writer: Requester, reader: Requester, keys: LocalServer
) -> None:
    """Objects and lists, but nothing that belongs to the owner."""
    ask.append("log", 0, b"one")
    keys.store.create_bucket("demo", "public-read")
    assert writer("GET", "log").body == b"one"
    assert writer("GET", "log", "response-expires=x").headers["Expires"] == "x"
    assert writer("GET", None).status == 200
    assert reader.append("log", 3, b"x").code == "AccessDenied"
    keys.store.create_bucket("demo", "public-read-write")
    assert reader.append("log", 3, b"two").position == 6
    reply = reader.append("log", 6, b"x", x_oss_tagging="a=b")
    assert (reply.code, reply.error["EC"]) == ("AccessDenied", "0003-00000905")
    assert reader("PUT", "log", "acl", x_oss_object_acl="private").code == "AccessDenied"
    assert writer("GET", None, bucket=None).error["Message"] == "You are forbidden to list buckets."
    assert writer("GET", None, "bucketInfo").error["Message"] == "The bucket you access does not belong to you."


def test_a_missing_bucket_is_missing_for_every_key(writer: Requester) -> None:
    """As for one without permissions."""
    assert writer("GET", "log", bucket="nothere").code == "NoSuchBucket"
    assert writer("PUT", None, bucket="new-one").code == "AccessDenied"
