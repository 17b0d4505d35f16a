"""What holds state is for its owner alone, however generous the umask is."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

import tailer.local
from tailer.checkpoints import Checkpoints
from tailer.core.events import Batch
from tailer.core.position import Mark, ObjectRef, Position
from tailer.follow import _Spool
from tailer.sinks.proven import ProvenNote
from tailer.watch import Mark as FileMark
from tailer.watch import load_mark, save_mark
from tests.cli.conftest import OssTail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REF = ObjectRef("bucket", "key")
FILE_MARK = FileMark(1, 2, 3, (4, 5), Position(6, 7))


@pytest.fixture(autouse=True)
def _generous() -> Iterator[None]:
    """Whatever is made may be read and written by everybody, unless whoever makes it says otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def open_to_others(folder: Path) -> dict[str, str]:
    """Files below `folder` that somebody else could read or write."""
    modes = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a draft that has its name by now
            modes[path.name] = path.lstat().st_mode
    assert modes, "there is something to look at"
    return {name: oct(mode) for name, mode in modes.items() if stat.S_ISREG(mode) and mode & 0o077}


def test_checkpoints_their_log_and_their_locks(tmp_path: Path) -> None:
    with Checkpoints.open(tmp_path / "state.db", "one", owner="a test") as mine:
        mine.commit({REF: Mark.at(Position(1, 2))})
        with Checkpoints.open(tmp_path / "state.db", "two", owner="a test") as other:
            other.commit({REF: Mark.at(Position(3, 4))})
            names = {path.name for path in tmp_path.iterdir()}
            assert {"state.db", "state.db-wal", "state.db-shm"} < names
            assert len(names) == 5, "and a lock for each group"
            assert open_to_others(tmp_path) == {}
    assert open_to_others(tmp_path) == {}


def test_the_note_of_what_was_sent_of_a_file(tmp_path: Path) -> None:
    save_mark(tmp_path / "kept", FILE_MARK, target="oss://bucket/key", source=tmp_path / "log")
    assert open_to_others(tmp_path) == {}


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_note_is_not_written_where_somebody_else_wants_it(tmp_path: Path, link: Callable[[Path, Path], None]) -> None:
    """In a folder that all may write to, names can be guessed and be taken before."""
    kept, victim = tmp_path / "kept", tmp_path / "victim"
    victim.write_text("precious")
    link(victim, tmp_path / f".kept.{os.getpid()}.new")
    save_mark(kept, FILE_MARK, target="oss://bucket/key", source=tmp_path / "log")
    assert load_mark(kept, target="oss://bucket/key", source=tmp_path / "log") == FILE_MARK
    assert victim.read_text() == "precious"
    assert open_to_others(tmp_path) == {"victim": "0o100666"}


def test_the_note_of_what_is_proven_of_a_mirror(tmp_path: Path) -> None:
    ProvenNote(tmp_path / "mirror").keep(Position(5, 6))
    assert [path.name for path in tmp_path.iterdir()] == ["mirror%ok"]
    assert open_to_others(tmp_path) == {}


def test_what_waits_for_its_proof_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spool = _Spool(0, 1 << 30)
    try:
        for start in range(0, 12 << 20, 4 << 20):
            spool.add(Batch(REF, 0, start, start + (4 << 20), bytes(4 << 20), verified=False))
        assert spool._file is not None
        assert stat.S_IMODE(os.fstat(spool._file.fileno()).st_mode) == 0o600
        assert list(tmp_path.iterdir()) == []
    finally:
        spool.close()


def test_the_commands_leave_nothing_open_to_others(tmp_path: Path) -> None:
    """While they run, and when they are killed."""
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    log = tmp_path / "log"
    log.write_bytes(b"line\n")
    with tailer.local.running(["bucket"]) as server:
        oss = OssTail(server, tmp_path)
        address = oss.append("key", b"line\n")
        append = [
            sys.executable,
            "-c",
            "from tailer.cli.append import main; main()",
            "oss://bucket/copy",
            "-f",
            str(log),
        ]
        command = [*append, "--checkpoint", str(state / "sent")]
        process = subprocess.Popen(command, env=oss.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            with oss.following("-F", "-c", "+1", "--checkpoint", str(state / "marks.db"), address) as tail:
                tail.wait_for(lambda: (state / "sent").exists() and (state / "marks.db-wal").exists())
                assert open_to_others(state) == {}
        finally:
            process.kill()
            process.wait()
    assert open_to_others(state) == {}
