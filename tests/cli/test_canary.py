"""`oss-tailer canary` as a user runs it: the line that it prints, its exit status, its metrics, how it is stopped."""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tailer.local
from tailer.canary import COUNTS
from tailer.cli.canary import add_parser
from tailer.local import Fault
from tests.cli.conftest import OssTail

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (Path(__file__).parents[2] / "docs" / "canary.md").read_text()
HOME = "oss://bucket/canary/"
QUICK = ("--interval", "10ms", "--poll", "10ms")
SUMMARY = re.compile(
    r"([\d,]+) appended, ([\d,]+) received, (\d+) missing, (\d+) duplicate, (\d+) disordered, (\d+) late, (\d+) corrupt"
    r"(; latency: half in \d+\.\d{3} s, 99 % in \d+\.\d{3} s, all in \d+\.\d{3} s)?\n"
)


class OssTailer(OssTail):
    program = (sys.executable, "-c", "import sys; from tailer.cli.service import main; sys.exit(main())")


@pytest.fixture
def oss_tailer(tmp_path: Path) -> Iterator[OssTailer]:
    with tailer.local.running(["bucket"]) as server:
        yield OssTailer(server, tmp_path)


def summed_up(stdout: bytes) -> tuple[int, ...]:
    """The counts of the line that it prints."""
    match = SUMMARY.fullmatch(stdout.decode())
    assert match is not None, stdout
    return tuple(int(count.replace(",", "")) for count in match.groups()[:7])


def keys(oss_tailer: OssTailer) -> list[str]:
    return [row.name for row in oss_tailer.server.store.list("bucket").rows]


def test_all_is_well(oss_tailer: OssTailer) -> None:
    done = oss_tailer.command(["canary", HOME, *QUICK, "--duration", "0.5s", "--late", "30", "--delete"])
    appended, received, *faults = summed_up(done.stdout)
    assert (done.status, done.stderr) == (0, "")
    assert 0 < appended == received
    assert faults == [0] * 5
    assert keys(oss_tailer) == []


@pytest.mark.parametrize(("options", "status"), [((), 0), (("--late", "0"), 3)], ids=["by itself", "--late"])
def test_what_comes_late_fails_only_where_that_is_asked(
    oss_tailer: OssTailer, options: tuple[str, ...], status: int
) -> None:
    done = oss_tailer.command(["canary", HOME, *QUICK, "--duration", "0.3", *options])
    appended, _, *_, late, _ = summed_up(done.stdout)
    assert (done.status, late) == (status, appended if options else 0)
    assert ("a record is late" in done.stderr) == bool(options)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=str)
def test_a_signal_asks_for_the_verdict(oss_tailer: OssTailer, number: signal.Signals) -> None:
    with oss_tailer.following("canary", HOME, *QUICK, "--seal") as running:
        running.wait_for(lambda: any(oss_tailer.server.store.read("bucket", key) for key in keys(oss_tailer)))
        running.process.send_signal(number)
        done = running.end()
    appended, received, *faults = summed_up(done.stdout)
    assert (done.status, done.stderr, faults) == (0, "", [0] * 5)
    assert 0 < appended == received
    (key,) = keys(oss_tailer)
    info = oss_tailer.server.store.find("bucket", key)
    assert info is not None
    assert info.sealed is not None


def is_pending(pid: int, number: signal.Signals) -> bool:
    """Was the signal sent, and did it not get there yet? Two of a kind would be one then (signal(7))."""
    status = Path(f"/proc/{pid}/status").read_text()
    pending = re.search(r"^ShdPnd:\s*(\w+)$", status, re.MULTILINE)
    return pending is not None and bool(int(pending[1], 16) >> (number - 1) & 1)


def test_a_second_ctrl_c_waits_for_nothing(oss_tailer: OssTailer) -> None:
    oss_tailer.server.faults.add(Fault("status", operation="GetObject"))
    with oss_tailer.following("canary", HOME, *QUICK, "--wait", "1h") as running:
        running.wait_for(lambda: any(oss_tailer.server.store.read("bucket", key) for key in keys(oss_tailer)))
        running.wait_for_words("trying again")
        for _ in range(2):
            running.process.send_signal(signal.SIGINT)
            running.wait_for(lambda: not is_pending(running.process.pid, signal.SIGINT))
        done = running.end()
    assert (done.status, done.stdout) == (130, b"")
    assert len(done.stderr.splitlines()) <= 2


def test_what_cannot_be_read_is_1_and_nothing_is_called_missing(oss_tailer: OssTailer) -> None:
    oss_tailer.server.faults.add(Fault("status", operation="GetObject", status=403, code="AccessDenied", message="No."))
    done = oss_tailer.command(["canary", HOME, *QUICK])
    appended, *others = summed_up(done.stdout)
    assert (done.status, others) == (1, [0] * 6)
    assert appended > 0
    assert done.stderr.startswith("oss-tailer canary: AccessDenied")
    done = oss_tailer.command(["canary", "oss://nothing/x/"])
    assert (done.status, summed_up(done.stdout)) == (1, (0,) * 7)
    assert done.stderr.startswith("oss-tailer canary: NoSuchBucket")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([HOME, "--size", "20"], "a record of 20 bytes: it can have 80 to"),
        ([HOME, "--size", "many"], "'many' is no size"),
        ([HOME, "--interval", "soon"], "'soon' is no time"),
        ([HOME, "--duration", "nan"], "a time is not below 0"),
        ([HOME, "--seal", "--delete"], "not allowed with"),
        ([HOME, "--metrics", "x:y"], "invalid address for metrics"),
        (["oss://bucket/*"], "no place for a canary"),
        (["canary/"], "is not an address"),
        ([], "required: oss://BUCKET/PREFIX/"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line_is_2(oss_tailer: OssTailer, arguments: list[str], words: str) -> None:
    done = oss_tailer.command(["canary", *arguments])
    assert (done.status, done.stdout) == (2, b"")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_metrics_while_it_runs(oss_tailer: OssTailer) -> None:
    port = _free_port()
    with oss_tailer.following("canary", HOME, *QUICK, "--metrics", str(port)) as running:

        def page() -> str:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                    return str(answer.read().decode())
            except OSError:
                return ""

        def has_received() -> bool:
            found = re.search(r"^oss_tail_canary_received_total (\d+)", page(), re.MULTILINE)
            return found is not None and int(found[1]) > 3

        running.wait_for(has_received)
        text = page()
        running.process.send_signal(signal.SIGTERM)
        assert running.end().status == 0
    assert "oss_tail_canary_missing_total 0.0\n" in text
    assert re.search(r'oss_tail_canary_latency_seconds_bucket{le="10.0"} [1-9]', text)
    if (promtool := shutil.which("promtool")) is not None:
        done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_port_that_is_taken_is_said_before_anything_is_written(oss_tailer: OssTailer) -> None:
    port = oss_tailer.server.endpoint.rpartition(":")[2]
    done = oss_tailer.command(["canary", HOME, "--metrics", port])
    assert (done.status, done.stdout) == (2, b"")
    assert f"cannot serve metrics on 127.0.0.1:{port}" in done.stderr
    assert keys(oss_tailer) == []


def test_the_page_shows_what_is_printed_and_taken() -> None:
    assert SUMMARY.search(PAGE) is not None
    assert re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE) == ["0", "1", "2", "3", "130"]
    assert re.findall(r"^\| (\w+) \| [^|]+ \|$", PAGE.partition("## What it counts")[2], re.MULTILINE)[1:] == [*COUNTS]
    shown = set(re.findall(r"`(--[a-z]+)", PAGE))
    assert shown <= {name for action in parser()._actions for name in action.option_strings}


def parser() -> argparse.ArgumentParser:
    commands = argparse.ArgumentParser().add_subparsers()
    add_parser(commands)
    return commands.choices["canary"]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
