"""Following, with the real command against a real server. No test sleeps: each waits for what it expects to see.

The scenes are those of coreutils' tests/tail/*.sh that mean something for an object, restated.
"""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import resource
import signal
import socket
import subprocess
import threading
import urllib.request
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from tailer.core import crc64
from tailer.local import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from tailer.core.position import ObjectRef, Window
    from tailer.core.ranges import ByteRange
    from tests.cli.conftest import OssTail

FAST = ("-s", "0.05")


def test_growth_is_printed(oss_tail: OssTail) -> None:
    """The initial output is there before anything is waited for, and what is appended comes after it."""
    address = oss_tail.append("grows", b"a\nb\n")
    with oss_tail.following("-f", "-n", "1", *FAST, address) as tail:
        tail.wait_for_output(b"b\n")
        oss_tail.append("grows", b"c\nunfinished")
        tail.wait_for_output(b"b\nc\nunfinished")
        oss_tail.append("grows", b" line\n")
        tail.wait_for_output(b"b\nc\nunfinished line\n")


@pytest.mark.parametrize(
    "options", [("-c", "+1"), ("-n", "+1", "--poll", "get"), ("--integrity", "strict", "-c", "+1")]
)
def test_nothing_is_lost_while_it_starts(oss_tail: OssTail, options: tuple[str, ...]) -> None:
    """Bytes appended between the first answer and the first poll, and all through, come once and in order."""
    key = f"race{'-'.join(options)}"
    address = oss_tail.append(key, b"0\n")
    written = threading.Event()

    def write() -> None:
        for number in range(1, 1500):
            oss_tail.append(key, b"%d\n" % number)
        written.set()

    writer = threading.Thread(target=write)
    with oss_tail.following("-f", *options, *FAST, address) as tail:
        writer.start()
        writer.join()
        assert written.is_set()
        tail.wait_for_output(oss_tail.server.store.read("bucket", key))


def test_last_lines_of_a_moving_object(oss_tail: OssTail) -> None:
    """What is output while somebody appends is a gapless end of the object."""
    address = oss_tail.append("moving", b"".join(b"%d\n" % number for number in range(3000)))
    done = threading.Event()

    def write() -> None:
        number = 3000
        while not done.is_set():
            oss_tail.append("moving", b"%d\n" % number)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        ends = [oss_tail.here(["-n", "20", address]).stdout.split() for _ in range(20)]
    finally:
        done.set()
        writer.join()
    for end in ends:
        assert len(end) >= 20
        assert [int(number) for number in end] == list(range(int(end[0]), int(end[0]) + len(end)))


def test_name_reappears(oss_tail: OssTail) -> None:
    """-F: deleted, then made anew (a rotated log): from its first byte, in GNU tail's words."""
    address = oss_tail.append("rotated", b"old\n")
    with oss_tail.following("-F", *FAST, address) as tail:
        tail.wait_for_output(b"old\n")
        oss_tail.server.store.delete("bucket", "rotated")
        tail.wait_for_words("inaccessible")
        oss_tail.append("rotated", b"new\n")
        tail.wait_for_output(b"old\nnew\n")
        oss_tail.append("rotated", b"more\n")
        tail.wait_for_output(b"old\nnew\nmore\n")
        assert tail.stderr.splitlines() == [
            f"oss-tail: '{address}' has become inaccessible: No such key",
            f"oss-tail: '{address}' has appeared;  following new file",
        ]


@pytest.mark.parametrize(
    ("new", "words"),
    [
        (b"short\n", "'{}': file truncated"),
        (b"the same si\n", "'{}' has been replaced;  following new file"),
        (b"much longer than the old one was\n", "'{}' has been replaced;  following new file"),
    ],
    ids=["shorter", "same-length", "longer"],
)
def test_replaced_between_two_polls(oss_tail: OssTail, new: bytes, words: str) -> None:
    """-F: another object under the name is found out, also where its length gives no hint."""
    key = f"replaced{len(new)}"
    address = oss_tail.append(key, b"old and old\n")
    with oss_tail.following("-F", *FAST, address) as tail:
        tail.wait_for_output(b"old and old\n")
        oss_tail.renew(key, new)
        tail.wait_for_output(b"old and old\n" + new)
        assert tail.stderr == f"oss-tail: {words.format(address)}\n"
        oss_tail.append(key, b"and on\n")
        tail.wait_for_output(b"old and old\n" + new + b"and on\n")


def test_many_rotations(oss_tail: OssTail) -> None:
    """-F: deleted and made anew again and again, nothing is lost or doubled."""
    address = oss_tail.append("hash", b"0\n")
    with oss_tail.following("-F", *FAST, address) as tail:
        expected = b"0\n"
        tail.wait_for_output(expected)
        for number in range(1, 9):
            oss_tail.server.store.delete("bucket", "hash")
            tail.wait_for(lambda number=number: tail.stderr.count("inaccessible") == number)
            oss_tail.append("hash", b"%d\n" % number)
            expected += b"%d\n" % number
            tail.wait_for_output(expected)


def test_put_object_replaces(oss_tail: OssTail) -> None:
    """-F: a PutObject over an appendable object makes it another one, even with the same beginning."""
    address = oss_tail.append("put", b"same\n")
    with oss_tail.following("-F", *FAST, address) as tail:
        tail.wait_for_output(b"same\n")
        with oss_tail.counting() as requests:  # before its first poll it cannot know what the object was
            tail.wait_for(lambda: requests() >= 2)
        oss_tail.server.store.put("bucket", "put", b"same\nmore\n")
        tail.wait_for_output(b"same\nsame\nmore\n")
        assert "has been replaced;  following new file" in tail.stderr


@pytest.mark.parametrize(
    "new", [b"x\n", b"long enough to be longer\n", b"new and\n"], ids=["shorter", "longer", "same"]
)
def test_descriptor_ends_when_replaced(oss_tail: OssTail, new: bytes) -> None:
    """-f follows this very object: another one under its name is the end, in one line, status 3."""
    key = f"gone{len(new)}"
    address = oss_tail.append(key, b"old and\n")
    with oss_tail.following("-f", *FAST, address) as tail:
        tail.wait_for_output(b"old and\n")
        oss_tail.renew(key, new)
        status, stdout, stderr = tail.end()
        assert (status, stdout) == (3, b"old and\n")
        assert re.fullmatch(rf"oss-tail: [^\n]*{address}[^\n]*\n", stderr)


def test_whoever_follows_gives_memory_back_meanwhile(oss_tail: OssTail, monkeypatch: pytest.MonkeyPatch) -> None:
    happened = []

    async def give_back() -> None:
        happened.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            happened.append("ended")

    monkeypatch.setattr("tailer.cli.session.give_memory_back", give_back)
    address = oss_tail.append("gives-back", b"a\n")
    assert oss_tail.here([address]).stdout == b"a\n"
    assert happened == []
    assert oss_tail.here(["-f", *FAST, "--exit-idle", "0.1", address]).stdout == b"a\n"
    assert happened == ["began", "ended"]


def test_descriptor_ends_when_deleted(oss_tail: OssTail) -> None:
    address = oss_tail.append("deleted", b"a\n")
    with oss_tail.following("-f", *FAST, address) as tail:
        tail.wait_for_output(b"a\n")
        oss_tail.server.store.delete("bucket", "deleted")
        assert tail.end() == (
            1,
            b"a\n",
            f"oss-tail: '{address}' has become inaccessible: No such key\noss-tail: no files remaining\n",
        )


def test_deleted_right_behind_the_initial_output_it_has_become_inaccessible(oss_tail: OssTail) -> None:
    address = oss_tail.append("deleted-early", b"a\n")
    oss_tail.server.faults.add(Fault("stall", operation="HeadObject", after=1, count=1, seconds=1.0))
    with oss_tail.following("-f", *FAST, address) as tail:
        tail.wait_for_output(b"a\n")
        oss_tail.server.store.delete("bucket", "deleted-early")
        assert tail.end() == (
            1,
            b"a\n",
            f"oss-tail: '{address}' has become inaccessible: No such key\noss-tail: no files remaining\n",
        )


def test_one_of_two_deleted(oss_tail: OssTail) -> None:
    """--follow=name without --retry gives up a name that vanished, and goes on with the others."""
    first, second = oss_tail.append("pair-a", b"a\n"), oss_tail.append("pair-b", b"b\n")
    with oss_tail.following("--follow=name", "-q", *FAST, first, second) as tail:
        tail.wait_for_output(b"a\nb\n")
        oss_tail.server.store.delete("bucket", "pair-a")
        tail.wait_for_words(f"'{first}' has become inaccessible: No such key")
        oss_tail.append("pair-a", b"new\n")
        oss_tail.append("pair-b", b"c\n")
        tail.wait_for_output(b"a\nb\nc\n")
        oss_tail.server.store.delete("bucket", "pair-b")
        tail.wait_for_words("no files remaining")
        assert tail.end()[:2] == (1, b"a\nb\nc\n")


def test_headers(oss_tail: OssTail) -> None:
    """A header whenever another object's bytes come, as GNU tail prints them."""
    first, second = oss_tail.append("head-a", b"1\n"), oss_tail.append("head-b", b"")
    with oss_tail.following("-F", *FAST, first, second) as tail:
        expected = f"==> {first} <==\n1\n\n==> {second} <==\n".encode()
        tail.wait_for_output(expected)
        for key, data, header in (
            ("head-b", b"x\n", b""),
            ("head-a", b"y\n", f"\n==> {first} <==\n".encode()),
            ("head-a", b"z", b""),
            ("head-b", b"w\n", f"\n==> {second} <==\n".encode()),
        ):
            oss_tail.append(key, data)
            expected += header + data
            tail.wait_for_output(expected)


def test_missing_and_there(oss_tail: OssTail) -> None:
    """-F with one of two missing: the other is followed, and the missing one when it appears."""
    there = oss_tail.append("there", b"1\n")
    missing = "oss://bucket/comes-later"
    with oss_tail.following("-F", *FAST, missing, there) as tail:
        expected = f"==> {there} <==\n1\n".encode()
        tail.wait_for_output(expected)
        assert tail.stderr == f"oss-tail: cannot open '{missing}' for reading: No such key\n"
        oss_tail.append("comes-later", b"here\n")
        expected += f"\n==> {missing} <==\nhere\n".encode()
        tail.wait_for_output(expected)
        assert tail.stderr.splitlines()[1:] == [f"oss-tail: '{missing}' has appeared;  following new file"]


def test_retry_waits_for_the_first_open_alone(oss_tail: OssTail) -> None:
    """--retry -f: waits until it is there; replaced later, it is the end."""
    with oss_tail.following("--retry", "-f", *FAST, "oss://bucket/first-open") as tail:
        tail.wait_for_words("cannot open 'oss://bucket/first-open' for reading: No such key\n")
        oss_tail.append("first-open", b"a\nb\n")
        tail.wait_for_output(b"a\nb\n")
        oss_tail.renew("first-open", b"other\n")
        status, stdout, stderr = tail.end()
    assert (status, stdout) == (3, b"a\nb\n")
    assert stderr.startswith("oss-tail: warning: --retry only effective for the initial open\n")
    assert "'oss://bucket/first-open' has appeared;  following new file\n" in stderr


@pytest.mark.parametrize("option", ["-f", "--follow=name"])
def test_missing_without_retry_fails_at_once(oss_tail: OssTail, option: str) -> None:
    words = "oss-tail: cannot open 'oss://bucket/nowhere' for reading: No such key\noss-tail: no files remaining\n"
    assert oss_tail.command([option, "oss://bucket/nowhere"]) == (1, b"", words)


@pytest.mark.parametrize("amount", ["-n", "-c"])
def test_zero_does_not_spin(oss_tail: OssTail, amount: str) -> None:
    """-n 0 -f outputs what is new alone, and polls at the pace that was asked for."""
    address = oss_tail.append("quiet", b"old\n")
    with oss_tail.counting() as requests:
        assert oss_tail.here([amount, "0", "-f", "-s", "0.2", "--exit-idle", "1", address]) == (0, b"", "")
        assert 3 <= requests() <= 10
    with oss_tail.following(amount, "0", "-f", *FAST, address) as tail:
        with oss_tail.counting() as requests:
            tail.wait_for(lambda: requests() >= 3)
        oss_tail.append("quiet", b"new\n")
        tail.wait_for_output(b"new\n")


def test_poll_by_get_alone(oss_tail: OssTail) -> None:
    """--poll get: once the beginning is found, growth is noticed and fetched without any HEAD."""
    address = oss_tail.append("by-get", b"a\n")
    with oss_tail.following("-f", "-c", "+1", "--poll", "get", *FAST, address) as tail:
        tail.wait_for_output(b"a\n")
        oss_tail.server.faults.add(Fault("status", operation="HeadObject", status=403, code="AccessDenied"))
        try:
            oss_tail.append("by-get", b"b\n")
            tail.wait_for_output(b"a\nb\n")
        finally:
            oss_tail.server.faults.clear()


def test_counting_lines_from_the_start_ends_at_the_present_end(oss_tail: OssTail) -> None:
    """As with GNU tail: -n +5 of two lines outputs nothing, then all that is appended."""
    address = oss_tail.append("plus", b"1\n2\n")
    with oss_tail.following("-f", "-v", "-n", "+5", *FAST, address) as tail:
        header = f"==> {address} <==\n".encode()
        tail.wait_for_output(header)
        with oss_tail.counting() as requests:
            tail.wait_for(lambda: requests() >= 2)
        oss_tail.append("plus", b"3\n4\n5\n")
        tail.wait_for_output(header + b"3\n4\n5\n")


def test_from_an_offset_not_there_yet(oss_tail: OssTail) -> None:
    """--from OFFSET behind the end waits for that byte."""
    address = oss_tail.append("offset", b"0123")
    with oss_tail.following("-f", "--from", "6", *FAST, address) as tail:
        oss_tail.append("offset", b"45")
        with oss_tail.counting() as requests:
            tail.wait_for(lambda: requests() >= 4)
        oss_tail.append("offset", b"6789")
        tail.wait_for_output(b"6789")


def test_ends_with_the_process(oss_tail: OssTail) -> None:
    """--pid: what was written just before the process died is still printed."""
    address = oss_tail.append("pid", b"a\n")
    follow = ("-f", "-s", "0.2", address)
    with (
        subprocess.Popen(["sleep", "60"]) as writer,
        oss_tail.following(*follow, f"--pid={writer.pid}", f"--pid={os.getpid()}") as both,
        oss_tail.following(*follow, f"--pid={writer.pid}") as tail,
    ):
        both.wait_for_output(b"a\n")
        tail.wait_for_output(b"a\n")
        oss_tail.append("pid", b"last words\n")
        writer.kill()
        writer.wait()
        assert tail.end() == (0, b"a\nlast words\n", "")
        both.wait_for_output(b"a\nlast words\n")
        assert both.process.poll() is None, "the other process lives"


def test_process_dead_from_the_start(oss_tail: OssTail) -> None:
    with subprocess.Popen(["true"]) as dead:
        dead.wait()
    address = oss_tail.append("pid-dead", b"a\n")
    assert oss_tail.here(["-f", f"--pid={dead.pid}", address]) == (0, b"a\n", "")
    missing = oss_tail.here(["-F", f"--pid={dead.pid}", "oss://bucket/pid-nowhere"])
    assert missing == (1, b"", "oss-tail: cannot open 'oss://bucket/pid-nowhere' for reading: No such key\n")


def test_sealed_is_end_of_file(oss_tail: OssTail) -> None:
    """A sealed object is printed to its end, and left, status 0: whether sealed before or while it is followed."""
    address = oss_tail.append("sealed", b"a\n")
    with oss_tail.following("-F", *FAST, address) as tail:
        tail.wait_for_output(b"a\n")
        oss_tail.append("sealed", b"b\n")
        oss_tail.server.store.seal("bucket", "sealed", 4)
        assert tail.end() == (0, b"a\nb\n", "")
    assert oss_tail.here(["-f", "-n", "1", address]) == (0, b"b\n", "")


def test_exit_idle_waits_for_all(oss_tail: OssTail) -> None:
    """--exit-idle counts from the last news of any object."""
    busy, idle = oss_tail.append("busy", b""), oss_tail.append("idle", b"")
    done = threading.Event()

    def write() -> None:
        for _ in range(8):
            oss_tail.append("busy", b"x\n")
            done.wait(0.1)
        oss_tail.append("idle", b"end\n")

    writer = threading.Thread(target=write)
    writer.start()
    ended = oss_tail.here(["-f", "-q", *FAST, "--exit-idle", "0.6", busy, idle])
    writer.join()
    assert ended == (0, b"x\n" * 8 + b"end\n", "")


def test_once(oss_tail: OssTail) -> None:
    """--once reads to the present end, whatever else is asked."""
    address = oss_tail.append("once", b"a\nb\n")
    assert oss_tail.here(["-F", "--once", "-n", "1", address]) == (0, b"b\n", "")


def test_reader_goes_away(oss_tail: OssTail) -> None:
    """When the reader of a pipe goes, it ends at once and silently, although nothing new is there to be written."""
    address = oss_tail.append("pipe", b"a\n")
    tail = oss_tail.popen(["-f", address], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with tail:
        assert tail.stdout is not None
        assert tail.stderr is not None
        assert tail.stdout.readline() == b"a\n"
        tail.stdout.close()
        assert tail.stderr.read() == b""
        assert tail.wait(10) == -signal.SIGPIPE


def test_reader_leaves_in_the_middle(oss_tail: OssTail) -> None:
    """`oss-tail … | head -1` of much more than a pipe holds."""
    address = oss_tail.append("pipe-long", b"0123456789abcde\n" * 200_000)
    tail = oss_tail.popen(["-c", "+1", address], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with tail:
        assert tail.stdout is not None
        assert tail.stderr is not None
        assert tail.stdout.read(16) == b"0123456789abcde\n"
        tail.stdout.close()
        assert tail.stderr.read() == b""
        assert tail.wait(10) == -signal.SIGPIPE


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals(oss_tail: OssTail, number: int, status: int) -> None:
    address = oss_tail.append(f"signals{number}", b"a\n")
    with oss_tail.following("-f", *FAST, address) as tail:
        tail.wait_for_output(b"a\n")
        tail.process.send_signal(number)
        assert tail.end() == (status, b"a\n", "")


def test_interrupted_while_the_reader_stands_still(oss_tail: OssTail) -> None:
    """Ctrl-C ends it although a write waits for a reader that does not read."""
    address = oss_tail.append("stuck", b"0123456789abcde\n" * 200_000)
    tail = oss_tail.popen(["-f", "-c", "+1", address], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with tail:
        assert tail.stdout is not None
        assert tail.stdout.read(1) == b"0"
        tail.send_signal(signal.SIGINT)
        assert tail.wait(10) == 130


def test_terminated_in_the_middle_of_a_write(oss_tail: OssTail) -> None:
    """SIGTERM: a write in hand is finished when there is somebody who reads it."""
    line = b"0123456789abcde\n"
    address = oss_tail.append("term", line * 20_000)
    tail = oss_tail.popen(["-f", "-c", "+1", address], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with tail:
        assert tail.stdout is not None
        first = tail.stdout.read(1)
        tail.send_signal(signal.SIGTERM)
        rest = tail.stdout.read()
        assert tail.wait(10) == 143
        assert first + rest == line * 20_000


def test_full_disk(oss_tail: OssTail) -> None:
    address = oss_tail.append("full", b"a\n")
    with open("/dev/full", "wb") as full:
        tail = oss_tail.popen(["-f", address], stdout=full, stderr=subprocess.PIPE)
        with tail:
            _, stderr = tail.communicate(timeout=15)
    assert (tail.returncode, stderr) == (1, b"oss-tail: write error: No space left on device\n")


def test_closed_output(oss_tail: OssTail) -> None:
    """`oss-tail … >&-`: no socket may get the number of standard output, and its bytes."""
    address = oss_tail.append("closed", b"a\n")
    command = oss_tail.popen([address], stderr=subprocess.PIPE, preexec_fn=lambda: os.close(1))
    with command:
        _, stderr = command.communicate(timeout=15)
    assert (command.returncode, stderr) == (1, b"oss-tail: write error: Bad file descriptor\n")


def test_flipped_bit_is_said(oss_tail: OssTail) -> None:
    """Bytes that went out and turn out wrong come again; that is said, and the status is 3."""
    data = b"0123456789abcde\n" * 300_000
    address = oss_tail.append("flipped", data)
    oss_tail.server.faults.add(Fault("flip-bit", operation="GetObject", at=1000, count=1))
    status, stdout, stderr = oss_tail.here(["-c", "+1", address])
    oss_tail.server.faults.clear()
    assert status == 3
    assert stdout.endswith(data)
    assert len(stdout) > len(data)
    void = len(stdout) - len(data)
    assert stderr == (
        f"oss-tail: '{address}': bytes 0 to {void} do not match the object's CRC-64: what was output of them is "
        f"void, and comes again\n"
    )


def test_flipped_bit_is_never_output_strictly(oss_tail: OssTail) -> None:
    data = b"0123456789abcde\n" * 300_000
    address = oss_tail.append("flipped-strict", data)
    oss_tail.server.faults.add(Fault("flip-bit", operation="GetObject", at=1000, count=1))
    ended = oss_tail.here(["-c", "+1", "--integrity", "strict", address])
    oss_tail.server.faults.clear()
    assert ended == (0, data, "")


def test_flipped_bit_in_a_small_object(oss_tail: OssTail) -> None:
    """The last lines of an object that was read whole are proven before they go out."""
    address = oss_tail.append("flipped-small", b"a\nb\n")
    oss_tail.server.faults.add(Fault("flip-bit", operation="GetObject", at=1, count=1))
    ended = oss_tail.here([address])
    oss_tail.server.faults.clear()
    assert ended == (0, b"a\nb\n", "")


def test_service_fails_for_a_while(oss_tail: OssTail) -> None:
    """In a follow an outage is said once, and outlasted."""
    address = oss_tail.append("outage", b"a\n")
    with oss_tail.following("-f", *FAST, address) as tail:
        tail.wait_for_output(b"a\n")
        oss_tail.server.faults.add(Fault("status", count=3, status=503, code="ServiceUnavailable"))
        oss_tail.append("outage", b"b\n")
        tail.wait_for_output(b"a\nb\n")
        assert re.fullmatch(rf"oss-tail: '{address}': ServiceUnavailable: [^\n]+; trying again\n", tail.stderr)
    oss_tail.server.faults.clear()


def test_json(oss_tail: OssTail) -> None:
    """--json: whole records with their offsets, and events."""
    address = oss_tail.append("json", b"a\nb\nc")
    with oss_tail.following("-F", "--json", "-n", "2", *FAST, address) as tail:
        tail.wait_for(lambda: b'"data":"b"' in tail.stdout)
        oss_tail.append("json", b"d\n")
        tail.wait_for(lambda: b'"data":"cd"' in tail.stdout)
        oss_tail.renew("json", b"n\n")
        tail.wait_for(lambda: b'"data":"n"' in tail.stdout)
        lines = [json.loads(line) for line in tail.stdout.splitlines()]
    records = [(line["generation"], line["start"], line["end"]) for line in lines if line["type"] == "record"]
    assert records == [(0, 2, 4), (0, 4, 7), (1, 0, 2)]
    assert "truncated" in {line["type"] for line in lines}


def test_hostile_names(oss_tail: OssTail) -> None:
    """No control character of a name reaches the terminal."""
    key = "esc\x1b[31m\nnew"
    oss_tail.append(key, b"x\n")
    address = f"oss://bucket/{key}"
    quoted = r"'oss://bucket/esc'$'\033''[31m'$'\n''new'"
    status, stdout, stderr = oss_tail.here(["--no-glob", "-v", address, address + "\x07"])
    assert (status, stdout) == (1, f"==> {quoted} <==\nx\n".encode())
    assert stderr == rf"oss-tail: cannot open {quoted}$'\a' for reading: No such key" + "\n"


def test_patterns_and_prefixes(oss_tail: OssTail) -> None:
    for key in ("logs/a.log", "logs/b.log", "logs/c.txt", "logs/deep/d.log", "logs/"):
        oss_tail.append(key, key.encode() + b"\n")

    def names(pattern: str) -> list[str]:
        status, stdout, _ = oss_tail.here(["-q", f"oss://bucket/{pattern}"])
        assert status == 0
        return stdout.decode().split()

    assert names("logs/*.log") == ["logs/a.log", "logs/b.log"]
    assert names("logs/?.*") == ["logs/a.log", "logs/b.log", "logs/c.txt"]
    assert names("logs/[ab].log") == ["logs/a.log", "logs/b.log"]
    assert names("logs/**/*.log") == ["logs/a.log", "logs/b.log", "logs/deep/d.log"]
    assert names("logs/") == ["logs/a.log", "logs/b.log", "logs/c.txt", "logs/deep/d.log"]
    assert oss_tail.here(["--no-glob", "oss://bucket/logs/*.log"]).status == 1


def test_mirror(oss_tail: OssTail, tmp_path: Path) -> None:
    """-o FILE: a second run goes on where the first one ended, and asks for what is new alone."""
    address = oss_tail.append("mirrored", b"a\n" * 1000)
    path = tmp_path / "mirror"
    assert oss_tail.here(["-o", str(path), address]) == (0, b"", "")
    oss_tail.append("mirrored", b"b\n")
    assert oss_tail.here(["-o", str(path), address]) == (0, b"", "")
    assert path.read_bytes() == b"a\n" * 1000 + b"b\n"
    with oss_tail.following("-F", "-o", str(path), *FAST, address) as tail:
        oss_tail.append("mirrored", b"c\n")
        tail.wait_for(lambda: path.read_bytes().endswith(b"b\nc\n"))


def test_mirror_of_something_else(oss_tail: OssTail, tmp_path: Path) -> None:
    """A file that is not the beginning of the object is left as it is, status 3."""
    address = oss_tail.append("not-mirrored", b"a\nb\nc\n")
    path = tmp_path / "mirror"
    path.write_bytes(b"other\n")
    status, _, stderr = oss_tail.here(["-o", str(path), address])
    assert (status, path.read_bytes()) == (3, b"other\n")
    assert stderr.count("\n") == 1
    assert str(path) in stderr


def test_mirror_into_a_folder(oss_tail: OssTail, tmp_path: Path) -> None:
    oss_tail.append("tree/a", b"a\n")
    oss_tail.append("tree/b/c", b"c\n")
    assert oss_tail.here(["-o", f"{tmp_path}/", "oss://bucket/tree/"]) == (0, b"", "")
    assert (tmp_path / "bucket/tree/a").read_bytes() == b"a\n"
    assert (tmp_path / "bucket/tree/b/c").read_bytes() == b"c\n"


def test_mirror_of_more_objects_than_files_may_be_open(oss_tail: OssTail, tmp_path: Path) -> None:
    """Each file is closed when its object was read."""
    for number in range(100):
        oss_tail.append(f"crowd/{number:03}", b"%d\n" % number)
    command = oss_tail.popen(
        ["-o", f"{tmp_path}/", "oss://bucket/crowd/"],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)),
    )
    with command:
        _, stderr = command.communicate(timeout=30)
    assert (command.returncode, stderr) == (0, b"")
    mirrored = sorted((tmp_path / "bucket/crowd").iterdir())
    assert [path.read_bytes() for path in mirrored] == [b"%d\n" % number for number in range(100)]


def test_metrics(oss_tail: OssTail) -> None:
    """--metrics serves what was delivered while it follows."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = oss_tail.append("metered", b"12345\n")
    with oss_tail.following("-f", "--metrics", str(port), *FAST, address) as tail:
        tail.wait_for_output(b"12345\n")
        oss_tail.append("metered", b"678\n")
        tail.wait_for_output(b"12345\n678\n")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            shown = answer.read().decode()
        assert "oss_tail_delivered_bytes_total 10.0" in shown
        assert 'oss_tail_requests_total{code_class="2xx",operation="head"}' in shown


def test_public_object(oss_tail: OssTail) -> None:
    """https:// addresses: no credentials, no endpoint, and nothing of the signature on the screen."""
    oss_tail.append("public", b"a\nb\n")
    oss_tail.server.store.set_acl("bucket", "public", "public-read")
    url = f"{oss_tail.server.endpoint}/bucket/public"
    nothing = {"OSS_ENDPOINT": "", "OSS_REGION": "", "OSS_ACCESS_KEY_ID": "", "OSS_ACCESS_KEY_SECRET": ""}
    assert oss_tail.here(["-v", "-n", "1", url], nothing) == (0, f"==> {url} <==\nb\n".encode(), "")


def test_presigned_url(oss_tail: OssTail) -> None:
    """Good for GET alone: followed without a HEAD, and named without its query."""
    oss_tail.append("presigned", b"a\nb\n")
    url = _presigned(oss_tail, "presigned")
    with oss_tail.following("-f", "-v", "-n", "1", *FAST, url) as tail:
        header = f"==> {url.partition('?')[0]} <==\n".encode()
        tail.wait_for_output(header + b"b\n")
        oss_tail.append("presigned", b"c\n")
        tail.wait_for_output(header + b"b\nc\n")
        oss_tail.server.store.delete("bucket", "presigned")
        status, _, stderr = tail.end()
    assert status == 1
    assert "has become inaccessible: No such key" in stderr
    assert "ignature" not in stderr


def _presigned(oss_tail: OssTail, key: str) -> str:
    """By the official SDK."""
    import alibabacloud_oss_v2 as oss

    config = oss.config.load_default()
    server = oss_tail.server
    config.credentials_provider = oss.credentials.StaticCredentialsProvider(
        server.access_key_id, server.access_key_secret
    )
    config.region, config.endpoint, config.use_path_style = server.region, server.endpoint, True
    url = oss.Client(config).presign(oss.GetObjectRequest(bucket="bucket", key=key)).url
    assert isinstance(url, str)
    return url


def test_progress_on_a_terminal(oss_tail: OssTail) -> None:
    """A long catch-up shows a line on a terminal, and leaves nothing behind."""
    address = oss_tail.append("long", b"0123456789abcde\n" * 150_000)
    oss_tail.server.faults.add(Fault("slow", operation="GetObject", rate=500_000))
    terminal, stderr = pty.openpty()
    try:
        with oss_tail.popen(["-c", "+1", address], stdout=subprocess.DEVNULL, stderr=stderr) as tail:
            os.close(stderr)
            shown = _read_terminal(terminal)
        assert tail.returncode == 0
    finally:
        oss_tail.server.faults.clear()
        os.close(terminal)
    assert re.search(r"of 2\.4 MB  \d+%  [0-9.]+ .B/s", shown)
    assert shown.endswith("\r")
    assert shown.split("\r")[-2].strip() == ""


def _read_terminal(terminal: int) -> str:
    """All that is written to it, until the last writer is gone (which Linux reports as EIO)."""
    shown = b""
    with suppress(OSError):
        while piece := os.read(terminal, 4096):
            shown += piece
    return shown.decode()


def test_endpoint_that_comes_later(oss_tail: OssTail, monkeypatch: pytest.MonkeyPatch) -> None:
    """-F outlasts an endpoint that cannot be reached, says so once, and can be interrupted meanwhile."""
    monkeypatch.setitem(oss_tail.environment, "OSS_ENDPOINT", "http://127.0.0.1:1")
    with oss_tail.following("-F", "oss://bucket/k") as tail:
        tail.wait_for_words("trying again\n")
        tail.process.send_signal(signal.SIGINT)
        status, _, stderr = tail.end()
    assert (status, stderr.count("\n")) == (130, 1)


class _FiveGigabytes(BaseHTTPRequestHandler):
    """An object of 5 GB of 100-byte lines, which exist only when they are asked for. `tail` is what was appended.

    Its CRC-64 is any number: nobody can check it without reading all, and what is appended continues it.
    """

    protocol_version = "HTTP/1.1"
    base = 5_000_000_000
    crc = 4711
    tail = b""
    requests = received = 0

    def do_HEAD(self) -> None:
        self._answer(200, b"")

    def do_GET(self) -> None:
        first, last = (int(number) for number in self.headers["Range"].removeprefix("bytes=").split("-"))
        stop = min(last + 1, self.base + len(self.tail))
        if first >= stop:
            self._answer(416, b"")
            return
        lines = b"".join(b"%099d\n" % number for number in range(first // 100, -(-min(stop, self.base) // 100)))
        whole = lines[: self.base - first // 100 * 100] + self.tail
        skipped = first % 100 if first < self.base else first - self.base
        body = (whole if first < self.base else self.tail)[skipped:][: stop - first]
        self._answer(206, body, f"bytes {first}-{stop - 1}/{self.base + len(self.tail)}")

    def _answer(self, status: int, body: bytes, content_range: str = "") -> None:
        cls = type(self)
        cls.requests += 1
        cls.received += len(body)
        self.send_response(status)
        self.send_header("x-oss-hash-crc64ecma", str(crc64.update(self.tail, self.crc)))
        self.send_header("x-oss-object-type", "Appendable")
        self.send_header("Content-Length", str(len(body) if status != 200 else self.base + len(self.tail)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def test_five_gigabytes(oss_tail: OssTail, monkeypatch: pytest.MonkeyPatch) -> None:
    """-n 10 of 5 GB of 100-byte lines: at most 3 requests and 256 KiB; then growth far beyond 4 GiB."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _FiveGigabytes) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            monkeypatch.setitem(oss_tail.environment, "OSS_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
            expected = b"".join(b"%099d\n" % number for number in range(49_999_990, 50_000_000))
            assert oss_tail.here(["oss://bucket/big"]) == (0, expected, "")
            assert _FiveGigabytes.requests <= 3
            assert _FiveGigabytes.received <= 256 * 1024
            with oss_tail.following("-f", "-n", "1", *FAST, "oss://bucket/big") as tail:
                tail.wait_for_output(expected[-100:])
                _FiveGigabytes.tail = b"more\n"
                tail.wait_for_output(expected[-100:] + b"more\n")
                assert tail.stderr == ""
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("options", "most"), [(["-n", "10"], 16 * 1024), (["-n", "150"], 16 * 1024), (["-c", "5"], 5)])
def test_last_lines_cost_little(
    oss_tail: OssTail, monkeypatch: pytest.MonkeyPatch, options: list[str], most: int
) -> None:
    """A HEAD and one GET for what lies in the last block, or is counted in bytes."""
    from tailer.oss.client import Client

    key = f"costs{most}{options[1]}"
    address = oss_tail.append(key, b"".join(b"%099d\n" % number for number in range(50_000)))
    received = 0
    fetch = Client.fetch

    async def counted(self: Client, ref: ObjectRef, range: ByteRange) -> Window:
        nonlocal received
        window = await fetch(self, ref, range)
        received += len(window.data)
        return window

    monkeypatch.setattr(Client, "fetch", counted)
    with oss_tail.counting() as requests:
        assert oss_tail.here([*options, address]).status == 0
        assert requests() == 2
    assert received == most


def test_a_strict_reading_with_little_room_reads_twice(oss_tail: OssTail) -> None:
    data = b"".join(b"%099d\n" % number for number in range(60_000))
    address = oss_tail.append("strict/twice", data)
    with oss_tail.counting() as requests:
        done = oss_tail.command(["--integrity=strict", "--spool-bytes=1M", "-c", "+1", address])
        assert (done.status, done.stdout, done.stderr) == (0, data, "")
        twice = requests()
        assert oss_tail.command(["--integrity=strict", "-c", "+1", address]).stdout == data
        assert twice > requests() - twice


def test_full_integrity_proves_what_was_output_by_what_lies_before_it(oss_tail: OssTail) -> None:
    """The last lines come at once; the proof follows while there is nothing else to do."""
    data = b"".join(b"%099d\n" % number for number in range(60_000))
    address = oss_tail.append("full/proven", data)
    options = ["-n", "2", "--integrity=full"]
    with oss_tail.following("-F", "--json", *options, address) as tail:
        tail.wait_for(lambda: b'"unproven":0' in tail.stdout)
        assert tail.stdout.index(b"59999") < tail.stdout.index(b'"unproven":0')
    done = oss_tail.command([*options, address])
    assert (done.status, done.stdout, done.stderr) == (0, data[-200:], "")


def test_full_integrity_tells_of_a_byte_before_the_start_that_is_not_what_it_was(oss_tail: OssTail) -> None:
    data = b"".join(b"%099d\n" % number for number in range(60_000))
    address = oss_tail.append("full/spoilt", data)
    oss_tail.server.faults.add(Fault("flip-bit", operation="GetObject", at=1000))
    try:
        assert oss_tail.command(["-n", "2", address]).status == 0, "nobody reads that byte"
        done = oss_tail.command(["-n", "2", "--integrity=full", address])
    finally:
        oss_tail.server.faults.clear()
    assert (done.status, done.stdout) == (3, data[-200:])
    assert "what lies below byte 5999800" in done.stderr
    assert done.stderr.count("\n") == 1
