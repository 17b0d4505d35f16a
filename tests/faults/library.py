"""A program on the library: objects to standard output, their events to standard error.

It takes options of `oss-tail` and an address, reads what that names from its first byte (or from where its
checkpoint says), writes events and errors in the words of `oss-tail`, and ends with the same exit status.
A ledger counts what was handed out: a gap or an overlap is a status that no test expects.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import tailer
from tailer.cli.messages import Messages, quote
from tailer.cli.options import parse
from tailer.cli.output import Announced
from tailer.errors import IntegrityError, ObjectNotFound, TailerError, UsageError
from tailer.oss.address import parse_address
from tailer.sinks.jsonl import JsonLines, encode_failure
from tailer.sinks.ledger import Ledger

if TYPE_CHECKING:
    from tailer.cli.options import Options
    from tailer.core.events import Batch, Event
    from tailer.core.position import ObjectRef

UNREADABLE, UNPROVEN, MISCOUNTED = 1, 3, 99


class Raw:
    """A sink: batches to standard output as they are."""

    async def write(self, batch: Batch) -> None:
        await write(batch.data)

    async def notice(self, event: Event) -> None:
        """Standard error hears of it."""

    async def close(self) -> None:
        """Nothing is kept back."""


async def write(data: bytes | bytearray | memoryview) -> None:
    """All of it to standard output, without letting anybody else run meanwhile."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest) :]


class Program:
    """Reads what `options` name with a consumer; each object has a ledger of its own."""

    def __init__(self, options: Options, messages: Messages) -> None:
        (self.address,) = options.addresses
        if not options.amount.from_start or options.amount.count > 1 or options.output or options.exec:
            raise UsageError("the library begins at the first byte, and neither mirrors nor runs commands")
        self.options = options
        self.messages = messages
        self.said: dict[ObjectRef, Announced] = {}
        self.ledgers: dict[ObjectRef, Ledger] = {}

    def ledger(self, ref: ObjectRef) -> Ledger:
        """Through which all of the object goes."""
        if ref not in self.ledgers:
            sink = JsonLines(ref, write) if self.options.json else Raw()
            self.said[ref] = Announced(sink, ref, self.messages, on_news=lambda: None)
            self.ledgers[ref] = Ledger(self.said[ref], ref)
        return self.ledgers[ref]

    def consumer(self) -> tailer.Consumer:
        """As the options say."""
        options = self.options
        return tailer.Consumer(
            self.address,
            checkpoint=options.checkpoint,
            follow=options.follow != "no",
            replaced="restart" if options.follow == "name" else "stop",
            integrity=options.integrity,
            poll=options.poll,
            interval=options.interval,
            on_event=lambda ref, event: self.ledger(ref).notice(event),
        )

    async def read(self) -> int:
        """To the end of all objects, or to the first error; the exit status."""
        status = 0
        try:
            async with self.consumer() as consumer:
                async for batch in consumer:
                    await self.ledger(batch.object).write(batch)
                    if self.options.checkpoint is not None:
                        await consumer.commit(batch)
        except TailerError as error:
            await self.explain(error)
            status = UNPROVEN if isinstance(error, IntegrityError) else UNREADABLE
        if any(ledger.gaps or ledger.overlaps for ledger in self.ledgers.values()):
            return MISCOUNTED
        return max(status, UNPROVEN if any(said.voided for said in self.said.values()) else 0)

    async def explain(self, error: TailerError) -> None:
        """What ended it."""
        ref = parse_address(self.address, glob=False).ref
        if isinstance(error, IntegrityError):
            self.messages.say(error)
        elif not isinstance(error, ObjectNotFound):
            self.messages.say(f"error reading {quote(ref)}: {error}")
        elif ref not in self.said or not self.said[ref].missing:
            self.messages.say(f"cannot open {quote(ref)} for reading: No such key")
        if self.options.json:
            await write(encode_failure(ref, error))


if __name__ == "__main__":
    sys.exit(asyncio.run(Program(parse(sys.argv[1:]), Messages()).read()))
