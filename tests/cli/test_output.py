"""Headers, and events in GNU tail's words."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from tailer import errors
from tailer.cli.messages import Messages
from tailer.cli.output import Announced, Printer, RawSink
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
)
from tailer.core.position import ObjectMeta, ObjectRef
from tailer.sinks.stdout import OutputStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tailer.core.events import Event

A, B = ObjectRef("bucket", "a"), ObjectRef("bucket", "b\n")


def _printed(path: Path, play: Callable[[RawSink, RawSink], Awaitable[None]], *, headers: bool) -> bytes:
    async def run() -> None:
        with path.open("wb") as file:
            printer = Printer(OutputStream(file.fileno()), headers=headers)
            await play(RawSink(printer, A), RawSink(printer, B))

    asyncio.run(run())
    return path.read_bytes()


def _batch(ref: ObjectRef, data: bytes) -> Batch:
    return Batch(ref, 0, 0, len(data), data, verified=True)


def test_headers(tmp_path: Path) -> None:
    """One whenever another object's bytes come, one for an object without bytes; names quoted where they must be."""

    async def play(a: RawSink, b: RawSink) -> None:
        await a.open()
        await a.write(_batch(A, b"1\n"))
        await b.open()
        await a.write(_batch(A, b"2\n"))
        await a.write(_batch(A, b"3"))
        await b.write(_batch(B, b"4"))

    assert _printed(tmp_path / "out", play, headers=True) == (
        b"==> oss://bucket/a <==\n1\n\n==> 'oss://bucket/b'$'\\n' <==\n\n==> oss://bucket/a <==\n2\n3"
        b"\n==> 'oss://bucket/b'$'\\n' <==\n4"
    )
    assert _printed(tmp_path / "out", play, headers=False) == b"1\n2\n34"


def test_batches_are_never_mixed(tmp_path: Path) -> None:
    """Two objects that write at the same time take turns by whole batches."""

    async def play(a: RawSink, b: RawSink) -> None:
        await asyncio.gather(*(a.write(_batch(A, b"a" * 3_000_000)) for _ in range(2)), b.write(_batch(B, b"b" * 9)))

    printed = _printed(tmp_path / "out", play, headers=False)
    assert sorted(printed.split(b"bbbbbbbbb"), key=len) in (
        [b"", b"a" * 6_000_000],
        [b"a" * 3_000_000, b"a" * 3_000_000],
    )


class _Nowhere:
    async def write(self, batch: Batch) -> None:
        """Take it."""

    async def notice(self, event: Event) -> None:
        """Hear it."""

    async def close(self) -> None:
        """Nothing to finish."""


def _said(*events: Event) -> list[str]:
    reader, writer = os.pipe()

    async def play() -> None:
        announced = Announced(_Nowhere(), A, Messages(writer), on_news=lambda: None)
        for event in events:
            await (announced.write(event) if isinstance(event, Batch) else announced.notice(event))

    asyncio.run(play())
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        return file.read().splitlines()


META = ObjectMeta(3, 1)
REFUSED = errors.ServiceUnavailable("Later.", status=503, code="ServiceUnavailable")
LOST = errors.ConnectionLost("lost")


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([Gone(0, 0)], ["cannot open 'oss://bucket/a' for reading: No such key"]),
        ([Grew(0, 0, 3), Gone(0, 3)], ["'oss://bucket/a' has become inaccessible: No such key"]),
        ([_batch(A, b"x"), Gone(0, 3), Gone(0, 3)], ["'oss://bucket/a' has become inaccessible: No such key"]),
        (
            [Grew(0, 0, 3), Gone(0, 3), Appeared(1, META), Grew(1, 0, 3)],
            [
                "'oss://bucket/a' has become inaccessible: No such key",
                "'oss://bucket/a' has appeared;  following new file",
            ],
        ),
        ([Replaced(1, "x")], ["'oss://bucket/a' has been replaced;  following new file"]),
        ([Truncated(1, 3, 2)], ["'oss://bucket/a': file truncated"]),
        ([Unconfirmed(0, 1, 3)], ["'oss://bucket/a': bytes 1 to 3 of it went out and were never proven"]),
        ([Grew(0, 0, 3), _batch(A, b"x"), Sealed(3)], []),
        ([Unproven(0, 5)], ["'oss://bucket/a': the service states no CRC-64; from byte 5 on nothing is proven"]),
        (
            [Rewound(0, 2, 9)],
            [
                "'oss://bucket/a': bytes 2 to 9 do not match the object's CRC-64: what was output of them is void, "
                "and comes again"
            ],
        ),
        (
            [Failed(REFUSED, 1, 1), Failed(REFUSED, 2, 2), Failed(LOST, 4, 3)],
            [
                "'oss://bucket/a': ServiceUnavailable: Later. [status 503]; trying again",
                "'oss://bucket/a': lost; trying again",
            ],
        ),
    ],
)
def test_words(events: list[Event], words: list[str]) -> None:
    assert _said(*events) == [f"oss-tail: {line}" for line in words]
