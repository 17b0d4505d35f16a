"""Where an object begins when `start` is "end", whenever the process is killed before that is settled."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tailer.checkpoints import Checkpoints, read_all
from tailer.errors import AccessDenied
from tests.fleet.conftest import Kept

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tailer.fleet import Fleet
    from tests.fleet.conftest import World


@contextmanager
def snapshots(monkeypatch: pytest.MonkeyPatch, world: World, folder: Path) -> Iterator[list[Path]]:
    """The checkpoint file as kill -9 would leave it, at its beginning and after each transaction: copies of it."""
    found: list[Path] = []
    transaction = Checkpoints._transaction

    @contextmanager
    def and_copy(checkpoints: Checkpoints) -> Iterator[None]:
        with transaction(checkpoints):
            yield
        copy = folder / f"{len(found):02d}" / world.path.name
        copy.parent.mkdir(parents=True)
        for name in (world.path, world.path.with_name(f"{world.path.name}-wal")):
            shutil.copy(name, copy.with_name(name.name))
        found.append(copy)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "_transaction", and_copy)
        yield found


KEYS = ("a/old", "b/old", "a/empty", "a/new", "b/new", "a/last")


def deny(fleet: Fleet, denied: set[str]) -> None:
    """Let the listings of the prefixes in `denied` be refused."""
    really = fleet._reader.list_objects

    async def list_objects(bucket: str, prefix: str = "", **more: object) -> object:
        if prefix in denied:
            raise AccessDenied("not this one", status=403)
        return await really(bucket, prefix, **more)  # type: ignore[arg-type]

    fleet._reader.list_objects = list_objects  # type: ignore[assignment, method-assign]


async def begin(world: World) -> None:
    """One of two addresses is listed, then an object comes there, then the other is listed, and one comes there."""
    for key in ("a/old", "b/old"):
        world.append(key, b"old\n")
    world.append("a/empty", b"")
    denied = {"b/"}
    async with world.follow(world.group("a/*", "b/*", start="end")) as fleet:
        deny(fleet, denied)
        await world.until(lambda: len(world.observer.errors) > 1)
        world.append("a/new", b"new\n")
        await world.shows("a/new", b"new\n")
        await world.until(lambda: fleet.status().uncommitted == 0)
        denied.clear()
        await world.until(lambda: fleet.ready)
        world.append("b/new", b"new\n")
        await world.shows("b/new", b"new\n")


async def go_on(world: World) -> None:
    """Everything grew while nobody looked, and does so once more."""
    for key in KEYS:
        world.append(key, b"meanwhile\n")
    async with world.follow(world.group("a/*", "b/*", start="end")) as fleet:
        await world.until(lambda: fleet.ready and not fleet.status().lag)
        for key in KEYS:
            world.append(key, b"last\n")
        await world.until(lambda: all(world.text(key).endswith(b"last\n") for key in KEYS))


def is_listed(path: Path, key: str) -> bool:
    """Does the checkpoint file say that all beside `key` was listed before?"""
    with Checkpoints.open(path, "web", owner="a test") as checkpoints:
        known = checkpoints._database.execute("SELECT 1 FROM consumer_group").fetchone()
        return known is not None and not any(f"/{key[:2]}" in address for address in checkpoints.begin([]))


def test_a_hint_before_it_is_known_where_an_object_begins_does_not_make_it_begin_at_0(world: World) -> None:
    """It is shown by the first page of a listing that takes its time; the checkpoint was not asked yet."""

    async def follow() -> None:
        world.append("a/0", b"0\n")
        world.append("b/0", b"0\n")
        group = world.group("a/*", "b/*", poll_min=0.01)
        async with world.follow(group):
            await world.shows("a/0", b"0\n")
            await world.shows("b/0", b"0\n")
        world.append("a/0", b"1\n")
        async with world.follow(group) as fleet:
            really, go_on = fleet._reader.list_objects, asyncio.Event()

            async def list_slowly(bucket: str, prefix: str = "", **more: object) -> object:
                if prefix == "b/":
                    await go_on.wait()
                return await really(bucket, prefix, **more)  # type: ignore[arg-type]

            fleet._reader.list_objects = list_slowly  # type: ignore[assignment, method-assign]
            await world.until(lambda: fleet._census.find(world.ref("a/0")))
            assert fleet.wake(world.ref("a/0"))
            await asyncio.sleep(0.05)
            go_on.set()
            await world.until(lambda: fleet.ready and not fleet.status().lag)
            assert fleet.status().delivered_bytes == 2
        assert world.text("a/0") == b"0\n1\n"

    asyncio.run(follow())


@pytest.mark.parametrize("restarts", [False, True])
def test_what_there_was_no_room_for_at_first_was_there_all_the_same(world: World, restarts: bool) -> None:
    """Of more objects than are allowed, the others begin at their end as well once more are."""

    async def follow() -> None:
        for number in range(3):
            world.append(f"{number}.log", b"old\n")
        enough = world.group("*.log", start="end")
        async with world.follow(world.group("*.log", start="end", max_objects=2)) as fleet:
            await world.until(lambda: fleet.status().listing_error)
            await world.until(lambda: fleet._census.find(world.ref("1.log")))
            if not restarts:
                await fleet.apply(enough)
                await world.until(lambda: fleet.ready)
        async with world.follow(enough) as fleet:
            await world.until(lambda: fleet.ready)
            world.append("new.log", b"new\n")
            world.append("2.log", b"new\n")
            await world.shows("new.log", b"new\n")
            await world.shows("2.log", b"\0\0\0\0new\n")

    asyncio.run(follow())


def test_whenever_it_is_killed_what_was_there_begins_at_its_end_and_what_came_later_at_its_beginning(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What was there: at the first listing of its address that was complete, and kept as that."""
    with snapshots(monkeypatch, world, tmp_path / "killed") as killed:
        asyncio.run(begin(world))
    moments = []
    for path in killed:
        settled = {key: is_listed(path, key) for key in KEYS}
        known = {one.ref.key for one in read_all(path)}
        moments.append((settled["a/new"], settled["b/new"]))
        world.path, world.sink = path, Kept()
        asyncio.run(go_on(world))
        for key in ("a/old", "b/old"):
            assert b"old" not in world.text(key), f"{path}: {key} was there before, and began at 0"
        for key in (key for key in KEYS if settled[key] and key not in known):
            assert world.text(key)[:1] != b"\0", f"{path}: {key} is new, and did not begin at 0"
        assert world.sink.gaps == 0
    assert set(moments) == {(False, False), (True, False), (True, True)}
