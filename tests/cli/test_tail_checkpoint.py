"""`--checkpoint`: a run goes on where the last one was, whatever ended that, and says what it finds there."""

from __future__ import annotations

import contextlib
import json
import random
import resource
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tailer.checkpoints import Checkpoints, read_all
from tailer.core import crc64
from tailer.core.position import Mark, ObjectRef, Position

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import OssTail

FAST = ("-s", "0.05")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def offset(state: Path) -> int:
    (one,) = read_all(state)
    return one.mark.delivered.offset


def test_the_next_run_goes_on_where_the_last_one_ended(oss_tail: OssTail, state: Path) -> None:
    address = oss_tail.append("goes-on", b"1\n2\n3\nunfi")
    options = ["--checkpoint", str(state), "-n", "2", address]
    assert oss_tail.here(options) == (0, b"3\nunfi", "")
    assert oss_tail.here(options) == (0, b"", "")
    oss_tail.append("goes-on", b"nished\n4\n")
    assert oss_tail.here(options) == (0, b"nished\n4\n", "")
    assert offset(state) == 19


@pytest.mark.parametrize("options", [("-c", "+1"), ("--integrity", "strict", "-n", "1"), ("--integrity", "off")])
def test_it_goes_on_with_every_integrity(oss_tail: OssTail, state: Path, options: tuple[str, ...]) -> None:
    key = f"every{'-'.join(options)}"
    address = oss_tail.append(key, b"1\n2\n")
    arguments = ["--checkpoint", str(state), *options, address]
    assert oss_tail.here(arguments).stdout.endswith(b"2\n")
    oss_tail.append(key, b"3\n")
    assert oss_tail.here(arguments) == (0, b"3\n", "")


def test_records_go_on_too(oss_tail: OssTail, state: Path) -> None:
    address = oss_tail.append("records", b"1\n2\n")
    options = ["--checkpoint", str(state), "--json", "--once", "-F", "-n", "+1", address]
    assert oss_tail.here(options).status == 0
    oss_tail.append("records", b"3\n")
    lines = [json.loads(line) for line in oss_tail.here(options).stdout.splitlines()]
    assert [(line["start"], line["data"]) for line in lines if line["type"] == "record"] == [(4, "3")]


def test_each_group_has_its_own_place(oss_tail: OssTail, state: Path) -> None:
    address = oss_tail.append("groups", b"1\n2\n")
    for group in ("a/b", "../c"):
        assert oss_tail.here(["--checkpoint", str(state), "--group", group, "-c", "+1", address]).stdout == b"1\n2\n"
    assert [(one.group, one.mark.delivered.offset) for one in read_all(state)] == [("../c", 4), ("a/b", 4)]


def test_several_objects(oss_tail: OssTail, state: Path) -> None:
    first, second = oss_tail.append("many/1", b"a\n"), oss_tail.append("many/2", b"b\n")
    options = ["--checkpoint", str(state), "-q", "-c", "+1", "oss://bucket/many/"]
    assert oss_tail.here(options).stdout == b"a\nb\n"
    oss_tail.append("many/2", b"c\n")
    oss_tail.append("many/3", b"d\n")
    assert oss_tail.here(options).stdout == b"c\nd\n"
    assert {str(one.ref) for one in read_all(state)} == {first, second, "oss://bucket/many/3"}


# --- what a restart finds


def test_an_offset_past_the_end_after_a_re_create_is_said_and_read_from_its_start(
    oss_tail: OssTail, state: Path
) -> None:
    """Other tailers wait in silence for the new object to grow beyond the old offset."""
    address = oss_tail.append("shorter", b"long enough\n")
    options = ["--checkpoint", str(state), "-c", "+1", *FAST, address]
    assert oss_tail.here(options).stdout == b"long enough\n"
    oss_tail.renew("shorter", b"new\n")
    ended = oss_tail.here(["-f", *options])
    assert (ended.status, ended.stdout) == (3, b"")
    assert "truncated" in ended.stderr
    assert offset(state) == 12, "-f followed that very object: its place stays"
    with oss_tail.following("-F", *options) as tail:
        tail.wait_for_output(b"new\n")
        assert tail.stderr == f"oss-tail: '{address}': file truncated\n"
        tail.wait_for(lambda: offset(state) == 4)
    (one,) = read_all(state)
    assert one.mark == Mark.at(Position(4, crc64.update(b"new\n"), 1))


@pytest.mark.parametrize("data", [b"other bytes\n", b"longer than it was before\n"], ids=["same length", "longer"])
def test_another_object_that_is_not_shorter_is_known_by_its_crc(oss_tail: OssTail, state: Path, data: bytes) -> None:
    key = f"other-{len(data)}"
    address = oss_tail.append(key, b"long enough\n")
    options = ["--checkpoint", str(state), "-c", "+1", *FAST, address]
    assert oss_tail.here(options).status == 0
    oss_tail.renew(key, data)
    assert oss_tail.here(["-f", *options])[:2] == (3, b"")
    assert oss_tail.here(options)[:2] == (3, b"")
    with oss_tail.following("-F", *options) as tail:
        tail.wait_for_output(data)
        assert "has been replaced" in tail.stderr


def test_an_object_that_is_gone(oss_tail: OssTail, state: Path) -> None:
    address = oss_tail.append("gone", b"1\n")
    options = ["--checkpoint", str(state), *FAST, address]
    assert oss_tail.here(options).status == 0
    oss_tail.server.store.delete("bucket", "gone")
    assert oss_tail.here(options)[:2] == (1, b"")
    with oss_tail.following("-F", *options) as tail:
        tail.wait_for_words("inaccessible")
        oss_tail.append("gone", b"2\n")
        tail.wait_for_output(b"2\n")


def test_the_checkpoint_of_another_bucket_says_nothing_of_this_one(oss_tail: OssTail, state: Path) -> None:
    address = oss_tail.append("bucket-key", b"1\n2\n")
    with Checkpoints.open(state, owner="a test") as other:
        other.commit({ObjectRef("elsewhere", "bucket-key"): Mark.at(Position(2, 1))})
    assert oss_tail.here(["--checkpoint", str(state), "-c", "+1", address]).stdout == b"1\n2\n"


def test_what_was_left_out_is_left_out_again_when_a_run_ended_before_output_began(
    oss_tail: OssTail, state: Path
) -> None:
    """``-n +3`` counts from the start of the object: a place before the third line would be of no use."""
    address = oss_tail.append("skipped", b"1\n2")
    options = ["--checkpoint", str(state), "-n", "+3", address]
    assert oss_tail.here(options) == (0, b"", "")
    assert read_all(state) == []
    oss_tail.append("skipped", b"\n3\n4\n")
    assert oss_tail.here(options) == (0, b"3\n4\n", "")
    assert oss_tail.here(options) == (0, b"", "")


# --- crashes and full disks


def test_kill_9_between_delivery_and_commit_repeats_at_most_the_bound_and_loses_nothing(
    oss_tail: OssTail, state: Path
) -> None:
    """Every run begins where the last commit was; that is behind nothing that was not output."""
    chance = random.Random(5)
    address = oss_tail.append("killed", b"")
    begins = 0
    for number in range(12):
        with oss_tail.following("-F", "-c", "+1", "--checkpoint", str(state), *FAST, address) as tail:
            oss_tail.append("killed", b"".join(b"%d-%d\n" % (number, line) for line in range(chance.randrange(9000))))
            if number % 3:
                tail.wait_for(lambda tail=tail: tail.stdout != b"")
            time.sleep(chance.uniform(0.0, 0.3))
            tail.process.send_signal(signal.SIGKILL)
            tail.process.wait()
            printed = tail.stdout
        whole = oss_tail.server.store.read("bucket", "killed")
        assert whole[begins : begins + len(printed)] == printed, "a gap, or not the object"
        committed = offset(state) if state.exists() and read_all(state) else 0
        assert begins <= committed <= begins + len(printed), "committed, and never output"
        begins = committed
    assert begins > 0
    assert oss_tail.here(["--checkpoint", str(state), "-c", "+1", address]).stdout == whole[begins:]
    assert offset(state) == len(whole)


def test_what_was_output_for_longer_than_a_second_is_not_repeated(oss_tail: OssTail, state: Path) -> None:
    address = oss_tail.append("second", b"1\n")
    with oss_tail.following("-F", "-c", "+1", "--checkpoint", str(state), *FAST, address) as tail:
        tail.wait_for_output(b"1\n")
        tail.wait_for(lambda: state.exists() and len(read_all(state)) == 1, 5.0)
        tail.process.kill()
        tail.process.wait()
    assert oss_tail.here(["--checkpoint", str(state), address]).stdout == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_end_repeats_nothing(oss_tail: OssTail, state: Path, number: signal.Signals) -> None:
    key = f"told-{number.name}"
    address = oss_tail.append(key, b"1\n")
    with oss_tail.following("-F", "-c", "+1", "--checkpoint", str(state), *FAST, address) as tail:
        tail.wait_for_output(b"1\n")
        oss_tail.append(key, b"2\n")
        tail.wait_for_output(b"1\n2\n")
        tail.process.send_signal(number)
        assert tail.end() == (128 + number, b"1\n2\n", "")
    assert oss_tail.here(["--checkpoint", str(state), address]) == (0, b"", "")


def test_disk_full_then_free_again(oss_tail: OssTail, state: Path) -> None:
    """It says so once, outputs no more than it could note, and goes on by itself when there is room."""
    address = oss_tail.append("full", b"1\n")
    with oss_tail.following("-F", "-c", "+1", "--checkpoint", str(state), *FAST, address) as tail:
        tail.wait_for_output(b"1\n")
        tail.wait_for(lambda: state.exists() and len(read_all(state)) == 1)
        limits = resource.prlimit(tail.process.pid, resource.RLIMIT_FSIZE, (2000, -1))
        oss_tail.append("full", b"2\n")
        tail.wait_for_words("trying again")
        oss_tail.append("full", b"3\n")
        time.sleep(0.5)
        assert tail.stdout == b"1\n2\n"
        assert tail.stderr.count("\n") == 1
        assert f"cannot write the checkpoint file '{state}'" in tail.stderr
        resource.prlimit(tail.process.pid, resource.RLIMIT_FSIZE, limits)
        tail.wait_for_output(b"1\n2\n3\n")
        tail.wait_for(lambda: offset(state) == 6)


def test_a_full_disk_ends_a_one_shot_reading(oss_tail: OssTail, state: Path) -> None:
    address = oss_tail.append("full-once", b"1\n")
    assert oss_tail.here(["--checkpoint", str(state), address]).status == 0
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    oss_tail.append("full-once", b"2\n")
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        ended = oss_tail.here(["--checkpoint", str(state), address])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (ended.status, ended.stdout) == (1, b"")
    assert ended.stderr.count("\n") == 1
    assert f"cannot use the checkpoint file '{state}': no space left on the disk" in ended.stderr
    assert oss_tail.here(["--checkpoint", str(state), address])[:2] == (0, b"2\n")


@pytest.mark.parametrize("pages", [0, 5, 8, 20])
def test_a_disk_that_is_really_full_is_one_line_and_nothing_is_lost(
    oss_tail: OssTail, mounted: Callable[[str], Path], pages: int
) -> None:
    """It is found out before anything is output, or what was output and not noted comes again."""
    disk = mounted("size=128k")
    state, key = disk / "state.db", f"really-full-{pages}"
    address = oss_tail.append(key, b"1\n")
    assert oss_tail.here(["--checkpoint", str(state), address]).status == 0
    oss_tail.append(key, b"2\n")
    with (disk / "other").open("wb", buffering=0) as other:
        with contextlib.suppress(OSError):
            while True:
                other.write(bytes(4096))
        other.truncate(other.tell() - 4096 * pages)
    ended = oss_tail.here(["--checkpoint", str(state), address])
    if pages == 20:
        assert ended == (0, b"2\n", "")
    else:
        assert (ended.status, ended.stderr.count("\n")) == (1, 1)
        assert f"the checkpoint file '{state}': no space left on the disk" in ended.stderr
        assert ended.stdout == (b"2\n" if pages == 8 else b"")
    (disk / "other").unlink()
    assert oss_tail.here(["--checkpoint", str(state), address]) == (0, b"" if pages == 20 else b"2\n", "")


# --- bad input


def test_a_second_reader_of_a_group_is_refused_and_told_who_is_the_first(oss_tail: OssTail, state: Path) -> None:
    address = oss_tail.append("two", b"1\n")
    with oss_tail.following("-F", "--checkpoint", str(state), *FAST, address) as tail:
        tail.wait_for_output(b"1\n")
        refused = oss_tail.here(["--checkpoint", str(state), address])
        assert (refused.status, refused.stdout) == (1, b"")
        assert f"in use by oss-tail, process {tail.process.pid} on " in refused.stderr
        assert refused.stderr.count("\n") == 1
        assert oss_tail.here(["--checkpoint", str(state), "--group", "other", address]).status == 0


@pytest.mark.parametrize("content", [b"\0" * 8192, b"", b"SQLite format 3\0", b"not a database\n" * 100])
def test_a_file_that_is_not_right_is_refused_and_left_as_it_is(oss_tail: OssTail, state: Path, content: bytes) -> None:
    state.write_bytes(content)
    ended = oss_tail.here(["--checkpoint", str(state), oss_tail.append("wrong", b"1\n")])
    assert (ended.status, ended.stdout) == (2, b"")
    assert ended.stderr.count("\n") == 1
    assert str(state) in ended.stderr
    assert state.read_bytes() == content


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--checkpoint", "x", "-o", "copy"], "a mirror is its own checkpoint"),
        (["--group", "x"], "--group needs --checkpoint"),
        (["--checkpoint", ""], "needs a path"),
        (["--checkpoint", "/nowhere/state.db"], "No such file"),
        (["--checkpoint", "/proc/state.db"], "/proc/state.db"),
        (["--checkpoint", "x", "--group", ""], "a group's name has 1 to 200 bytes"),
        (["--checkpoint", "x", "--group", "g" * 300], "a group's name has 1 to 200 bytes"),
    ],
)
def test_options_that_make_no_sense(oss_tail: OssTail, options: list[str], words: str) -> None:
    ended = oss_tail.here([*options, oss_tail.append("options", b"")])
    assert (ended.status, ended.stdout) == (2, b"")
    assert words in ended.stderr


def test_an_object_that_is_named_twice_has_one_place_only(oss_tail: OssTail, state: Path) -> None:
    address = oss_tail.append("twice", b"1\n")
    ended = oss_tail.here(["--checkpoint", str(state), address, address])
    assert (ended.status, ended.stdout) == (2, b"")
    assert "named twice" in ended.stderr
