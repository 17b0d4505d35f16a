"""What was written is there, and what was half written is not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tailer.local import journal
from tailer.local.journal import Journal

if TYPE_CHECKING:
    from pathlib import Path


def opened(path: Path) -> Journal:
    """A new one with two lines."""
    made = Journal(path, fsync=False)
    made.rewrite([["a", 1]])
    made.write(["b", "é\n"])
    return made


def test_lines_come_back(tmp_path: Path) -> None:
    """In order, whatever is in them."""
    opened(tmp_path / "journal").close()
    assert list(Journal(tmp_path / "journal", fsync=True).lines()) == [["a", 1], ["b", "é\n"]]


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_torn_last_line_is_skipped(tmp_path: Path, cut: int) -> None:
    """Wherever it is torn; the lines before it stay."""
    path = tmp_path / "journal"
    opened(path).close()
    size = path.stat().st_size
    os.truncate(path, size - cut)
    assert next(Journal(path, fsync=False).lines()) == ["a", 1]
    assert ["b", "é\n"] not in list(Journal(path, fsync=False).lines())


def test_a_failed_write_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk that took a part of the line."""
    made = opened(tmp_path / "journal")
    real = journal.write_all

    def half(file: int, data: bytes, offset: int) -> None:
        real(file, data[: len(data) // 2], offset)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "write_all", half)
    with pytest.raises(OSError, match="No space"):
        made.write(["lost", "x" * 100])
    monkeypatch.undo()
    made.write(["c"])
    made.close()
    assert list(Journal(tmp_path / "journal", fsync=False).lines()) == [["a", 1], ["b", "é\n"], ["c"]]


def test_another_version_is_refused(tmp_path: Path) -> None:
    """Rather than misread."""
    (tmp_path / "journal").write_text('["oss-local journal",2]\n')
    with pytest.raises(ValueError, match="not a journal of this version"):
        list(Journal(tmp_path / "journal", fsync=False).lines())
