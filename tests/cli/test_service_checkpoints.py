"""`oss-tailer`: looking at checkpoints and changing them, and the proof that a file is an object."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tailer.checkpoints import Checkpoints, read_all
from tailer.cli.service import main
from tailer.core import crc64
from tailer.core.position import Claim, Mark, ObjectRef, Position
from tailer.local import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import OssTail

    Run = Callable[..., tuple[int, str, str]]

A, B = ObjectRef("bucket", "a.log"), ObjectRef("bucket", "odd\x1b[1m key")
MARK = Mark(Position(50, 2**64 - 1, 3, Claim(2, 5, 6, 7)), Position(40, None, 3))


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, oss_tail: OssTail) -> Run:
    """The command in this process: status, standard output, standard error."""
    for name, value in oss_tail.environment.items():
        monkeypatch.setenv(name, value)

    def command(*arguments: object, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        status = main([str(argument) for argument in arguments])
        return status, *capfd.readouterr()

    return command


@pytest.fixture
def state(tmp_path: Path) -> Path:
    path = tmp_path / "state.db"
    for group in ("default", "b/2"):
        with Checkpoints.open(path, group, owner="a test") as mine:
            mine.commit({A: MARK, B: Mark.at(Position(7, 8))}, 1.5)
    return path


def test_list_shows_every_group_and_no_control_character(run: Run, state: Path) -> None:
    status, out, err = run("checkpoints", "list", state)
    assert (status, err) == (0, "")
    assert len(out.splitlines()) == 5
    assert out.splitlines()[1].split()[:5] == ["b/2", "50", "40", "5", "3"]
    assert "\x1b" not in out
    assert len(run("checkpoints", "list", state, "--group", "b/2")[1].splitlines()) == 3


def test_show_says_all_of_one_object(run: Run, state: Path) -> None:
    status, out, _ = run("checkpoints", "show", state, "--group", "default", A)
    assert status == 0
    assert f"50 bytes, CRC-64 {2**64 - 1}" in out
    assert "40 bytes, CRC-64 unknown" in out
    assert "unproven         the first 5 bytes\n" in out
    assert out.count("group") == 1


def test_an_object_that_is_not_known(run: Run, state: Path) -> None:
    status, out, err = run("checkpoints", "show", state, "oss://bucket/other")
    assert (status, out) == (2, "")
    assert "knows nothing of 'oss://bucket/other'" in err


def test_reset_of_one_group_leaves_the_other_alone(run: Run, state: Path) -> None:
    assert run("checkpoints", "reset", state, "--group", "b/2", A)[:2] == (0, "1 forgotten\n")
    assert [(one.group, one.ref) for one in read_all(state)] == [("b/2", B), ("default", A), ("default", B)]
    assert run("checkpoints", "reset", state, "--group", "b/2", "all")[:2] == (0, "1 forgotten\n")
    assert [one.group for one in read_all(state)] == ["default", "default"]


def test_reset_wants_objects_or_all(run: Run, state: Path) -> None:
    assert run("checkpoints", "reset", state, "all", "oss://bucket/a.log")[0] == 2
    assert len(read_all(state)) == 4


def test_what_is_in_use_is_not_changed(run: Run, state: Path) -> None:
    with Checkpoints.open(state, "default", owner="a reader"):
        for arguments in (["reset", state, "all"], ["import", state]):
            status, _, err = run("checkpoints", *arguments, stdin=run("checkpoints", "export", state)[1])
            assert status == 1
            assert "in use by a reader" in err
    assert len(read_all(state)) == 4


def test_export_and_import_are_one_round(run: Run, state: Path, tmp_path: Path) -> None:
    exported = run("checkpoints", "export", state)[1]
    copy = tmp_path / "copy.db"
    assert run("checkpoints", "import", copy, stdin=exported)[:2] == (0, "4 imported\n")
    assert read_all(copy) == read_all(state)
    assert [json.loads(line)["group"] for line in exported.splitlines()] == ["b/2", "b/2", "default", "default"]


def test_an_import_with_a_line_that_is_not_right_imports_nothing(run: Run, state: Path, tmp_path: Path) -> None:
    exported = run("checkpoints", "export", state)[1]
    status, out, err = run("checkpoints", "import", tmp_path / "copy.db", stdin=exported + "{}\n")
    assert (status, out) == (2, "")
    assert "not an exported checkpoint: '{}'" in err
    assert not (tmp_path / "copy.db").exists()


@pytest.mark.parametrize("command", [["list"], ["export"], ["show", "oss://b/k"], ["reset", "all"]])
def test_a_file_that_is_not_there_is_not_made(run: Run, tmp_path: Path, command: list[str]) -> None:
    missing = tmp_path / "missing.db"
    status, out, err = run("checkpoints", command[0], missing, *command[1:])
    assert (status, out, err) == (2, "", f"oss-tailer: '{missing}': no such file\n")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"\0" * 4096)
    status, _, err = run("checkpoints", "list", tmp_path / "x.db")
    assert status == 2
    assert err.count("\n") == 1
    assert "full of zeros" in err


def test_the_real_command_ends_in_silence_when_its_reader_goes(state: Path) -> None:
    command = (
        f"import sys; from tailer.cli.service import main; sys.exit(main(['checkpoints', 'export', {str(state)!r}]))"
    )
    with subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


# --- verify

DATA = bytes(range(256)) * 400


@pytest.fixture
def copy(oss_tail: OssTail, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, str]:
    """A file and the object that it is a copy of."""
    path = tmp_path / "copy"
    path.write_bytes(DATA)
    return path, oss_tail.append(f"verify/{request.node.name}", DATA)


def test_a_true_copy_is_proven_by_one_head(run: Run, oss_tail: OssTail, copy: tuple[Path, str]) -> None:
    with oss_tail.counting() as requests:
        status, out, err = run("verify", *copy)
        assert requests() == 1
    assert (status, err) == (0, "")
    assert out.startswith(f"'{copy[0]}' is '{copy[1]}': {len(DATA):,} bytes, CRC-64 ")


@pytest.mark.parametrize("length", [0, 1, 100, len(DATA) // 2, len(DATA) - 1])
def test_a_true_prefix_says_how_much_is_missing(run: Run, copy: tuple[Path, str], length: int) -> None:
    """Proven from the object's rest or from its beginning, whichever is shorter."""
    copy[0].write_bytes(DATA[:length])
    status, out, _ = run("verify", *copy)
    assert status == 3
    assert f"{len(DATA) - length:,} of {len(DATA):,} bytes are missing" in out
    assert run("verify", "--prefix", *copy)[0] == 0


@pytest.mark.parametrize("length", [1, 100, len(DATA) // 2, len(DATA) - 1, len(DATA)])
def test_one_wrong_byte_is_found(run: Run, copy: tuple[Path, str], length: int) -> None:
    for at in {0, length // 2, length - 1}:
        data = bytearray(DATA[:length])
        data[at] ^= 1
        copy[0].write_bytes(data)
        status, out, _ = run("verify", "--prefix", *copy)
        assert (status, "are not the same" in out) == (3, True)


def test_a_file_that_is_longer(run: Run, copy: tuple[Path, str]) -> None:
    copy[0].write_bytes(DATA + b"x")
    status, out, _ = run("verify", "--prefix", *copy)
    assert status == 3
    assert f"{len(DATA) + 1:,} bytes, and the object has {len(DATA):,}" in out


def cut_into_segments(path: Path, data: bytes, generation: str = "") -> None:
    for start in range(0, len(data), 30_000):
        path.with_name(f"{path.name}{generation}.{start:020}").write_bytes(data[start : start + 30_000])


def test_segments_are_proven_as_one(run: Run, oss_tail: OssTail, copy: tuple[Path, str]) -> None:
    """By a single HEAD; with the first ones moved away, as the part of the object that they are."""
    path, address = copy
    path.unlink()
    cut_into_segments(path, b"of an object that was replaced")
    cut_into_segments(path, DATA, "%g1")
    with oss_tail.counting() as requests:
        assert run("verify", *copy)[:2] == (0, f"'{path}' is '{address}': 102,400 bytes, CRC-64 {crc64.update(DATA)}\n")
        assert requests() == 1
    for gone, words in ((0, "bytes 30,000 to 102,400 of"), (30_000, "bytes 60,000 to 102,400 of")):
        path.with_name(f"{path.name}%g1.{gone:020}").unlink()
        status, out, _ = run("verify", *copy)
        assert (status, words in out) == (3, True)
        assert f"; {gone + 30_000:,} of 102,400 bytes are missing" in out
        assert run("verify", "--prefix", *copy)[0] == 3
        assert run("verify", "--part", *copy)[0] == 0
    oss_tail.append(address.removeprefix("oss://bucket/"), b"more")
    assert "bytes 60,000 to 102,400 of" in run("verify", "--part", *copy)[1]


@pytest.mark.parametrize("kept", [0, 30_000, 90_000])
def test_one_wrong_byte_in_segments_is_found(run: Run, copy: tuple[Path, str], kept: int) -> None:
    """Also where the segments are the smaller part of the object."""
    path, _ = copy
    path.unlink()
    cut_into_segments(path, DATA[:-1] + b"x")
    for start in range(0, kept, 30_000):
        path.with_name(f"{path.name}.{start:020}").unlink()
    status, out, _ = run("verify", "--part", *copy)
    which = f"bytes {kept:,} to 102,400" if kept else "the first 102,400 bytes"
    assert (status, f"{which} are not the same" in out) == (3, True)


def test_segments_with_a_gap_are_one_line(run: Run, copy: tuple[Path, str]) -> None:
    copy[0].unlink()
    cut_into_segments(copy[0], DATA)
    copy[0].with_name(f"{copy[0].name}.{30_000:020}").unlink()
    status, out, err = run("verify", "--part", *copy)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert f"do not join: byte 30000 is wanted, but the next one is 'copy.{60_000:020}'" in err


def test_what_cannot_be_read_is_not_a_difference(run: Run, copy: tuple[Path, str], tmp_path: Path) -> None:
    for arguments, words in (
        ((tmp_path / "none", copy[1]), "No such file"),
        ((tmp_path, copy[1]), "Is a directory"),
        ((copy[0], "oss://bucket/none"), "oss-tailer: oss://bucket/none: NoSuchKey"),
    ):
        status, out, err = run("verify", *arguments)
        assert (status, out) == (1, "")
        assert words in err
        assert err.count("\n") == 1
    assert run("verify", copy[0], "nonsense")[0] == 2


def test_a_cut_connection_is_tried_again(run: Run, oss_tail: OssTail, copy: tuple[Path, str]) -> None:
    copy[0].write_bytes(DATA[:-50])
    oss_tail.server.faults.add(Fault("reset", count=2))
    try:
        assert run("verify", "--prefix", *copy)[0] == 0
    finally:
        oss_tail.server.faults.clear()


def test_the_real_command_leaves_in_order(oss_tail: OssTail, copy: tuple[Path, str]) -> None:
    """The threads of the HTTP client do not outlive it."""
    command = [sys.executable, "-c", "import sys; from tailer.cli.service import main; sys.exit(main())", "verify"]
    for _ in range(5):
        done = subprocess.run([*command, *map(str, copy)], env=oss_tail.environment, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
