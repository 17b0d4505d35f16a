"""What the official SDKs write, and what they are told when it cannot be taken."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import crcmod
import pytest

from tailer.local import Fault
from tests.interop.conftest import (
    ALI_OSS,
    BUCKET,
    GO_1,
    GO_2,
    JAVA_1,
    JAVA_2,
    OSS2,
    OSS_V2,
    OSS_V2_ASYNC,
    SDKS,
    Place,
    assert_refused,
    only,
    place,
)

if TYPE_CHECKING:
    from tailer.local import LocalServer
    from tests.interop.conftest import Ask, Drivers, Recorder, Sdk

_crc64 = crcmod.mkCrcFun(0x142F0E1EBA9EA3693, initCrc=0, xorOut=2**64 - 1, rev=True)
"""CRC-64/XZ, which is what OSS states (OSS documentation, "CRC-64 check")."""


def test_put_makes_a_normal_object(ask: Ask, key: str, server: LocalServer) -> None:
    """The bytes are stored, the CRC-64 and the ETag are those that HEAD states."""
    put = ask("put", key=key, data=b"all of it\n")
    head = ask("head", key=key)
    assert (put.get("status", 200), put["crc64"]) == (200, _crc64(b"all of it\n"))
    assert server.store.read(BUCKET, key) == b"all of it\n"
    assert (head["length"], head["type"], head["crc64"]) == (10, "Normal", put["crc64"])
    assert head["etag"] == put["etag"]
    assert head["next_position"] is None


def test_append_at_0_makes_an_appendable_object(ask: Ask, key: str, server: LocalServer) -> None:
    """The answer and HEAD agree on the next position and on the CRC-64 of the whole object."""
    first = ask("append", key=key, position=0, data=b"one\n")
    head = ask("head", key=key)
    assert (first["status"], first["next_position"], first["crc64"]) == (200, 4, _crc64(b"one\n"))
    assert (head["type"], head["length"], head["next_position"]) == ("Appendable", 4, 4)
    assert (head["crc64"], head["etag"]) == (first["crc64"], first["etag"])
    assert server.store.read(BUCKET, key) == b"one\n"


def test_append_goes_on_at_the_next_position(ask: Ask, key: str, server: LocalServer) -> None:
    """Also with no bytes at all, which changes nothing."""
    written, position = b"", 0
    for piece in (b"one\n", b"", b"two\r\n\0\xff", b"x" * 100_000):
        answer = ask("append", key=key, position=position, data=piece)
        written += piece
        position = answer["next_position"]
        assert (position, answer["crc64"]) == (len(written), _crc64(written))
    assert server.store.read(BUCKET, key) == written
    assert ask("meta", key=key)["length"] == len(written)


@pytest.mark.parametrize("position", [0, 3, 5, 2**40])
def test_append_at_a_wrong_position_is_told_the_right_one(ask: Ask, key: str, sdk: Sdk, position: int) -> None:
    """PositionNotEqualToLength with the length in x-oss-next-append-position, which `oss2` cannot do without."""
    ask("append", key=key, position=0, data=b"four")
    refused = ask("append", key=key, position=position, data=b"five")
    assert_refused(refused, 409, "PositionNotEqualToLength")
    assert refused["request_id"]
    # The errors of these two do not carry the answer's headers.
    assert refused.get("next_position") == (None if sdk in (ALI_OSS, JAVA_1) else 4)
    assert ask("head", key=key)["length"] == 4


def test_append_behind_the_start_of_a_missing_object_is_refused(ask: Ask, key: str) -> None:
    """As PositionNotEqualToLength too, not as NoSuchKey; and nothing is made."""
    refused = ask("append", key=key, position=1, data=b"x")
    assert_refused(refused, 409, "PositionNotEqualToLength")
    assert ask("head", key=key)["error"] == "NoSuchKey"


def test_append_to_a_normal_object_is_refused(ask: Ask, key: str, server: LocalServer) -> None:
    """ObjectNotAppendable, whatever the position."""
    ask("put", key=key, data=b"normal")
    for position in (0, 6):
        refused = ask("append", key=key, position=position, data=b"more")
        assert_refused(refused, 409, "ObjectNotAppendable")
    assert server.store.read(BUCKET, key) == b"normal"


def test_delete_then_append_begins_anew(ask: Ask, key: str) -> None:
    """The name is free again, and position 0 is the right one."""
    ask("append", key=key, position=0, data=b"old")
    assert ask("delete", key=key)["status"] == 204
    assert ask("append", key=key, position=0, data=b"new!")["next_position"] == 4


@only(OSS_V2, OSS_V2_ASYNC, GO_2, JAVA_2)
def test_seal_ends_an_object(drivers: Drivers, sdk: Sdk, signature: str, server: LocalServer, key: str) -> None:
    """At the right length, once, for ever."""
    driver, at = drivers.get(sdk), Place(server, signature).at
    driver("append", at=at, key=key, position=0, data=b"the end\n")
    assert driver("seal", at=at, key=key, position=3)["error"] == "PositionNotEqualToLength"
    sealed = driver("seal", at=at, key=key, position=8)
    assert sealed["status"] == 200
    assert sealed["sealed_time"].endswith("GMT")
    assert driver("seal", at=at, key=key, position=8)["sealed_time"] == sealed["sealed_time"]
    assert driver("head", at=at, key=key)["sealed_time"] is not None
    refused = driver("append", at=at, key=key, position=8, data=b"more")
    assert_refused(refused, 400, "AppendSealedObjectNotAllowed")


@only(OSS_V2, GO_2)
def test_append_file_of_the_sdk_keeps_its_position(drivers: Drivers, sdk: Sdk, server: LocalServer, key: str) -> None:
    """The file-like writer opens an object that is there, and goes on behind it."""
    driver, at = drivers.get(sdk), Place(server).at
    assert driver("append_file", at=at, key=key, pieces=[b"one\n", b"two\n"]) == {"position": 8}
    assert driver("append_file", at=at, key=key, pieces=[b"three\n"]) == {"position": 14}
    assert server.store.read(BUCKET, key) == b"one\ntwo\nthree\n"
    assert driver("read_file", at=at, key=key, offset=4, length=5)["data"] == b"two\nt"


# --- the SDK's own check of the CRC-64


_checking = only(*(sdk for sdk in SDKS if sdk is not ALI_OSS))
"""Those that check; ali-oss looks at no CRC-64 at all."""


@_checking
def test_crc_check_of_the_sdk_is_on_and_finds_a_wrong_put(ask: Ask, key: str, server: LocalServer) -> None:
    """So every put above that passed was checked by the SDK."""
    server.faults.add(Fault("flip-crc", operation="PutObject"))
    assert ask("put", key=key, data=b"data")["error"] == "InconsistentError"


@only(OSS2, GO_1, GO_2, JAVA_1, JAVA_2)
def test_crc_check_of_the_sdk_along_a_chain_of_appends(
    drivers: Drivers, sdk: Sdk, server: LocalServer, key: str
) -> None:
    """Told the CRC-64 before, these carry it from append to append as we do; a wrong one they refuse."""
    driver, at = drivers.get(sdk), Place(server).at
    position = crc = 0
    for piece in (b"one\n", b"two\n", b"three\n"):
        answer = driver("append", at=at, key=key, position=position, data=piece, init_crc=crc)
        position, crc = answer["next_position"], answer["crc64"]
    assert (position, crc) == (14, _crc64(b"one\ntwo\nthree\n"))
    wrong = driver("append", at=at, key=key, position=position, data=b"four\n", init_crc=crc ^ 1)
    assert wrong["error"] == "InconsistentError"


@_checking
def test_crc_check_of_the_sdk_on_download(ask: Ask, key: str, server: LocalServer, sdk: Sdk) -> None:
    """A whole object into a file: right bytes pass, one flipped bit on the way does not.

    But Java SDK 2 and the stream of the asynchronous client hand it out.
    """
    ask("append", key=key, position=0, data=b"0123456789")
    assert ask("download", key=key)["data"] == b"0123456789"
    server.faults.add(Fault("flip-bit", operation="GetObject", at=4))
    spoilt = ask("download", key=key)
    if sdk in (JAVA_2, OSS_V2_ASYNC):
        assert spoilt["data"] != b"0123456789"
    else:
        assert spoilt["error"] == "InconsistentError"


# --- who asks


@pytest.mark.parametrize("addressing", ["virtual", "cname"])
def test_addressing(drivers: Drivers, sdk: Sdk, signature: str, server: LocalServer, key: str, addressing: str) -> None:
    """The bucket in the host, and a host that stands for the bucket; the path style is what all other tests use.

    In all three the signature is over ``/bucket/key``.
    """
    driver, at = drivers.get(sdk), Place(server, signature, addressing).at
    assert driver("append", at=at, key=key, position=0, data=b"abc")["next_position"] == 3
    assert driver("append", at=at, key=key, position=3, data=b"def")["next_position"] == 6
    assert driver("head", at=at, key=key)["length"] == 6
    assert driver("get", at=at, key=key, first=2, last=3)["data"] == b"cd"
    assert driver("list_v2", at=at, prefix=key)["rows"] == [[key, 6, "Appendable"]]


def test_security_token(drivers: Drivers, sdk: Sdk, signature: str, server: LocalServer, key: str) -> None:
    """With V1 alibabacloud-oss-v2 names the header ``security-token``, the others ``x-oss-security-token``."""
    driver, at = drivers.get(sdk), place(sdk, server, signature, temporary=True).at
    assert driver("append", at=at, key=key, position=0, data=b"abc")["next_position"] == 3
    assert driver("get", at=at, key=key)["data"] == b"abc"
    refused = driver("put", at={**at, "token": "another"}, key=key, data=b"")
    assert_refused(refused, 403, "InvalidSecurityToken")


def test_wrong_secret(drivers: Drivers, sdk: Sdk, signature: str, server: LocalServer, key: str) -> None:
    """SignatureDoesNotMatch, which proves that the signatures of all other tests were checked."""
    driver = drivers.get(sdk)
    refused = driver("put", at=place(sdk, server, signature, secret="wrong").at, key=key, data=b"data")
    assert_refused(refused, 403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("name", ["a b+c%2F&=?#.log", "ünï/çödé/☃.log", "twice//slashed.log", "~tilde_-.log"])
def test_key_with_characters_that_need_encoding(ask: Ask, key: str, name: str, server: LocalServer) -> None:
    """The key that the SDK means is the key that is stored, signed and found."""
    key = f"{key}/{name}"
    assert ask("append", key=key, position=0, data=b"data")["next_position"] == 4
    assert ask("get", key=key)["data"] == b"data"
    assert server.store.read(BUCKET, key) == b"data"


# --- what stands on the wire


_APPEND_QUERIES = {  # what stands where others write append=&position=0
    "aliyun-oss-go-sdk": {"append&position=0"},
    "alibabacloud-oss-go-sdk-v2": {
        "append&position=0",
        "position=0&append",
    },  # as a map of Go is ordered: each time anew
    "aliyun-sdk-oss": {"append&position=0"},
    "alibabacloud-oss-v2-java": {"position=0&append="},
}


def test_append_stands_on_the_wire(
    recorder: Recorder, drivers: Drivers, sdk: Sdk, signature: str, server: LocalServer, key: str
) -> None:
    """Most write ``append=``, and sign the bare ``append``."""
    endpoint = recorder.endpoint.replace("127.0.0.1", "oss.example") if sdk is ALI_OSS else recorder.endpoint
    at = place(sdk, server, signature, endpoint=endpoint).at
    assert drivers.get(sdk)("append", at=at, key=key, position=0, data=b"x")["next_position"] == 1
    queries = _APPEND_QUERIES.get(sdk.name, {"append=&position=0"})
    assert recorder.request_line in {f"POST /bucket/{key}?{query} HTTP/1.1" for query in queries}


def test_go_sdk_1_signs_version_4_with_the_date_of_http(
    recorder: Recorder, drivers: Drivers, server: LocalServer, key: str
) -> None:
    """Date is in its string to sign, and x-oss-date is not sent at all."""
    at = Place(server, endpoint=recorder.endpoint).at
    assert drivers.get(GO_1)("append", at=at, key=key, position=0, data=b"x")["next_position"] == 1
    assert recorder.headers["Date"].endswith(" GMT")
    assert "x-oss-date" not in {name.lower() for name in recorder.headers}


@only(OSS_V2, OSS_V2_ASYNC, GO_2)
def test_sdk_states_the_md5_of_no_body(
    recorder: Recorder, drivers: Drivers, sdk: Sdk, server: LocalServer, signature: str, key: str
) -> None:
    """Content-MD5 stands, and is signed, on a DELETE, which has no body at all."""
    at = Place(server, signature, endpoint=recorder.endpoint).at
    assert drivers.get(sdk)("delete", at=at, key=key)["status"] == 204
    headers = {name.lower(): value for name, value in recorder.headers.items()}
    assert headers["content-md5"] == base64.b64encode(hashlib.md5(b"").digest()).decode()


@only(GO_1, GO_2)
def test_go_asks_for_compression_of_all_but_a_range(
    recorder: Recorder, drivers: Drivers, sdk: Sdk, server: LocalServer, signature: str, key: str
) -> None:
    """Its HTTP library does, for both SDKs; what comes uncompressed all the same is whole."""
    driver, at = drivers.get(sdk), Place(server, signature, endpoint=recorder.endpoint).at
    driver("append", at=at, key=key, position=0, data=b"0123456789" * 500)
    for first, asked in ((None, True), (10, False)):
        recorder.heads.clear()
        assert driver("get", at=at, key=key, first=first)["data"] == (b"0123456789" * 500)[first:]
        assert (recorder.headers.get("Accept-Encoding") == "gzip") == asked


@only(OSS_V2_ASYNC)
def test_sdk_puts_in_chunks(
    recorder: Recorder, drivers: Drivers, sdk: Sdk, server: LocalServer, signature: str, key: str
) -> None:
    """The length of the body is not told before it ends."""
    at = Place(server, signature, endpoint=recorder.endpoint).at
    assert drivers.get(sdk)("put", at=at, key=key, data=b"in chunks")["crc64"] == _crc64(b"in chunks")
    assert recorder.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in recorder.headers
    assert server.store.read(BUCKET, key) == b"in chunks"


def test_ali_oss_writes_lower_case_header_names(
    recorder: Recorder, drivers: Drivers, server: LocalServer, key: str
) -> None:
    """Names of headers have no case (RFC 9110 section 5.1), also where they are signed."""
    at = Place(server, "v1", "virtual", endpoint=recorder.endpoint).at
    assert drivers.get(ALI_OSS)("append", at=at, key=key, position=0, data=b"x")["next_position"] == 1
    assert "authorization" in recorder.headers
    assert "Authorization" not in recorder.headers


def test_ali_oss_names_the_bucket_in_the_host_of_an_ip_address(
    recorder: Recorder, drivers: Drivers, server: LocalServer, key: str
) -> None:
    """It goes to the address, but asks for ``bucket.oss-REGION.aliyuncs.com`` there: virtual-hosted all the same."""
    at = Place(server, "v4", "virtual", endpoint=recorder.endpoint).at
    assert drivers.get(ALI_OSS)("append", at=at, key=key, position=0, data=b"x")["next_position"] == 1
    assert recorder.request_line == f"POST /{key}?append=&position=0 HTTP/1.1"
    assert recorder.headers["host"] == "bucket.oss-cn-local.aliyuncs.com"
