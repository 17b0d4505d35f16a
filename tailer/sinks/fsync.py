"""When what a file sink wrote is forced to the disk, and marks that wait for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tailer.core import units
from tailer.errors import UsageError

if TYPE_CHECKING:
    from tailer.core.position import Mark, ObjectRef
    from tailer.follow import CheckpointStore

_TIME = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)s")


@dataclass(frozen=True, slots=True)
class Fsync:
    """At the latest `seconds` after a byte was written, and before more than `bytes` of them are not on the disk.

    `at_close`: at the end in any case. None: not for that reason.
    """

    at_close: bool = True
    seconds: float | None = None
    bytes: int | None = None

    def due(self, unsynced: int) -> bool:
        """Are `unsynced` bytes so many that no further one may be written before an fsync?"""
        return self.bytes is not None and unsynced >= self.bytes


NEVER = Fsync(at_close=False)
AT_CLOSE = Fsync()
EACH_BATCH = Fsync(bytes=1)
_NAMED = {"never": NEVER, "close": AT_CLOSE, "batch": EACH_BATCH}


def parse_fsync(text: str) -> Fsync:
    """``never``, ``close``, ``batch``, a time as ``5s``, a size as ``64M`` (`units.parse_size`), or ``5s,64M``.

    Raises UsageError.
    """
    if text in _NAMED:
        return _NAMED[text]
    seconds: float | None = None
    size: int | None = None
    for part in text.split(","):
        if (time := _TIME.fullmatch(part)) and seconds is None and float(time[1]):
            seconds = float(time[1])
        elif (count := units.parse_size(part)) and size is None:
            size = count
        else:
            raise UsageError(
                f"invalid argument '{text[:60]}' for '--fsync': never, close, batch, a time (5s), "
                "a number of bytes (64M) or both (5s,64M)"
            )
    return Fsync(seconds=seconds, bytes=size)


def parse_size(text: str, option: str) -> int:
    """A number of bytes, at least 1, as ``64M`` (`units.parse_size`). Raises UsageError."""
    count = units.parse_size(text)
    if not count:
        raise UsageError(f"invalid argument '{text[:60]}' for '{option}': a number of bytes, as 64M")
    return count


class Syncing(Protocol):
    """A sink that can force what it took to the disk."""

    async def sync(self) -> None:
        """Return when it is there. Raises SinkError."""
        ...


class AfterSync:
    """A checkpoint store for a sink whose bytes a power cut could take back: no mark is kept beyond the disk."""

    def __init__(self, store: CheckpointStore, sink: Syncing) -> None:
        self._store = store
        self._sink = sink

    async def commit(self, ref: ObjectRef, mark: Mark) -> None:
        """Force the sink's bytes to the disk, then keep `mark`. Raises SinkError and CheckpointError."""
        await self._sink.sync()
        await self._store.commit(ref, mark)
