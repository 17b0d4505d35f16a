"""A process that appends to some of the objects until SIGTERM: ``python -m tests.soak.producer``.

An append whose outcome is not known is settled by length and CRC-64 of a HEAD: it is done, or not, or another
answer is waited for. Nothing is acknowledged before that. At the end each object ends with a whole record,
and `--report` says how many bytes of each were acknowledged.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tailer.config import resolve_service
from tailer.core import crc64
from tailer.core.position import ObjectRef
from tailer.errors import ObjectNotFound, PositionMismatch, TailerError
from tailer.oss.client import connect
from tests.soak.records import BUCKET, Stream, key_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailer.oss.client import Client

_PATIENCE = 60.0  # seconds in which answers may contradict what was acknowledged: some are stale, some flipped
_BURST = (3 << 20, 6 << 20)


class AcknowledgedLost(Exception):
    """The service knows neither the object as it was acknowledged nor as it would be with the append in hand."""


@dataclass
class Written:
    """One object as far as it is acknowledged, and what its appends met. Sizes in bytes."""

    number: int
    size: int = 0
    crc: int = 0
    appends: int = 0
    settled_done: int = 0
    settled_not_done: int = 0
    problem: str | None = None
    met: Counter[str] = field(default_factory=Counter)

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef(BUCKET, key_of(self.number))

    def acknowledge(self, data: bytes, crc: int) -> None:
        self.size += len(data)
        self.crc = crc
        self.appends += 1


async def append(client: Client, written: Written, data: bytes) -> None:
    """Append `data` once, whatever it takes. Raises AcknowledgedLost, and errors that no repetition mends."""
    crc = crc64.update(data, written.crc)
    while True:
        try:
            result = await client.append(written.ref, written.size, data)
            if (result.next_position, result.crc64) == (written.size + len(data), crc):
                written.acknowledge(data, crc)
                return
            written.met["an answer that does not fit"] += 1
        except TailerError as error:
            if not (error.retriable or isinstance(error, PositionMismatch)):
                raise
            written.met[type(error).__name__] += 1
            await asyncio.sleep(error.retry_after or 0.1)
        if await _is_done(client, written, data, crc):
            written.settled_done += 1
            written.acknowledge(data, crc)
            return
        written.settled_not_done += 1


async def _is_done(client: Client, written: Written, data: bytes, crc: int) -> bool:
    """Whether the object holds `data`: by length and CRC-64 together."""
    deadline = asyncio.get_running_loop().time() + _PATIENCE
    found: tuple[int, int | None] | None = None
    while asyncio.get_running_loop().time() < deadline:
        try:
            meta = await client.head(written.ref)
            found = meta.size, meta.crc64
        except ObjectNotFound:
            found = 0, 0
        except TailerError as error:
            if not error.retriable:
                raise
            deadline += 0.2  # no answer contradicts nothing
        if found == (written.size + len(data), crc):
            return True
        if found == (written.size, written.crc):
            return False
        await asyncio.sleep(0.2)
    raise AcknowledgedLost(f"{written.ref}: acknowledged {written.size} with {written.crc}, found {found}")


async def _produce(client: Client, written: Written, options: argparse.Namespace, end: asyncio.Event) -> None:
    stream = Stream(options.seed, written.number)
    chance = random.Random(f"{options.seed}/{written.number}/pieces")
    try:
        while not end.is_set():
            await append(client, written, stream.take(_piece_size(chance, written.number < options.bursting)))
            await _pause(end, chance.expovariate(1 / options.pause))
        if rest := stream.finish():
            await append(client, written, rest)
    except (TailerError, AcknowledgedLost) as error:
        written.problem = f"{type(error).__name__}: {error}"


def _piece_size(chance: random.Random, bursts: bool) -> int:
    """From a byte to 64 KiB, mostly some KiB, wherever records begin; now and then a burst of some MiB."""
    draw = chance.random()
    if bursts and draw < 0.06:
        return chance.randrange(*_BURST)
    return chance.randrange(1, 100) if draw < 0.2 else chance.randrange(100, 8_192 if draw < 0.9 else 65_536)


async def _pause(end: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(end.wait(), seconds)
    except TimeoutError:
        return


async def _run(options: argparse.Namespace) -> None:
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    objects = [Written(number) for number in range(options.first, options.last)]
    async with connect(resolve_service()) as client:
        await asyncio.gather(*(_produce(client, written, options, end) for written in objects))
    report = [{**vars(written), "met": dict(written.met)} for written in objects]
    options.report.write_text(json.dumps(report))


def main(arguments: Sequence[str] | None = None) -> None:
    """Objects [first, last); those below `bursting` grow by some MiB at a time now and then."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("seed", "first", "last", "bursting"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--pause", type=float, required=True, help="seconds between appends to one object, on average")
    parser.add_argument("--report", type=Path, required=True)
    asyncio.run(_run(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
