"""Which objects an address names, over a listing that comes in pages, and what a census says of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tailer.core.position import ObjectMeta, ObjectRef
from tailer.discovery import Census, Row, matching_objects
from tailer.errors import BucketNotFound, ObjectNotFound, ServiceUnavailable, Throttled
from tailer.oss.address import parse_address
from tailer.oss.messages import ListedObject, ListPage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tailer.discovery import Changes, Surveyor

KEYS = ["logs/", "logs/a.log", "logs/b.txt", "logs/c.log", "logs/deep/", "logs/deep/d.log"]


class Pages:
    """Lists `KEYS`, two to a page, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []

    async def list_objects(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", continuation_token: str | None = None
    ) -> ListPage:
        self.asked.append((prefix, delimiter, continuation_token))
        start = int(continuation_token or 0)
        keys = [key for key in KEYS if key.startswith(prefix)]
        page = tuple(ListedObject(key, ObjectMeta(1)) for key in keys[start : start + 2])
        more = str(start + 2) if start + 2 < len(keys) else None
        return ListPage(page, (), more)


@pytest.mark.parametrize(
    ("address", "keys", "asked"),
    [
        ("oss://bucket/logs/a.log", ["logs/a.log"], []),
        ("oss://bucket/logs/*.log", ["logs/a.log", "logs/c.log"], [("logs/", "/", t) for t in (None, "2", "4")]),
        ("oss://bucket/logs/**.log", ["logs/a.log", "logs/c.log", "logs/deep/d.log"], None),
        ("oss://bucket/logs/", ["logs/a.log", "logs/b.txt", "logs/c.log", "logs/deep/d.log"], None),
        ("oss://bucket/none*", [], [("none", "/", None)]),
    ],
)
def test_an_address_names_these_objects(
    address: str, keys: list[str], asked: list[tuple[str, str, str | None]] | None
) -> None:
    """Console "folders" are left out; one segment is listed flat, several are not."""
    pages = Pages()
    found = asyncio.run(matching_objects(pages, parse_address(address)))
    assert found == [ObjectRef("bucket", key) for key in keys]
    assert asked is None or pages.asked == asked


# --- the census

DAY = 86400.0
NOW = 1_800_000_000.0


class Bucket:
    """Buckets in memory that list as OSS does, `size` rows to a page; `refuse` may raise before each page or HEAD."""

    def __init__(self, size: int = 3) -> None:
        self.size = size
        self.objects: dict[str, ObjectMeta] = {}
        self.listed: list[tuple[str, str]] = []
        self.heads: list[ObjectRef] = []
        self.refuse: Callable[[str], object] = lambda what: None

    def put(self, key: str, size: int = 1, *, etag: str = "E", modified: float = NOW, kind: str = "Appendable") -> None:
        self.objects[key] = ObjectMeta(size, None, kind, etag, modified)

    async def list_objects(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", continuation_token: str | None = None
    ) -> ListPage:
        if continuation_token is None:
            self.listed.append((prefix, delimiter))
        await asyncio.sleep(0)
        self.refuse(prefix)
        names: dict[str, ObjectMeta | None] = {}
        for key in sorted(self.objects):
            if key.startswith(prefix) and key > (continuation_token or ""):
                rest, slash, _ = key[len(prefix) :].partition(delimiter or "\0")
                names[prefix + rest + slash if slash else key] = None if slash else self.objects[key]
        page = list(names.items())[: self.size]
        more = len(names) > self.size
        return ListPage(
            tuple(ListedObject(name, meta) for name, meta in page if meta is not None),
            tuple(name for name, meta in page if meta is None),
            (page[-1][0] + ("\U0010ffff" if page[-1][1] is None else "")) if more else None,
        )

    async def head(self, ref: ObjectRef) -> ObjectMeta:
        self.heads.append(ref)
        await asyncio.sleep(0)
        self.refuse(ref.key)
        if ref.key not in self.objects:
            raise ObjectNotFound("", status=404)
        return self.objects[ref.key]


async def no_sleep(_: float) -> None:
    """Waits for nothing."""


def census_of(bucket: Surveyor, *addresses: str, **options: object) -> Census[Row]:
    return Census(bucket, map(parse_address, addresses), row=Row, sleep=no_sleep, **options)  # type: ignore[arg-type]


def take(census: Census[Row], now: float = NOW) -> Changes[Row]:
    return asyncio.run(census.take(now))


def keys_of(rows: Iterable[Row]) -> list[str]:
    return sorted(row.key for row in rows)


def told(changes: Changes[Row]) -> tuple[list[str], list[str], list[str], list[str]]:
    return keys_of(changes.new), keys_of(changes.moved), keys_of(changes.gone), keys_of(changes.old)


NOTHING = ([], [], [], [])


def test_a_census_tells_each_change_once() -> None:
    """New, moved, gone after two listings without it; nothing in between."""
    bucket = Bucket()
    census = census_of(bucket, "oss://bucket/logs/*.log")
    assert told(take(census)) == NOTHING
    for key in ("logs/a.log", "logs/b.log", "logs/c.txt", "logs/deep/d.log", "logs/", "other.log"):
        bucket.put(key)
    assert told(take(census)) == (["logs/a.log", "logs/b.log"], [], [], [])
    assert told(take(census)) == NOTHING
    bucket.put("logs/a.log", 2)
    assert told(take(census)) == ([], ["logs/a.log"], [], [])
    assert told(take(census)) == NOTHING
    del bucket.objects["logs/b.log"]
    assert told(take(census)) == NOTHING
    assert told(take(census)) == ([], [], ["logs/b.log"], [])
    assert (told(take(census)), len(census), take(census).count) == (NOTHING, 1, 1)
    bucket.put("logs/b.log")
    assert told(take(census)) == (["logs/b.log"], [], [], [])


@pytest.mark.parametrize("change", [{"size": 2}, {"etag": "F"}, {"modified": NOW + 1}, {"kind": "Normal"}], ids=str)
def test_whatever_differs_is_a_move(change: dict[str, Any]) -> None:
    """An object replaced by one of the same length, for one."""
    bucket = Bucket()
    bucket.put("a")
    census = census_of(bucket, "oss://bucket/*")
    take(census)
    bucket.put("a", **change)
    assert told(take(census)) == ([], ["a"], [], [])
    assert told(take(census)) == NOTHING


def test_what_a_listing_does_not_say_is_no_difference() -> None:
    """Some answers have no type, no ETag or no date."""
    bucket = Bucket()
    bucket.put("a")
    census = census_of(bucket, "oss://bucket/*")
    take(census)
    for meta in (ObjectMeta(1), ObjectMeta(1, etag="E"), ObjectMeta(1, last_modified=NOW, type="Appendable")):
        bucket.objects["a"] = meta
        assert told(take(census)) == NOTHING


def test_what_a_reader_saw_is_no_news() -> None:
    """Our own reading is ahead of the listing; what it did not see is news still."""
    bucket = Bucket()
    bucket.put("a")
    census = census_of(bucket, "oss://bucket/*")
    [row] = take(census).new
    bucket.put("a", 5, etag="F", modified=NOW + 1)
    row.saw(bucket.objects["a"])
    assert told(take(census)) == NOTHING
    bucket.put("a", 6, etag="G", modified=NOW + 2)
    assert told(take(census)) == ([], ["a"], [], [])


def test_a_listing_asked_for_before_a_reader_looked_is_not_believed() -> None:
    """It is of before, unless it says more; the next one tells."""
    bucket = Bucket()
    bucket.put("a")
    census = census_of(bucket, "oss://bucket/*")
    [row] = take(census).new

    def look(_: str) -> None:
        row.saw(ObjectMeta(9, None, "Appendable", "N", NOW + 9))

    bucket.refuse = look
    assert (told(take(census)), row.size) == (NOTHING, 9)
    bucket.put("a", 10, etag="O", modified=NOW + 10)
    assert (told(take(census)), row.size) == (([], ["a"], [], []), 10)
    bucket.put("a", 1)
    assert told(take(census)) == NOTHING
    bucket.refuse = lambda _: None
    assert told(take(census)) == ([], ["a"], [], [])


def test_the_first_listing_knows_what_was_there_before() -> None:
    """Also where it took two attempts to be complete."""
    bucket = Bucket(size=2)
    for key in "abcde":
        bucket.put(key)
    census = census_of(bucket, "oss://bucket/*")
    pages = iter([None, ServiceUnavailable("", status=503), *[ServiceUnavailable("", status=503)] * 9])

    def fail(_: str) -> None:
        if error := next(pages):
            raise error

    bucket.refuse = fail
    changes = take(census)
    assert (keys_of(changes.new), list(changes.errors)) == (["a", "b"], ["oss://bucket/*"])
    bucket.refuse = lambda _: None
    bucket.put("f")
    assert {row.key: row.first for row in take(census).new} == dict.fromkeys("cdef", True)
    bucket.put("g")
    assert [(row.key, row.first) for row in take(census).new] == [("g", False)]


def test_a_failed_listing_drops_nothing() -> None:
    """Not the rows of the pages that failed; those of another address are as always."""
    bucket = Bucket(size=1)
    for key in ("a/1", "a/2", "a/3", "b/1"):
        bucket.put(key)
    census = census_of(bucket, "oss://bucket/a/*", "oss://bucket/b/*")
    take(census)
    bucket.objects.clear()

    def fail(prefix: str) -> None:
        if prefix == "a/":
            raise BucketNotFound("", status=404)

    bucket.refuse = fail
    for gone in ([], ["b/1"], [], []):
        changes = take(census)
        assert told(changes) == ([], [], gone, [])
        assert [type(error) for error in changes.errors.values()] == [BucketNotFound]
    assert len(census) == 3
    bucket.refuse = lambda _: None
    assert told(take(census)) == NOTHING
    assert told(take(census)) == ([], [], ["a/1", "a/2", "a/3"], [])


def test_a_page_that_may_succeed_later_is_tried_again() -> None:
    """Three times, with the wait that the service asks for."""
    bucket = Bucket()
    bucket.put("a")
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    census = Census(bucket, [parse_address("oss://bucket/*")], row=Row, sleep=sleep)
    answers = iter([Throttled("", status=429, retry_after=7.0), ServiceUnavailable("", status=503), None])

    def fail(_: str) -> None:
        if error := next(answers):
            raise error

    bucket.refuse = fail
    changes = take(census)
    assert (keys_of(changes.new), changes.errors) == (["a"], {})
    assert (len(waits), waits[0]) == (2, 7.0)


def test_what_a_cancelled_census_found_is_in_the_next_one() -> None:
    """Nothing is told twice, nothing is lost."""
    bucket = Bucket(size=1)
    for key in "abc":
        bucket.put(key)
    census = census_of(bucket, "oss://bucket/*")

    async def main() -> None:
        task = asyncio.create_task(census.take(NOW))
        bucket.refuse = lambda _: len(census) == 0 or task.cancel() or None
        with pytest.raises(asyncio.CancelledError):
            await task
        bucket.refuse = lambda _: None

    asyncio.run(main())
    assert len(census) == 2
    assert told(take(census)) == (["a", "b", "c"], [], [], [])
