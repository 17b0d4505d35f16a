"""How many requests may be made: so many each second, and a day's number spread over the day. On a clock of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer.core.budget import Allowance, Bucket, Day

DAY = 86400.0
NOON = 1000 * DAY + DAY / 2


def passed(allowance: Allowance, seconds: float, *, wall: float = NOON, step: float = 0.05) -> int:
    """How many get through when somebody is always waiting."""
    count, now = 0, 0.0
    while now < seconds:
        while allowance.delay(now, wall + now) <= 0:
            allowance.take(now, wall + now)
            count += 1
        now += step
    return count


def test_so_many_each_second() -> None:
    assert passed(Allowance(10.0, None, 0.0, NOON), 20.0) == pytest.approx(10 + 200, abs=1)


def test_less_than_one_each_second() -> None:
    assert passed(Allowance(0.5, None, 0.0, NOON), 20.0) == pytest.approx(1 + 10, abs=1)


def test_a_bucket_says_when() -> None:
    bucket = Bucket(2.0, 1.0, 0.0)
    assert bucket.delay(0.0) == 0
    bucket.take(0.0)
    assert bucket.delay(0.0) == pytest.approx(0.5)
    assert bucket.delay(0.4) == pytest.approx(0.1)
    assert bucket.delay(0.5) == 0


def test_a_bucket_is_not_filled_by_a_clock_that_goes_back() -> None:
    bucket = Bucket(1.0, 1.0, 100.0)
    bucket.take(100.0)
    assert bucket.delay(50.0) == pytest.approx(1.0)
    assert bucket.delay(50.5) == pytest.approx(0.5)


def test_without_limits_nobody_waits() -> None:
    allowance = Allowance(None, None, 0.0, NOON)
    for _ in range(1000):
        allowance.take(0.0, NOON)
    assert allowance.delay(0.0, NOON) == 0
    assert allowance.day.spent(NOON) == 1000


@pytest.mark.parametrize("start", [0.0, 12 * 3600.0, 23 * 3600.0])
@pytest.mark.parametrize("limit", [200, 5000])
def test_a_day_is_spread_over_what_is_left_of_it(start: float, limit: int) -> None:
    """However hard it is pressed, there is something left for the last hour, and never more than the limit is used."""
    allowance = Allowance(None, limit, 0.0, 1000 * DAY + start)
    left = DAY - start
    early = passed(allowance, left - 600, wall=1000 * DAY + start, step=5.0)
    assert 0.9 * limit * (left - 600) / left - 2 <= early <= limit
    assert allowance.day.spent(1001 * DAY - 601) == early
    assert allowance.day.spent(1001 * DAY) == 0


def test_a_quiet_night_is_saved_for_the_day() -> None:
    """What was not used raises what may be used later."""
    allowance = Allowance(None, 8640, 0.0, 1000 * DAY)
    assert allowance.day.rate(1000 * DAY) == pytest.approx(0.1)
    assert allowance.day.rate(NOON) == pytest.approx(0.2)


def test_a_budget_that_is_used_up() -> None:
    """A limit that was lowered below what is used lets nothing through until midnight."""
    allowance = Allowance(None, 100, 0.0, NOON)
    for _ in range(50):
        allowance.take(0.0, NOON)
    allowance.limit(None, 40, 0.0, NOON)
    assert allowance.delay(1000.0, NOON + 1000) > 0
    assert allowance.tight(1000.0, NOON + 1000) > 0
    assert allowance.delay(DAY, NOON + DAY) == 0


def test_a_clock_set_back_does_not_begin_the_day_anew() -> None:
    day = Day(100)
    midnight = 1001 * DAY
    for wall in (midnight + 60, midnight + 61, midnight - 3600, midnight - 3500):
        day.count(wall)
    assert day.spent(midnight - 3000) == 4
    assert day.rate(midnight - 3600) == pytest.approx(96 / (DAY + 3600))
    assert day.spent(midnight + DAY) == 0


def test_a_clock_that_was_years_ahead_is_forgiven() -> None:
    day = Day(100)
    day.count(NOON + 400 * DAY)
    assert day.spent(NOON) == 0
    assert day.rate(NOON) == pytest.approx(100 / (DAY / 2))


@given(
    limit=st.integers(1, 500),
    steps=st.lists(st.tuples(st.floats(0, 5000), st.sampled_from([0, 0, 0, -3600, 3600])), max_size=60),
)
def test_no_day_is_overdrawn(limit: int, steps: list[tuple[float, int]]) -> None:
    """Whatever the clock does within a day: what passes of one day is at most its limit."""
    now, shift = 0.0, 0
    allowance = Allowance(3.0, limit, now, NOON)
    for pause, jump in steps:
        now, shift = now + pause, shift + jump
        wall = min(NOON + now + shift, 1001 * DAY - 1)
        wall = max(wall, 1000 * DAY)
        while allowance.delay(now, wall) <= 0:
            allowance.take(now, wall)
        assert allowance.day.spent(wall) <= limit
