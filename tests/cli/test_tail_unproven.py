"""Output that begins in the middle of an object: who hears how much of it is not proven, and what a restart knows."""

from __future__ import annotations

import signal
import socket
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tailer.checkpoints import read_all
from tailer.local import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import OssTail

DATA = b"".join(b"%099d\n" % number for number in range(60_000))
LAST = DATA[-200:]
FAST = ("-s", "0.05")
WORDS = "200 bytes of the output are not proven by a CRC-64 of the service"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def unproven(state: Path) -> tuple[int, int]:
    """Of what was output, and from byte 0 on."""
    (one,) = read_all(state)
    return one.mark.unproven, one.mark.delivered.unproven


def test_the_last_lines_are_silent_unless_asked(oss_tail: OssTail) -> None:
    """As those of GNU tail are."""
    address = oss_tail.append("unproven/silent", DATA)
    assert oss_tail.here(["-n", "2", address]) == (0, LAST, "")
    assert WORDS in oss_tail.here(["-n", "2", "--debug", address]).stderr
    assert oss_tail.here(["-n", "2", "--integrity=full", address]) == (0, LAST, "")
    assert b'"verified":false' in oss_tail.here(["-n", "2", "--json", address]).stdout


def test_full_says_at_the_end_what_it_did_not_come_to_prove(oss_tail: OssTail) -> None:
    address = oss_tail.append("unproven/full", DATA)
    oss_tail.server.faults.add(Fault("status", operation="GetObject", after=1))
    try:
        with oss_tail.following("-F", *FAST, "-n", "2", "--integrity=full", address) as tail:
            tail.wait_for_words("trying again")
            tail.process.send_signal(signal.SIGINT)
            done = tail.end()
    finally:
        oss_tail.server.faults.clear()
    assert (done.status, done.stdout) == (130, LAST)
    assert done.stderr.splitlines()[-1] == f"oss-tail: '{address}': {WORDS}"


def test_a_restart_knows_what_is_not_proven_and_full_proves_it_then(oss_tail: OssTail, state: Path) -> None:
    address = oss_tail.append("unproven/restart", DATA)
    options = ["--checkpoint", str(state), "-n", "2", address]
    assert oss_tail.here(options) == (0, LAST, "")
    assert unproven(state) == (200, len(DATA))
    oss_tail.append("unproven/restart", b"more\n")
    assert oss_tail.here(options) == (0, b"more\n", "")
    assert unproven(state) == (200, len(DATA))
    assert oss_tail.here([*options, "--integrity=strict"]) == (0, b"", f"oss-tail: '{address}': {WORDS}\n")
    done = oss_tail.here([*options, "--integrity=full", "--json", "--once", "-F"])
    assert (done.status, done.stderr) == (0, "")
    said = [line for line in done.stdout.splitlines() if b'"verified"' in line]
    assert [b'"unproven":%d}' % len(DATA) in line for line in said] == [True, False]
    assert unproven(state) == (0, 0)


def test_full_finds_after_a_restart_what_was_output_wrong_before_it(oss_tail: OssTail, state: Path) -> None:
    address = oss_tail.append("unproven/wrong", DATA)
    options = ["--checkpoint", str(state), "-n", "2", address]
    oss_tail.server.faults.add(Fault("flip-bit", operation="GetObject", at=len(DATA) - 100))
    try:
        assert oss_tail.here(options).stdout not in (b"", LAST)
    finally:
        oss_tail.server.faults.clear()
    done = oss_tail.here([*options, "--integrity=full"])
    assert (done.status, done.stdout) == (3, b"")
    assert "what was read from there do not give the CRC-64" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("integrity", "count"), [("chain", 200), ("full", 0)])
def test_the_last_lines_are_among_the_bytes_that_metrics_call_unproven(
    oss_tail: OssTail, integrity: str, count: int
) -> None:
    address = oss_tail.append(f"unproven/metrics-{integrity}", DATA)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]

    def said() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    options = ["-F", *FAST, "-n", "2", f"--integrity={integrity}", "--metrics", str(port), address]
    with oss_tail.following(*options) as tail:
        tail.wait_for_output(LAST)
        tail.wait_for(lambda: 'oss_tail_integrity_checks_total{result="ok"}' in said())
        tail.wait_for(lambda: f"\noss_tail_unproven_bytes {count}.0\n" in said())


def test_of_an_object_that_is_replaced_while_catching_up_it_is_said_what_was_never_proven(oss_tail: OssTail) -> None:
    address = oss_tail.append("unproven/replaced", DATA)
    oss_tail.server.faults.add(Fault("status", operation="GetObject", after=1))
    try:
        with oss_tail.following("-F", *FAST, "-n", "+1", address) as tail:
            tail.wait_for_words("trying again")
            oss_tail.renew("unproven/replaced", b"new\n")
            oss_tail.server.faults.clear()
            tail.wait_for(lambda: tail.stdout.endswith(b"new\n"))
            tail.process.send_signal(signal.SIGINT)
            done = tail.end()
    finally:
        oss_tail.server.faults.clear()
    out = len(done.stdout.removesuffix(b"new\n"))
    assert 0 < out < len(DATA)
    *_, unproven, truncated = done.stderr.splitlines()
    assert unproven == f"oss-tail: '{address}': bytes 0 to {out} of it went out and were never proven"
    assert truncated == f"oss-tail: '{address}': file truncated"
