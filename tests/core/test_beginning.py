"""What lies below a start in the middle, read afterwards, proves what was handed out from there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailer.core import crc64
from tailer.core.beginning import Beginning
from tailer.core.chain import Chain
from tailer.core.position import Claim, Link, Position


def claimed(data: bytes, start: int, tied_at: int) -> Claim:
    """The claim of a chain that began at `start` and met its first link at `tied_at`."""
    chain = Chain(Position(start, None), links=[Link(tied_at, crc64.update(data[:tied_at]))])
    assert chain.feed(data[start:]) is None
    assert chain.position.claim is not None
    return chain.position.claim


def read(beginning: Beginning, data: bytes, most: int) -> bool | None:
    """The verdict of one reading."""
    holds = None
    while holds is None:
        wanted = beginning.next_range(most)
        assert 0 < len(wanted) <= most
        holds = beginning.feed(data[wanted.start : wanted.stop])
    return holds


@given(st.binary(min_size=2), st.data())
def test_the_right_bytes_hold_and_any_others_do_not(data: bytes, draw: st.DataObject) -> None:
    start = draw.draw(st.integers(1, len(data) - 1))
    tied_at = draw.draw(st.integers(start, len(data)))
    beginning = Beginning(claimed(data, start, tied_at))
    most = draw.draw(st.integers(1, len(data)))
    at = draw.draw(st.integers(0, start - 1))
    wrong = bytearray(data)
    wrong[at] ^= 1 << draw.draw(st.integers(0, 7))
    assert read(beginning, bytes(wrong), most) is False
    assert read(beginning, data, most) is True
    assert beginning.misfits == 1


@given(st.binary(min_size=3), st.data())
def test_wrong_bytes_behind_the_start_do_not_hold_either(data: bytes, draw: st.DataObject) -> None:
    """Those are the ones that were handed out."""
    start = draw.draw(st.integers(1, len(data) - 2))
    at = draw.draw(st.integers(start, len(data) - 1))
    wrong = bytearray(data)
    wrong[at] ^= 1
    chain = Chain(Position(start, None), links=[Link(len(data), crc64.update(data))])
    chain.feed(bytes(wrong[start:]))
    assert chain.position.claim is not None
    assert read(Beginning(chain.position.claim), data, len(data)) is False
