"""Records: cut the same way however the bytes arrive; and where the last ones of an object begin."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer.core.events import Batch, Record
from tailer.core.framing import Frame, Framer, LastRecords
from tailer.core.position import ObjectRef
from tailer.core.ranges import ByteRange

REF = ObjectRef("b", "k")
delimiters = st.sampled_from([b"\n", b"\0"])
contents = st.lists(st.sampled_from([b"a", b"b", b"\n", b"\0", b"abc", b"\r\n"]), max_size=60).map(b"".join)


def cuttings(data: bytes, draw: st.DataObject) -> list[bytes]:
    places = draw.draw(st.lists(st.integers(0, len(data)), max_size=10).map(sorted), label="cuts")
    return [data[a:b] for a, b in pairwise([0, *places, len(data)])]


def frames(pieces: list[bytes], delimiter: bytes | None, limit: int) -> list[Frame]:
    """All that comes out, the end of the object included; what is kept never exceeds the limit."""
    framer = Framer(delimiter, limit)
    out = []
    for piece in pieces:
        out.append(framer.feed(piece))
        assert len(framer.kept) <= limit
    out.append(framer.rest())
    return [frame for frame in out if frame is not None]


def records(found: list[Frame], delimiter: bytes, limit: int) -> list[Record]:
    """The records of the batches that these frames make."""
    out: list[Record] = []
    at = 0
    for frame in found:
        end = at + len(frame.data)
        batch = Batch(
            REF, 0, at, end, frame.data, verified=True, delimiter=delimiter, limit=limit,
            first=frame.first, last=frame.last,
        )  # fmt: skip
        out.extend(batch.records)
        at = end
    return out


def naive_records(data: bytes, delimiter: bytes, limit: int) -> list[Record]:
    """Split, then cut each into pieces of `limit`: too simple to be wrong."""
    out: list[Record] = []
    start = 0
    for line in data.split(delimiter):
        terminated = start + len(line) < len(data)
        if not (line or terminated):
            continue
        pieces = [line[i : i + limit] for i in range(0, len(line), limit)] or [b""]
        for i, piece in enumerate(pieces):
            is_last = i == len(pieces) - 1
            end = start + len(piece) + (1 if is_last and terminated else 0)
            out.append(Record(start, end, piece, first=i == 0, last=is_last))
            start = end
    return out


@given(contents, delimiters, st.integers(1, 8), st.data())
def test_the_records_are_those_of_a_naive_split_for_any_cutting(
    data: bytes, delimiter: bytes, limit: int, draw: st.DataObject
) -> None:
    expected = naive_records(data, delimiter, limit)
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))], cuttings(data, draw)):
        assert records(frames(pieces, delimiter, limit), delimiter, limit) == expected


@given(contents, delimiters, st.integers(1, 8), st.data())
def test_no_byte_is_lost_doubled_or_changed(data: bytes, delimiter: bytes, limit: int, draw: st.DataObject) -> None:
    assert b"".join(frame.data for frame in frames(cuttings(data, draw), delimiter, limit)) == data


@given(contents, delimiters, st.integers(1, 8), st.data())
def test_a_framer_taken_up_inside_a_record_goes_on_with_the_same_pieces(
    data: bytes, delimiter: bytes, limit: int, draw: st.DataObject
) -> None:
    """What a resume does: begin at the end of any frame, with `inside` as it was there."""
    found = frames(cuttings(data, draw), delimiter, limit)
    at = draw.draw(st.integers(0, len(found)))
    done = b"".join(frame.data for frame in found[:at])
    framer = Framer(delimiter, limit, inside=bool(at) and not found[at - 1].last)
    again = [frame for frame in (framer.feed(data[len(done) :]), framer.rest()) if frame is not None]
    taken_up = records(found[:at], delimiter, limit) + [
        Record(r.start + len(done), r.end + len(done), r.data, r.first, r.last)
        for r in records(again, delimiter, limit)
    ]
    assert taken_up == naive_records(data, delimiter, limit)


@pytest.mark.parametrize("shift", range(-2, 3))
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_the_end_of_the_last_record_is_found_wherever_it_lies_in_a_large_window(kind: type, shift: int) -> None:
    """Also across the borders of the blocks in which it is looked for, and with an unfinished record before it."""
    for blocks in (1, 2, 3):
        data = b"x" * (3 * 65536 - blocks * 65536 + shift) + b"\n" + b"y" * (blocks * 65536 - shift - 1)
        framer = Framer(b"\n", 10**9)
        assert framer.feed(b"begun ") is None
        assert framer.feed(kind(data)) == Frame(b"begun " + data[: data.index(b"\n") + 1])
        assert framer.kept == data[data.index(b"\n") + 1 :]
        assert type(framer.kept) is bytes


@given(st.lists(st.binary(max_size=20)))
def test_raw_bytes_pass_as_they_come(pieces: list[bytes]) -> None:
    framer = Framer(None, 3)
    assert [framer.feed(piece) for piece in pieces] == [Frame(piece) if piece else None for piece in pieces]
    assert framer.rest() is None


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_raw_bytes_are_not_copied(kind: type) -> None:
    data = kind(b"abc")
    frame = Framer(None, 3).feed(data)
    assert frame is not None
    assert frame.data is data


def test_a_record_of_exactly_the_limit_is_whole_however_late_its_delimiter_comes() -> None:
    framer = Framer(b"\n", 4)
    assert framer.feed(b"abcd") is None
    assert framer.feed(b"\n") == Frame(b"abcd\n")


def test_a_long_record_comes_in_pieces_that_say_what_they_are() -> None:
    framer = Framer(b"\n", 4)
    assert framer.feed(b"abcdefghij") == Frame(b"abcdefgh", first=True, last=False)
    assert framer.inside
    assert framer.feed(b"kl") is None
    assert framer.feed(b"m") == Frame(b"ijkl", first=False, last=False)
    assert framer.feed(b"\nx") == Frame(b"m\n", first=False, last=True)
    assert not framer.inside
    assert framer.rest() == Frame(b"x")


def test_a_framer_can_be_asked_for_as_it_was_earlier() -> None:
    framer = Framer(b"\n", 10)
    framer.feed(b"a\nbcd")
    earlier = framer.before(2)
    assert (framer.kept, earlier.kept) == (b"bcd", b"bc")
    assert earlier.feed(b"x\n") == Frame(b"bcx\n")
    assert framer.kept == b"bcd"


def test_whole_records_before_a_long_one_are_handed_on_with_its_first_pieces() -> None:
    assert Framer(b"\n", 4).feed(b"a\nb\n12345678x") == Frame(b"a\nb\n12345678", first=True, last=False)


@pytest.mark.parametrize(("delimiter", "limit"), [(b"", 10), (b"\r\n", 10), (b"\n", 0), (None, -1)])
def test_what_cannot_frame_is_refused(delimiter: bytes | None, limit: int) -> None:
    with pytest.raises(ValueError, match="one byte"):
        Framer(delimiter, limit)


# --- the last records


def naive_start(data: bytes, count: int, delimiter: bytes) -> int:
    """GNU tail: split after each delimiter; an unfinished last record counts as one."""
    pieces = [piece + delimiter for piece in data.split(delimiter)]
    pieces[-1] = pieces[-1][:-1]
    kept = [piece for piece in pieces if piece]
    return len(data) - sum(map(len, kept[len(kept) - min(count, len(kept)) :]))


def find(data: bytes, count: int, delimiter: bytes = b"\n") -> tuple[int, list[ByteRange]]:
    """Where they begin, and what was read to know it."""
    finder, asked = LastRecords(len(data), count, delimiter), []
    while (one := finder.next_range()) is not None:
        asked.append(one)
        finder.feed(data[one.start : one.stop])
    return finder.start, asked


@given(contents, st.integers(0, 70), delimiters)
def test_the_last_records_begin_where_gnu_tail_says(data: bytes, count: int, delimiter: bytes) -> None:
    assert find(data, count, delimiter)[0] == naive_start(data, count, delimiter)


@given(st.lists(st.tuples(contents, st.integers(0, 20_000)), max_size=8), st.integers(0, 40), st.booleans())
def test_the_same_across_the_borders_of_blocks(parts: list[tuple[bytes, int]], count: int, ends: bool) -> None:
    data = b"".join(part + b"x" * fill for part, fill in parts) + b"\n" * ends
    assert find(data, count)[0] == naive_start(data, count, b"\n")


@pytest.mark.parametrize("shift", range(-3, 4))
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_delimiter_at_the_border_of_the_first_block(shift: int, count: int, end: bytes) -> None:
    data = b"one\ntwo\n" + b"x" * (16 * 1024 + shift - len(end)) + end
    assert find(data, count)[0] == naive_start(data, count, b"\n")


@given(contents, st.integers(1, 70))
def test_the_ranges_go_backwards_without_gap_or_overlap(data: bytes, count: int) -> None:
    _, asked = find(data * 300, count * 100)
    assert [one.stop for one in asked] == [len(data) * 300, *[one.start for one in asked[:-1]]][: len(asked)]


@pytest.mark.parametrize(("size", "count"), [(0, 10), (100, 0), (100, -5), (0, 0)])
def test_nothing_is_read_where_nothing_is_wanted(size: int, count: int) -> None:
    finder = LastRecords(size, count)
    assert finder.next_range() is None
    assert finder.start == size


def test_ten_lines_of_five_gigabytes_cost_two_ranges_and_a_quarter_mebibyte_at_most() -> None:
    size, line = 5_000_000_000, b"x" * 99 + b"\n"
    finder, asked = LastRecords(size, 10), []
    while (one := finder.next_range()) is not None:
        asked.append(one)
        shift = one.start % 100
        finder.feed((line * (len(one) // 100 + 2))[shift : shift + len(one)])
    assert finder.start == size - 1000
    assert len(asked) <= 2
    assert sum(map(len, asked)) <= 256 * 1024


def test_a_billion_wanted_records_are_the_whole_object() -> None:
    assert find(b"a\nb\nc", 10**18) == (0, [ByteRange(0, 5)])


def test_blocks_grow_but_never_beyond_four_mebibytes() -> None:
    _, asked = find(bytes(30 * 1024 * 1024), 1)
    assert [len(one) // 1024 for one in asked[:6]] == [16, 64, 256, 1024, 4096, 4096]
    assert max(map(len, asked)) == 4 * 1024 * 1024


@pytest.mark.parametrize("given_bytes", [b"", b"ab", b"abcd"])
def test_half_an_answer_is_refused(given_bytes: bytes) -> None:
    finder = LastRecords(3, 1)
    with pytest.raises(ValueError, match="bytes for"):
        finder.feed(given_bytes)
    assert finder.next_range() == ByteRange(0, 3)


def test_an_answer_that_nobody_asked_for_is_refused() -> None:
    finder = LastRecords(3, 0)
    with pytest.raises(ValueError, match="bytes for None"):
        finder.feed(b"")


@pytest.mark.parametrize("delimiter", [b"", b"\r\n"])
def test_a_delimiter_is_one_byte(delimiter: bytes) -> None:
    with pytest.raises(ValueError, match="one byte"):
        LastRecords(3, 1, delimiter)
