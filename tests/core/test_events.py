"""Events and actions are plain frozen values; a batch knows its records."""

from __future__ import annotations

import dataclasses
import typing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer.core import events
from tailer.core.events import Batch, Record, Records
from tailer.core.position import ObjectRef

REF = ObjectRef("b", "k")


def batch(data: bytes | bytearray | memoryview, **more: typing.Any) -> Batch:
    return Batch(REF, 0, 1000, 1000 + len(data), data, verified=True, **more)


@pytest.mark.parametrize("cls", [*typing.get_args(events.Action), *typing.get_args(events.Event), Record])
def test_actions_and_events_are_frozen_and_have_slots(cls: type) -> None:
    assert dataclasses.is_dataclass(cls)
    assert cls.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "__slots__" in vars(cls)
    assert cls.__doc__


def test_every_class_of_the_module_is_an_action_or_an_event_or_of_the_records() -> None:
    named = {one for one in vars(events).values() if isinstance(one, type) and one.__module__ == events.__name__}
    assert named == {*typing.get_args(events.Action), *typing.get_args(events.Event), Record, Records}


@given(st.lists(st.sampled_from([b"a", b"\n", b"\0", b"xyz"])).map(b"".join), st.sampled_from([b"\n", b"\0"]))
def test_the_records_are_a_naive_split(data: bytes, delimiter: bytes) -> None:
    lines = data.split(delimiter)
    found = list(batch(data, delimiter=delimiter).records)
    assert [one.data for one in found] == (lines if lines[-1] else lines[:-1])
    assert all(one.first and one.last for one in found)


any_batch = st.builds(
    lambda parts, kind, **more: batch(kind(b"".join(parts)), **more),
    st.lists(st.sampled_from([b"a", b"\n", b"\0", b"xyz", b"12345678"])),
    st.sampled_from([bytes, bytearray, memoryview]),
    delimiter=st.sampled_from([None, b"\n", b"\0"]),
    limit=st.integers(1, 6),
    first=st.booleans(),
    last=st.booleans(),
)


@given(any_batch)
def test_to_count_the_records_is_to_make_them_all_and_they_can_be_made_again(one: Batch) -> None:
    records = one.records
    assert len(records) == len(list(records)) == len(list(records))


@given(st.binary(max_size=60), st.sampled_from([None, b"\n", b"\0"]), st.integers(1, 5), st.booleans(), st.booleans())
def test_the_records_cover_the_batch_without_gap_or_overlap(
    data: bytes, delimiter: bytes | None, limit: int, first: bool, last: bool
) -> None:
    found = list(batch(data, delimiter=delimiter, limit=limit, first=first, last=last).records)
    at = 1000
    for one in found:
        assert one.start == at
        assert one.data == data[at - 1000 :][: len(one.data)]
        assert 0 <= one.end - at - len(one.data) <= 1
        at = one.end
    assert at == 1000 + len(data)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_raw_batch_is_one_record_of_any_kind_of_bytes(kind: type) -> None:
    assert list(batch(kind(b"a\nb")).records) == [Record(1000, 1003, b"a\nb")]


def test_pieces_of_a_long_record_are_marked_at_both_ends() -> None:
    data = b"end\n12345678901"
    found = list(batch(data, delimiter=b"\n", limit=4, first=False, last=False).records)
    assert found == [
        Record(1000, 1004, b"end", first=False, last=True),
        Record(1004, 1008, b"1234", first=True, last=False),
        Record(1008, 1012, b"5678", first=False, last=False),
        Record(1012, 1015, b"901", first=False, last=False),
    ]
