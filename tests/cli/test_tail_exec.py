"""`--exec`: every line to a command, again when that fails, and the truth about it on stderr."""

from __future__ import annotations

import os
import re
import shlex
import signal
from typing import TYPE_CHECKING

import pytest

from tailer.cli.options import parse
from tailer.errors import UsageError
from tailer.local import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import OssTail

LINES = b"".join(b"line %d\n" % number for number in range(300_000))


def test_whole_lines_with_their_place(oss_tail: OssTail) -> None:
    """The last one has no end, which is known when all else was handed on."""
    address = oss_tail.renew("exec/whole", b"one\ntwo\nthree\nfo")
    command = 'cat; echo " $OSS_TAIL_OBJECT $OSS_TAIL_GENERATION $OSS_TAIL_START $OSS_TAIL_END"'
    done = oss_tail.command(["-n", "3", "--exec", command, address])
    assert done == (0, f"two\nthree\n {address} 0 4 14\nfo {address} 0 14 16\n".encode(), "")


@pytest.mark.parametrize(("options", "count"), [([], b"0\n"), (["--exec-keys"], b"2\n")])
def test_access_keys_are_for_a_command_that_needs_them(oss_tail: OssTail, options: list[str], count: bytes) -> None:
    address = oss_tail.renew("exec/keys", b"one\n")
    command = "cat > /dev/null; env | grep -c ^OSS_ACCESS_KEY_ || true"
    assert oss_tail.command(["-c", "+1", *options, "--exec", command, address]) == (0, count, "")


def test_batches_follow_each_other_without_gap_or_overlap(oss_tail: OssTail) -> None:
    address = oss_tail.renew("exec/long", LINES)
    done = oss_tail.command(["-c", "+1", "--exec", 'echo "$OSS_TAIL_START $OSS_TAIL_END $(wc -c) $(id -u)"', address])
    at = 0
    for start, end, size, _ in (map(int, line.split()) for line in done.stdout.splitlines()):
        assert (start, size) == (at, end - start)
        assert LINES[end - 1 : end] == b"\n"
        at = end
    assert (at, done.status, done.stderr) == (len(LINES), 0, "")


def test_a_follow_tries_the_same_lines_again_and_says_so_once(oss_tail: OssTail, tmp_path: Path) -> None:
    address = oss_tail.renew("exec/again", b"one\n")
    command = f"cat >> {tmp_path}/seen; test -e {tmp_path}/ready"
    with oss_tail.following("-F", "-s", "0.05", "--exec", command, address) as tail:
        tail.wait_for(lambda: (tmp_path / "seen").exists() and (tmp_path / "seen").read_bytes() == b"one\n" * 3)
        (tmp_path / "ready").touch()
        oss_tail.append("exec/again", b"two\n")
        # The third try may have found it, or the fourth.
        tail.wait_for(lambda: re.fullmatch(b"(one\n){3,4}two\n", (tmp_path / "seen").read_bytes()) is not None)
        assert tail.stderr == f"oss-tail: '{address}': 'cat' exited with status 1; trying again\n"


def test_with_a_checkpoint_a_batch_that_failed_is_the_first_of_the_next_run(oss_tail: OssTail, tmp_path: Path) -> None:
    """The command's exit status 0 is what moves the mark."""
    address = oss_tail.renew("exec/mark", b"one\n")
    options = ["-c", "+1", "--checkpoint", str(tmp_path / "marks.db")]
    assert oss_tail.command([*options, "--exec", "cat", address]).stdout == b"one\n"
    oss_tail.append("exec/mark", b"two\n")
    assert oss_tail.command([*options, "--exec", "exit 1", address]).status == 1
    assert oss_tail.command([*options, "--exec", "cat", address]).stdout == b"two\n"
    assert oss_tail.command([*options, "--exec", "cat", address]) == (0, b"", "")


def test_without_following_a_command_that_fails_is_the_end(oss_tail: OssTail) -> None:
    address = oss_tail.renew("exec/fails", b"one\n")
    done = oss_tail.command(["--exec", "exit 4", address])
    assert done == (1, b"", "oss-tail: 'exit' exited with status 4\n")


@pytest.mark.parametrize("follow", [[], ["-F"]])
def test_a_command_that_is_not_there_is_one_line(oss_tail: OssTail, follow: list[str]) -> None:
    address = oss_tail.renew("exec/absent", b"one\n")
    done = oss_tail.command([*follow, "--exec", "/nonexistent/command 2> /dev/null", address])
    assert done == (1, b"", "oss-tail: '/nonexistent/command' exited with status 127: not found\n")


def test_a_new_object_is_another_generation(oss_tail: OssTail) -> None:
    address = oss_tail.renew("exec/replaced", b"old and long\n")
    command = 'echo "$OSS_TAIL_GENERATION $OSS_TAIL_START $(cat)"'
    with oss_tail.following("-F", "-s", "0.05", "--exec", command, address) as tail:
        tail.wait_for_output(b"0 0 old and long\n")
        oss_tail.renew("exec/replaced", b"new\n")
        tail.wait_for_output(b"0 0 old and long\n1 0 new\n")


def test_many_objects_each_in_order(oss_tail: OssTail, tmp_path: Path) -> None:
    addresses = [oss_tail.renew(f"exec/many/{number}", b"%d a\n" % number) for number in range(12)]
    command = f'cat >> {shlex.quote(str(tmp_path))}/"$(basename "$OSS_TAIL_OBJECT")"'
    with oss_tail.following("-F", "-s", "0.05", "--exec", command, "oss://bucket/exec/many/") as tail:
        tail.wait_for(lambda: len(list(tmp_path.iterdir())) == len(addresses))
        for number in range(12):
            oss_tail.append(f"exec/many/{number}", b"%d b\n" % number)
        wanted = {str(number): b"%d a\n%d b\n" % (number, number) for number in range(12)}
        tail.wait_for(lambda: {path.name: path.read_bytes() for path in tmp_path.iterdir()} == wanted)


def test_sigterm_ends_the_command_too(oss_tail: OssTail, tmp_path: Path) -> None:
    address = oss_tail.renew("exec/slow", b"one\n")
    pid = tmp_path / "pid"
    with oss_tail.following(
        "-F", "--exec", f"echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 1000", address
    ) as tail:
        tail.wait_for(pid.exists)
        tail.process.send_signal(signal.SIGTERM)
        assert tail.end() == (143, b"", "")
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


def test_bytes_that_turn_out_to_be_void_come_again_and_end_in_status_3(oss_tail: OssTail) -> None:
    """The same offsets twice: that is how the command knows."""
    address = oss_tail.renew("exec/void", LINES)
    oss_tail.server.faults.add(Fault("flip-bit", operation="GetObject", at=100, count=1))
    try:
        done = oss_tail.command(["-c", "+1", "--exec", 'echo "$OSS_TAIL_START"; cat > /dev/null', address])
    finally:
        oss_tail.server.faults.clear()
    starts = done.stdout.split()
    assert starts.count(b"0") == 2
    assert done.status == 3
    assert "what was output of them is void, and comes again" in done.stderr


@pytest.mark.parametrize("more", [["--json"], ["-o", "file"]])
def test_what_cannot_be_combined_is_refused(more: list[str]) -> None:
    with pytest.raises(UsageError, match="cannot be combined"):
        parse(["--exec", "cat", *more, "oss://b/k"])
    with pytest.raises(UsageError, match="needs a command"):
        parse(["--exec", " ", "oss://b/k"])


def test_keys_for_no_command_are_refused() -> None:
    with pytest.raises(UsageError, match="--exec-keys needs --exec COMMAND"):
        parse(["--exec-keys", "oss://b/k"])
