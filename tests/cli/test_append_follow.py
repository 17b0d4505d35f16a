"""`oss-append -f`: what a local file gets is in the object once and in order, through rotation and kill -9."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tailer.local
from tailer.cli.append import run
from tests.cli.conftest import be_anybody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tailer.local import LocalServer

COMMAND = [sys.executable, "-c", "from tailer.cli.append import main; main()"]
TAIL = [sys.executable, "-c", "import sys; from tailer.cli.tail import main; sys.exit(main())"]
ADDRESS = "oss://bucket/log"
KILLS = int(os.environ.get("KILLS", "8"))
MIBS = int(os.environ.get("MIBS", "64"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalServer]:
    """A server, and an environment that leads to it and to nothing else."""
    for name in [name for name in os.environ if name.startswith(("OSS", "ALIBABA", "HTTP", "http"))]:
        monkeypatch.delenv(name)
    with tailer.local.running(["bucket"]) as server:
        for name, value in {**server.environment(), "HOME": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def log(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder / "app.log"


class Following:
    """The real command under way."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Path) -> None:
        self.process = process
        self._errors = errors

    @property
    def stderr(self) -> str:
        return self._errors.read_text()


@contextmanager
def following(log: Path, *options: str) -> Iterator[Following]:
    """With a short flush interval and a checkpoint beside the folder of the log; killed at the end."""
    errors = log.parent.parent / "stderr"
    kept = str(log.parent.parent / "kept")
    arguments = ["--flush-interval", "0.02", "--checkpoint", kept, *options, ADDRESS, "-f", str(log)]
    with errors.open("wb") as stderr, subprocess.Popen([*COMMAND, *arguments], stderr=stderr) as process:
        try:
            yield Following(process, errors)
        finally:
            process.kill()


def content(server: LocalServer) -> bytes:
    return server.store.read("bucket", "log") if server.store.find("bucket", "log") else b""


def wait_for(is_so: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def here(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    """A run that ends by itself, in this process: its exit status and what it said."""
    with (tmp_path / "said").open("w+b") as stderr:
        status = run(arguments, stderr=stderr.fileno())
        stderr.seek(0)
        return status, stderr.read().decode()


def add(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def rename(log: Path) -> None:
    for number in range(30, 0, -1):
        if (old := log.with_name(f"{log.name}.{number}")).exists():
            old.rename(log.with_name(f"{log.name}.{number + 1}"))
    log.rename(log.with_name(f"{log.name}.1"))


def copy_and_truncate(log: Path) -> None:
    for number in range(30, 0, -1):
        if (old := log.with_name(f"{log.name}.{number}")).exists():
            old.rename(log.with_name(f"{log.name}.{number + 1}"))
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    os.truncate(log, 0)


@pytest.mark.timeout(0 if KILLS > 20 else 120)
@pytest.mark.parametrize("rotate", [rename, copy_and_truncate])
def test_killed_again_and_again_under_rotation_it_loses_and_doubles_nothing(
    server: LocalServer, log: Path, rotate: Callable[[Path], None]
) -> None:
    chance = random.Random(f"{rotate.__name__} {KILLS}")
    written = bytearray()
    is_over = threading.Event()

    def produce() -> None:
        number, rotate_at = 0, time.monotonic() + 0.3
        while not is_over.wait(0.002):
            lines = b"".join(b"%d %s\n" % (number + i, b"x" * chance.randrange(80)) for i in range(20))
            number += 20
            add(log, lines)
            written.extend(lines)
            # Before its first append it knows nothing of this file, and need not look for what was in it.
            if time.monotonic() > rotate_at and content(server):
                rotate(log)
                rotate_at = time.monotonic() + 0.1 + chance.random() * 1.5

    producer = threading.Thread(target=produce)
    producer.start()
    try:
        for _ in range(KILLS):
            before = len(content(server))
            with following(log, "--lines") as run_:
                wait_for(lambda run_=run_, before=before: run_.process.poll() or len(content(server)) > before)  # type: ignore[misc]
                assert run_.process.poll() is None, run_.stderr
                time.sleep(chance.random() * 0.4)
                run_.process.kill()
            assert bytes(written).startswith(content(server)), "what the object has is no prefix of what was written"
    finally:
        is_over.set()
        producer.join()
    with following(log, "--lines") as run_:
        wait_for(lambda: run_.process.poll() is not None or content(server) == bytes(written))
        assert content(server) == bytes(written), run_.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_sends_what_it_has_read(server: LocalServer, log: Path, number: signal.Signals) -> None:
    add(log, b"one\n")
    with following(log, "--flush-interval", "60", "--tee") as run_:
        wait_for(lambda: server.store.find("bucket", "log") is not None and (log.parent.parent / "kept").exists())
        time.sleep(0.2)  # it has been told nothing that could be waited for
        run_.process.send_signal(number)
        assert run_.process.wait(30) == 128 + number
    assert content(server) == b"one\n"


def test_without_lines_what_has_no_newline_goes_and_with_lines_it_waits(server: LocalServer, log: Path) -> None:
    add(log, b"\x00\xff" * 500)
    with following(log):
        wait_for(lambda: content(server) == b"\x00\xff" * 500)
    with following(log, "--lines"):
        add(log, b"\xfe")
        time.sleep(0.3)
        assert content(server) == b"\x00\xff" * 500
        add(log, b"\n")
        wait_for(lambda: content(server) == b"\x00\xff" * 500 + b"\xfe\n")


def test_with_lines_the_unfinished_last_line_of_a_rotated_file_goes_before_the_next(
    server: LocalServer, log: Path
) -> None:
    add(log, b"one\ntw")
    with following(log, "--lines"):
        wait_for(lambda: content(server) == b"one\n")
        rename(log)
        add(log, b"three\n")
        wait_for(lambda: content(server) == b"one\ntwthree\n")


def test_a_file_that_vanishes_is_waited_for_and_it_is_said(server: LocalServer, log: Path) -> None:
    add(log, b"one\n")
    with following(log) as run_:
        wait_for(lambda: content(server) == b"one\n")
        log.unlink()
        wait_for(lambda: "waiting for it" in run_.stderr)
        add(log, b"two\n")
        wait_for(lambda: content(server) == b"one\ntwo\n")


def test_a_file_that_shrinks_is_begun_anew_and_it_is_said(server: LocalServer, log: Path) -> None:
    add(log, b"one\ntwo\n")
    with following(log) as run_:
        wait_for(lambda: content(server) == b"one\ntwo\n")
        log.write_bytes(b"3\n")
        wait_for(lambda: content(server) == b"one\ntwo\n3\n")
        assert "truncated" in run_.stderr


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda server: server.store.delete("bucket", "log"), "oss://bucket/log"),
        (lambda server: server.store.append("bucket", "log", 4, b"x"), "another writer"),
    ],
    ids=["deleted", "written to"],
)
def test_an_object_that_changes_between_appends_ends_it_with_3(
    server: LocalServer, log: Path, spoil: Callable[[LocalServer], None], words: str
) -> None:
    add(log, b"one\n")
    with following(log) as run_:
        wait_for(lambda: content(server) == b"one\n")
        spoil(server)
        add(log, b"two\n")
        assert run_.process.wait(30) == 3
        assert words in run_.stderr


def test_an_object_that_is_sealed_between_appends_ends_it_with_1(server: LocalServer, log: Path) -> None:
    add(log, b"one\n")
    with following(log) as run_:
        wait_for(lambda: content(server) == b"one\n")
        server.store.seal("bucket", "log", 4)
        add(log, b"two\n")
        assert run_.process.wait(30) == 1
        assert "sealed" in run_.stderr


def test_an_object_of_other_bytes_is_refused_and_left(server: LocalServer, log: Path, tmp_path: Path) -> None:
    server.store.append("bucket", "log", 0, b"other\n")
    add(log, b"one\ntwo\n")
    status, said = here(tmp_path, ADDRESS, "-f", str(log))
    assert (status, said.count("\n")) == (3, 1)
    assert "not the beginning" in said
    assert content(server) == b"other\n"


def test_two_on_one_checkpoint_are_one_line_and_exit_status_1(server: LocalServer, log: Path, tmp_path: Path) -> None:
    """The second would take the mark of the first for its own; killed, the first lets go of it."""
    add(log, b"one\n")
    arguments = ["--checkpoint", str(tmp_path / "kept"), ADDRESS, "-f", str(log)]
    with following(log):
        wait_for(lambda: content(server) == b"one\n")
        status, said = here(tmp_path, *arguments)
        assert (status, said.count("\n")) == (1, 1)
        assert "another oss-append uses it" in said
    with following(log):
        add(log, b"two\n")
        wait_for(lambda: content(server) == b"one\ntwo\n")


def test_what_was_lost_while_down_is_one_line_and_exit_status_1(server: LocalServer, log: Path, tmp_path: Path) -> None:
    add(log, b"one\n")
    with following(log):
        wait_for(lambda: content(server) == b"one\n")
    log.write_bytes(b"two\n")
    status, said = here(tmp_path, "--checkpoint", str(tmp_path / "kept"), ADDRESS, "-f", str(log))
    assert (status, said.count("\n")) == (1, 1)
    assert "--skip-lost" in said
    with following(log, "--skip-lost"):
        wait_for(lambda: content(server) == b"one\ntwo\n")


def test_a_folder_is_one_line_and_exit_status_1(server: LocalServer, tmp_path: Path) -> None:
    status, said = here(tmp_path, ADDRESS, "-f", str(tmp_path))
    assert (status, said.count("\n")) == (1, 1)
    assert "Is a directory" in said


def test_an_unreadable_file_is_one_line_and_exit_status_1(server: LocalServer, log: Path) -> None:
    add(log, b"x")
    log.chmod(0)
    done = subprocess.run(
        [*COMMAND, ADDRESS, "-f", str(log)],
        preexec_fn=be_anybody,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, f"oss-append: cannot read '{log}': Permission denied\n")


def test_an_unreadable_file_of_before_the_first_start_is_no_error(server: LocalServer, log: Path) -> None:
    add(old := log.with_name("app.log.1"), b"old\n")
    old.chmod(0)
    os.utime(old, ns=(10**18, 10**18))
    add(log, b"one\n")
    arguments = [*COMMAND, "--flush-interval", "0", ADDRESS, "-f", str(log)]
    with subprocess.Popen(arguments, preexec_fn=be_anybody, stderr=subprocess.PIPE) as process:
        try:
            wait_for(lambda: process.poll() is not None or content(server) == b"one\n")
        finally:
            process.terminate()
        assert process.stderr is not None
        assert (process.stderr.read(), process.wait()) == (b"", 143)


@pytest.mark.parametrize(
    "options",
    [["--seal"], ["--shared"], ["--pattern"], ["further"]],
    ids=lambda it: it[0],
)
def test_what_contradicts_it_is_exit_status_2(server: LocalServer, tmp_path: Path, options: list[str]) -> None:
    assert here(tmp_path, ADDRESS, *options, "-f", str(tmp_path / "log"))[0] == 2
    assert here(tmp_path, ADDRESS, "--skip-lost")[0] == 2


@pytest.mark.timeout(0 if MIBS > 64 else 120)
def test_what_one_appends_the_other_prints(server: LocalServer, tmp_path: Path) -> None:
    """Bytes of chance through `oss-append` and a live `oss-tail -F`."""
    chance, appended, printed = random.Random(5), hashlib.sha256(), hashlib.sha256()
    server.store.append("bucket", "log", 0, b"")
    with (
        subprocess.Popen([*TAIL, "-q", "-s", "0.05", "-c", "+1", "-F", ADDRESS], stdout=subprocess.PIPE) as reader,
        subprocess.Popen([*COMMAND, "--flush-bytes", "4M", "--seal", ADDRESS], stdin=subprocess.PIPE) as writer,
    ):

        def feed() -> None:
            assert writer.stdin is not None
            for _ in range(MIBS):
                piece = chance.randbytes(1 << 20)
                appended.update(piece)
                writer.stdin.write(piece)
            writer.stdin.close()

        feeder = threading.Thread(target=feed)
        feeder.start()
        assert reader.stdout is not None
        while piece := reader.stdout.read(1 << 20):
            printed.update(piece)
        feeder.join()
        assert (writer.wait(30), reader.wait(30)) == (0, 0)
    assert printed.digest() == appended.digest()
    assert server.store.head("bucket", "log").size == MIBS << 20
