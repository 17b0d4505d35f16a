"""`--json`: one JSON object per line for each record and each event. Every field is in docs/json.md.

Made for pipes: UTF-8, no space, no newline but at the end of a line. Control characters and those that turn
the direction of text are escaped, so that a line does no harm on a terminal either.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING

from tailer.core.events import (
    Appeared,
    Batch,
    Failed,
    Gone,
    Grew,
    Replaced,
    Rewound,
    Sealed,
    Truncated,
    Unconfirmed,
    Unproven,
    Verified,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tailer.core.events import Event
    from tailer.core.position import ObjectRef
    from tailer.errors import TailerError

_quote = json.JSONEncoder(ensure_ascii=False).encode
# JSON allows these raw inside a string; terminals obey them (C1 controls, Unicode's bidirectional controls)
# and some line readers break at them (U+0085, U+2028, U+2029).
_HARMFUL = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_HARMFUL_LEADS = (b"\x7f", b"\xc2", b"\xd8\x9c", b"\xe2\x80", b"\xe2\x81")  # how they begin in UTF-8


class JsonLines:
    """A sink that hands the lines of one object's batches and events to `write`, a batch's lines at once."""

    def __init__(self, ref: ObjectRef, write: Callable[[bytes], Awaitable[None]]) -> None:
        self._ref = ref
        self._write = write

    async def write(self, batch: Batch) -> None:
        """Write one line per record. Raises what the callable raises."""
        await self._write(encode(self._ref, batch))

    async def notice(self, event: Event) -> None:
        """Write the event's line, if it has one."""
        if lines := encode(self._ref, event):
            await self._write(lines)

    async def close(self) -> None:
        """Nothing is kept back: what was written is out."""


def encode(ref: ObjectRef, event: Event) -> bytes:
    """The lines for `event` of `ref`, each with its newline; none for `Grew`, which says nothing of bytes."""
    if isinstance(event, Batch):
        return _records(event)
    fields = _fields(event)
    return b"" if fields is None else _line(ref, fields)


def encode_failure(ref: ObjectRef, error: TailerError) -> bytes:
    """The line for the error that ended the following of `ref`: like `Failed`, but without a next try."""
    return _line(ref, {"type": "failed", **_error(error), "delay": None, "attempt": None})


def _records(batch: Batch) -> bytes:
    name = str(batch.object)
    head = f'{{"type":"record","id":{json.dumps(f"{name}#{batch.generation}:")[:-1]}'
    middle = f'","object":{json.dumps(name)},"generation":{batch.generation},"start":'
    verified = f',"verified":{"true" if batch.verified else "false"},'
    whole = f'{verified}"first":true,"last":true}}\n'
    lines = []
    for start, end, data, first, last in _spans(batch):
        tail = whole if first and last else f'{verified}"first":{json.dumps(first)},"last":{json.dumps(last)}}}\n'
        lines.append(f'{head}{start}-{end}{middle}{start},"end":{end},{_data(data)}{tail}')
    return _harmless("".join(lines))


def _spans(batch: Batch) -> Iterator[tuple[int, int, bytes, bool, bool]]:
    """Start, end, data, first and last of each record, as `Batch.records` gives them.

    That one spends longer on making its objects than all the rest takes; whole records do not need them.
    """
    pieces = [] if batch.delimiter is None else bytes(batch.data).split(batch.delimiter)
    if batch.delimiter is None or not (batch.first and batch.last) or len(max(pieces, key=len)) > batch.limit:
        for record in batch.records:
            yield record.start, record.end, record.data, record.first, record.last
        return
    start, extra, unfinished = batch.start, len(batch.delimiter), pieces.pop()
    for data in pieces:
        end = start + len(data) + extra
        yield start, end, data, True, True
        start = end
    if unfinished:
        yield start, batch.end, unfinished, True, True


def _data(data: bytes) -> str:
    try:
        return f'"data":{_quote(data.decode())}'
    except UnicodeDecodeError:
        return f'"data_base64":"{base64.b64encode(data).decode()}"'


def _harmless(text: str) -> bytes:
    """`text` as UTF-8 with what is harmful escaped; most text has nothing to look for in it."""
    encoded = text.encode()
    if not any(lead in encoded for lead in _HARMFUL_LEADS):
        return encoded
    return _HARMFUL.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode()


def _line(ref: ObjectRef, fields: dict[str, object]) -> bytes:
    kind = fields.pop("type")
    return json.dumps({"type": kind, "object": str(ref), **fields}, separators=(",", ":")).encode() + b"\n"


def _fields(event: Event) -> dict[str, object] | None:
    """What the line of an event says, but for the object; CRC-64s as text, since readers round big numbers."""
    match event:
        case Verified(position):
            crc64 = None if position.crc64 is None else str(position.crc64)
            place = {"generation": position.generation, "offset": position.offset}
            return {"type": "verified", **place, "crc64": crc64, "unproven": position.unproven}
        case Rewound(generation, to, end):
            return {"type": "rewound", "generation": generation, "to": to, "end": end}
        case Unconfirmed(generation, start, end):
            return {"type": "unconfirmed", "generation": generation, "start": start, "end": end}
        case Appeared(generation, meta):
            return {"type": "appeared", "generation": generation, "size": meta.size}
        case Replaced(generation, reason):
            return {"type": "replaced", "generation": generation, "reason": reason}
        case Truncated(generation, offset, size):
            return {"type": "truncated", "generation": generation, "offset": offset, "size": size}
        case Gone(generation, offset) | Unproven(generation, offset):
            return {"type": type(event).__name__.lower(), "generation": generation, "offset": offset}
        case Sealed(size):
            return {"type": "sealed", "size": size}
        case Failed(error, delay, attempt):
            return {"type": "failed", **_error(error), "delay": delay, "attempt": attempt}
        case Grew() | Batch():
            return None


def _error(error: TailerError) -> dict[str, object]:
    names = ("status", "code", "request_id")
    facts = {name: getattr(error, name, None) for name in names}
    return {"error": type(error).__name__, "message": str(error), **facts}
