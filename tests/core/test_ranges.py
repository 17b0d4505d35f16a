"""Byte ranges: what goes on the wire, and what is refused when it comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer.core.ranges import ByteRange, ContentRange

offsets = st.integers(0, 10**19 - 2)


@given(offsets, st.integers(1, 2**40))
def test_a_range_is_written_with_an_inclusive_end(start: int, length: int) -> None:
    one = ByteRange(start, start + length)
    assert one.header == f"bytes={start}-{start + length - 1}"
    assert len(one) == length


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (5, 5), (6, 5), (-1, 5), (-5, -1)])
def test_an_empty_or_negative_range_cannot_be_made(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="not a range of bytes"):
        ByteRange(start, stop)


@given(st.integers(0, 10**18), st.integers(1, 10**18), st.integers(0, 10**18))
def test_content_range_is_read_back(start: int, length: int, behind: int) -> None:
    stop, size = start + length, start + length + behind
    assert ContentRange.parse(f"bytes {start}-{stop - 1}/{size}") == ContentRange(start, stop, size)


@pytest.mark.parametrize("value", [" bytes 0-0/1", "bytes 0-0/1\t ", "bytes 00-0/01"])
def test_white_space_around_and_leading_zeros_do_no_harm(value: str) -> None:
    assert ContentRange.parse(value) == ContentRange(0, 1, 1)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "bytes",
        "bytes ",
        "bytes */100",  # a 416 states it: it satisfies nothing
        "bytes 0-9/*",  # without the size there is no link
        "bytes 0-9",
        "bytes 0-9/",
        "bytes -9/10",
        "bytes 0-/10",
        "bytes -1-9/10",
        "bytes 0--9/10",
        "bytes +0-9/10",
        "bytes 0 - 9/10",
        "bytes  0-9/10",
        "bytes=0-9/10",
        "octets 0-9/10",
        "0-9/10",
        "bytes 0-9/10, bytes 20-29/30",
        "bytes 0-9,20-29/30",
        "bytes 0-9/10\nX: y",
        "bytes 0-9/10\n",
        "bytes 0x0-0x9/0xa",
        "bytes 0-9/1e3",
        "bytes 0-9.0/10",
        "bytes \u0660-\u0669/\u0661\u0660",  # decimal digits, but not ASCII's
        "bytes 0-9/99999999999999999999",  # twenty digits: no length that OSS can have
        "bytes 00000000000000000000-9/10",
        "bytes 9-0/10",
        "bytes 5-4/10",
        "bytes 0-10/10",
        "bytes 10-10/10",
        "bytes 0-0/0",
    ],
)
def test_anything_else_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="Content-Range"):
        ContentRange.parse(value)


@given(st.text(max_size=40))
def test_rubbish_is_a_range_or_a_value_error(text: str) -> None:
    try:
        found = ContentRange.parse(text)
    except ValueError:
        found = ContentRange(0, 1, 1)
    assert 0 <= found.start < found.stop <= found.size


def test_an_endless_value_is_quoted_in_part_only() -> None:
    with pytest.raises(ValueError, match="unreadable") as caught:
        ContentRange.parse("bytes " + "9" * 100_000)
    assert len(str(caught.value)) < 200
