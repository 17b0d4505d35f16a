"""What the objects hold: records that say which they are, the same for the same seed on every run.

So that a checker needs no copy of anything: seed, object and length are the bytes.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUCKET = "soak"

_HEX = 0.8  # of the records are text; the others are any bytes but a newline


def key_of(number: int) -> str:
    """The object's key."""
    return f"logs/{number:02d}.log"


def records(seed: int, number: int) -> Iterator[bytes]:
    """The lines of one object, for ever: object, number of the record, payload, newline."""
    chance = random.Random(f"{seed}/{number}")
    count = 0
    while True:
        payload = chance.randbytes(_payload_size(chance))
        is_text = chance.random() < _HEX
        line = payload.hex().encode() if is_text else payload.replace(b"\n", b"\r")
        yield b"%02d %07d %s\n" % (number, count, line)
        count += 1


def _payload_size(chance: random.Random) -> int:
    """Mostly short; one in fifty some KiB; one in ten thousand longer than a record may be in one piece (1 MiB)."""
    draw = chance.random()
    if draw < 0.0001:
        return 1_200_000
    if draw < 0.02:
        return chance.randrange(1_000, 30_000)
    return chance.randrange(0, 300)


class Stream:
    """One object's bytes, cut into pieces of any size."""

    def __init__(self, seed: int, number: int) -> None:
        self._records = records(seed, number)
        self._rest = b""

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        while len(self._rest) < size:
            self._rest += next(self._records)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken

    def finish(self) -> bytes:
        """What is missing of the record that was begun; nothing if none was."""
        rest, self._rest = self._rest, b""
        return rest


def write_expected(path: Path, seed: int, number: int, length: int) -> bool:
    """Write the first `length` bytes of the object into `path`. False: that is not the end of a record."""
    written = 0
    with path.open("wb") as file:
        for record in records(seed, number):
            if written >= length:
                break
            written += file.write(record)
        file.truncate(length)
    return written == length
