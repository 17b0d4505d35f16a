"""The service where there is much more than usual, over real sockets; the objects are made as they are asked for."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tailer.checkpoints import read_all
from tests.many import TEXT, Many, key, serving
from tests.service_bench import Bench, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MILLION = 1_000_000


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Many]:
    with serving(0) as served:
        for name, value in {**served.environment(), "HOME": str(tmp_path)}.items():
            monkeypatch.setenv(name, value)
        yield served


def written(folder: Path, group: str) -> Bench:
    """A service that writes all of the bucket to a file of JSON; `group` are further lines of its group."""
    bench = Bench(None, folder)  # type: ignore[arg-type] # nothing is appended
    bench.path.write_text(
        f'checkpoint = "state.db"\n[server]\nlisten = false\n[sinks.lines]\ntype = "jsonl"\npath = "{folder}/lines"\n'
        f'[groups.all]\nobjects = ["oss://logs/**.log"]\nsink = "lines"\n{group}'
    )
    return bench


@pytest.mark.timeout(300)
def test_ten_thousand_objects_that_are_new_in_one_moment(many: Many, tmp_path: Path) -> None:
    """Each is read once, with one GET, a few at a time; and all marks are kept."""
    number, bench = 10_000, written(tmp_path, 'list_interval = "3s"\n')

    async def run() -> None:
        async with bench.running() as service:
            await until(lambda: service.status().ready)
            many.count = number
            await until(lambda: many.asked["GET"] >= number, 240.0)
            assert list(service.status().problems) == []

    asyncio.run(run())
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    read = Counter(line["object"] for line in lines if line["type"] == "record")
    assert read == {f"oss://logs/{key(one)}": 1 for one in range(number)}
    kept = read_all(tmp_path / "state.db")
    assert (len(kept), {one.mark.delivered.offset for one in kept}) == (number, {len(TEXT)})
    assert many.asked["GET"] == number
    assert many.most_connections <= 70


def test_a_pattern_that_matches_a_million(many: Many, tmp_path: Path) -> None:
    """As many as are allowed are followed, the listing does not go on to its end; that there are more is said, and is
    a problem when it lasts.
    """
    many.count = MILLION
    bench = written(tmp_path, "max_objects = 1_000\n")
    bench.path.write_text(f'stuck = "1s"\n{bench.path.read_text()}')

    async def run() -> None:
        async with bench.running() as service:
            await until(lambda: service.status().groups[0].delivered_bytes == 1000 * len(TEXT))
            status = service.status().groups[0]
            assert "more than 1000 objects" in (status.listing_error or "")
            assert sum(status.objects.values()) == 1000
            await until(lambda: any("more than 1000 objects" in one for one in service.status().problems))

    asyncio.run(run())
    assert many.asked["LIST"] <= 6


def test_a_listing_that_repeats_its_token(many: Many, tmp_path: Path) -> None:
    """It ends at the second page, is told, and drops nothing; when it is mended, the rest is followed."""
    many.count, many.repeats = 2500, True
    bench = written(tmp_path, "list_interval = 0.2\n")

    async def run() -> None:
        async with bench.running() as service:
            await until(lambda: service.status().groups[0].listing_error)
            await until(lambda: many.asked["GET"] == 1000)
            listings = many.asked["LIST"]
            await until(lambda: many.asked["LIST"] >= listings + 4)
            status = service.status()
            assert "a listing" in (status.groups[0].listing_error or "")
            assert (sum(status.groups[0].objects.values()), status.ready) == (1000, False)
            many.repeats = False
            await until(lambda: many.asked["GET"] == 2500)
            await until(lambda: service.status().groups[0].listing_error is None)

    asyncio.run(run())
