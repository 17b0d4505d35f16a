"""Objects that are one stream: whose turn it is."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from tailer.core.sequence import Sequence, natural_key

QUIET = 60.0


@dataclass(eq=False)
class Row:
    key: str
    modified: float | None = None


def sequence_of(*keys: str) -> tuple[Sequence[Row], list[Row]]:
    rows = [Row(key) for key in keys]
    sequence: Sequence[Row] = Sequence(QUIET)
    for row in rows:
        assert sequence.join(row, 0.0)
    return sequence, rows


@pytest.mark.parametrize(
    "names",
    [
        ["app-1.log", "app-2.log", "app-10.log"],
        ["app-000001.log", "app-000002.log", "app-000010.log"],
        ["2026/9/1", "2026/10/1", "2026/10/11"],
        ["a", "a0", "a00", "a1", "b"],
        ["", "0", "x", "x9y", "x9z", "日10"],
    ],
)
def test_names_order_as_people_count(names: list[str]) -> None:
    """Whatever order they come in."""
    assert sorted(random.Random(1).sample(names, len(names)), key=natural_key) == names


def test_numbers_of_one_value_have_an_order_too() -> None:
    """Any, but always the same."""
    assert sorted(["a1", "a01", "a001"], key=natural_key) == ["a001", "a01", "a1"]


def test_the_next_begins_when_the_one_before_is_sealed() -> None:
    """At once, whatever is behind it."""
    sequence, (first, second) = sequence_of("1", "2")
    assert sequence.current is first
    assert sequence.looked(first, 1.0, 2.0, grew=True, sealed=True)
    assert sequence.current is second


def test_the_last_one_is_never_finished_unless_it_is_sealed() -> None:
    """There may always come more of it."""
    sequence, (only,) = sequence_of("1")
    assert not sequence.looked(only, 1e6, 1e6, grew=False, sealed=False)
    assert sequence.current is only
    assert sequence.looked(only, 1e6, 1e6, grew=False, sealed=True)
    assert sequence.current is None


def test_without_a_seal_it_takes_a_later_one_and_quiet() -> None:
    """News begins the wait anew, a look that brings something is never the last."""
    sequence, (first, second) = sequence_of("1", "2")
    assert not sequence.looked(first, 10.0, 10.0, grew=False, sealed=False)
    assert not sequence.looked(first, 59.0, 70.0, grew=True, sealed=False)
    assert not sequence.looked(first, 129.0, 129.0, grew=False, sealed=False)
    assert sequence.moved(first, 129.0)
    assert not sequence.looked(first, 131.0, 131.0, grew=False, sealed=False)
    assert sequence.current is first
    assert sequence.looked(first, 189.0, 189.0, grew=False, sealed=False)
    assert sequence.current is second


def test_a_look_that_began_before_the_later_one_was_known_is_not_the_last() -> None:
    """Its writer may have gone on in between."""
    sequence, (first,) = sequence_of("1")
    sequence.join(Row("2"), 100.0)
    assert not sequence.looked(first, 99.0, 101.0, grew=False, sealed=False)
    assert sequence.looked(first, 100.0, 101.0, grew=False, sealed=False)


def test_the_service_own_clock_counts_too() -> None:
    """A thousand old objects are read one after the other without a wait at each."""
    rows = [Row(f"app-{number}", modified=1000.0 * number) for number in range(100)]
    sequence: Sequence[Row] = Sequence(QUIET)
    for row in reversed(rows):
        sequence.join(row, 0.0)
    for row in rows[:-1]:
        assert sequence.current is row
        assert sequence.looked(row, 0.0, 0.0, grew=False, sealed=False)
    assert sequence.current is rows[-1]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [3, 0, 2, 4, 1]], ids=str)
def test_after_a_restart_all_before_the_last_one_begun_are_finished(order: list[int]) -> None:
    """In whatever order they are found; but not one that grew meanwhile, nor one that was never begun."""
    rows = [Row("2"), Row("8"), Row("9"), Row("10"), Row("11")]
    sequence: Sequence[Row] = Sequence(QUIET)
    for place in order:
        assert sequence.join(rows[place], 0.0, begun=place < 4, behind=place == 3)
    assert sequence.current is rows[3]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [2, 0, 1]], ids=str)
@pytest.mark.parametrize("begun", [True, False], ids=["grew", "never begun"])
def test_after_a_restart_no_byte_is_taken_for_read(order: list[int], begun: bool) -> None:
    """What is behind has its turn, though a later one was begun."""
    rows = [Row("1"), Row("2"), Row("10")]
    sequence: Sequence[Row] = Sequence(QUIET)
    for place in order:
        sequence.join(rows[place], 0.0, begun=place != 1 or begun, behind=place == 1)
    assert sequence.current is rows[1]
    assert sequence.looked(rows[1], 1.0, 1.0, grew=True, sealed=True)
    assert sequence.current is rows[2]


def test_what_comes_too_late_is_told_and_still_has_its_turn() -> None:
    """A finished one that grows, and a new one that sorts before a finished one."""
    sequence, (first, second) = sequence_of("2", "3")
    sequence.looked(first, 1.0, 1.0, grew=False, sealed=True)
    assert not sequence.moved(first, 2.0)
    assert sequence.current is first
    sequence.looked(first, 3.0, 3.0, grew=True, sealed=True)
    assert sequence.looked(second, 4.0, 4.0, grew=True, sealed=False) is False
    late = Row("1")
    assert not sequence.join(late, 4.0)
    assert sequence.current is late
    sequence.leave(late)
    assert sequence.current is second


def test_two_of_one_name_are_two() -> None:
    """In two buckets."""
    sequence, (first, second) = sequence_of("1", "1")
    sequence.leave(second)
    assert sequence.current is first
    sequence.leave(first)
    assert sequence.current is None
    sequence.leave(first)
