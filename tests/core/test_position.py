"""The values that name an object and a place in it."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from tailer.core import crc64
from tailer.core.position import Claim, Link, Mark, ObjectMeta, ObjectRef, Position

DATA = b"0123456789"
TIED = Claim(3, 6, crc64.update(DATA[3:6]), crc64.update(DATA[:6]))
LOOSE = Claim(3, 5, crc64.update(DATA[3:5]), None)


def test_an_address_is_written_as_it_is_read() -> None:
    assert str(ObjectRef("bucket", "logs/app.log")) == "oss://bucket/logs/app.log"
    assert str(ObjectRef("host:8080", "a b", scheme="http")) == "http://host:8080/a b"


def test_a_position_begins_at_nothing_whose_crc_is_known() -> None:
    assert Position() == Position(offset=0, crc64=0, generation=0)


@pytest.mark.parametrize(
    "value", [ObjectRef("b", "k"), Position(3, 4, 5, TIED), Link(3, 4), ObjectMeta(3, 4, "Appendable")], ids=repr
)
def test_values_are_frozen_hashable_and_survive_a_pickle(value: object) -> None:
    assert pickle.loads(pickle.dumps(value)) == value
    assert hash(value) == hash(pickle.loads(pickle.dumps(value)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, None)  # type: ignore[arg-type]


def test_a_link_needs_a_stated_crc_and_zero_is_one() -> None:
    assert ObjectMeta(7).link is None
    assert ObjectMeta(7, 0).link == Link(7, 0)
    assert ObjectMeta(7, 9).link == Link(7, 9)


def test_sealed_is_what_has_a_sealed_time_even_the_epoch() -> None:
    assert not ObjectMeta(7).sealed
    assert ObjectMeta(7, sealed_time=0.0).sealed


def test_of_bytes_that_were_never_read_nothing_is_proven() -> None:
    assert Position.unread(7, 8, 9) == Position(7, 8, 9, Claim(7, 7, 0, 8))
    assert (Position.unread(7, 8).unproven, Mark.at(Position.unread(7, 8)).unproven) == (7, 0)
    assert Position.unread(0, None, 9) == Position(0, 0, 9), "there are none"
    assert Position(7, None).unproven == 7
    assert Position(7, 8).unproven == 0


@pytest.mark.parametrize(
    ("mark", "count"),
    [
        (Mark(), 0),
        (Mark(Position(9, 1), Position(4, 1)), 5),
        (Mark(Position(9, 1, claim=TIED), Position(9, 1, claim=TIED)), 3),
        (Mark(Position(9, 1, claim=TIED), Position(7, 1, claim=TIED)), 5),
        (Mark(Position(9, 1, claim=TIED), Position(5, None, claim=LOOSE)), 6),
        (Mark(Position(5, None, claim=LOOSE), Position(3, None)), 2),
    ],
    ids=str,
)
def test_what_was_delivered_and_nothing_vouches_for_is_counted(mark: Mark, count: int) -> None:
    assert mark.unproven == count


def test_with_the_bytes_below_its_start_a_position_is_proven() -> None:
    beginning, whole = crc64.update(DATA[:3]), crc64.update(DATA)
    assert Position(10, whole, 2, TIED).vouched(TIED, beginning) == Position(10, whole, 2)
    assert Position(5, None, 2, LOOSE).vouched(TIED, beginning) == Position(5, crc64.update(DATA[:5]), 2)
    other = Position(10, whole, 2, Claim(4, 6, 1, 2))
    assert other.vouched(TIED, beginning) == other
