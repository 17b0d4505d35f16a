"""The table of the service's documentation (AppendObject, SealAppendObject), row by row, from both sides.

Each test is a row: what `oss-local` answers to the official SDK, which was not written here, and what becomes of it
in `Appender`. The rows are listed in docs/appending.md.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import alibabacloud_oss_v2 as oss
import pytest

import tailer.local
from tailer.appender import Appender
from tailer.core import crc64
from tailer.core.position import Position
from tailer.errors import (
    AccessDenied,
    BucketNotFound,
    CredentialsExpired,
    NotAppendable,
    ObjectFull,
    ObjectSealed,
    PositionConflict,
    ServiceError,
    UsageError,
)
from tailer.local import AccessKey
from tailer.oss.address import Endpoint
from tailer.oss.client import ServiceSettings
from tailer.oss.credentials import Credentials, StaticCredentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tailer.local import LocalServer

LIMIT = 5 * 2**30


class Service:
    """The server, asked by the SDK and written to by an `Appender`, both with the same key."""

    def __init__(self, server: LocalServer, key: AccessKey) -> None:
        self.server, self.key = server, key
        config = oss.config.load_default()
        config.credentials_provider = oss.credentials.StaticCredentialsProvider(key.id, key.secret, key.token)
        config.endpoint, config.region, config.retry_max_attempts = server.endpoint, server.region, 1
        self.sdk = oss.Client(config)

    def append(self, position: int, body: bytes, key: str = "log", **options: Any) -> oss.AppendObjectResult:
        """By the SDK."""
        return self.sdk.append_object(oss.AppendObjectRequest("bucket", key, position=position, body=body, **options))

    def head(self, key: str = "log") -> oss.HeadObjectResult:
        """By the SDK."""
        return self.sdk.head_object(oss.HeadObjectRequest("bucket", key))

    def appender(self, key: str = "log", bucket: str = "bucket", **options: Any) -> Appender:
        """By ourselves."""
        credentials = StaticCredentials(Credentials(self.key.id, self.key.secret, self.key.token))
        endpoint = Endpoint.parse(self.server.endpoint)
        settings = ServiceSettings(credentials, endpoint=endpoint, region=self.server.region)
        return Appender(f"oss://{bucket}/{key}", service=settings, patience=0.0, **options)

    def write(self, *records: bytes, key: str = "log", bucket: str = "bucket", **options: Any) -> Position:
        """All of them, each appended by itself."""
        with self.appender(key, bucket, **options) as out:
            for record in records:
                out.append(record)
            return out.position

    def content(self, key: str = "log") -> bytes:
        """What the server has."""
        return self.server.store.read("bucket", key)

    def as_key(self, *allow: str, **options: Any) -> Service:
        """The same with another key, that may do this."""
        key = AccessKey("other", "secret", allow=allow or ("full",), **options)
        self.server.authenticator.keys[key.id] = key
        return Service(self.server, key)


@pytest.fixture
def service() -> Iterator[Service]:
    """A bucket that is empty, and a key that may do everything."""
    key = AccessKey("local", "local-secret")
    with tailer.local.running(["bucket"], access_keys=[key]) as server:
        yield Service(server, key)


def refused(ask: Callable[..., object], *arguments: Any, **options: Any) -> oss.exceptions.ServiceError:
    """What the SDK raises for an answer of the service."""
    with pytest.raises(oss.exceptions.OperationError) as raised:
        ask(*arguments, **options)
    error = raised.value.unwrap()
    assert isinstance(error, oss.exceptions.ServiceError)
    return error


def position(data: bytes) -> Position:
    """Behind these bytes."""
    return Position(len(data), crc64.update(data))


# --- the position


def test_missing_and_position_0_makes_an_appendable(service: Service) -> None:
    """200, with the next position and the CRC-64 of the whole; HEAD and list say Appendable."""
    answer = service.append(0, b"one\n")
    assert (answer.status_code, answer.next_position) == (200, 4)
    assert answer.hash_crc64 == str(crc64.update(b"one\n"))
    head = service.head()
    assert (head.object_type, head.content_length, head.next_append_position) == ("Appendable", 4, 4)
    assert head.hash_crc64 == answer.hash_crc64
    assert head.etag.strip('"').endswith("00000000")
    rows = service.sdk.list_objects_v2(oss.ListObjectsV2Request("bucket")).contents
    assert [row.object_type for row in rows] == ["Appendable"]
    assert service.write(b"one\n", key="new") == position(b"one\n")
    assert service.content("new") == b"one\n"


def test_missing_and_another_position_is_a_conflict(service: Service) -> None:
    """409 with 0 as the right position, and not 404; nothing is made."""
    error = refused(service.append, 4, b"two\n")
    assert (error.status_code, error.code, error.ec) == (409, "PositionNotEqualToLength", "0026-00000016")
    assert error.headers["x-oss-next-append-position"] == "0"
    with pytest.raises(PositionConflict) as raised:
        service.write(b"two\n", expect_position=4)
    assert (raised.value.ours, raised.value.theirs) == ((4, None), (0, 0))
    assert refused(service.head).code == "NoSuchKey"


def test_appendable_and_its_length_is_appended(service: Service) -> None:
    """200, and the CRC-64 is of all bytes, those of the first append included."""
    service.append(0, b"one\n")
    answer = service.append(4, b"two\n")
    assert (answer.next_position, answer.hash_crc64) == (8, str(crc64.update(b"one\ntwo\n")))
    assert service.write(b"three\n", b"four\n") == position(b"one\ntwo\nthree\nfour\n")
    assert service.content() == b"one\ntwo\nthree\nfour\n"


@pytest.mark.parametrize("wrong", [0, 3, 5, 2**40])
def test_appendable_and_another_position_is_a_conflict(service: Service, wrong: int) -> None:
    """409 with the length in x-oss-next-append-position, whether it is more or less; nothing is added."""
    service.append(0, b"one\n")
    error = refused(service.append, wrong, b"x")
    assert (error.status_code, error.code, error.message) == (
        409,
        "PositionNotEqualToLength",
        "Position is not equal to file length",
    )
    assert error.headers["x-oss-next-append-position"] == "4"
    assert service.content() == b"one\n"

    def other_writer() -> None:
        with service.appender() as out:
            service.append(4, b"other\n")
            out.append(b"two\n")

    with pytest.raises(PositionConflict) as raised:
        other_writer()
    both = [(len(data), crc64.update(data)) for data in (b"one\n", b"one\nother\n")]
    assert [raised.value.ours, raised.value.theirs] == both
    assert service.content() == b"one\nother\n"


def test_an_empty_append_makes_or_changes_nothing(service: Service) -> None:
    """An empty Appendable, to which position 0 appends; behind that no bytes are no change."""
    assert service.append(0, b"").next_position == 0
    assert (service.head().object_type, service.head().content_length) == ("Appendable", 0)
    assert service.append(0, b"one\n").next_position == 4
    before = service.head()
    assert service.append(4, b"").next_position == 4
    assert (service.head().etag, service.head().last_modified) == (before.etag, before.last_modified)
    assert refused(service.append, 3, b"").code == "PositionNotEqualToLength"
    assert service.write(b"", key="empty") == Position()
    assert service.head("empty").object_type == "Appendable"


# --- the object


def test_not_appendable_is_refused(service: Service) -> None:
    """409 ObjectNotAppendable, whatever the position, for what PutObject made; also over an Appendable."""
    service.sdk.put_object(oss.PutObjectRequest("bucket", "log", body=b"one\n"))
    for place in (0, 4, 9):
        error = refused(service.append, place, b"x")
        assert (error.status_code, error.code, error.message) == (
            409,
            "ObjectNotAppendable",
            "The object is not appendable",
        )
    with pytest.raises(NotAppendable):
        service.write(b"x")

    def put_over() -> None:
        with service.appender("other") as out:
            out.append(b"one\n")
            service.sdk.put_object(oss.PutObjectRequest("bucket", "other", body=b"put"))
            out.append(b"two\n")

    with pytest.raises(NotAppendable):
        put_over()
    assert (service.content(), service.content("other")) == (b"one\n", b"put")
    assert service.head("other").object_type == "Normal"


def test_a_copy_of_an_appendable_is_refused(service: Service) -> None:
    """And makes nothing."""
    service.append(0, b"one\n")
    request = oss.CopyObjectRequest("bucket", "copy", source_bucket="bucket", source_key="log")
    error = refused(service.sdk.copy_object, request)
    assert (error.status_code, error.code) == (400, "OperationNotSupported")
    assert refused(service.head, "copy").code == "NoSuchKey"
    assert service.content() == b"one\n"


def test_a_deleted_object_starts_over(service: Service) -> None:
    """Position 0 makes a new one; for who was at the old one it is a conflict."""

    def start_over() -> None:
        with service.appender() as out:
            out.append(b"one\n")
            service.sdk.delete_object(oss.DeleteObjectRequest("bucket", "log"))
            assert refused(service.append, 4, b"x").headers["x-oss-next-append-position"] == "0"
            assert service.append(0, b"newer\n").next_position == 6
            out.append(b"two\n")

    with pytest.raises(PositionConflict):
        start_over()
    assert service.content() == b"newer\n"


def test_a_sealed_object_takes_nothing(service: Service) -> None:
    """SealAppendObject wants the length, too, and says the same time again; then an append is 400."""
    service.append(0, b"one\n")
    seal = oss.SealAppendObjectRequest
    assert refused(service.sdk.seal_append_object, seal("bucket", "log", position=3)).code == "PositionNotEqualToLength"
    first = service.sdk.seal_append_object(seal("bucket", "log", position=4)).sealed_time
    assert service.sdk.seal_append_object(seal("bucket", "log", position=4)).sealed_time == first
    assert service.head().sealed_time == first
    error = refused(service.append, 4, b"x")
    assert (error.status_code, error.code) == (400, "AppendSealedObjectNotAllowed")
    with pytest.raises(ObjectSealed):
        service.write(b"x")
    with service.appender("other") as out:
        out.append(b"one\n")
        out.seal()
    assert service.head("other").sealed_time is not None


def test_a_missing_bucket_is_an_error(service: Service) -> None:
    """404 NoSuchBucket."""
    request = oss.AppendObjectRequest("nothere", "log", position=0, body=b"x")
    assert refused(service.sdk.append_object, request).code == "NoSuchBucket"
    with pytest.raises(BucketNotFound):
        service.write(b"x", bucket="nothere")


# --- what goes with it


def test_metadata_is_of_the_first_append_alone(service: Service) -> None:
    """Later it is not an error, and not applied, which `Appender` says; an ACL is applied."""
    first = {
        "content_type": "text/plain",
        "cache_control": "no-cache",
        "metadata": {"source": "web"},
        "storage_class": "IA",
        "tagging": "team=a",
        "server_side_encryption": "AES256",
    }
    later = {"content_type": "text/html", "metadata": {"more": "x"}, "storage_class": "Standard", "tagging": "b=c"}
    service.append(0, b"one\n", **first)
    answer = service.append(4, b"two\n", acl="public-read", **later)
    assert answer.headers["x-oss-server-side-encryption"] == "AES256"
    head = service.head()
    assert (head.content_type, head.cache_control, head.storage_class) == ("text/plain", "no-cache", "IA")
    assert (head.metadata, head.tagging_count) == ({"source": "web"}, 1)
    assert service.sdk.get_object_acl(oss.GetObjectAclRequest("bucket", "log")).acl == "public-read"
    with pytest.warns(UserWarning, match="not applied"):
        service.write(b"three\n", content_type="text/html", metadata={"more": "x"})
    assert (service.head().content_type, service.head().metadata) == ("text/plain", {"source": "web"})


def test_custom_metadata_is_of_the_first_append_alone(service: Service) -> None:
    """x-oss-meta-*, of either writer."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        service.write(b"one\n", b"two\n", metadata={"source": "web 1"})
    service.append(8, b"three\n", metadata={"source": "other", "new": "x"})
    assert service.head().metadata == {"source": "web 1"}


@pytest.mark.parametrize(
    ("storage_class", "code"), [("Standard", None), ("IA", None), ("Archive", None), ("ColdArchive", "InvalidArgument")]
)
def test_storage_classes(service: Service, storage_class: str, code: str | None) -> None:
    """A class for cold data is refused with 400, and makes nothing."""
    if code is None:
        assert service.append(0, b"one\n", storage_class=storage_class).next_position == 4
        assert service.write(b"x", key="other", storage_class=storage_class).offset == 1
    else:
        assert refused(service.append, 0, b"one\n", storage_class=storage_class).code == code
        with pytest.raises(ServiceError, match=code):
            service.write(b"x", storage_class=storage_class)
        assert refused(service.head).code == "NoSuchKey"


def test_upload_callbacks_are_refused(service: Service) -> None:
    """At the first append and at a later one, which would else not be called back; `Appender` has no such option."""
    for place in (0, 4):
        error = refused(service.append, place, b"x", headers={"x-oss-callback": "e30="})
        assert (error.status_code, error.code) == (501, "NotImplemented")
        service.append(place, b"one\n")
    with pytest.raises(UsageError, match="no option callback"):
        service.write(b"x", callback="e30=")
    assert service.content() == b"one\none\n"


# --- who


def test_a_key_without_put_object_is_refused(service: Service) -> None:
    """403 AccessDenied, and nothing is made."""
    reader = service.as_key("read-only")
    error = refused(reader.append, 0, b"x")
    assert (error.status_code, error.code, error.ec) == (403, "AccessDenied", "0003-00000001")
    with pytest.raises(AccessDenied, match=r"oss:PutObject\)"):
        reader.write(b"x")
    assert refused(service.head).code == "NoSuchKey"


def test_a_key_that_may_only_append_cannot_look(service: Service) -> None:
    """`Appender` needs oss:GetObject as well, for the HEAD that decides, and says so."""
    writer = service.as_key("append-only")
    assert writer.append(0, b"one\n").next_position == 4
    assert refused(writer.head).code == "AccessDenied"
    with pytest.raises(AccessDenied, match="oss:GetObject"):
        writer.write(b"two\n")
    assert service.as_key("append-only", "oss:GetObject").write(b"two\n") == position(b"one\ntwo\n")


def test_tags_need_a_permission_of_their_own(service: Service) -> None:
    """oss:PutObjectTagging."""
    writer = service.as_key("append-only", "oss:GetObject")
    assert refused(writer.append, 0, b"x", tagging="a=b").ec == "0003-00000905"
    with pytest.raises(AccessDenied, match="oss:PutObjectTagging"):
        writer.write(b"x", tags={"a": "b"})
    tagger = service.as_key("append-only", "oss:GetObject", "oss:PutObjectTagging")
    assert tagger.append(0, b"x", tagging="a=b").next_position == 1
    assert tagger.write(b"x", key="other", tags={"a": "b"}).offset == 1
    assert service.head("other").tagging_count == 1


def test_a_token_that_is_over_is_refused(service: Service) -> None:
    """403 SecurityTokenExpired."""
    guest = service.as_key(token="token", expires=1.0)
    assert refused(guest.append, 0, b"x").code == "SecurityTokenExpired"
    with pytest.raises(CredentialsExpired):
        guest.write(b"x")


# --- names and lengths


@pytest.mark.parametrize("key", ["a", "a" * 1023, "日" * 341, "a//b", "a b+%25?#.log"])
def test_names(service: Service, key: str) -> None:
    """1 to 1023 bytes of UTF-8."""
    assert service.append(0, b"one\n", key=key).next_position == 4
    assert service.write(b"two\n", key=key) == position(b"one\ntwo\n")


@pytest.mark.parametrize("key", ["/a", "\\a", "a" * 1024, "日" * 342])
def test_names_that_no_object_has(service: Service, key: str) -> None:
    """400 InvalidObjectName; `Appender` does not even ask."""
    error = refused(service.append, 0, b"x", key=key)
    assert (error.status_code, error.code) == (400, "InvalidObjectName")
    with pytest.raises(UsageError):
        service.write(b"x", key=key)


def test_more_than_5_gib_is_refused(service: Service) -> None:
    """`Appender` does not send it. The limit is lowered here, once it is known to be the documented one."""
    assert service.server.store.append_limit == LIMIT
    assert tailer.append.APPEND_LIMIT == LIMIT
    service.server.store.append_limit = 10
    service.append(0, b"123456")
    error = refused(service.append, 6, b"78901")
    assert (error.status_code, error.code) == (400, "EntityTooLarge")
    with pytest.raises(ObjectFull):
        service.write(b"7890", b"1", limit=10)
    assert service.content() == b"1234567890"
