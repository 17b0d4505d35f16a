"""What happens when the object itself changes under the reader, or an answer tells of an older one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tailer.local import Fault
from tests.faults.conftest import BUCKET, TEXT, command_only

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Running
    from tests.faults.conftest import Faulty

OLD = b"".join(b"old %07d\n" % number for number in range(400_000))
NEW = b"".join(b"new %07d\n" % number for number in range(400_000))
SHORT = NEW[: len(NEW) // 4]
SLOW = Fault("slow", operation="GetObject", rate=4e6)


def _wait_for_end(running: Running, expected: bytes) -> None:
    """Until the output ends so. Megabytes are not shown where it does not."""
    deadline = time.monotonic() + 15
    while not (output := running.stdout).endswith(expected):
        if time.monotonic() > deadline:
            pytest.fail(f"{len(output)} bytes that end {output[-40:]!r}\n{running.stderr}")
        time.sleep(0.02)


def test_stale_head(tail: Faulty) -> None:
    """HEAD tells of the object before its last append: nothing is concluded from that, nothing is said."""
    with tail.follows() as running:
        running.wait_for_output(TEXT)
        tail.grows(b"four\n")
        running.wait_for_output(TEXT + b"four\n")
        tail.suffers(Fault("stale-head", operation="HeadObject", count=10))
        tail.grows(b"five\n")
        running.wait_for_output(TEXT + b"four\nfive\n")
        running.wait_for(lambda: tail.suffered >= 3)
        tail.suffers()
        tail.grows(b"six\n")
        running.wait_for_output(TEXT + b"four\nfive\nsix\n")
        assert running.stderr == ""


def test_stale_head_of_an_object_that_was_not_there(tail: Faulty) -> None:
    """404 just after the first append: at worst it is waited for a moment longer."""
    tail.server.store.delete(BUCKET, tail.key)
    tail.grows(TEXT)
    tail.suffers(Fault("stale-head", operation="HeadObject", count=3))
    with tail.follows() as running:
        running.wait_for_output(TEXT)
        tail.grows(b"four\n")
        running.wait_for_output(TEXT + b"four\n")


@pytest.mark.parametrize("option", ["-f", "-F"])
def test_replaced_during_the_first_catch_up(tail: Faulty, option: str) -> None:
    """Before anything was proven nobody can tell it from noise: what went out is void, then the new one comes whole."""
    tail.holds(OLD)
    tail.suffers(SLOW)
    with tail.follows(option) as running:
        running.wait_for(lambda: running.stdout != b"")
        tail.holds(NEW)
        tail.suffers()
        _wait_for_end(running, NEW)
        void = len(running.stdout) - len(NEW)
        (line,) = running.stderr.splitlines()
        assert line.startswith(f"oss-tail: '{tail.address}': bytes 0 to {void} ")
        assert "void" in line


def test_replaced_during_a_later_catch_up_by_name(tail: Faulty) -> None:
    """-F: bytes of the old object, the words, then all of the new one from its first byte."""
    with tail.follows("-F") as running:
        running.wait_for_output(TEXT)
        tail.suffers(SLOW)
        tail.grows(OLD)
        running.wait_for(lambda: len(running.stdout) > len(TEXT))
        tail.holds(SHORT)
        tail.suffers()
        _wait_for_end(running, SHORT)
        assert running.stdout.startswith(TEXT)
        assert "file truncated" in running.stderr or "has been replaced;  following new file" in running.stderr


def test_replaced_during_a_later_catch_up_by_descriptor(tail: Faulty) -> None:
    """-f: exit 3; whatever went out behind the last proven byte is said to be void, or never to have been proven.

    A window that was under way may meet the end of the shorter object first, which is a 416 and a line of its own.
    """
    with tail.follows("-f") as running:
        running.wait_for_output(TEXT)
        tail.suffers(SLOW)
        tail.grows(OLD)
        running.wait_for(lambda: len(running.stdout) > len(TEXT))
        tail.holds(SHORT)
        tail.suffers()
        done = running.end()
    assert done.status == 3
    assert done.stdout.startswith(TEXT)
    assert f"bytes {len(TEXT)} to " in done.stderr


@command_only
def test_replaced_during_the_catch_up_of_a_mirror_by_name(tail: Faulty, tmp_path: Path) -> None:
    """-F: the file becomes the new object."""
    path = tmp_path / "mirror"
    tail.holds(OLD)
    tail.suffers(SLOW)
    with tail.mirrors(path, "-F") as running:
        running.wait_for(lambda: path.exists() and path.stat().st_size > 0)
        tail.holds(NEW)
        tail.suffers()
        running.wait_for(lambda: path.read_bytes() == NEW)


@command_only
def test_replaced_during_the_catch_up_of_a_mirror_by_descriptor(tail: Faulty, tmp_path: Path) -> None:
    """-f: exit 3; the file keeps what was proven."""
    path = tmp_path / "mirror"
    with tail.mirrors(path, "-f") as running:
        running.wait_for(lambda: path.exists() and path.read_bytes() == TEXT)
        tail.suffers(SLOW)
        tail.grows(OLD)
        running.wait_for(lambda: path.stat().st_size > len(TEXT))
        tail.server.store.put(BUCKET, tail.key, NEW)
        tail.suffers()
        assert running.end().status == 3
    assert path.read_bytes() == TEXT


def test_deleted_and_made_again(tail: Faulty) -> None:
    """-F waits for it; -f ends, exit 1."""
    with tail.follows("-F") as by_name, tail.follows("-f") as by_descriptor:
        by_name.wait_for_output(TEXT)
        by_descriptor.wait_for_output(TEXT)
        tail.server.store.delete(BUCKET, tail.key)
        by_name.wait_for_words("has become inaccessible: No such key")
        assert by_descriptor.end()[:2] == (1, TEXT)
        tail.grows(b"anew\n")
        by_name.wait_for_output(TEXT + b"anew\n")
