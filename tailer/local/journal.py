"""A file of JSON lines to which facts are added; what was written is there after the process is killed."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from typing import TYPE_CHECKING, Any

from tailer.local.files import sync_folder, write_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

log = logging.getLogger("oss-local")

_HEADER = ["oss-local journal", 1]


class Journal:
    """Lines, each a list whose first element names it. With `fsync` they survive a loss of power, too."""

    def __init__(self, path: Path, *, fsync: bool) -> None:
        self._path = path
        self._fsync = fsync
        self._file: int | None = None
        self.size = 0
        """Bytes that are known to be whole lines."""

    def lines(self) -> Iterator[list[Any]]:
        """What is in the file. Raises ValueError when another version wrote it."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for number, line in enumerate(file):
                entry = self._parse(line)
                if number == 0 and entry != _HEADER:
                    raise ValueError(f"{self._path} is not a journal of this version")
                if number and entry is not None:
                    yield entry

    def _parse(self, line: bytes) -> list[Any] | None:
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, list) and entry and line.endswith(b"\n"):
                return entry
        # A line that was cut was never acknowledged, and an object whose fact is missing is read afresh.
        log.warning("%s: skipped an unreadable line of %d bytes", self._path, len(line))
        return None

    def rewrite(self, entries: Iterable[list[Any]]) -> None:
        """Put these lines in place of all others, at once."""
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            for entry in (_HEADER, *entries):
                file.write(_line(entry))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        sync_folder(self._path.parent)
        self.close()
        self._file = os.open(self._path, os.O_WRONLY)
        self.size = os.fstat(self._file).st_size

    def write(self, *entries: list[Any]) -> None:
        """Add lines. After an OSError none of them is there."""
        assert self._file is not None, "a journal is rewritten before it is added to"
        data = b"".join(map(_line, entries))
        try:
            write_all(self._file, data, self.size)
            if self._fsync:
                os.fdatasync(self._file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self.size)
            raise
        self.size += len(data)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _line(entry: list[Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"
