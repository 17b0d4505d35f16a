"""The decision on a Range, as a property."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tailer.local.ranges import Slice, decide


@given(
    st.text(max_size=30) | st.from_regex(r"bytes=\d{0,3}-\d{0,3}", fullmatch=True), st.integers(0, 120), st.booleans()
)
def test_any_text_gives_a_slice_of_the_object_or_416(header: str, size: int, standard: bool) -> None:
    """Never outside of the object, never an empty 206, never 416 in the default mode."""
    chosen = decide(header, size, standard=standard)
    if chosen is None:
        assert standard
    elif chosen.partial:
        assert 0 <= chosen.start < chosen.stop <= size
    else:
        assert chosen == Slice(0, size, partial=False)


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 120))
def test_a_range_within_is_the_same_in_both_modes(first: int, last: int, size: int) -> None:
    """And outside, the standard mode clamps what the default mode ignores."""
    both = [decide(f"bytes={first}-{last}", size, standard=standard) for standard in (False, True)]
    if first <= last < size:
        assert both == [Slice(first, last + 1, partial=True)] * 2
    elif first <= last and first < size:
        assert both == [Slice(0, size, partial=False), Slice(first, size, partial=True)]
