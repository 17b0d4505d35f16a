"""The chain: a running CRC-64 that meets what the service stated, however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tailer.core import crc64
from tailer.core.chain import Break, Chain
from tailer.core.position import Claim, Link, Position

contents = st.binary(min_size=1, max_size=400)


def link(data: bytes, size: int) -> Link:
    """The true statement on the first `size` bytes."""
    return Link(size, crc64.update(data[:size]))


def cuttings(data: bytes, draw: st.DataObject) -> list[bytes]:
    """`data` in pieces, empty ones among them."""
    places = draw.draw(st.lists(st.integers(0, len(data)), max_size=8).map(sorted), label="cuts")
    edges = [0, *places, len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def feed(chain: Chain, pieces: list[bytes]) -> Break | None:
    for piece in pieces:
        if found := chain.feed(piece):
            return found
    return None


@given(contents, st.data())
def test_true_links_hold_wherever_they_lie_and_however_the_bytes_come(data: bytes, draw: st.DataObject) -> None:
    sizes = draw.draw(st.lists(st.integers(0, len(data)), max_size=6), label="links")
    chain = Chain(Position(), links=[link(data, size) for size in sizes])
    assert feed(chain, cuttings(data, draw)) is None
    assert chain.position == Position(len(data), crc64.update(data))
    assert chain.proven.offset == max(sizes, default=0)
    assert chain.proven.crc64 == crc64.update(data[: chain.proven.offset])
    assert chain.position.unproven == 0


@given(contents, st.data())
def test_a_flipped_bit_is_found_at_the_first_link_behind_it(data: bytes, draw: st.DataObject) -> None:
    sizes = draw.draw(st.lists(st.integers(1, len(data)), min_size=1, max_size=6), label="links")
    at = draw.draw(st.integers(0, max(sizes) - 1), label="flipped byte")
    bit = 1 << draw.draw(st.integers(0, 7))
    spoilt = data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :]
    chain = Chain(Position(), links=[link(data, size) for size in sizes])
    found = feed(chain, cuttings(spoilt, draw))
    first = min(size for size in sizes if size > at)
    assert found == Break(first, crc64.update(data[:first]), crc64.update(spoilt[:first]))
    assert chain.proven.offset == max((size for size in sizes if size <= at), default=0)


@given(contents, st.data())
def test_a_chain_goes_on_from_a_position_as_if_it_had_read_what_lies_before(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data)))
    begun = Position(at, crc64.update(data[:at]), 3)
    chain = Chain(begun, links=[link(data, len(data))])
    assert chain.feed(data[at:]) is None
    assert chain.position == Position(len(data), crc64.update(data), 3)
    assert (chain.proven == chain.position) or at == len(data)


@given(contents, st.data())
def test_a_loose_chain_is_tied_by_the_first_link_and_checked_by_the_second(data: bytes, draw: st.DataObject) -> None:
    start, tie, end = sorted(draw.draw(st.lists(st.integers(0, len(data)), min_size=3, max_size=3)))
    chain = Chain(Position(start, None), links=[link(data, tie), link(data, end)])
    assert feed(chain, cuttings(data[start:end], draw)) is None
    assert chain.feed(b"") is None
    claim = Claim(start, tie, crc64.update(data[start:tie]), crc64.update(data[:tie]))
    assert chain.position == chain.proven == Position(end, crc64.update(data[:end]), claim=claim)
    assert chain.position.unproven == tie


def test_a_loose_chain_breaks_at_the_second_link_when_the_object_is_another() -> None:
    old, new = b"0123456789", b"0123456789-x"
    chain = Chain(Position(4, None), links=[link(old, 8)])
    assert chain.position.crc64 is None
    assert chain.feed(old[4:8]) is None
    chain.expect(Link(12, crc64.update(b"another....!")))
    assert chain.feed(new[8:12]) == Break(12, crc64.update(b"another....!"), crc64.update(new))


def test_what_a_loose_chain_read_before_its_tie_stays_unproven() -> None:
    chain = Chain(Position(4, None))
    assert chain.position.unproven == 4
    chain.expect(Link(9, 1234))
    assert chain.feed(b"whate") is None
    assert chain.proven == Position(9, 1234, claim=Claim(4, 9, crc64.update(b"whate"), 1234))


@given(contents, st.data())
def test_a_loose_chain_that_is_cut_anywhere_claims_what_one_that_is_not_cut_claims(
    data: bytes, draw: st.DataObject
) -> None:
    start, cut, tie, end = sorted(draw.draw(st.lists(st.integers(0, len(data)), min_size=4, max_size=4)))
    whole = Chain(Position.unread(start), links=[link(data, tie)])
    first = Chain(Position.unread(start))
    assert first.feed(data[start:cut]) is None
    second = Chain(first.position, links=[link(data, tie)])
    for chain, at in ((whole, start), (second, cut)):
        assert chain.feed(data[at:end]) is None
        assert chain.feed(b"") is None
    assert second.position == whole.position


def test_a_chain_that_is_not_checked_knows_no_crc() -> None:
    chain = Chain(Position(4, 7), checked=False)
    assert chain.feed(b"abc") is None
    assert chain.position == Position(7, None)


def test_a_link_at_the_very_position_is_checked_by_an_empty_feed() -> None:
    chain = Chain(Position())
    assert chain.feed(b"abc") is None
    chain.expect(Link(3, 1))
    assert chain.feed(b"") == Break(3, 1, crc64.update(b"abc"))


def test_a_link_behind_the_position_is_of_no_use() -> None:
    chain = Chain(Position())
    assert chain.feed(b"abc") is None
    chain.expect(Link(2, 1))
    assert chain.feed(b"def") is None
    assert chain.proven == Position()


def test_a_later_statement_on_a_size_replaces_an_earlier_one() -> None:
    chain = Chain(Position(), links=[Link(3, 1), link(b"abc", 3)])
    assert chain.feed(b"abcdef") is None
    assert chain.proven.offset == 3


def test_the_watched_offset_is_noted_also_where_a_link_lies_and_where_none_does() -> None:
    for links in ([], [link(b"abcdef", 3)]):
        chain = Chain(Position(), links=links, watch=3)
        assert chain.watched is None
        assert chain.feed(b"ab") is None
        assert chain.watched is None
        assert chain.feed(b"cdef") is None
        assert chain.watched == crc64.update(b"abc")


def test_the_watched_offset_is_noted_before_the_break_at_the_same_place() -> None:
    chain = Chain(Position(), links=[Link(3, 1)], watch=3)
    assert chain.feed(b"abcdef") is not None
    assert chain.watched == crc64.update(b"abc")


def test_a_watched_offset_behind_the_start_never_comes() -> None:
    chain = Chain(Position(4, 7), watch=3)
    assert chain.feed(b"abcdef") is None
    assert chain.watched is None


def test_a_chain_keeps_a_bounded_number_of_links_and_always_the_last() -> None:
    data = bytes(5000)
    chain = Chain(Position(), links=[Link(size, crc64.update(data[:size])) for size in range(1, 5000)])
    chain.expect(Link(5000, 1))
    assert len(chain._links) <= 1024
    assert chain.feed(data) == Break(5000, 1, crc64.update(data))


def test_every_kind_of_bytes_is_taken() -> None:
    chain = Chain(Position(), links=[link(b"abcdef", 6)])
    for piece in (b"ab", bytearray(b"cd"), memoryview(b"ef")):
        assert chain.feed(piece) is None
    assert chain.proven.offset == 6
