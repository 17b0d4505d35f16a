"""Who is visited, and how much of the memory that takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from hypothesis import given
from hypothesis import strategies as st

from tailer.core.position import ObjectMeta
from tailer.fleet.lanes import Lanes
from tailer.fleet.rows import STEPS, FleetRow, Rates

if TYPE_CHECKING:
    from tailer.discovery import Scope

KIB, MIB = 1 << 10, 1 << 20


class Anywhere:
    """The listing that a row belongs to."""

    first = complete = False


def row(lag: int) -> FleetRow:
    return FleetRow(cast("Scope", Anywhere()), "key", ObjectMeta(lag))


def test_what_one_request_brings_is_small() -> None:
    lanes = Lanes(128 * MIB)
    assert lanes.of(row(0)) == (lanes.small, 64 * KIB)
    assert lanes.of(row(448 * KIB)) == (lanes.small, 512 * KIB)
    assert lanes.of(row(448 * KIB + 1)) == (lanes.large, 512 * KIB + 1)
    assert lanes.of(row(1 << 40)) == (lanes.large, 8 * MIB)


def test_one_that_brought_much_last_time_is_expected_to_do_so_again() -> None:
    lanes, one = Lanes(128 * MIB), row(0)
    one.awake().delivered = 100 * KIB
    assert lanes.of(one) == (lanes.small, 264 * KIB)


@given(st.integers(0, 200 * MIB), st.lists(st.integers(0, 20 * MIB), max_size=200))
def test_never_more_is_reserved_than_there_is(room: int, wanted: list[int]) -> None:
    """And somebody is always served."""
    lanes = Lanes(room)
    for lag in wanted:
        lane, need = lanes.of(row(lag))
        got = lane.enter(need)
        assert lanes.reserved <= room
        assert got is not None or lane.reserved > 0 or room < 2


def test_the_large_leave_room_for_the_small() -> None:
    lanes = Lanes(16 * MIB)
    while lanes.large.enter(8 * MIB) is not None:
        pass
    assert lanes.small.enter(64 * KIB) == 64 * KIB


def test_rates_are_of_ten_seconds_each() -> None:
    rates = Rates()
    rates.add(100, 1000.0)
    rates.add(100, 1009.0)
    rates.add(50, 1010.0)
    assert rates.per_second(1010.0)[-3:] == (0.0, 20.0, 5.0)
    assert len(rates.per_second(1010.0)) == STEPS
    assert rates.now(1015.0) == (200 + 50) / 15
    assert rates.per_second(1010.0 + 10 * STEPS + 5) == (0.0,) * STEPS
