"""Where an object's bytes and events go: the bytes under GNU tail's headers, the events in its words on stderr."""

from __future__ import annotations

import asyncio
import codecs
import re
import time
from typing import TYPE_CHECKING

from tailer.cli.messages import quote
from tailer.core.events import Appeared, Failed, Gone, Grew, Replaced, Rewound, Truncated, Unconfirmed, Unproven

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from tailer.cli.messages import Messages
    from tailer.cli.progress import Progress
    from tailer.core.events import Batch, Event
    from tailer.core.position import ObjectRef
    from tailer.follow import Sink
    from tailer.sinks.stdout import OutputStream


class Printer:
    """Bytes of many objects on one stream, each batch whole, under headers as GNU tail prints them."""

    def __init__(self, stream: OutputStream, *, headers: bool) -> None:
        self._stream = stream
        self._headers = headers
        self._lock = asyncio.Lock()
        self._last: object = None

    async def open(self, owner: object, name: str) -> None:
        """Output of `owner` begins: its header is due even if nothing follows."""
        async with self._lock:
            await self._head(owner, name)

    async def write(self, owner: object, name: str, data: Buffer) -> None:
        """Output `data`, below a header if the last one was another owner's."""
        async with self._lock:
            if self._last is not owner:
                await self._head(owner, name)
            await self._stream.write(data)

    async def _head(self, owner: object, name: str) -> None:
        first, self._last = self._last is None, owner
        if self._headers:
            shown = name if name.isprintable() else quote(name)
            await self._stream.write(f"{'' if first else chr(10)}==> {shown} <==\n".encode("utf-8", "surrogateescape"))


# What drives a terminal (C0 controls, DEL, C1 controls), what makes it show text in another order than it stands
# there (Unicode's bidirectional embeddings, overrides and isolates), and bytes that are not UTF-8.
_NONPRINTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\udc80-\udcff]")


class Visible:
    """Content for a terminal: control characters as ``cat -v`` shows them, tabs, newlines and other UTF-8 as they are.

    Bytes come as they were cut by the network, in the middle of a character, too: it waits for its rest then.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def feed(self, data: Buffer) -> bytes:
        """What to show of `data`, and of what waited for it."""
        return _shown(self._decoder.decode(data))

    def rest(self) -> bytes:
        """What to show of a character that stays without its end."""
        return _shown(self._decoder.decode(b"", final=True))

    def void(self, count: int) -> None:
        """The last `count` bytes come again, maybe other ones: those of them that wait are forgotten."""
        waiting, flags = self._decoder.getstate()
        self._decoder.setstate((waiting[: max(0, len(waiting) - count)], flags))


def _shown(text: str) -> bytes:
    return _NONPRINTING.sub(_escaped, text).encode()


def _escaped(match: re.Match[str]) -> str:
    return "".join(map(_as_cat_shows, match[0].encode("utf-8", "surrogateescape")))


def _as_cat_shows(byte: int) -> str:
    """``^[`` for ESC, ``^?`` for DEL, ``M-`` and the same of the lower seven bits for what is not ASCII."""
    if byte >= 0x80:
        return "M-" + _as_cat_shows(byte - 0x80)
    return chr(byte) if 0x20 <= byte < 0x7F else f"^{chr(byte ^ 0x40)}"


class RawSink:
    """One object's bytes to the printer: as they are, or with what is not printable made `Visible`."""

    def __init__(self, printer: Printer, ref: ObjectRef, *, show_nonprinting: bool = False) -> None:
        self._printer = printer
        self._name = str(ref)
        self._visible = Visible() if show_nonprinting else None
        self._generation = self._end = 0

    async def open(self) -> None:
        """Print the header."""
        await self._printer.open(self, self._name)

    async def write(self, batch: Batch) -> None:
        """Print the batch."""
        if self._visible is None:
            await self._printer.write(self, self._name, batch.data)
            return
        before = b"" if batch.generation == self._generation else self._visible.rest()
        self._generation, self._end = batch.generation, batch.end
        await self._print(before + self._visible.feed(batch.data))

    async def notice(self, event: Event) -> None:
        """Raw output has no place for events: `Announced` says them."""
        if self._visible is not None and isinstance(event, Rewound):
            self._visible.void(self._end - event.to)
            self._end = event.to

    async def finish(self) -> None:
        """Nothing more comes: print a character that has no end."""
        if self._visible is not None:
            await self._print(self._visible.rest())

    async def _print(self, data: bytes) -> None:
        if data:
            await self._printer.write(self, self._name, data)

    async def close(self) -> None:
        """Every write was finished when it returned."""


class Announced:
    """Passes everything on to `sink` and says on stderr, in GNU tail's words, what happens to the object.

    `seen`: it was there at some time. `missing`: it is not there, and that was said. `voided`: bytes that went
    out turned out to be void.
    """

    def __init__(self, sink: Sink, ref: ObjectRef, messages: Messages, *, on_news: Callable[[], None]) -> None:
        self._sink = sink
        self._name = quote(ref)
        self._messages = messages
        self._on_news = on_news
        self._trouble: type[Exception] | None = None
        self.seen = False
        self.missing = False
        self.voided = False

    async def write(self, batch: Batch) -> None:
        """Pass the batch on."""
        self._on_news()
        self.seen = True
        await self._sink.write(batch)

    async def notice(self, event: Event) -> None:
        """Pass it on, then say it: a sink that cannot go on after it has more to say."""
        self._messages.debug(f"{self._name}: {event}")
        await self._sink.notice(event)
        self._say(event)

    async def close(self) -> None:
        """Close the sink."""
        await self._sink.close()

    def say_gone(self) -> None:
        """Say, once, that the object is not there, or not any more."""
        if not self.missing:
            self.missing = True
            gone = f"{self._name} has become inaccessible" if self.seen else f"cannot open {self._name} for reading"
            self._messages.say(f"{gone}: No such key")

    def _say(self, event: Event) -> None:
        say, name = self._messages.say, self._name
        match event:
            case Gone():
                self.say_gone()
            case Appeared() | Grew() if self.missing:
                self.missing, self.seen = False, True
                self._on_news()
                say(f"{name} has appeared;  following new file")
            case Grew():
                self.seen = True
                self._on_news()
            case Replaced():
                say(f"{name} has been replaced;  following new file")
            case Truncated():
                say(f"{name}: file truncated")
            case Rewound():
                self.voided = True
                what = f"bytes {event.to} to {event.end} do not match the object's CRC-64"
                say(f"{name}: {what}: what was output of them is void, and comes again")
            case Unconfirmed():
                say(f"{name}: {event}")
            case Unproven():
                say(f"{name}: the service states no CRC-64; from byte {event.offset} on nothing is proven")
            case Failed():
                self._say_failure(event)

    def _say_failure(self, event: Failed) -> None:
        """Once for each kind of trouble, as long as it lasts."""
        if event.attempt == 1 or type(event.error) is not self._trouble:
            self._trouble = type(event.error)
            self._messages.say(f"{self._name}: {event.error}; trying again")


class Observed:
    """Passes everything on to `sink`, then tells the progress line."""

    def __init__(self, sink: Sink, ref: ObjectRef, progress: Progress) -> None:
        self._sink = sink
        self._ref = ref
        self._progress = progress

    async def write(self, batch: Batch) -> None:
        """Pass the batch on, then tell."""
        await self._sink.write(batch)
        self._progress.on_event(self._ref, batch, time.monotonic())

    async def notice(self, event: Event) -> None:
        """Pass the event on, then tell."""
        await self._sink.notice(event)
        self._progress.on_event(self._ref, event, time.monotonic())

    async def close(self) -> None:
        """Close the sink."""
        await self._sink.close()
