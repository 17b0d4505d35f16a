"""A process that replaces, deletes and appends to objects until SIGTERM: ``python -m tests.soak.service.churn``.

It rests as long as it works, in turns: another object has all marks committed at once, so that without rests no commit
would ever be seen to come late. At the end each of them is there and ends with a line.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tailer.config import resolve_service
from tailer.core.position import ObjectRef
from tailer.errors import ObjectNotFound, TailerError
from tailer.oss.client import connect
from tests.soak.records import BUCKET

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailer.oss.client import Client

PREFIX = "volatile/"
_REPLACED, _DELETED = 0.2, 0.3  # of all that is done; the rest appends


def volatile_key(number: int) -> str:
    """The key of one of them."""
    return f"{PREFIX}{number:02d}.log"


async def _append(client: Client, ref: ObjectRef, data: bytes) -> None:
    try:
        size = (await client.head(ref)).size
    except ObjectNotFound:
        size = 0
    await client.append(ref, size, data)


async def _change(client: Client, ref: ObjectRef, chance: random.Random) -> None:
    """Replace it, delete it or append to it. Raises TailerError when that was not done, or perhaps done."""
    draw = chance.random()
    if draw < _DELETED:
        await client.delete(ref)
    if draw < _REPLACED or draw >= _DELETED:
        line = b"%032x %s\n" % (chance.getrandbits(128), b"x" * chance.randrange(200))
        await _append(client, ref, line * chance.randrange(1, 200))


async def _insist(client: Client, ref: ObjectRef) -> None:
    while True:
        with suppress(TailerError):
            return await _append(client, ref, b"the end\n")
        await asyncio.sleep(0.1)


async def _run(options: argparse.Namespace) -> None:
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    chance = random.Random(f"{options.seed}/volatile")
    began = time.monotonic()
    refs = [ObjectRef(BUCKET, volatile_key(number)) for number in range(options.objects)]
    async with connect(resolve_service()) as client:
        while not end.is_set():
            if (time.monotonic() - began) // options.spell % 2 == 0:
                with suppress(TailerError):  # a fault: the next one, then
                    await _change(client, chance.choice(refs), chance)
            with suppress(TimeoutError):
                await asyncio.wait_for(end.wait(), chance.expovariate(1 / options.pause))
        for ref in refs:
            await _insist(client, ref)


def main(arguments: Sequence[str] | None = None) -> None:
    """`--objects` of them, one changed every `--pause` seconds; rests of `--spell` seconds after as many of work."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("seed", "objects"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--pause", type=float, required=True, help="seconds between two changes, on average")
    parser.add_argument("--spell", type=float, required=True, help="seconds of work, and of the rest after it")
    asyncio.run(_run(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
