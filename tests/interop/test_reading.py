"""What the official SDKs read, list and presign; and that `oss-tail` prints what they append."""

from __future__ import annotations

import random
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.interop.conftest import (
    ALI_OSS,
    BUCKET,
    GO_2,
    JAVA_2,
    OSS_V2,
    OSS_V2_ASYNC,
    Place,
    assert_refused,
    only,
    place,
)

if TYPE_CHECKING:
    from tailer.local import LocalServer
    from tests.cli.conftest import OssTail
    from tests.interop.conftest import Ask, Drivers, Sdk

FAST = ("-s", "0.05")


# --- ranges


@pytest.mark.parametrize("standard", [False, True], ids=["default", "standard"])
@pytest.mark.parametrize(
    ("first", "last", "wanted"), [(2, 5, b"2345"), (7, None, b"789"), (None, 3, b"789"), (0, 9, b"0123456789")]
)
def test_range(ask: Ask, key: str, first: int | None, last: int | None, wanted: bytes, standard: bool) -> None:
    """A range inside the object is one in both modes; its CRC-64 is the whole object's."""
    whole = ask("append", key=key, position=0, data=b"0123456789")
    got = ask("get", key=key, first=first, last=last, standard=standard)
    start = b"0123456789".index(wanted)
    assert (got["status"], got["data"]) == (206, wanted)
    assert got["content_range"] == f"bytes {start}-{start + len(wanted) - 1}/10"
    assert got["crc64"] == whole["crc64"]


def test_range_that_ends_behind_the_object(ask: Ask, key: str) -> None:
    """By default the whole object with 200, in standard mode what there is of the range."""
    ask("append", key=key, position=0, data=b"0123456789")
    default = ask("get", key=key, first=5, last=99)
    standard = ask("get", key=key, first=5, last=99, standard=True)
    assert (default["status"], default["data"], default["content_range"]) == (200, b"0123456789", None)
    assert (standard["status"], standard["data"], standard["content_range"]) == (206, b"56789", "bytes 5-9/10")


def test_range_that_begins_behind_the_object(ask: Ask, key: str) -> None:
    """By default the whole object with 200, in standard mode 416 InvalidRange."""
    ask("append", key=key, position=0, data=b"0123456789")
    default = ask("get", key=key, first=10)
    refused = ask("get", key=key, first=10, standard=True)
    assert (default["status"], default["data"]) == (200, b"0123456789")
    assert_refused(refused, 416, "InvalidRange")


@pytest.mark.parametrize("verb", ["head", "meta", "get"])
def test_missing_object(ask: Ask, key: str, verb: str) -> None:
    """NoSuchKey, of a HEAD too, which has no body to say it in."""
    missing = ask(verb, key=key)
    assert_refused(missing, 404, "NoSuchKey")


# --- lists

_NAMES = ["\1control", "a+b", "a b", "line\nbreak", "sub/one", "sub/two", "x%2Fy", "ü"]


@pytest.mark.parametrize("version", ["list_v1", "list_v2"])
def test_list(ask: Ask, key: str, sdk: Sdk, version: str) -> None:
    """Names, sizes and types, in byte order, page by page; with a delimiter what lies below is one prefix."""
    # ali-oss asks for plain names, and XML 1.0 has no way to say a control character.
    names = [name for name in _NAMES if sdk is not ALI_OSS or "\1" not in name]
    for size, name in enumerate(names):
        ask("append", key=f"{key}/{name}", position=0, data=b"x" * size)
    expected = sorted([f"{key}/{name}", size, "Appendable"] for size, name in enumerate(names))
    rows, prefixes, pages = _all_pages(ask, version, prefix=f"{key}/", limit=3)
    assert (rows, prefixes, pages) == (expected, [], -(-len(names) // 3))
    rows, prefixes, _ = _all_pages(ask, version, prefix=f"{key}/", delimiter="/", limit=3)
    assert rows == [row for row in expected if "/sub/" not in row[0]]
    assert prefixes == [f"{key}/sub/"]


def _all_pages(ask: Ask, version: str, **query: Any) -> tuple[list[Any], list[str], int]:
    rows: list[Any] = []
    prefixes: list[str] = []
    after, pages = "", 0
    while after is not None:
        page = ask(version, after=after, **query)
        rows += page["rows"]
        prefixes += page["prefixes"]
        after, pages = page["next"], pages + 1
    return rows, prefixes, pages


# --- presigned URLs


def _presigned(drivers: Drivers, sdk: Sdk, signature: str, server: LocalServer, key: str, seconds: int = 600) -> str:
    """A URL for GET. ali-oss refuses to sign one for an IP address with V1, but not for a name of it."""
    endpoint = server.endpoint.replace("127.0.0.1", "localhost") if sdk is ALI_OSS else None
    at = Place(server, signature, endpoint=endpoint).at
    url: str = drivers.get(sdk)("presign", at=at, key=key, seconds=seconds)["url"]
    return url


def test_presigned_url_reads(
    drivers: Drivers, sdk: Sdk, signature: str, server: LocalServer, ask: Ask, key: str
) -> None:
    """By anybody, without a key; and not when a character of the signature is another."""
    ask("append", key=key, position=0, data=b"presigned\n")
    url = _presigned(drivers, sdk, signature, server, key)
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"presigned\n"
    spoilt = url.replace("Signature=", "Signature=0").replace("x-oss-signature=", "x-oss-signature=0")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(spoilt)
    with refused.value:
        assert refused.value.code == 403


def test_presigned_url_is_followed(
    drivers: Drivers, sdk: Sdk, signature: str, server: LocalServer, ask: Ask, key: str, oss_tail: OssTail
) -> None:
    """A presigned GET cannot HEAD, so `oss-tail` polls it by GET: it prints, follows and proves all the same."""
    ask("append", key=key, position=0, data=b"one\ntwo\n")
    url = _presigned(drivers, sdk, signature, server, key)
    with oss_tail.following("-F", "-n", "1", *FAST, url) as tail:
        tail.wait_for_output(b"two\n")
        ask("append", key=key, position=8, data=b"three\n")
        tail.wait_for_output(b"two\nthree\n")
        ask("append", key=key, position=14, data=b"unfinished")
        tail.wait_for_output(b"two\nthree\nunfinished")
        assert tail.stderr == ""


@only(OSS_V2, OSS_V2_ASYNC, GO_2)
def test_presigned_url_with_a_signed_range_behavior(drivers: Drivers, sdk: Sdk, server: LocalServer, key: str) -> None:
    """The newer SDKs can sign x-oss-range-behavior into the URL: whoever reads then has to send it."""
    driver, at = drivers.get(sdk), Place(server).at
    driver("append", at=at, key=key, position=0, data=b"0123456789")
    signed = driver("presign", at=at, key=key, seconds=600, standard=True)
    assert {name.lower(): value for name, value in signed["signed_headers"].items()} == {
        "x-oss-range-behavior": "standard"
    }
    request = urllib.request.Request(signed["url"], headers={"Range": "bytes=5-99", **signed["signed_headers"]})
    with urllib.request.urlopen(request) as answer:
        assert (answer.status, answer.read()) == (206, b"56789")


# --- what they append is what oss-tail prints


def test_what_the_sdk_appends_is_what_oss_tail_prints(ask: Ask, key: str, oss_tail: OssTail) -> None:
    """Byte for byte, while it is appended in pieces of any size: no newline, many, NUL, no UTF-8, a megabyte."""
    chance = random.Random(key)
    sizes = [chance.choice([0, 1, 7, 80, 1000, 20_000]) for _ in range(60)] + [1_000_000]
    written, position = b"", 0
    with oss_tail.following("-F", "-c", "+1", *FAST, f"oss://{BUCKET}/{key}") as tail:
        tail.wait_for_words("No such key")
        for size in sizes:
            piece = chance.randbytes(size).replace(b"a", b"\n")
            position = ask("append", key=key, position=position, data=piece)["next_position"]
            written += piece
        tail.wait_for_output(written)
        assert tail.stderr.splitlines() == [
            f"oss-tail: cannot open 'oss://{BUCKET}/{key}' for reading: No such key",
            f"oss-tail: 'oss://{BUCKET}/{key}' has appeared;  following new file",
        ]


@only(OSS_V2, OSS_V2_ASYNC, GO_2, JAVA_2)
def test_what_the_sdk_seals_oss_tail_ends(
    drivers: Drivers, sdk: Sdk, server: LocalServer, key: str, oss_tail: OssTail
) -> None:
    """A sealed object is end of file: all of it is printed, and the command exits 0."""
    driver, at = drivers.get(sdk), Place(server).at
    driver("append", at=at, key=key, position=0, data=b"one\n")
    with oss_tail.following("-F", *FAST, f"oss://{BUCKET}/{key}") as tail:
        tail.wait_for_output(b"one\n")
        driver("append", at=at, key=key, position=4, data=b"two")
        driver("seal", at=at, key=key, position=7)
        assert tail.end() == (0, b"one\ntwo", "")


def test_what_one_sdk_replaces_oss_tail_starts_over(ask: Ask, key: str, oss_tail: OssTail) -> None:
    """A put over an appendable object makes another object of it."""
    ask("append", key=key, position=0, data=b"appended\n")
    with oss_tail.following("-F", *FAST, f"oss://{BUCKET}/{key}") as tail:
        tail.wait_for_output(b"appended\n")
        ask("put", key=key, data=b"put over it, and longer\n")
        tail.wait_for_output(b"appended\nput over it, and longer\n")
        assert "has been replaced;  following new file" in tail.stderr


def test_sdks_take_turns(drivers: Drivers, server: LocalServer, key: str, oss_tail: OssTail) -> None:
    """Every one goes on where another stopped: position and CRC-64 mean the same to all of them."""
    position, written = 0, b""
    with oss_tail.following("-F", "-n", "+1", *FAST, f"oss://{BUCKET}/{key}") as tail:
        for turn in range(4):
            for driver in drivers.every():
                piece = f"{turn} {driver.sdk.name}\n".encode()
                at = place(driver.sdk, server, "v1" if turn % 2 else "v4").at
                position = driver("append", at=at, key=key, position=position, data=piece)["next_position"]
                written += piece
        tail.wait_for_output(written)
