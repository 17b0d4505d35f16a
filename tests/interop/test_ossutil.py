"""What `ossutil` 1, the official command, does against oss-local; and that `oss-tail` prints what it appends."""

from __future__ import annotations

import os
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import crcmod
import pytest

from tailer.local import Fault
from tests.interop.conftest import BUCKET, OSSUTIL, Place, demand

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailer.local import LocalServer
    from tests.cli.conftest import OssTail
    from tests.interop.conftest import Recorder

_crc64 = crcmod.mkCrcFun(0x142F0E1EBA9EA3693, initCrc=0, xorOut=2**64 - 1, rev=True)


@dataclass
class Ossutil:
    """The command, with its place in its options; what it needs of files lies in `folder`."""

    place: Place
    folder: Path

    def __call__(self, *arguments: str | Path) -> str:
        """What it prints. Fails the test when it does not end with 0."""
        ended = self.ended(*arguments)
        assert ended.returncode == 0, ended.stdout
        return ended.stdout

    def refusal(self, *arguments: str | Path) -> str:
        """The line of its error. Fails the test when it ends with 0."""
        ended = self.ended(*arguments)
        assert ended.returncode == 1
        return ended.stdout.partition("Error: ")[2]

    def ended(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Its end, whatever it is."""
        at = self.place.at
        options = {"-e": "endpoint", "-i": "id", "-k": "secret", "-t": "token", "--region": "region"}
        given = [word for option, name in options.items() if at[name] for word in (option, at[name])]
        return subprocess.run(
            [*OSSUTIL.command, *arguments, *given, "--sign-version", self.place.signature],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
        )

    def append(self, address: str, data: bytes) -> str:
        """It appends files alone."""
        file = self.file(data)
        return self("appendfromfile", file, address)

    def file(self, data: bytes) -> Path:
        """A file with these bytes."""
        path = self.folder / "piece"
        path.write_bytes(data)
        return path

    def stat(self, address: str) -> dict[str, str]:
        """What `ossutil stat` says of an object."""
        pairs = (line.partition(": ") for line in self("stat", address).splitlines() if ": " in line)
        return {name.strip(): value for name, _, value in pairs}


@pytest.fixture
def ossutil(server: LocalServer, signature: str, tmp_path: Path) -> Iterator[Ossutil]:
    """The command with each signature."""
    demand(OSSUTIL)
    yield Ossutil(Place(server, signature), tmp_path)
    server.faults.clear()


@pytest.fixture
def address(key: str) -> str:
    """An object of its own for each test."""
    return f"oss://{BUCKET}/{key}"


def test_ossutil_appends_goes_on_and_states(ossutil: Ossutil, address: str, key: str, server: LocalServer) -> None:
    """At 0, then where the object ends; `stat` shows the CRC-64 of the whole and the next position."""
    assert "the object new size is 4," in ossutil.append(address, b"one\n")
    assert "the object new size is 10," in ossutil.append(address, b"two\0\xff\n")
    written = b"one\ntwo\0\xff\n"
    stated = ossutil.stat(address)
    assert server.store.read(BUCKET, key) == written
    assert (stated["Content-Length"], stated["X-Oss-Next-Append-Position"]) == ("10", "10")
    assert (stated["X-Oss-Object-Type"], stated["X-Oss-Hash-Crc64ecma"]) == ("Appendable", str(_crc64(written)))


def test_ossutil_gives_metadata_to_the_first_append(ossutil: Ossutil, address: str) -> None:
    """A later one it refuses by itself."""
    meta = ("--meta", "x-oss-meta-author:me")
    ossutil("appendfromfile", ossutil.file(b"one\n"), address, *meta)
    assert ossutil.stat(address)["X-Oss-Meta-Author"] == "me"
    assert "not supported" in ossutil.refusal("appendfromfile", ossutil.file(b"two\n"), address, *meta)


def test_ossutil_does_not_append_to_a_normal_object(
    ossutil: Ossutil, address: str, key: str, server: LocalServer
) -> None:
    """`cp` makes one; then ObjectNotAppendable."""
    ossutil("cp", ossutil.file(b"normal"), address)
    assert ossutil.stat(address)["X-Oss-Hash-Crc64ecma"] == str(_crc64(b"normal"))
    assert "StatusCode=409, ErrorCode=ObjectNotAppendable" in ossutil.refusal(
        "appendfromfile", ossutil.file(b"more"), address
    )
    assert server.store.read(BUCKET, key) == b"normal"


def test_ossutil_is_told_of_another_writer(
    ossutil: Ossutil, address: str, key: str, server: LocalServer, recorder: Recorder
) -> None:
    """One that came between its HEAD and its append: PositionNotEqualToLength, and nothing is written over."""
    ossutil.append(address, b"one\n")

    def come_between(head: bytes) -> None:
        if head.startswith(b"POST"):
            server.store.append(BUCKET, key, 4, b"another\n")

    recorder.notice = come_between
    late = Ossutil(Place(server, ossutil.place.signature, endpoint=recorder.endpoint), ossutil.folder)
    refused = late.refusal("appendfromfile", ossutil.file(b"two\n"), address)
    assert "StatusCode=409, ErrorCode=PositionNotEqualToLength" in refused
    assert server.store.read(BUCKET, key) == b"one\nanother\n"


def test_ossutil_reads(ossutil: Ossutil, address: str) -> None:
    """`cat`, `cp`, and `cp --range` in all its forms; what reaches behind the end is the whole object."""
    ossutil.append(address, b"0123456789")
    copy = ossutil.folder / "copy"
    assert ossutil("cat", address).startswith("0123456789\n")
    ossutil("cp", address, copy)
    assert copy.read_bytes() == b"0123456789"
    for wanted, data in (("2-5", b"2345"), ("7-", b"789"), ("-3", b"789"), ("5-99", b"0123456789")):
        ossutil("cp", "-f", address, copy, f"--range={wanted}")
        assert copy.read_bytes() == data


def test_ossutil_lists(ossutil: Ossutil, address: str) -> None:
    """Names that need encoding, and a folder for what lies below."""
    names = ["a b", "ü+%2F", "sub/one", "sub/two"]
    for name in names:
        ossutil.append(f"{address}/{name}", b"data")
    everything = ossutil("ls", "-s", f"{address}/").splitlines()
    assert everything[: len(names)] == sorted(f"{address}/{name}" for name in names)
    level = ossutil("ls", "-d", "-s", f"{address}/")
    assert f"{address}/sub/\n" in level
    assert "sub/one" not in level


def test_ossutil_does_not_find_what_is_missing(ossutil: Ossutil, address: str) -> None:
    """NoSuchKey."""
    assert "StatusCode=404, ErrorCode=NoSuchKey" in ossutil.refusal("cat", address)
    assert "StatusCode=404, ErrorCode=NoSuchKey" in ossutil.refusal("stat", address, "--retry-times", "1")


def test_ossutil_presigns(ossutil: Ossutil, address: str) -> None:
    """A URL that anybody may read."""
    ossutil.append(address, b"presigned\n")
    url = ossutil("sign", address, "--timeout", "600").split()[0]
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"presigned\n"


def test_ossutil_checks_the_crc64(ossutil: Ossutil, address: str, server: LocalServer) -> None:
    """Of what it copies, both ways; its appends it does not check."""
    once = ("--retry-times", "1")
    server.faults.add(Fault("flip-crc", operation="PutObject"))
    assert "the crc of DoPutObject is inconsistent" in ossutil.refusal("cp", ossutil.file(b"normal"), address, *once)
    server.faults.clear()
    ossutil("cp", "-f", ossutil.file(b"normal"), address)
    server.faults.add(Fault("flip-bit", operation="GetObject", at=4))
    assert "is inconsistent, client" in ossutil.refusal("cp", address, ossutil.folder / "copy", *once)


def test_ossutil_with_a_security_token_and_with_a_wrong_secret(
    ossutil: Ossutil, address: str, server: LocalServer
) -> None:
    """The signatures of all tests here were checked."""
    signature = ossutil.place.signature
    temporary = Ossutil(Place(server, signature, temporary=True), ossutil.folder)
    assert "the object new size is 4," in temporary.append(address, b"one\n")
    wrong = Ossutil(Place(server, signature, secret="wrong"), ossutil.folder)
    assert "StatusCode=403, ErrorCode=SignatureDoesNotMatch" in wrong.refusal("cat", address)


def test_what_ossutil_appends_is_what_oss_tail_prints(
    ossutil: Ossutil, address: str, key: str, oss_tail: OssTail
) -> None:
    """While it appends: lines, what is no line, a megabyte."""
    pieces = [b"one\n", b"unfinished", b" line\n\0\xff", b"x" * 1_000_000, b"\nend\n"]
    with oss_tail.following("-F", "-c", "+1", "-s", "0.05", address) as tail:
        tail.wait_for_words("No such key")
        for piece in pieces:
            ossutil.append(address, piece)
        tail.wait_for_output(b"".join(pieces))
        assert "has been replaced" not in tail.stderr


def test_requests_of_ossutil_on_the_wire(ossutil: Ossutil, address: str, key: str, recorder: Recorder) -> None:
    """It looks before it appends, asks for the ACL before a `stat`, and lists by ListObjects."""
    watched = Ossutil(Place(ossutil.place.server, ossutil.place.signature, endpoint=recorder.endpoint), ossutil.folder)
    for command in ("stat", "ls"):
        ossutil.append(address, b"x")
        watched(command, address)
    watched.append(address, b"x")
    assert [head.partition(b" HTTP/1.1")[0].decode() for head in recorder.heads] == [
        f"GET /bucket/{key}?acl",
        f"HEAD /bucket/{key}",
        f"GET /bucket/?delimiter&encoding-type=url&marker&max-keys=1000&prefix={key}",
        f"HEAD /bucket/{key}?objectMeta",
        f"HEAD /bucket/{key}?objectMeta",
        f"POST /bucket/{key}?append&position=2",
    ]
