"""What `ossfs`, the file system of fsspec, does against oss-local; and that `oss-tail` prints what it appends."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from tailer.local import Fault
from tests.interop.conftest import BUCKET, OSSFS, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailer.local import LocalServer
    from tests.cli.conftest import OssTail
    from tests.interop.conftest import Ask, Drivers, Recorder


@pytest.fixture
def system(drivers: Drivers, server: LocalServer) -> Iterator[Ask]:
    """The file system, which signs with version 1 alone."""
    yield partial(drivers.get(OSSFS), at=Place(server, "v1").at)
    server.faults.clear()


def test_ossfs_appends_at_a_position(system: Ask, key: str, server: LocalServer) -> None:
    """At 0, at the next one; at a wrong one, and to a Normal object, not."""
    assert system("append", key=key, position=0, data=b"one\n") == {"next_position": 4}
    assert system("append", key=key, position=4, data=b"two\n") == {"next_position": 8}
    refused = system("append", key=key, position=4, data=b"late\n")
    assert (refused["error"], refused["status"], refused["code"]) == ("OSError", 409, "PositionNotEqualToLength")
    assert server.store.read(BUCKET, key) == b"one\ntwo\n"
    system("put", key=key, data=b"normal")
    refused = system("append", key=key, position=6, data=b"more")
    assert (refused["error"], refused["status"], refused["code"]) == ("OSError", 409, "ObjectNotAppendable")
    assert server.store.read(BUCKET, key) == b"normal"


def test_ossfs_opens_to_append(system: Ask, key: str, server: LocalServer) -> None:
    """Its file begins where the object ends."""
    pieces = [b"a" * 1500, b"b" * 2500, b"end\n"]
    for _ in range(2):
        assert system("write", key=key, mode="ab", pieces=pieces) == {}
    assert server.store.read(BUCKET, key) == b"".join(pieces) * 2
    assert system("info", key=key) == {"length": 8008, "type": "file"}


def test_ossfs_appends_one_block_of_an_opened_file(system: Ask, key: str, server: LocalServer) -> None:
    """It counts what it writes twice, so that its second append is at a wrong position, and refused."""
    refused = system("write", key=key, mode="ab", pieces=[b"a" * 1500, b"b" * 2500], block=1000)
    assert (refused["error"], refused["code"]) == ("OSError", "PositionNotEqualToLength")
    assert server.store.read(BUCKET, key) == b"a" * 1500


def test_ossfs_opens_to_write(system: Ask, key: str, server: LocalServer) -> None:
    """Which deletes the object, and appends to the new one."""
    for data in (b"the first\n", b"anew\n"):
        system("write", key=key, mode="wb", pieces=[data])
        found = server.store.find(BUCKET, key)
        assert found is not None
        assert (server.store.read(BUCKET, key), found.type) == (data, "Appendable")


def test_ossfs_reads(system: Ask, key: str) -> None:
    """The whole, a range whose end it takes for inclusive, and from its file."""
    system("append", key=key, position=0, data=b"0123456789")
    assert system("cat", key=key)["data"] == b"0123456789"
    assert system("cat", key=key, first=2, last=5)["data"] == b"2345"
    assert system("cat", key=key, first=7)["data"] == b"789"
    assert system("read", key=key, offset=4, length=3)["data"] == b"456"
    assert system("read", key=key, offset=8, length=99)["data"] == b"89"


def test_ossfs_does_not_find_what_is_missing(system: Ask, key: str) -> None:
    """As a file system does not."""
    for verb in ("cat", "info"):
        assert system(verb, key=key)["error"] == "FileNotFoundError"


def test_ossfs_lists(system: Ask, key: str) -> None:
    """Names that need encoding; one level, and all that is below."""
    names = ["a b", "sub/one", "sub/two", "ü+%2F"]
    for name in names:
        system("append", key=f"{key}/{name}", position=0, data=b"data")
    folder = f"{BUCKET}/{key}"
    files = [[f"{folder}/{name}", "file", 4] for name in names if "sub" not in name]
    rows = [[name.rstrip("/"), kind, size] for name, kind, size in system("ls", prefix=key)["rows"]]
    assert rows == sorted([*files, [f"{folder}/sub", "directory", 0]])
    assert sorted(system("find", prefix=key)["names"]) == sorted(f"{folder}/{name}" for name in names)


def test_ossfs_checks_the_crc64(system: Ask, key: str, server: LocalServer) -> None:
    """Of what it puts; of what it reads a flipped bit is handed out."""
    server.faults.add(Fault("flip-crc", operation="PutObject"))
    assert system("put", key=key, data=b"data")["error"] == "OSError"
    server.faults.clear()
    system("put", key=key, data=b"data")
    server.faults.add(Fault("flip-bit", operation="GetObject", at=2))
    assert system("cat", key=key)["data"] != b"data"


def test_ossfs_with_a_security_token_and_with_a_wrong_secret(
    system: Ask, drivers: Drivers, server: LocalServer, key: str
) -> None:
    """The signatures of all tests here were checked."""
    driver = drivers.get(OSSFS)
    temporary = Place(server, "v1", temporary=True).at
    assert driver("append", at=temporary, key=key, position=0, data=b"abc") == {"next_position": 3}
    refused = driver("cat", at=Place(server, "v1", secret="wrong").at, key=key)
    assert (refused["status"], refused["code"]) == (403, "SignatureDoesNotMatch")


def test_what_ossfs_appends_is_what_oss_tail_prints(system: Ask, key: str, oss_tail: OssTail) -> None:
    """While it appends, by position and by its file: lines, what is no line, a megabyte."""
    written = b"one\nunfinished"
    with oss_tail.following("-F", "-c", "+1", "-s", "0.05", f"oss://{BUCKET}/{key}") as tail:
        tail.wait_for_words("No such key")
        system("append", key=key, position=0, data=written)
        for piece in (b" line\n\0\xff", b"x" * 1_000_000, b"\nend\n"):
            system("write", key=key, mode="ab", pieces=[piece])
            written += piece
        tail.wait_for_output(written)
        assert "has been replaced" not in tail.stderr


def test_requests_of_ossfs_on_the_wire(drivers: Drivers, server: LocalServer, key: str, recorder: Recorder) -> None:
    """To append it learns the length from a list; an opened file is read in ranges of standard mode."""

    def sent(verb: str, **arguments: Any) -> list[str]:
        recorder.heads.clear()
        drivers.get(OSSFS)(verb, at=Place(server, "v1", endpoint=recorder.endpoint).at, key=key, **arguments)
        return [head.partition(b" HTTP/1.1")[0].decode() for head in recorder.heads]

    sent("append", position=0, data=b"0123456789")
    # Of a list the first page: how many there are depends on the tests before.
    asked = [line for line in sent("write", mode="ab", pieces=[b"x"]) if "marker=test_" not in line]
    assert asked == [
        "GET /bucket/?bucketInfo=",
        f"HEAD /bucket/{key}?objectMeta=",
        "GET /bucket/?prefix=&delimiter=%2F&marker=&max-keys=100&encoding-type=url",
        f"POST /bucket/{key}?append=&position=10",
    ]
    sent("read", offset=2, length=1)
    assert b"x-oss-range-behavior: standard" in recorder.heads[-1]
