"""A process that reads all objects through the library: ``python -m tests.soak.reader ADDRESS STATE OUT``.

Each batch goes into OUT, a line of JSON that says which it is and then its bytes, in one write; each event is such a
line too. It is at least once: the batch is processed when the next one is asked for, and committed within a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING

import tailer
from tailer import Gone, Replaced, Rewound, Sealed, Truncated
from tests.soak.verdict import TRY_LATER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailer.core.events import Batch, Event
    from tailer.core.position import ObjectRef


class Log:
    """The local log, appended to."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def take(self, batch: Batch) -> None:
        data = bytes(batch.data)
        self._write({"object": str(batch.object), "generation": batch.generation, "start": batch.start}, data)

    def notice(self, ref: ObjectRef, event: Event) -> None:
        """What changes the meaning of bytes; refusals, proofs and sizes do not."""
        if isinstance(event, Gone | Replaced | Rewound | Sealed | Truncated):
            to = event.to if isinstance(event, Rewound) else None
            self._write({"object": str(ref), "event": type(event).__name__, "to": to}, b"")

    def _write(self, header: dict[str, object], data: bytes) -> None:
        line = json.dumps({**header, "size": len(data)}).encode() + b"\n" + data
        if os.write(self._descriptor, line) != len(line):
            raise OSError("half a write")


async def _read(options: argparse.Namespace) -> None:
    log = Log(options.out)
    consumer = tailer.Consumer(
        options.address,
        checkpoint=options.state,
        auto_commit=True,
        replaced="restart",
        integrity=options.integrity,
        interval=options.interval,
        exit_idle=options.exit_idle,
        on_event=log.notice,
    )
    async with consumer:
        async for batch in consumer:
            log.take(batch)


async def _read_until_told(options: argparse.Namespace) -> None:
    reading = asyncio.ensure_future(_read(options))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, reading.cancel)
    await reading


def main(arguments: Sequence[str] | None = None) -> int:
    """0: to the end; 75: try later; 1: another error of the library; 143: ended by SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("address", "state", "out"):
        parser.add_argument(name)
    parser.add_argument("--interval", type=float, default=1.0)
    parser.add_argument("--integrity", choices=["chain", "strict"], default="strict")
    parser.add_argument("--exit-idle", type=float)
    try:
        asyncio.run(_read_until_told(parser.parse_args(arguments)))
    except tailer.TailerError as error:
        print(f"reader: {type(error).__name__}: {error}", file=sys.stderr)
        return TRY_LATER if error.retriable else 1
    except asyncio.CancelledError:
        return 128 + signal.SIGTERM
    return 0


if __name__ == "__main__":
    sys.exit(main())
