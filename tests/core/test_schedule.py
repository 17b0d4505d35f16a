"""When to ask again, and for how much at once."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer.core.schedule import Pace, Readahead, back_off, next_look

KIB, MIB = 1024, 1024 * 1024


def test_polls_stay_fast_for_a_while_then_slow_down_to_the_slowest() -> None:
    pace = Pace(fastest=1.0, slowest=5.0, patience=3)
    assert [pace.after(n) for n in range(9)] == [1.0, 1.0, 1.0, 1.0, 1.5, 2.25, 3.375, 5.0, 5.0]


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 100), st.integers(0, 10**9))
def test_a_pause_is_never_zero_nor_beyond_its_bounds(fastest: float, slowest: float, patience: int, n: int) -> None:
    """Also where 0 seconds were asked for: that would be a spin."""
    pause = Pace(fastest, slowest, patience).after(n)
    assert max(fastest, 0.01) <= pause <= max(slowest, fastest, 0.01)


def test_a_fastest_poll_slower_than_the_slowest_one_wins() -> None:
    assert Pace(fastest=60.0, slowest=5.0).after(1000) == 60.0


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_backing_off_doubles_up_to_twenty_seconds_half_of_it_by_chance(attempt: int, chance: float) -> None:
    full = min(20.0, 0.2 * 2.0 ** min(attempt - 1, 30))
    assert full / 2 <= back_off(attempt, chance) < full or chance > 0.999


@given(st.integers(1, 50), st.floats(0, 1, exclude_max=True), st.floats(0, 1e5))
def test_the_service_is_never_asked_earlier_than_it_said(attempt: int, chance: float, at_least: float) -> None:
    assert back_off(attempt, chance, at_least) >= at_least
    assert back_off(attempt, chance, at_least) == max(at_least, back_off(attempt, chance))


# --- a line that is simulated: `rate` bytes a second in all, `each` per connection, a round trip of `trip` seconds


class Line:
    """Serves the windows of a `Readahead` in order, as many at once as it asks for."""

    def __init__(self, rate: float, each: float, trip: float) -> None:
        self.rate, self.each, self.trip = rate, each, trip
        self.now = self.moved = 0.0

    def run(self, ahead: Readahead, windows: int) -> float:
        """Bytes per second over that many windows."""
        return self._run(ahead, windows, 1 << 62)

    def run_bytes(self, ahead: Readahead, size: int) -> float:
        """Bytes per second over at least `size` bytes."""
        return self._run(ahead, 1 << 62, size)

    def _run(self, ahead: Readahead, windows: int, size_of_all: int) -> float:
        asked: list[tuple[int, float, float]] = []
        free = began = self.now
        moved = 0
        while windows > 0 and moved < size_of_all:
            windows -= 1
            while len(asked) < ahead.depth:
                started = max(self.now, free - ahead.window / self.rate)
                free = max(free, self.now + self.trip) + ahead.window / self.rate
                asked.append((ahead.window, self.now, max(free, started + self.trip + ahead.window / self.each)))
            size, since, done = asked.pop(0)
            self.now = max(self.now, done)
            ahead.learn(size, since, self.now)
            moved += size
        return moved / (self.now - began)


def test_windows_grow_to_the_largest_on_a_fast_line() -> None:
    ahead = Readahead(8 * MIB, 16, 64 * MIB)
    Line(1e9, 1e9, 0.0001).run(ahead, 100)
    assert ahead.window == 8 * MIB


def test_a_round_trip_and_a_limit_per_connection_are_hidden_by_depth() -> None:
    ahead, line = Readahead(8 * MIB, 16, 64 * MIB), Line(1e9, 25e6, 0.02)
    line.run(ahead, 100)
    assert line.run(ahead, 100) > 5 * 25e6
    assert ahead.depth == 16


def test_depth_is_found_soon() -> None:
    """Half a GiB through such a line, the learning included, in a tenth of the time of one connection."""
    assert Line(1e9, 25e6, 0.02).run_bytes(Readahead(8 * MIB, 16, 64 * MIB), 512 * MIB) > 10 * 25e6


def test_more_depth_is_given_back_where_it_gains_nothing() -> None:
    ahead = Readahead(8 * MIB, 16, 64 * MIB)
    Line(20e6, 1e9, 0.001).run(ahead, 200)
    assert ahead.depth <= 2


def test_windows_shrink_on_a_slow_line_and_stay_useful() -> None:
    ahead = Readahead(8 * MIB, 16, 64 * MIB)
    Line(100e3, 100e3, 0.1).run(ahead, 50)
    assert ahead.window == 64 * KIB


def test_windows_grow_again_when_a_slow_time_is_over() -> None:
    """A follower lives for months: one slow hour must not leave it with small windows for ever."""
    ahead = Readahead(8 * MIB, 16, 64 * MIB)
    Line(1e9, 1e9, 0.0001).run(ahead, 50)
    Line(100e3, 100e3, 0.1).run(ahead, 50)
    assert ahead.window == 64 * KIB
    Line(1e9, 1e9, 0.0001).run(ahead, 50)
    assert ahead.window == 8 * MIB


@given(
    st.integers(1, 16 * MIB),
    st.integers(1, 16),
    st.integers(1, 64 * MIB),
    st.lists(st.tuples(st.integers(1, 16 * MIB), st.floats(0, 10)), max_size=80),
)
def test_the_bounds_hold_whatever_comes(
    largest: int, deepest: int, budget: int, answers: list[tuple[int, float]]
) -> None:
    ahead, now = Readahead(largest, deepest, budget), 0.0
    for size, took in answers:
        ahead.learn(size, now, now + took)
        now += took
        assert 1 <= ahead.depth <= deepest
        assert min(largest, 64 * KIB) <= ahead.window <= largest


def test_a_clock_that_stands_still_does_no_harm() -> None:
    ahead = Readahead(64 * KIB, 8, MIB)
    for _ in range(100):
        ahead.learn(64 * KIB, 5.0, 5.0)
    assert ahead.depth == 2


def test_appends_at_the_tail_say_nothing_about_the_line() -> None:
    ahead = Readahead(8 * MIB, 16, 64 * MIB)
    for second in range(100):
        ahead.learn(100, second, second + 0.01)
        ahead.restart()
    assert (ahead.window, ahead.depth) == (512 * KIB, 2)


@pytest.mark.parametrize("deepest", [1, 2, 8])
def test_the_depth_moves_in_steps_of_two(deepest: int) -> None:
    ahead, seen = Readahead(64 * KIB, deepest, MIB), []
    for second in range(200):
        ahead.learn(64 * KIB, second, second + 0.5)
        seen.append(ahead.depth)
    assert all(b in (a, 2 * a, a // 2) for a, b in pairwise(seen))


# --- one of many objects, on a clock of its own


def looks(grows_every: float, seconds: float, *, fastest: float = 1.0, listings: float = 10.0) -> tuple[int, float]:
    """How often an object is looked at by itself that grows so often, and how late its growth is seen at worst."""
    now = grown = gap = worst = 0.0
    unchanged = count = 0
    pending: list[float] = []
    growth, listing, look = grows_every, listings, float("inf")
    while now < seconds:
        now = min(growth, listing, look)
        if now == growth:
            pending.append(now)
            growth += grows_every
            continue
        count += now == look
        if now == look or pending:  # a listing of what has not moved is no look
            if pending:
                worst = max(worst, now - pending[0])
                gap = ((gap + now - grown) / 2 if gap else now - grown) if grown else 0.0
                grown, unchanged = now, 0
            else:
                unchanged += 1
            pending.clear()
            delay = next_look(unchanged, gap, fastest, 60.0, listings) if gap else None
            look = float("inf") if delay is None else now + delay
        if now == listing:
            listing += listings
    return count, worst


def test_a_hot_object_is_looked_at_every_second() -> None:
    count, worst = looks(0.7, 1000)
    assert count == pytest.approx(1000, rel=0.05)
    assert worst < 11  # before the first listing knows of it
    assert looks(0.7, 1000, listings=2.0)[1] < 3.5


def test_an_object_that_grows_now_and_then_is_looked_at_a_few_times_between() -> None:
    count, _ = looks(8.0, 10_000)
    assert 2 * 1250 <= count <= 6 * 1250


@pytest.mark.parametrize("grows_every", [60.0, 100.0, 1000.0])
def test_an_object_that_grows_rarely_is_left_to_the_listings(grows_every: float) -> None:
    """But for the first time, when nothing is known of it."""
    assert looks(grows_every, 20 * grows_every)[0] <= 20


def test_an_object_at_rest_is_left_to_the_listings() -> None:
    delays = [next_look(unchanged, 0.0, 1.0, 60.0, 10.0) for unchanged in range(12)]
    assert delays == [1.0, 1.0, 1.0, 1.0, 1.5, 2.25, 3.375, 5.0625, 7.59375, None, None, None]


def test_no_look_is_needed_where_listings_come_as_often() -> None:
    assert next_look(0, 0.5, 1.0, 60.0, 1.0) is None


def test_nobody_waits_longer_than_the_slowest_poll() -> None:
    assert next_look(10**6, 0.0, 1.0, 5.0, 10.0) == 5.0
    assert next_look(10**6, 1e9, 1.0, 5.0, 10.0) == 5.0
    assert next_look(0, 0.0, 9.0, 5.0, 10.0) == 9.0
