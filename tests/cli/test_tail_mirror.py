"""`-o` from the outside: replaced objects, kills, disks and folders that are not as they should be."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

import tailer.local
from tests.cli.conftest import be_anybody

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import OssTail

FOLLOW = ("-F", "-s", "0.02")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_replaced_object_takes_the_place_of_the_old_file(oss_tail: OssTail, tmp_path: Path) -> None:
    address, path = oss_tail.renew("again", b"the first one\n"), tmp_path / "copy"
    with oss_tail.following(*FOLLOW, "-o", str(path), address) as running:
        running.wait_for(lambda: files(tmp_path) == {"copy": b"the first one\n"})
        oss_tail.renew("again", b"the second one\n")
        running.wait_for(lambda: files(tmp_path) == {"copy": b"the second one\n"})
        oss_tail.append("again", b"and more\n")
        running.wait_for(lambda: files(tmp_path) == {"copy": b"the second one\nand more\n"})


def test_generations_are_kept_on_request(oss_tail: OssTail, tmp_path: Path) -> None:
    address, path = oss_tail.renew("kept", b"0" * 10), tmp_path / "copy"
    with oss_tail.following(*FOLLOW, "--keep-generations", "--fsync=batch", "-o", str(path), address) as running:
        expected = {"copy": b"0" * 10}
        for number in (1, 2):
            running.wait_for(lambda: files(tmp_path) == expected)
            expected[f"copy%g{number - 1}"] = expected["copy"]
            expected["copy"] = b"%d" % number * (10 + number)
            oss_tail.renew("kept", expected["copy"])
        running.wait_for(lambda: files(tmp_path) == expected)


def test_a_good_mirror_survives_answers_that_are_corrupt_for_ever(oss_tail: OssTail, tmp_path: Path) -> None:
    address, path = oss_tail.renew("corrupt", b"a good line\n"), tmp_path / "copy"
    assert oss_tail.here(["-o", str(path), address]).status == 0
    with oss_tail.following(*FOLLOW, "-o", str(path), address) as running:
        oss_tail.append("corrupt", b"another\n")
        running.wait_for(lambda: path.read_bytes() == b"a good line\nanother\n")
        oss_tail.server.faults.add(tailer.local.Fault("flip-bit", method="GET", at=25))
        try:
            oss_tail.append("corrupt", b"and one that never arrives whole\n")
            assert running.end(60).status == 3
        finally:
            oss_tail.server.faults.clear()
    assert files(tmp_path) == {"copy": b"a good line\nanother\n"}
    assert oss_tail.here(["-o", str(path), address]).status == 0
    assert path.read_bytes() == b"a good line\nanother\nand one that never arrives whole\n"


@pytest.mark.parametrize("options", [[], ["--keep-generations"]])
def test_kill_9_while_a_new_generation_grows_is_gone_on_from(
    oss_tail: OssTail, tmp_path: Path, options: list[str]
) -> None:
    """The line is so slow that the first run is caught between the first bytes and their proof."""
    old, new = b"old\n" * 1000, os.urandom(20 << 20)
    address, path = oss_tail.renew("kill", old), tmp_path / "copy"
    with oss_tail.following(*FOLLOW, *options, "-o", str(path), address) as running:
        running.wait_for(lambda: files(tmp_path) == {"copy": old})
        oss_tail.server.faults.add(tailer.local.Fault("slow", method="GET", rate=4e6))
        try:
            oss_tail.renew("kill", new)
            running.wait_for(lambda: bool(files(tmp_path).get("copy%new")), 60.0)
            running.process.send_signal(signal.SIGKILL)
            running.process.wait()
        finally:
            oss_tail.server.faults.clear()
    assert path.read_bytes() == old
    left = files(tmp_path)["copy%new"]
    assert new.startswith(left)
    assert 0 < len(left) < len(new)
    assert oss_tail.here([*options, "-o", str(path), address]) == (0, b"", "")
    assert files(tmp_path) == {"copy": new} | ({"copy%g0": old} if options else {})


def test_a_mirror_that_is_not_the_objects_stays_with_every_option(oss_tail: OssTail, tmp_path: Path) -> None:
    address, path = oss_tail.renew("foreign", b"something else\n"), tmp_path / "copy"
    path.write_bytes(b"mine")
    for options in ([], ["--fsync", "close"], ["--keep-generations"], [*FOLLOW, "--exit-idle=1"]):
        done = oss_tail.here([*options, "-o", str(path), address])
        assert done.status == 3
        assert "are not the beginning of the object" in done.stderr
        assert files(tmp_path) == {"copy": b"mine"}


def test_a_folder_that_vanishes_while_following_is_one_line_and_not_silent(oss_tail: OssTail, tmp_path: Path) -> None:
    address, folder = oss_tail.renew("vanish", b"first\n"), tmp_path / "mirrors"
    with oss_tail.following(*FOLLOW, "-o", f"{folder}/", address) as running:
        running.wait_for(lambda: files(tmp_path) == {"mirrors/bucket/vanish": b"first\n"})
        shutil.rmtree(folder)
        oss_tail.append("vanish", b"second\n")
        done = running.end()
    assert done.status == 1
    assert "vanish' was deleted while the object was mirrored into it" in done.stderr
    assert oss_tail.here(["-o", f"{folder}/", address]).status == 0
    assert files(tmp_path) == {"mirrors/bucket/vanish": b"first\nsecond\n"}


def test_a_disk_that_fails_is_one_line_and_the_mirror_can_be_continued(
    oss_tail: OssTail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, path = oss_tail.renew("eio", b"first\n"), tmp_path / "copy"
    assert oss_tail.here(["-o", str(path), address]).status == 0
    oss_tail.append("eio", b"second\n")

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        done = oss_tail.here([*FOLLOW, "-o", str(path), address])
    assert done.status == 1
    assert done.stderr.startswith(
        f"oss-tail: cannot write '{path}': Input/output error (it holds the first 6 bytes and can be continued)\n"
    )
    assert oss_tail.here(["-o", str(path), address]) == (0, b"", "")
    assert path.read_bytes() == b"first\nsecond\n"


def test_a_sync_that_fails_is_the_end_with_status_1(
    oss_tail: OssTail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    address, path = oss_tail.renew("sync", b"first\n"), tmp_path / "copy"
    for policy in ("close", "batch"):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            done = oss_tail.here([f"--fsync={policy}", "-o", str(path), address])
        assert (done.status, done.stderr) == (1, f"oss-tail: cannot sync '{path}': Input/output error\n")
        path.unlink()


@pytest.fixture
def read_only(mounted: Callable[[str], Path]) -> Path:
    """A file system that takes no writes."""
    return mounted("ro,size=1m")


@pytest.mark.parametrize("target", ["copy", "folder/"])
def test_a_read_only_file_system_is_one_line(oss_tail: OssTail, read_only: Path, target: str) -> None:
    address = oss_tail.renew("read-only", b"first\n")
    done = oss_tail.here([*FOLLOW, "-o", f"{read_only}/{target}", address])
    assert done.status == 1
    assert done.stderr.startswith(f"oss-tail: cannot mirror to '{read_only}/")
    assert "Read-only file system" in done.stderr.splitlines()[0]


@pytest.mark.parametrize("target", ["copy", "folder/", "there"])
def test_without_the_right_to_write_it_is_one_line_and_nothing_is_changed(
    oss_tail: OssTail, tmp_path: Path, target: str
) -> None:
    """Into a folder, below one, and into a file that may not be written."""
    address = oss_tail.renew("no-right", b"first\n")
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "there").write_bytes(b"fir")
    (folder / "there").chmod(0o400)
    folder.chmod(0o555)
    process = oss_tail.popen(
        ["-o", f"{folder}/{target}", address], preexec_fn=be_anybody, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = process.communicate(timeout=60)
    folder.chmod(0o755)
    assert (process.returncode, out, err.count(b"\n")) == (1, b"", 1)
    assert err.startswith(f"oss-tail: cannot mirror to '{folder}/".encode())
    assert b"Permission denied" in err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {"there": b"fir"}


def test_ctrl_c_tells_of_a_sync_that_fails(oss_tail: OssTail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes once the bytes are there; the fsync at the end is refused."""
    address, path = oss_tail.renew("ctrl-c", b"first\n"), tmp_path / "copy"
    idle = threading.Event()

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def interrupt() -> None:
        deadline = time.monotonic() + 30
        while not idle.wait(0.01) and time.monotonic() < deadline:
            if path.exists() and path.read_bytes() == b"first\n":
                os.kill(os.getpid(), signal.SIGINT)
                return

    monkeypatch.setattr(os, "fsync", fail)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        done = oss_tail.here([*FOLLOW, "--exit-idle=60", "--fsync=close", "-o", str(path), address])
    finally:
        idle.set()
        thread.join()
    assert (done.status, done.stderr) == (130, f"oss-tail: cannot sync '{path}': Input/output error\n")
