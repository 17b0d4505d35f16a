"""`oss-append`: what is read is in the object, whole or as a true prefix; and every failure is one line."""

from __future__ import annotations

import itertools
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tailer.local
from tailer.cli.append import run
from tailer.local import Fault
from tests.cli.conftest import Finished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tailer.local import LocalServer

COMMAND = [sys.executable, "-c", "from tailer.cli.append import main; main()"]
ADDRESS = "oss://bucket/log"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalServer]:
    """A server, and an environment that leads to it and to nothing else."""
    for name in [name for name in os.environ if name.startswith(("OSS", "ALIBABA", "HTTP", "http"))]:
        monkeypatch.delenv(name)
    with tailer.local.running(["bucket"]) as server:
        for name, value in {**server.environment(), "HOME": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        yield server


def here(*arguments: str, data: bytes = b"") -> Finished:
    """In this process, with `data` on standard input."""
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        stdin.write(data)
        stdin.seek(0)
        status = run(arguments, stdin=stdin.fileno(), stdout=stdout.fileno(), stderr=stderr.fileno())
        stdout.seek(0)
        stderr.seek(0)
        return Finished(status, stdout.read(), stderr.read().decode())


def content(server: LocalServer, key: str = "log") -> bytes:
    return server.store.read("bucket", key) if server.store.find("bucket", key) else b""


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_standard_input_goes_to_the_end_of_the_object(server: LocalServer) -> None:
    assert here(ADDRESS, data=b"one\n") == Finished(0, b"", "")
    assert here(ADDRESS, "-", data=b"two\n") == Finished(0, b"", "")
    assert content(server) == b"one\ntwo\n"


def test_files_go_one_after_the_other_byte_for_byte(server: LocalServer, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3_000_000)
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(b"no newline")
    assert here("--flush-bytes", "1M", ADDRESS, str(tmp_path / "a"), str(tmp_path / "b")).status == 0
    assert content(server) == data + b"no newline"


def test_options_can_stand_between_the_object_and_its_files(server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one\n")
    (tmp_path / "b").write_bytes(b"two\n")
    assert here(ADDRESS, "--lines", str(tmp_path / "a"), "--flush-bytes", "1M", str(tmp_path / "b")).status == 0
    assert content(server) == b"one\ntwo\n"


@pytest.mark.parametrize("lines", [[], ["--lines"]])
def test_nothing_makes_an_empty_object_and_changes_none(server: LocalServer, lines: list[str]) -> None:
    for _ in range(2):
        assert here(*lines, ADDRESS) == Finished(0, b"", "")
        assert server.store.head("bucket", "log").size == 0


def test_standard_input_that_is_closed_is_one_error(server: LocalServer) -> None:
    done = subprocess.run(
        ["bash", "-c", 'exec "$@" <&-', "bash", *COMMAND, ADDRESS],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "oss-append: cannot read '-': Bad file descriptor\n"


def test_a_file_that_cannot_be_read_is_told_and_the_others_are_appended(server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"good")
    done = here(ADDRESS, str(tmp_path / "missing"), str(tmp_path), str(tmp_path / "good"))
    assert done.status == 1
    assert done.stderr == (
        f"oss-append: cannot read '{tmp_path}/missing': No such file or directory\n"
        f"oss-append: cannot read '{tmp_path}': Is a directory\n"
    )
    assert content(server) == b"good"


def test_tee_writes_it_to_standard_output_too(server: LocalServer) -> None:
    data = b"x\0\xff" * 700_000
    assert here("--tee", ADDRESS, data=data) == Finished(0, data, "")
    assert content(server) == data


def test_a_new_object_has_what_it_is_given_and_an_old_one_is_left_and_it_is_said(server: LocalServer) -> None:
    options = ["--meta", "source=web=1", "--content-type", "text/csv", "--storage-class", "IA", "--acl", "private",
               "--tag", "team=a b", "--create-only"]  # fmt: skip
    assert here(*options, ADDRESS, data=b"x") == Finished(0, b"", "")
    info = server.store.head("bucket", "log")
    assert (info.storage_class, info.acl, info.tags) == ("IA", "private", (("team", "a b"),))
    headers = {name.lower(): value for name, value in info.headers.items()}
    assert (headers["content-type"], headers["x-oss-meta-source"]) == ("text/csv", "web=1")
    done = here("--meta", "a=b", ADDRESS, data=b"y")
    assert done.status == 0
    assert done.stderr.startswith("oss-append: oss://bucket/log exists: ")
    assert "not applied" in done.stderr


def test_expectations_that_do_not_hold_are_exit_status_3(server: LocalServer) -> None:
    server.store.append("bucket", "log", 0, b"1234")
    assert here("--create-only", ADDRESS, data=b"x") == Finished(
        3, b"", "oss-append: oss://bucket/log exists already\n"
    )
    assert here("--expect-position", "3", ADDRESS, data=b"x").status == 3
    assert here("--expect-position", "4", ADDRESS, data=b"x").status == 0
    assert content(server) == b"1234x"


def test_a_sealed_object_takes_no_more(server: LocalServer) -> None:
    assert here("--seal", ADDRESS, data=b"x").status == 0
    assert server.store.head("bucket", "log").sealed is not None
    done = here(ADDRESS, data=b"y")
    assert done.status == 1
    assert done.stderr.count("\n") == 1
    assert "is sealed" in done.stderr


def test_a_pattern_names_the_objects(server: LocalServer) -> None:
    assert here("--pattern", "oss://bucket/app-{n:06}.log", data=b"x").status == 0
    assert content(server, "app-000000.log") == b"x"


def test_what_passes_is_told_once_and_outlived(server: LocalServer) -> None:
    server.faults.add(Fault("status", operation="AppendObject", status=500, code="InternalError", count=2))
    done = here(ADDRESS, data=b"one\n")
    assert done.status == 0
    assert done.stderr.count("InternalError") == done.stderr.count("\n") >= 1
    assert "trying again" in done.stderr
    assert content(server) == b"one\n"


def test_another_writer_is_exit_status_3_and_by_option_none(server: LocalServer) -> None:
    for options, status in (([], 3), (["--shared"], 0)):
        server.store.delete("bucket", "log") if server.store.find("bucket", "log") else None
        server.store.append("bucket", "log", 0, b"")
        process = subprocess.Popen([*COMMAND, *options, "--flush-interval", "0.01", ADDRESS], stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(b"one\n")
        process.stdin.flush()
        wait_for(lambda: content(server) == b"one\n")
        server.store.append("bucket", "log", 4, b"other\n")
        process.communicate(b"two\n", timeout=30)
        assert process.returncode == status
    assert content(server) == b"one\nother\ntwo\n"


def test_lines_are_never_cut_until_the_last(server: LocalServer) -> None:
    process = subprocess.Popen([*COMMAND, "--lines", "--flush-interval", "0", ADDRESS], stdin=subprocess.PIPE)
    assert process.stdin is not None
    for piece in (b"one\ntw", b"o\nthr"):
        process.stdin.write(piece)
        process.stdin.flush()
        expected = b"one\n" if piece.endswith(b"tw") else b"one\ntwo\n"
        wait_for(lambda expected=expected: content(server) == expected)  # type: ignore[misc]
    process.communicate(timeout=30)
    assert (process.returncode, content(server)) == (0, b"one\ntwo\nthr")


def test_a_record_that_is_longer_than_a_flush_goes_whole(server: LocalServer) -> None:
    """At every moment the object ends behind a line."""
    lines = [b"short\n", b"x" * 300_000 + b"\n", b"end\n"] * 3
    sizes: list[int] = []
    server.store.on_change = lambda bucket, key, info: sizes.append(info.size) if info else None
    assert here("--lines", "--flush-bytes", "1K", ADDRESS, data=b"".join(lines)).status == 0
    assert content(server) == b"".join(lines)
    assert set(sizes) <= {0, *itertools.accumulate(map(len, lines))}


def test_bytes_without_a_newline_all_go_at_the_end_with_lines_too(server: LocalServer) -> None:
    data = b"\xff\x00" * 2_000_000
    assert here("--lines", ADDRESS, data=data) == Finished(0, b"", "")
    assert content(server) == data


def test_a_token_that_expires_in_mid_stream_is_one_line_and_leaves_whole_records(server: LocalServer) -> None:
    lines = [b"%d %s\n" % (number, b"x" * 100) for number in range(40_000)]
    server.faults.add(Fault("status", operation="AppendObject", status=403, code="SecurityTokenExpired", after=1))
    done = here("--lines", "--flush-bytes", "5K", ADDRESS, data=b"".join(lines))
    assert (done.status, done.stderr.count("\n")) == (1, 1)
    assert "SecurityTokenExpired" in done.stderr
    assert b"".join(lines).startswith(content(server))
    assert content(server).endswith(b"\n")


def test_a_service_whose_disk_is_full_is_waited_for(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of an append that it could not store is in the object, and nothing is lost."""
    lines = b"".join(b"%d %s\n" % (number, b"x" * 100) for number in range(3000))
    folder = tmp_path / "root"
    local = [sys.executable, "-c", "from tailer.cli.local import main; raise SystemExit(main())"]
    arguments = ["--root", str(folder), "--bucket", "bucket", "--port", "0"]
    with subprocess.Popen(
        [*local, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as serving:
        assert serving.stdout is not None
        endpoint = re.search(r"OSS_ENDPOINT='?(http://[^'\s]+)", serving.stdout.readline())
        assert endpoint is not None
        monkeypatch.setenv("OSS_ENDPOINT", endpoint[1])
        # No file may grow beyond this: to the server that is a disk that is full.
        resource.prlimit(serving.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        with (tmp_path / "stderr").open("wb") as stderr:
            writer = subprocess.Popen(
                [*COMMAND, "--lines", "--flush-bytes", "20K", ADDRESS], stdin=subprocess.PIPE, stderr=stderr
            )
        feeding = threading.Thread(target=writer.communicate, args=(lines,))
        feeding.start()
        try:
            wait_for(lambda: b"trying again" in (tmp_path / "stderr").read_bytes())
            log = folder / "bucket" / "log"
            stored = log.read_bytes() if log.exists() else b""
            assert lines.startswith(stored)
            assert stored[-1:] in (b"", b"\n")
            resource.prlimit(serving.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            feeding.join(60)
        finally:
            writer.kill()
            serving.kill()
    assert writer.returncode == 0
    assert (tmp_path / "stderr").read_bytes().count(b"\n") == 1
    assert (folder / "bucket" / "log").read_bytes() == lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_sends_what_it_has_read(server: LocalServer, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*COMMAND, "--tee", "--flush-interval", "60", ADDRESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert process.stdout.read(4) == b"one\n"
        process.send_signal(number)
        assert process.wait(30) == 128 + number
    assert content(server) == b"one\n"


def test_killed_it_leaves_a_true_prefix(server: LocalServer) -> None:
    """Ten times, at random, in the middle of a stream."""
    chance = random.Random(3)
    data = b"".join(b"line %d\n" % number for number in range(200_000))
    for _ in range(10):
        server.store.delete("bucket", "log") if server.store.find("bucket", "log") else None
        with subprocess.Popen([*COMMAND, "--lines", "--flush-bytes", "10K", ADDRESS], stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            process.stdin.write(data[: chance.randrange(60_000)])
            process.stdin.flush()
            wait_for(lambda: server.store.find("bucket", "log") is not None)
            time.sleep(chance.random() * 0.02)
            process.kill()
        found = content(server)
        assert data.startswith(found)
        assert found.endswith(b"\n") or not found


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "missing operand"),
        (["bucket/key"], "bucket/key"),
        (["https://host/key"], "can only be read"),
        (["--meta", "x", ADDRESS], "KEY=VALUE"),
        (["--flush-bytes", "x", ADDRESS], "number of bytes"),
        (["--flush-bytes", "0", ADDRESS], "--flush-bytes is at least 1"),
        (["--create-only", "--shared", ADDRESS], "--create-only and --shared contradict each other"),
        (["--meta", "a=1", "--meta", "a=2", ADDRESS], "--meta a is given twice"),
        (["--tag", "a=1", "--tag", "a=1", ADDRESS], "--tag a is given twice"),
        ([ADDRESS, "-f", "-"], "standard input"),
        ([ADDRESS, "-f", "one", "two"], "-f and further files"),
        (["--flush-interval", "-1", ADDRESS], "seconds"),
        (["--acl", "x", ADDRESS], "acl"),
        (["--nothing", ADDRESS], "--nothing"),
        ([ADDRESS, "-", "-"], "once"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_exit_status_2(
    server: LocalServer, arguments: list[str], words: str
) -> None:
    done = here(*arguments)
    assert done.status == 2
    assert done.stderr.startswith("oss-append: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_help_and_version(server: LocalServer) -> None:
    assert b"--flush-interval" in here("--help").stdout
    assert here("--version").stdout.startswith(b"oss-append ")


def test_progress_is_drawn_and_taken_away(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailer.cli.append._BETWEEN_DRAWINGS", 0.0)
    done = here("--progress", ADDRESS, data=b"x" * 1000)
    assert "1.0 kB read" in done.stderr
    assert done.stderr.endswith("\r\x1b[K")
