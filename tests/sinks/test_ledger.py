"""`Ledger`: it can count, and what a `Tail` hands out it finds without gap and overlap."""

from __future__ import annotations

import asyncio

import pytest

from tailer.core.events import Batch, Event, Replaced, Rewound
from tailer.core.position import ObjectRef
from tailer.errors import SinkBusy
from tailer.sinks.callback import Callback
from tailer.sinks.ledger import Account, Ledger
from tailer.sinks.retry import Retrying

REF = ObjectRef("logs", "app.log")


def batch(start: int, end: int, generation: int = 0) -> Batch:
    return Batch(REF, generation, start, end, bytes(end - start), verified=True)


def enter(*items: Event, start: int | None = None) -> Ledger:
    ledger = Ledger(Callback(lambda _: None), REF, start=start)

    async def run() -> None:
        for item in items:
            await (ledger.write(item) if isinstance(item, Batch) else ledger.notice(item))
        await ledger.close()

    asyncio.run(run())
    return ledger


def test_batches_in_order_have_neither_gap_nor_overlap() -> None:
    ledger = enter(batch(0, 10), batch(10, 30), batch(30, 31))
    assert (ledger.gaps, ledger.overlaps) == (0, 0)
    assert ledger.accounts == {(REF, 0): Account(0, 31)}


def test_it_can_count() -> None:
    """A ledger that never found anything would prove nothing."""
    ledger = enter(batch(0, 10), batch(12, 20), batch(15, 30), batch(30, 40), batch(45, 50))
    assert (ledger.gaps, ledger.overlaps) == (2, 1)
    assert ledger.accounts[REF, 0] == Account(0, 50, gaps=2, overlaps=1, missing=7, doubled=5)


def test_delivery_that_begins_in_the_wrong_place_is_counted() -> None:
    assert enter(batch(5, 9), start=5).gaps == 0
    assert enter(batch(7, 9), start=5).accounts[REF, 0].missing == 2
    assert enter(batch(3, 9), start=5).accounts[REF, 0].doubled == 2


def test_a_new_generation_begins_with_its_first_byte() -> None:
    good = enter(batch(5, 10), Replaced(1, "another type"), batch(0, 3, 1), batch(3, 4, 1))
    assert (good.gaps, good.overlaps) == (0, 0)
    assert good.accounts == {(REF, 0): Account(5, 10), (REF, 1): Account(0, 4)}
    assert enter(batch(5, 10), Replaced(1, "another type"), batch(2, 3, 1)).accounts[REF, 1].missing == 2


def test_a_new_generation_begins_with_its_first_byte_where_nothing_of_the_former_one_was_delivered() -> None:
    good = enter(Replaced(1, "another type"), batch(0, 3, 1), start=5)
    assert (good.gaps, good.overlaps) == (0, 0)
    assert enter(Replaced(1, "another type"), batch(5, 9, 1), start=5).accounts[REF, 1].missing == 5


def test_an_announced_rewind_is_no_overlap_and_what_it_voids_is_due_again() -> None:
    good = enter(batch(0, 10), Rewound(0, 4, 10), batch(4, 12))
    assert (good.gaps, good.overlaps) == (0, 0)
    assert good.accounts[REF, 0] == Account(0, 12, rewinds=1)
    skipped = enter(batch(0, 10), Rewound(0, 4, 10), batch(10, 12))
    assert skipped.accounts[REF, 0].missing == 6


def test_a_rewind_before_the_first_batch_says_where_that_begins() -> None:
    """After a resume: what an earlier run delivered turns out to be void."""
    ledger = enter(Rewound(0, 4, 10), batch(4, 12))
    assert ledger.accounts[REF, 0] == Account(4, 12, rewinds=1)


def test_a_batch_is_entered_when_it_was_delivered_however_often_it_was_tried() -> None:
    attempts = 0

    def refuse_twice(_: Batch) -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= 2:
            raise SinkBusy("not now")

    async def run() -> None:
        ledger = Ledger(Callback(refuse_twice), REF)
        with pytest.raises(SinkBusy):
            await ledger.write(batch(0, 5))
        assert not ledger.accounts
        await Retrying(ledger, sleep=lambda _: asyncio.sleep(0)).write(batch(0, 5))
        assert ledger.accounts == {(REF, 0): Account(0, 5)}

    asyncio.run(run())
