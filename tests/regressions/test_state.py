"""Failures that users of other tailers suffered with what those remembered, each under its name."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

import tailer
from tailer.checkpoints import read_all
from tailer.local import Fault
from tests.faults.conftest import BUCKET, TEXT, library_only

if TYPE_CHECKING:
    from pathlib import Path

    from tailer.core.position import Mark
    from tests.faults.conftest import Faulty


def _places(state: Path) -> dict[str, Mark]:
    return {kept.ref.key: kept.mark for kept in read_all(state)}


def test_one_inputs_clean_up_leaves_anothers_state(tail: Faulty, tmp_path: Path) -> None:
    """An object that is gone for good takes nothing with it: not its neighbour's place, nor its own."""
    options, state = ("-c", "+1", "--checkpoint", str(tmp_path / "state.db")), tmp_path / "state.db"
    assert tail.reads(*options)[:2] == (0, TEXT)
    first, first_address = tail.key, tail.address
    tail.key, tail.address = f"{first}-2", f"{first_address}-2"
    tail.holds(b"another\n")
    assert tail.reads(*options)[:2] == (0, b"another\n")
    before = _places(state)
    assert {*before} == {first, tail.key}
    tail.server.store.delete(BUCKET, tail.key)
    assert tail.reads(*options)[:2] == (1, b"")
    assert _places(state) == before
    tail.key, tail.address = first, first_address
    tail.grows(b"four\n")
    assert tail.reads(*options) == (0, b"four\n", "")


@pytest.mark.parametrize("listing", ["failed", "empty", "page of a proxy"])
def test_empty_or_failed_listing_keeps_the_state(tail: Faulty, tmp_path: Path, listing: str) -> None:
    """What a listing does not name for once is not forgotten: it goes on where it was when it is there again."""
    options, state = ("-c", "+1", "--checkpoint", str(tmp_path / "state.db")), tmp_path / "state.db"
    tail.key += "/a"
    tail.holds(TEXT)
    tail.address += "/"
    assert tail.reads(*options)[:2] == (0, TEXT)
    before = _places(state)
    if listing == "empty":
        tail.server.store.delete(BUCKET, tail.key)
    elif listing == "failed":
        tail.suffers(Fault("status", operation="ListObjectsV2", status=500))
    else:
        tail.suffers(Fault("html", operation="ListObjectsV2", status=200))
    done = tail.reads(*options)
    assert done[:2] == (1, b"")
    assert _places(state) == before
    tail.suffers()
    if listing == "empty":
        tail.grows(TEXT)
    tail.grows(b"four\n")
    assert tail.reads(*options) == (0, b"four\n", "")


@library_only
@pytest.mark.parametrize("seed", range(10))
def test_a_cancelled_loop_leaves_nothing_running_and_nothing_half_committed(
    tail: Faulty, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Cancelled at any moment, again and again: what was committed is a prefix that goes on without gap or overlap."""
    chance = random.Random(seed)
    data = b"".join(b"line %d\n" % number for number in range(60_000))
    tail.holds(data)
    tail.suffers(Fault("cut", operation="GetObject", at=200_000, probability=0.2))
    for name, value in tail.environment.items():
        monkeypatch.setenv(name, value)
    committed = bytearray()

    async def read() -> None:
        async with tailer.Consumer(tail.address, checkpoint=tmp_path / "state.db", follow=False) as consumer:
            async for batch in consumer:
                await asyncio.sleep(0)
                await consumer.commit(batch)
                assert batch.start == len(committed)
                committed.extend(batch.data)

    async def read_and_cancel() -> bool:
        before = asyncio.all_tasks()
        task = asyncio.create_task(read())
        await asyncio.wait([task], timeout=chance.uniform(0.0, 0.15))
        task.cancel()
        (ended,) = await asyncio.gather(task, return_exceptions=True)
        assert asyncio.all_tasks() == before
        assert ended is None or isinstance(ended, asyncio.CancelledError), ended
        return ended is None

    for _ in range(200):
        done = asyncio.run(read_and_cancel())
        (place,) = [kept.mark.delivered.offset for kept in read_all(tmp_path / "state.db")] or [0]
        assert place == len(committed)
        if done:
            break
    assert committed == data
