"""Where output begins, found by a reader whose object may change between any two answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tailer.cli.options import Amount
from tailer.cli.start import Skipping, Start, find_start
from tailer.core import crc64
from tailer.core.events import Batch, Rewound, Verified
from tailer.core.options import Integrity
from tailer.core.position import Claim, Link, Mark, ObjectMeta, ObjectRef, Position, Window
from tailer.errors import ChainBroken, ObjectNotFound, ObjectReplaced, RangeNotSatisfiable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tailer.core.events import Event
    from tailer.core.ranges import ByteRange

REF = ObjectRef("bucket", "key")


class Changing:
    """Each answer is about the next of `versions`; the last one stays. CRC-64 withheld when not `crc`."""

    def __init__(self, *versions: bytes, crc: bool = True) -> None:
        self._versions = list(versions)
        self._crc = crc
        self.requests: list[str] = []

    def _now(self) -> tuple[bytes, ObjectMeta]:
        data = self._versions.pop(0) if len(self._versions) > 1 else self._versions[0]
        return data, ObjectMeta(len(data), crc64.update(data) if self._crc else None, "Appendable")

    async def head(self, ref: ObjectRef) -> ObjectMeta:
        self.requests.append("HEAD")
        return self._now()[1]

    async def fetch(self, ref: ObjectRef, range: ByteRange) -> Window:
        self.requests.append(range.header)
        data, meta = self._now()
        if range.start >= len(data):
            raise RangeNotSatisfiable("", status=416)
        return Window(range.start, data[range.start : range.stop], meta)


def _start(
    reader: Changing,
    amount: Amount = Amount(),  # noqa: B008 - frozen
    *,
    integrity: Integrity = Integrity.CHAIN,
    in_hand: bool = True,
) -> Start:
    return asyncio.run(find_start(reader, REF, amount, delimiter=b"\n", integrity=integrity, in_hand=in_hand))


def _at(data: bytes) -> Mark:
    return Mark.at(Position(len(data), crc64.update(data)))


def _batch(start: int, data: bytes, *, verified: bool) -> Batch:
    return Batch(REF, 0, start, start + len(data), data, verified)


LINES = b"".join(b"%05d\n" % number for number in range(10_000))


def test_whole_small_object_is_in_hand_and_proven() -> None:
    reader = Changing(b"a\nb\n")
    start = _start(reader)
    assert start == Start(_at(b"a\nb\n"), ready=_batch(0, b"a\nb\n", verified=True), complete=True)
    assert reader.requests == ["HEAD", "bytes=0-3"]


def test_last_lines_are_in_hand_and_unproven() -> None:
    reader = Changing(LINES)
    start = _start(reader, Amount(2))
    assert start.ready == _batch(59_988, b"09998\n09999\n", verified=False)
    claim = Claim(59_988, 60_000, crc64.update(b"09998\n09999\n"), crc64.update(LINES))
    assert (start.mark, start.complete) == (Mark.at(Position(60_000, crc64.update(LINES), claim=claim)), True)
    assert start.mark.unproven == 12
    assert reader.requests == ["HEAD", "bytes=43616-59999"]


def test_last_lines_over_several_blocks() -> None:
    long = LINES * 10
    start = _start(Changing(long), Amount(3000))
    assert start.ready == _batch(len(long) - 18_000, long[-18_000:], verified=False)


def test_last_lines_for_which_all_was_read_are_proven() -> None:
    start = _start(Changing(LINES), Amount(9000))
    assert start.ready == _batch(6000, LINES[6000:], verified=True)


class Noisy(Changing):
    """The first byte of each answer is turned over on the way, `times` times."""

    times = 1

    async def fetch(self, ref: ObjectRef, range: ByteRange) -> Window:
        window = await super().fetch(ref, range)
        self.times -= 1
        return Window(window.start, b"x" + bytes(window.data)[1:], window.meta) if self.times >= 0 else window


def test_noise_is_read_again() -> None:
    assert _start(Noisy(LINES), Amount(9000)).ready == _batch(6000, LINES[6000:], verified=True)


def test_noise_without_end() -> None:
    reader = Noisy(b"a\nb\n")
    reader.times = 100
    with pytest.raises(ChainBroken):
        _start(reader, Amount(1))


def test_last_bytes_are_read_at_once() -> None:
    reader = Changing(LINES)
    start = _start(reader, Amount(7, lines=False))
    assert start.ready == _batch(59_993, LINES[-7:], verified=False)
    assert reader.requests == ["HEAD", "bytes=59993-59999"]


def test_an_old_head_is_looked_through() -> None:
    """The answer with the bytes is newer than the HEAD: the last lines are those of the newer object."""
    reader = Changing(b"a\nb\n", b"a\nb\nc\n")
    start = _start(reader, Amount(1))
    assert start == Start(_at(b"a\nb\nc\n"), ready=_batch(4, b"c\n", verified=True), complete=True)
    assert reader.requests == ["HEAD", "bytes=0-3", "bytes=0-5"]
    assert _start(Changing(b"abcd", b"abcdef"), Amount(2, lines=False)).ready == _batch(4, b"ef", verified=False)


def test_growth_without_end_is_read_on() -> None:
    """It is looked at again once; then the follower has to read on from where that ended."""
    start = _start(Changing(b"a\n", b"a\nb\n", b"a\nb\nc\n"))
    assert start == Start(_at(b"a\nb\n"), ready=_batch(0, b"a\nb\n", verified=True), complete=False)


@pytest.mark.parametrize("between", [b"x\n", b"x\ny\n", b""], ids=["shorter", "same length", "empty"])
def test_replaced_meanwhile_is_looked_at_again(between: bytes) -> None:
    start = _start(Changing(b"a\nb\n", between, b"new\n"))
    assert start.ready == _batch(0, b"new\n", verified=True)


def test_never_holds_still() -> None:
    versions = [bytes([65 + number]) * 4 for number in range(20)]
    with pytest.raises(ObjectReplaced):
        _start(Changing(*versions))


def test_bytes_that_do_not_fit_are_not_in_hand() -> None:
    """Noise on the way, or a lie: the machine reads from byte 0 and decides."""

    assert _start(Noisy(b"a\nb\n")) == Start()


def test_without_crc_nothing_is_in_hand() -> None:
    assert _start(Changing(LINES, crc=False), Amount(1)).ready is None


def test_without_crc_and_unchecked_it_is() -> None:
    start = _start(Changing(LINES, crc=False), Amount(1), integrity=Integrity.OFF)
    assert start.ready == _batch(59_994, b"09999\n", verified=False)


def test_strict_reads_from_the_first_byte() -> None:
    assert _start(Changing(LINES), Amount(1), integrity=Integrity.STRICT) == Start(skip_bytes=59_994)
    beyond = Amount(11, lines=False, from_start=True)
    assert _start(Changing(LINES), beyond, integrity=Integrity.STRICT) == Start(skip_bytes=10)


def test_for_records_nothing_is_in_hand() -> None:
    start = _start(Changing(LINES), Amount(1), in_hand=False)
    assert start.mark == Mark.at(Position.unread(59_994))
    assert start.links == (Link(60_000, crc64.update(LINES)),)
    assert start.ready is None


def test_from_the_first_byte_costs_nothing() -> None:
    reader = Changing(LINES)
    assert _start(reader, Amount(1, lines=False, from_start=True)) == Start()
    assert _start(reader, Amount(5, from_start=True)) == Start(skip_lines=4)
    assert reader.requests == []


def test_from_a_byte() -> None:
    start = _start(Changing(LINES), Amount(11, lines=False, from_start=True))
    assert (start.mark, start.skip_bytes) == (Mark.at(Position.unread(10)), 10)


def test_from_a_byte_that_is_not_there() -> None:
    start = _start(Changing(b"abc"), Amount(11, lines=False, from_start=True))
    assert (start.mark, start.complete, start.skip_bytes) == (
        Mark.at(Position.unread(3, crc64.update(b"abc"))),
        True,
        10,
    )
    assert start.mark.unproven == 0, "nothing is output of what was not read"


def test_empty_object() -> None:
    assert _start(Changing(b"")).ready is None


def test_missing_object() -> None:
    class Missing(Changing):
        async def head(self, ref: ObjectRef) -> ObjectMeta:
            raise ObjectNotFound("", status=404)

    with pytest.raises(ObjectNotFound):
        _start(Missing(b""))


class Collected:
    """A sink that keeps everything."""

    def __init__(self) -> None:
        self.bytes: list[tuple[int, int, bytes]] = []
        self.events: list[Event] = []

    async def write(self, batch: Batch) -> None:
        self.bytes.append((batch.generation, batch.start, bytes(batch.data)))

    async def notice(self, event: Event) -> None:
        self.events.append(event)

    async def close(self) -> None:
        """Nothing to finish."""


def _skip(events: Iterable[Batch | Event], *, offset: int = 0, lines: int = 0) -> Collected:
    async def play() -> Collected:
        collected = Collected()
        skipping = Skipping(collected, offset=offset, lines=lines)
        for event in events:
            await (skipping.write(event) if isinstance(event, Batch) else skipping.notice(event))
        return collected

    return asyncio.run(play())


def _pieces(*pieces: bytes, generation: int = 0, start: int = 0) -> list[Batch]:
    batches = []
    for piece in pieces:
        batches.append(Batch(REF, generation, start, start + len(piece), piece, verified=True))
        start += len(piece)
    return batches


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_skip_bytes_however_they_come(size: int) -> None:
    data = b"0123456789"
    collected = _skip(_pieces(*(data[at : at + size] for at in range(0, 10, size))), offset=4)
    assert b"".join(piece for _, _, piece in collected.bytes) == b"456789"
    assert collected.bytes[0][1] == 4


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_skip_lines_however_they_come(size: int) -> None:
    data = b"a\n\nb\nc"
    collected = _skip(_pieces(*(data[at : at + size] for at in range(0, 6, size))), lines=2)
    assert b"".join(piece for _, _, piece in collected.bytes) == b"b\nc"


def test_a_new_generation_is_not_skipped() -> None:
    collected = _skip([*_pieces(b"a\nb\n"), *_pieces(b"new\n", generation=1)], lines=9)
    assert collected.bytes == [(1, 0, b"new\n")]


def test_a_rewind_does_not_count_twice() -> None:
    pieces = _pieces(b"a\n", b"X\n")
    again = _pieces(b"b\n", b"c\n", start=2)
    collected = _skip([*pieces, Rewound(0, 2, 4), *again], lines=2)
    assert collected.bytes == [(0, 4, b"c\n")]
    assert collected.events == [], "nothing that went out is void"


def test_a_rewind_of_what_went_out_is_passed_on() -> None:
    collected = _skip([*_pieces(b"a\nX\n"), Rewound(0, 0, 4), *_pieces(b"a\nb\n")], lines=1)
    assert collected.bytes == [(0, 2, b"X\n"), (0, 2, b"b\n")]
    assert collected.events == [Rewound(0, 2, 4)]


def test_other_events_pass() -> None:
    event = Verified(Position(3, 1))
    assert _skip([event], lines=3).events == [event]


def test_end_of_skipping() -> None:
    async def play() -> Collected:
        collected = Collected()
        skipping = Skipping(collected, lines=9)
        first, second = _pieces(b"a\n", b"b\n")
        await skipping.write(first)
        skipping.end()
        await skipping.write(second)
        return collected

    assert asyncio.run(play()).bytes == [(0, 2, b"b\n")]
