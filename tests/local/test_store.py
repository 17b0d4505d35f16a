"""The rules of appending, over a real socket (OSS documentation, AppendObject, PutObject, SealAppendObject)."""

from __future__ import annotations

import base64
import hashlib
import time
from typing import TYPE_CHECKING

import crcmod
import pytest

from tailer.local import Attributes, running
from tailer.local.memory import MemoryEngine
from tailer.local.refusal import Refusal
from tailer.local.store import Store

if TYPE_CHECKING:
    from conftest import Requester

    from tailer.local.server import LocalServer

oracle = crcmod.mkCrcFun(0x142F0E1EBA9EA3693, initCrc=0, rev=True, xorOut=(1 << 64) - 1)


def test_first_append_creates_an_appendable(ask: Requester) -> None:
    """Position 0 on a missing key: 200, no body, the new length, CRC, a quoted ETag that ends in zeros."""
    reply = ask.append("log", 0, b"hello")
    assert (reply.status, reply.body, reply.position, reply.crc) == (200, b"", 5, 11177612005948864433)
    assert reply.headers["ETag"].startswith('"')
    assert reply.headers["ETag"].endswith('00000000"')
    assert "Last-Modified" not in reply.headers
    head = ask("HEAD", "log")
    assert head.headers["x-oss-object-type"] == "Appendable"
    assert head.headers["ETag"] == reply.headers["ETag"]


def test_crc_is_of_the_whole_object_after_each_append(ask: Requester) -> None:
    """Also where the sum is combined instead of computed again (bodies above 64 KiB), against another engine."""
    content = b""
    for piece in (b"hello", b" world", b"", b"x" * 70_000, bytes(range(256)) * 8192, b"\n"):
        reply = ask.append("log", len(content), piece)
        content += piece
        assert reply.status == 200
        assert (reply.position, reply.crc) == (len(content), oracle(content))
    assert ask("GET", "log").body == content


@pytest.mark.parametrize(
    ("made", "position", "expected"),
    [
        ([], 0, 200),
        ([], 1, 409),
        ([b""], 0, 200),
        ([b""], 1, 409),
        ([b"abc"], 3, 200),
        ([b"abc"], 0, 409),
        ([b"abc"], 2, 409),
        ([b"abc"], 4, 409),
        ([b"abc", b"de"], 5, 200),
        ([b"abc", b"de"], 3, 409),
        ([b"abc"], 9223372036854775807, 409),
    ],
)
def test_position_must_be_the_length(ask: Requester, made: list[bytes], position: int, expected: int) -> None:
    """Every refusal carries the length in x-oss-next-append-position; a missing key has length 0, not a 404."""
    length = 0
    for piece in made:
        ask.append("log", length, piece)
        length += len(piece)
    reply = ask.append("log", position, b"zz")
    assert reply.status == expected
    if expected == 409:
        assert (reply.code, reply.position) == ("PositionNotEqualToLength", length)
        assert reply.error["EC"] == reply.headers["x-oss-ec"] == "0026-00000016"
        assert ask("HEAD", "log").status == (200 if made else 404)


def test_empty_append_changes_nothing(ask: Requester) -> None:
    """On an existing object with the right position: 200, same length, ETag and CRC."""
    first = ask.append("log", 0, b"abc")
    again = ask.append("log", 3, b"")
    assert again.status == 200
    assert (again.position, again.crc, again.headers["ETag"]) == (3, first.crc, first.headers["ETag"])


def test_empty_append_creates_an_empty_appendable(ask: Requester) -> None:
    """CRC of nothing is 0."""
    reply = ask.append("log", 0, b"")
    assert (reply.status, reply.position, reply.crc) == (200, 0, 0)
    assert ask("HEAD", "log").headers["Content-Length"] == "0"


@pytest.mark.parametrize(
    ("query", "code", "ec"),
    [
        ("append", "MissingArgument", "0016-00000501"),
        ("append&position=", "MissingArgument", "0016-00000501"),
        ("append&position=-1", "InvalidArgument", None),
        ("append&position=abc", "InvalidArgument", None),
        ("append&position=1e3", "InvalidArgument", None),
        ("append&position=99999999999999999999999", "InvalidArgument", None),
        ("append&position=%D9%A1", "InvalidArgument", None),
    ],
)
def test_bad_position(ask: Requester, query: str, code: str, ec: str | None) -> None:
    """No position and no number are 400, and make no object."""
    reply = ask("POST", "log", query, b"x")
    assert (reply.status, reply.code, reply.headers.get("x-oss-ec")) == (400, code, ec)
    if code == "InvalidArgument":
        assert reply.error["ArgumentName"] == "position"
    assert ask("HEAD", "log").status == 404


@pytest.mark.parametrize(
    "query", ["append&position=0", "position=0&append", "position=0&append=", "append=&position=0"]
)
def test_spelling_of_the_query_does_not_matter(ask: Requester, query: str) -> None:
    """``append`` and ``append=``, in any order (one SDK sends the one, another the other)."""
    assert ask("POST", "log", query, b"x").status == 200


def test_put_turns_it_into_a_normal_object(ask: Requester) -> None:
    """After that an append is 409 ObjectNotAppendable, at any position."""
    ask.append("log", 0, b"abc")
    put = ask("PUT", "log", body=b"other")
    assert put.headers["ETag"] == f'"{hashlib.md5(b"other").hexdigest().upper()}"'
    head = ask("HEAD", "log")
    assert head.headers["x-oss-object-type"] == "Normal"
    assert "x-oss-next-append-position" not in head.headers
    for position in (0, 5, 9):
        reply = ask.append("log", position, b"x")
        assert (reply.status, reply.code) == (409, "ObjectNotAppendable")
    assert ask("GET", "log").body == b"other"


def test_delete_and_append_again_starts_over(ask: Requester) -> None:
    """A new appendable from 0, with its own metadata."""
    ask.append("log", 0, b"abc", x_oss_meta_a="1")
    assert ask("DELETE", "log").status == 204
    assert ask("DELETE", "log").status == 204
    assert ask.append("log", 3, b"x").position == 0
    assert ask.append("log", 0, b"x").position == 1
    assert "x-oss-meta-a" not in ask("HEAD", "log").headers


def test_metadata_is_of_the_first_append_alone(ask: Requester) -> None:
    """Later ones are answered with 200 and dropped, be they valid or not."""
    first = {"Content_Type": "text/plain", "Cache_Control": "no-cache", "x_oss_meta_a": "1", "x_oss_tagging": "k=v"}
    ask.append("log", 0, b"abc", **first, x_oss_storage_class="IA", x_oss_server_side_encryption="AES256")
    tags = "&".join(f"k{n}=v" for n in range(15))
    later = {"Content_Type": "text/html", "x_oss_meta_a": "2", "x_oss_meta_b": "3", "x_oss_tagging": tags}
    reply = ask.append("log", 3, b"def", **later, x_oss_storage_class="Standard")
    assert reply.status == 200
    assert reply.headers["x-oss-server-side-encryption"] == "AES256"
    headers = ask("HEAD", "log").headers
    assert headers["Content-Type"] == "text/plain"
    assert headers["Cache-Control"] == "no-cache"
    assert (headers["x-oss-meta-a"], headers.get("x-oss-meta-b")) == ("1", None)
    assert (headers["x-oss-storage-class"], headers["x-oss-tagging-count"]) == ("IA", "1")


def test_etag_is_another_one_after_each_append(ask: Requester) -> None:
    """Our choice; HEAD says the same one as the append did."""
    etags = []
    for position in range(3):
        etags.append(ask.append("log", position, b"x").headers["ETag"])
        assert ask("HEAD", "log").headers["ETag"] == etags[-1]
    assert len(set(etags)) == 3


def test_acl_of_a_later_append_is_applied(ask: Requester) -> None:
    """The one exception, also on an append of nothing."""
    ask.append("log", 0, b"abc", x_oss_object_acl="public-read-write")
    ask.append("log", 3, b"d", x_oss_object_acl="public-read")
    assert b"<Grant>public-read</Grant>" in ask("GET", "log", "acl").body
    ask.append("log", 4, b"", x_oss_object_acl="private")
    assert b"<Grant>private</Grant>" in ask("GET", "log", "acl").body


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x_oss_storage_class": "ColdArchive"}, "InvalidArgument"),
        ({"x_oss_object_acl": "everybody"}, "InvalidArgument"),
        ({"x_oss_server_side_encryption": "ROT13"}, "InvalidEncryptionAlgorithmError"),
        ({"x_oss_tagging": "&".join(f"k{n}=v" for n in range(15))}, "InvalidTag"),
        ({"x_oss_meta_a_B": "x" * 9000}, "MetadataTooLarge"),
        ({"x_oss_meta__": "x", "x_oss_meta_a.b": "y"}, "InvalidArgument"),
        ({"Content_MD5": "notbase64!"}, "InvalidDigest"),
        ({"Content_MD5": base64.b64encode(hashlib.md5(b"else").digest()).decode()}, "InvalidDigest"),
        ({"x_oss_callback": "e30="}, "NotImplemented"),
    ],
)
def test_first_append_with_a_bad_header_makes_nothing(ask: Requester, headers: dict[str, str], code: str) -> None:
    """Refused with its code, and the key is still missing."""
    reply = ask.append("log", 0, b"abc", **headers)
    assert (reply.status, reply.code) == (501 if code == "NotImplemented" else 400, code)
    assert ask("HEAD", "log").status == 404


@pytest.mark.parametrize("header", ["x_oss_callback", "x_oss_callback_var", "x_oss_copy_source"])
def test_a_later_append_is_not_exempt_from_what_is_not_served(ask: Requester, header: str) -> None:
    """A 200 would say that the callback was made; the object stays as it was."""
    ask.append("log", 0, b"abc")
    reply = ask.append("log", 3, b"more", **{header: "e30="})
    assert (reply.status, reply.code) == (501, "NotImplemented")
    assert ask("GET", "log").body == b"abc"


def test_wrong_digest_of_a_later_append_leaves_the_object(ask: Requester) -> None:
    """Nothing of the body is taken."""
    before = ask.append("log", 0, b"abc")
    digest = base64.b64encode(hashlib.md5(b"abc").digest()).decode()
    assert ask.append("log", 3, b"abd", Content_MD5=digest).code == "InvalidDigest"
    assert ask("HEAD", "log").crc == before.crc
    assert ask.append("log", 3, b"abc", Content_MD5=digest).position == 6


def test_seal(ask: Requester) -> None:
    """At the length alone; again gives the first time; then no append is taken, and HEAD and GET say so."""
    ask.append("log", 0, b"abc")
    assert ask("POST", "log", "seal&position=2").code == "PositionNotEqualToLength"
    first = ask("POST", "log", "seal&position=3")
    assert first.status == 200
    stamp = first.headers["x-oss-sealed-time"]
    assert stamp.endswith(" GMT")
    assert ask("POST", "log", "seal&position=3").headers["x-oss-sealed-time"] == stamp
    reply = ask.append("log", 3, b"x")
    assert (reply.status, reply.code) == (400, "AppendSealedObjectNotAllowed")
    assert ask("HEAD", "log").headers["x-oss-sealed-time"] == stamp
    assert ask("GET", "log", Range="bytes=1-").headers["x-oss-sealed-time"] == stamp
    assert ask("POST", "none", "seal&position=0").code == "NoSuchKey"
    ask("PUT", "put", body=b"x")
    assert ask("POST", "put", "seal&position=1").code == "ObjectNotAppendable"


def test_a_put_object_over_a_sealed_one_is_not_sealed(ask: Requester) -> None:
    """It is another object."""
    ask.append("log", 0, b"abc")
    ask("POST", "log", "seal&position=3")
    ask("PUT", "log", body=b"new")
    assert "x-oss-sealed-time" not in ask("HEAD", "log").headers


def test_size_limit(ask: Requester) -> None:
    """The total counts, and what is refused leaves the object as it was. The limit is low here."""
    with running(["demo"], append_limit=10) as server:
        limited = type(ask)(server)
        assert limited.append("log", 0, b"12345678").status == 200
        reply = limited.append("log", 8, b"abc")
        assert (reply.status, reply.code) == (400, "EntityTooLarge")
        chunked = limited("POST", "log", "append&position=8", iter([b"a", b"b", b"c"]))
        assert (chunked.status, chunked.code) == (400, "EntityTooLarge")
        assert limited.append("log", 8, b"ab").position == 10
        assert limited.append("log", 10, b"").status == 200


def test_the_limit_is_five_times_two_to_the_thirtieth() -> None:
    """5368709120 bytes are taken, one more is not."""
    store = Store(MemoryEngine())
    store.create_bucket("demo")
    assert store.check_append("demo", "log", 0, 5368709120) is None
    with pytest.raises(Refusal, match="EntityTooLarge"):
        store.check_append("demo", "log", 0, 5368709121)


def test_no_such_bucket(ask: Requester) -> None:
    """Whatever is asked of it."""
    for method, query in (("POST", "append&position=0"), ("PUT", ""), ("GET", ""), ("DELETE", "")):
        reply = ask(method, "log", query, b"" if method in ("PUT", "POST") else None, bucket="nowhere")
        assert (reply.status, reply.code) == (404, "NoSuchBucket")
        assert reply.error["BucketName"] == "nowhere"
        assert reply.headers["x-oss-ec"] == "0015-00000101"


def test_forbid_overwrite_of_put(ask: Requester) -> None:
    """409 FileAlreadyExists; the object stays."""
    assert ask("PUT", "a", body=b"1", x_oss_forbid_overwrite="true").status == 200
    assert ask("PUT", "a", body=b"2", x_oss_forbid_overwrite="true").code == "FileAlreadyExists"
    assert ask("GET", "a").body == b"1"


def test_last_modified_moves_with_each_append() -> None:
    """In whole seconds of the server's clock."""
    now = [1_700_000_000.0]
    store = Store(MemoryEngine(), clock=lambda: now[0])
    store.create_bucket("demo")
    assert store.append("demo", "log", 0, b"a").modified == now[0]
    now[0] += 5
    assert store.append("demo", "log", 1, b"b").modified == now[0]


def test_readers_keep_the_object_that_they_opened() -> None:
    """However it grows, goes or is replaced afterwards."""
    store = Store(MemoryEngine())
    store.create_bucket("demo")
    store.append("demo", "log", 0, b"abc")
    info, contents = store.open("demo", "log")
    store.append("demo", "log", 3, b"def")
    store.put("demo", "log", b"XXXXXXXXX")
    store.delete("demo", "log")
    assert (info.size, contents.read(0, 100)) == (3, b"abc")


def test_direct_use_of_the_store(server: LocalServer, ask: Requester) -> None:
    """A test can do to an object what it wants, and HTTP shows it."""
    server.store.append("demo", "log", 0, b"abc", Attributes(headers={"Content-Type": "text/plain"}))
    assert ask("GET", "log").body == server.store.read("demo", "log") == b"abc"
    assert time.time() - server.store.head("demo", "log").modified < 60
