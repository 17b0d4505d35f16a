"""The values that name an object and a place in it."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from tailer.core.position import Link, ObjectMeta, ObjectRef, Position


def test_an_address_is_written_as_it_is_read() -> None:
    assert str(ObjectRef("bucket", "logs/app.log")) == "oss://bucket/logs/app.log"
    assert str(ObjectRef("host:8080", "a b", scheme="http")) == "http://host:8080/a b"


def test_a_position_begins_at_nothing_whose_crc_is_known() -> None:
    assert Position() == Position(offset=0, crc64=0, generation=0)


@pytest.mark.parametrize(
    "value", [ObjectRef("b", "k"), Position(3, 4, 5), Link(3, 4), ObjectMeta(3, 4, "Appendable")], ids=repr
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
