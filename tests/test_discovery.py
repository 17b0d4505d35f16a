"""Which objects an address names, over a listing that comes in pages, and what a census says of them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailer.config import resolve_service
from tailer.core.position import ObjectMeta, ObjectRef
from tailer.core.ranges import ByteRange
from tailer.discovery import Census, Row, matching_objects
from tailer.errors import BucketNotFound, ConfigError, ObjectNotFound, ProtocolError, ServiceUnavailable, Throttled
from tailer.local import Fault, running
from tailer.oss import messages
from tailer.oss.address import glob_regex, parse_address
from tailer.oss.client import connect
from tailer.oss.messages import ListedObject, ListPage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from tailer.discovery import Changes, Surveyor
    from tailer.local import LocalServer
    from tailer.oss.client import Client

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


def test_a_change_of_addresses_before_the_first_listing_ended_leaves_it_the_first() -> None:
    """For the addresses that stay."""
    bucket = Bucket()
    bucket.put("a/1")
    bucket.put("b/1")

    def fail(_: str) -> None:
        raise ServiceUnavailable("", status=503)

    bucket.refuse = fail
    census = census_of(bucket, "oss://bucket/a/*")
    assert take(census).errors
    census.revise([parse_address("oss://bucket/a/*"), parse_address("oss://bucket/b/*")])
    bucket.refuse = lambda _: None
    assert {row.key: row.first for row in take(census).new} == {"a/1": True, "b/1": False}


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


class Script:
    """Answers with these pages, one after the other, and then the last again and again."""

    def __init__(self, *pages: tuple[list[str], list[str], str | None]) -> None:
        self.pages = list(pages)
        self.asked = 0

    async def list_objects(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", continuation_token: str | None = None
    ) -> ListPage:
        keys, prefixes, token = self.pages[min(self.asked, len(self.pages) - 1)]
        self.asked += 1
        return ListPage(tuple(ListedObject(key, ObjectMeta(1)) for key in keys), tuple(prefixes), token)

    async def head(self, ref: ObjectRef) -> ObjectMeta:
        raise AssertionError(ref)


@pytest.mark.parametrize(
    "pages",
    {
        "its token again": [(["a/1"], [], "t"), (["a/2"], [], "t")],
        "a key again": [(["a/1"], [], "t"), (["a/1"], [], None)],
        "not in order": [(["a/2", "a/1"], [], None)],
        "not in order over two pages": [(["a/5"], [], "t"), (["a/1"], [], "u")],
        "not in order with its prefixes": [(["a/5"], [], "t"), ([], ["a/4/"], None)],
        "outside the prefix": [(["a/1", "b/1"], [], None)],
        "another prefix": [(["A/1"], [], None)],
        "the same prefix for ever": [([], ["a/b/"], "t"), ([], ["a/b/"], "u")],
    }.items(),
    ids=lambda named: named[0],
)
def test_a_listing_that_cannot_be_right_is_told_and_drops_nothing(pages: tuple[str, list[Any]]) -> None:
    """What stood stays, also what the listing left out; so for a pattern of the command line."""
    script = Script((["a/0", "a/1"], [], None))
    census = census_of(script, "oss://bucket/a/*")
    assert keys_of(take(census).new) == ["a/0", "a/1"]
    for _ in range(3):
        script.pages, script.asked = pages[1], 0
        changes = take(census)
        assert [type(error) for error in changes.errors.values()] == [ProtocolError]
        assert (changes.gone, census.find(ObjectRef("bucket", "a/0")) is not None) == ([], True)
    script.asked = 0
    with pytest.raises(ProtocolError):
        asyncio.run(matching_objects(script, parse_address("oss://bucket/a/*")))


def test_a_listing_that_never_ends_is_ended() -> None:
    """Of keys, after twice the number that is allowed; of nothing, after a thousand pages."""

    class Endless(Script):
        empty = False

        async def list_objects(self, bucket: str, prefix: str = "", **options: Any) -> ListPage:
            self.asked += 1
            row = ListedObject(f"a/{self.asked:09}", ObjectMeta(1))
            return ListPage(() if self.empty else (row,), (), f"t{self.asked}")

    endless = Endless()
    for pattern in ("oss://bucket/a/*", "oss://bucket/a/*.log"):
        census = census_of(endless, pattern, max_objects=50)
        [error] = take(census).errors.values()
        assert isinstance(error, ConfigError)
        assert "more than 50 objects" in str(error)
        assert len(census) == (0 if pattern.endswith(".log") else 50)
    endless.empty, endless.asked = True, 0
    [error] = take(census_of(endless, "oss://bucket/a/*")).errors.values()
    assert isinstance(error, ProtocolError)
    assert endless.asked < 2000


def test_a_group_of_too_many_objects_keeps_what_it_has() -> None:
    """Each listing is within the bound, together they are not."""
    bucket = Bucket()
    for number in range(4):
        bucket.put(f"a/{number}")
        bucket.put(f"b/{number}")
    census = census_of(bucket, "oss://bucket/a/*", "oss://bucket/b/*", max_objects=5)
    for turn in range(3):
        known = keys_of(census)
        for key in known:
            bucket.put(key, 2 + turn)
        changes = take(census)
        assert {type(error) for error in changes.errors.values()} == {ConfigError}
        assert (changes.count, keys_of(changes.moved), changes.gone) == (5, known, [])
    for key in known[:3]:
        del bucket.objects[key]
    assert take(census).errors
    changes = take(census)
    assert (len(changes.gone), changes.count) == (3, 2)
    assert (len(take(census).new), len(census), take(census).errors) == (3, 5, {})


def test_whether_an_address_names_an_object() -> None:
    """Be it there or not; of any time where there is a time in the name."""
    census = census_of(Bucket(), "oss://bucket/a/*", "oss://bucket/b", "oss://bucket/%Y/%m/", "https://host/c")
    named = [ObjectRef("bucket", key) for key in ("a/1", "b", "1999/12/x/y")] + [ObjectRef("host", "c", "https")]
    other = [ObjectRef("bucket", key) for key in ("a/1/2", "a/", "c", "99/12/x")] + [ObjectRef("others", "b")]
    assert all(map(census.names, named))
    assert not any(map(census.names, other))


def test_addresses_that_overlap_name_an_object_once() -> None:
    """And are listed in as few listings as show them all."""
    bucket = Bucket()
    for key in ("logs/a.log", "logs/a.txt", "logs/deep/b.log", "logs/x", "other/a.log", "other/c", "single"):
        bucket.put(key)
    census = census_of(
        bucket,
        "oss://bucket/logs/*.log",
        "oss://bucket/logs/**.log",
        "oss://bucket/logs/a.*",
        "oss://bucket/logs/x",
        "oss://bucket/logs/deep/",
        "oss://bucket/other/*",
        "oss://bucket/other/*",
        "oss://bucket/single",
    )
    assert told(take(census)) == (
        ["logs/a.log", "logs/a.txt", "logs/deep/b.log", "logs/x", "other/a.log", "other/c", "single"],
        *NOTHING[1:],
    )
    assert sorted(bucket.listed) == [("logs/", ""), ("other/", "/")]
    assert bucket.heads == [ObjectRef("bucket", "single")]
    assert told(take(census)) == NOTHING
    bucket.put("logs/deep/b.log", 2)
    assert told(take(census)) == ([], ["logs/deep/b.log"], [], [])


def test_one_object_by_its_name_need_not_be_there_yet() -> None:
    """It is asked for by HEAD; a URL cannot be listed at all."""
    bucket = Bucket()
    census = census_of(bucket, "oss://bucket/app.log", "https://host/other.log")
    assert told(take(census)) == NOTHING
    assert census.missing() == [ObjectRef("bucket", "app.log"), ObjectRef("host", "other.log", "https")]
    bucket.put("app.log")
    assert [row.ref for row in take(census).new] == [ObjectRef("bucket", "app.log")]
    bucket.put("app.log", 2)
    bucket.put("other.log")
    changes = take(census)
    assert ([row.ref for row in changes.new], keys_of(changes.moved)) == (
        [ObjectRef("host", "other.log", "https")],
        ["app.log"],
    )
    del bucket.objects["app.log"]
    assert [told(take(census)) for _ in range(2)] == [NOTHING, ([], [], ["app.log"], [])]
    assert (bucket.listed, census.missing()) == ([], [ObjectRef("bucket", "app.log")])


def test_old_objects_are_left_alone_until_they_move() -> None:
    """Not those that were read before."""
    bucket = Bucket()
    for key, age in (("new", 50), ("old", 200), ("older", 300), ("known", 300)):
        bucket.put(key, modified=NOW - age)
    census = census_of(bucket, "oss://bucket/*", ignore_older=100.0, was_read=lambda ref: ref.key == "known")
    changes = take(census)
    assert (keys_of(changes.new), changes.count, changes.ignored) == (["known", "new"], 4, 2)
    bucket.put("old", 2, modified=NOW + 1)
    del bucket.objects["older"]
    changes = take(census, NOW + 1)
    assert (told(changes), changes.ignored) == ((["old"], [], [], []), 1)
    changes = take(census, NOW + 1000)
    assert (told(changes), changes.ignored, len(census)) == (NOTHING, 0, 3)


@pytest.mark.parametrize("key", ["a/./b", "a/../b", "./a", "a/.."])
def test_a_key_that_cannot_be_asked_for_is_refused_once(key: str) -> None:
    """HTTP would name another object."""
    bucket = Bucket()
    bucket.put(key)
    bucket.put("a/ok")
    census = census_of(bucket, "oss://bucket/")
    changes = take(census)
    assert (keys_of(changes.new), len(changes.refused)) == (["a/ok"], 1)
    assert repr(key) in str(changes.refused[0])
    assert take(census).refused == []


def test_other_addresses_do_not_disturb_what_they_still_name() -> None:
    """What none names any more is given back; objects of a new address were not there at the first listing."""
    bucket = Bucket()
    for key in ("a/1", "a/2", "b/1", "c/1", "2027/01/15/x"):
        bucket.put(key)
    census = census_of(bucket, "oss://bucket/a/*", "oss://bucket/b/*", "oss://bucket/%Y/%m/%d/*")
    rows = {row.key: row for row in take(census).new}
    addresses = [parse_address(f"oss://bucket/{text}") for text in ("a/**", "a/*", "c/*", "%Y/%m/%d/*")]
    assert keys_of(census.revise(addresses, look_back=DAY)) == ["b/1"]
    changes = take(census)
    assert [(row.key, row.first) for row in changes.new] == [("c/1", False)]
    assert told(changes)[1:] == NOTHING[1:]
    assert {row.key: row for row in census} == {key: rows[key] for key in ("a/1", "a/2", "2027/01/15/x")} | {
        "c/1": changes.new[0]
    }
    del bucket.objects["a/2"]
    bucket.put("a/1", 2)
    assert told(take(census)) == ([], ["a/1"], [], [])
    assert told(take(census)) == ([], [], ["a/2"], [])
    assert told(take(census, NOW + 2 * DAY)) == ([], [], [], ["2027/01/15/x"])
    with pytest.raises(ConfigError):
        census.revise([parse_address("oss://bucket/%Y%m%d%H*")], look_back=1e9)
    assert told(take(census, NOW + 2 * DAY)) == NOTHING


NAMES = ["a", "a/b", "a/b/c.log", "a/c.log", "a/d.txt", "ab", "ab/c.log", "b/2027/01/x", "b/2027/02", "b/x", "c"]
ADDRESSES = [
    "", "a*", "a/*", "a/**", "a/", "a/b", "a/b/", "a/*.log", "**.log", "*/*.log", "a?/**", "b/%Y/%m/*", "b/%Y/", "b/**",
    "c", "[ab]",
]  # fmt: skip


def named(address: str, key: str) -> bool:
    """By a plain reading of the rules; it is January 2027."""
    address = address.replace("%Y", "2027").replace("%m", "01")
    if address == "" or address.endswith("/"):
        return key.startswith(address)
    return glob_regex(address).fullmatch(key) is not None


addresses = st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=6)


@settings(max_examples=150)
@given(st.sets(st.sampled_from(NAMES)), addresses, addresses)
def test_any_addresses_name_what_each_of_them_names(keys: set[str], before: list[str], after: list[str]) -> None:
    """Each object once, in no more listings than addresses; and so when they are changed, which disturbs nothing."""
    bucket = Bucket()
    for key in keys:
        bucket.put(key)
    census = census_of(bucket, *(f"oss://bucket/{one}" for one in before), look_back=3600.0)
    first = {key for key in keys if any(named(one, key) for one in before)}
    assert told(take(census)) == (sorted(first), [], [], [])
    assert len(bucket.listed) + len(bucket.heads) <= len(set(before))
    rows = {row.key: row for row in census}
    second = {key for key in keys if any(named(one, key) for one in after)}
    dropped = census.revise([parse_address(f"oss://bucket/{one}") for one in after], look_back=3600.0)
    assert set(keys_of(dropped)) == first - second
    assert told(take(census)) == (sorted(second - first), [], [], [])
    assert {key: row for key, row in rows.items() if key in second} == {
        row.key: row for row in census if row.key in first
    }
    for key in second:
        bucket.put(key, 2)
    assert told(take(census)) == ([], sorted(second), [], [])
    bucket.objects.clear()
    assert [told(take(census)) for _ in range(2)] == [NOTHING, ([], [], sorted(second), [])]


# --- partitions by time


def test_the_partitions_of_the_look_back_are_listed() -> None:
    """The newest first, each of its own prefix."""
    bucket = Bucket()
    census = census_of(bucket, "oss://bucket/logs/%Y/%m/%d/*.log", look_back=2 * DAY)
    take(census, 1_709_251_200.0)  # 2024-03-01T00:00:00Z, after a leap day
    assert bucket.listed == [(f"logs/2024/{day}/", "/") for day in ("03/01", "02/29", "02/28")]


def test_a_partition_closes_and_what_is_in_it_is_read_to_its_end() -> None:
    """After its time it is listed once more, then never again."""
    bucket = Bucket()
    census = census_of(bucket, "oss://bucket/%Y-%m-%d/*", look_back=3600.0)
    midnight = 1_800_057_600.0  # 2027-01-16T00:00:00Z
    bucket.put("2027-01-15/a")
    assert told(take(census, midnight - 10)) == (["2027-01-15/a"], [], [], [])
    assert told(take(census, midnight + 10)) == NOTHING
    bucket.put("2027-01-15/a", 2)
    bucket.put("2027-01-16/b")
    assert told(take(census, midnight + 3599)) == (["2027-01-16/b"], ["2027-01-15/a"], [], [])
    bucket.put("2027-01-15/a", 3)
    bucket.put("2027-01-15/late")
    assert told(take(census, midnight + 3600)) == (
        ["2027-01-15/late"], ["2027-01-15/a"], [], ["2027-01-15/a", "2027-01-15/late"],
    )  # fmt: skip
    bucket.listed.clear()
    bucket.put("2027-01-15/a", 4)
    assert told(take(census, midnight + 3601)) == NOTHING
    assert (bucket.listed, keys_of(census)) == ([("2027-01-16/", "/")], ["2027-01-16/b"])


def test_no_outage_closes_a_partition_that_was_not_seen_whole() -> None:
    """Nor does a process that was stopped for days."""
    bucket = Bucket()
    census = census_of(bucket, "oss://bucket/%Y%m%d.log", look_back=DAY)
    take(census, NOW)

    def fail(_: str) -> None:
        raise ServiceUnavailable("", status=503)

    bucket.refuse = fail
    for day in range(1, 4):
        assert take(census, NOW + day * DAY).errors
        bucket.put(f"202701{15 + day}.log")
    bucket.put("20270119.log")
    bucket.refuse = lambda _: None
    changes = take(census, NOW + 8 * DAY)
    assert told(changes)[0] == ["20270116.log", "20270117.log", "20270118.log", "20270119.log"]
    assert told(changes)[3] == told(changes)[0]


def test_what_was_not_read_yet_is_listed_once_more_however_long_ago() -> None:
    """By another process, and over a change of the look-back."""
    bucket = Bucket()
    for day in range(14, 20):
        bucket.put(f"202701{day}.log")
    address = "oss://bucket/%Y%m%d.log"
    census = census_of(bucket, address, look_back=DAY)
    assert census.unread() == {}
    census.resume({address: NOW - 1.5 * DAY, "oss://bucket/other": 0.0})
    changes = take(census, NOW + 3 * DAY)
    assert all(row.first for row in changes.new), "as all are that the first listing of a group shows"
    assert told(changes) == (
        ["20270114.log", "20270115.log", "20270116.log", "20270117.log", "20270118.log"], [], [],
        ["20270114.log", "20270115.log", "20270116.log"],
    )  # fmt: skip
    assert {address: datetime(2027, 1, 17, tzinfo=UTC).timestamp()} == census.unread()

    def fail(_: str) -> None:
        raise ServiceUnavailable("", status=503)

    bucket.refuse = fail
    assert take(census, NOW + 8 * DAY).errors
    census.revise([parse_address(address)], look_back=2 * DAY)
    assert {address: datetime(2027, 1, 17, tzinfo=UTC).timestamp()} == census.unread()
    bucket.refuse = lambda _: None
    assert told(take(census, NOW + 8 * DAY))[0] == ["20270119.log"], "seen whole for the first time"
    assert {address: datetime(2027, 1, 21, tzinfo=UTC).timestamp()} == census.unread()


def test_of_many_partitions_that_were_not_read_only_some_are_open_at_a_time() -> None:
    """The oldest first; a listing that fails has no more of them opened."""
    bucket = Bucket(1000)
    start = NOW - 61 * 3600
    keys = [datetime.fromtimestamp(start + 3600 * hour, UTC).strftime("%Y%m%d%H.log") for hour in range(60)]
    for key in keys:
        bucket.put(key)
    address = "oss://bucket/%Y%m%d%H.log"
    census = census_of(bucket, address, look_back=3600.0)
    census.resume({address: start})
    found: list[str] = []
    for broken, closed, unread in (("", 24, 24), (keys[24], 47, 24), ("", 48, 48), ("", 60, 60)):
        bucket.refuse = lambda prefix, broken=broken: unavailable() if prefix == broken else None
        changes = take(census, NOW)
        found += [row.key for row in changes.old]
        assert (len(census), len(found), bool(changes.errors)) == (0, closed, bool(broken))
        assert census.unread()[address] == (start + 3600 * unread)
    assert sorted(found) == keys


def unavailable() -> None:
    raise ServiceUnavailable("", status=503)


def test_what_is_not_shown_again_after_a_change_was_of_its_own_partition() -> None:
    """A row that only the pattern names by then, and no open partition, tells how far to look back for it."""
    bucket = Bucket()
    bucket.put("20270115.log")
    bucket.put("20270114.log")
    address = "oss://bucket/%Y%m%d.log"
    census = census_of(bucket, address, look_back=3 * DAY)
    take(census)
    census.revise([parse_address(address)], look_back=3600.0)
    del bucket.objects["20270114.log"]
    (old,) = take(census).old
    assert old.partition == (address, datetime(2027, 1, 14, tzinfo=UTC).timestamp())


def test_another_age_is_taken_over_for_what_was_too_old_before() -> None:
    bucket = Bucket()
    bucket.put("old", modified=NOW - 1000.0)
    bucket.put("older", modified=NOW - 5000.0)
    address = parse_address("oss://bucket/*")
    census = census_of(bucket, "oss://bucket/*", ignore_older=100.0)
    assert (told(take(census)), census.revise([address], ignore_older=2000.0)) == (NOTHING, [])
    assert told(take(census)) == (["old"], [], [], [])
    assert told(take(census, NOW - 4000.0)) == NOTHING, "a clock set back makes nothing young"
    census.revise([address])
    assert told(take(census)) == (["older"], [], [], [])


def test_a_clock_set_back_an_hour_changes_nothing() -> None:
    """The partition that lies in the future then is listed still."""
    bucket = Bucket()
    census = census_of(bucket, "oss://bucket/%Y%m%d%H/*", look_back=3600.0)
    hour = 1_800_000_000.0
    bucket.put("2027011508/a")
    bucket.put("2027011507/a")
    assert told(take(census, hour)) == (["2027011507/a", "2027011508/a"], [], [], [])
    bucket.put("2027011508/a", 2)
    assert told(take(census, hour - 3600)) == ([], ["2027011508/a"], [], [])
    assert told(take(census, hour - 3600)) == NOTHING
    assert told(take(census, hour + 1)) == NOTHING
    assert told(take(census, hour + 3600)) == ([], [], [], ["2027011507/a"])


def test_a_clock_far_ahead_costs_a_bounded_number_of_listings() -> None:
    """And is forgotten when it is set right."""
    bucket = Bucket()
    census = census_of(bucket, "oss://bucket/%Y%m%d%H/*", look_back=3600.0)
    take(census)
    take(census, NOW + 50 * 365 * DAY)
    assert len(bucket.listed) < 3000
    bucket.listed.clear()
    take(census)
    assert len(bucket.listed) <= 3


def test_one_page_with_far_too_many_objects_gives_as_many_as_are_allowed() -> None:
    bucket = Bucket()
    for number in range(110):
        bucket.put(f"a/{number:03}")
    census = census_of(bucket, "oss://bucket/a/*", max_objects=50)
    changes = take(census)
    [error] = changes.errors.values()
    assert len(changes.new) == 50
    assert "more than 50 objects" in str(error)


def test_a_look_back_of_too_many_partitions_is_refused() -> None:
    """A year of hours would be 8,760 listings each time."""
    with pytest.raises(ConfigError, match="8760 partitions"):
        census_of(Bucket(), "oss://bucket/%Y%m%d%H/*", look_back=365 * DAY)


@given(
    st.sampled_from(["%Y", "%Y/%m", "%Y%m%d", "%Y-%m-%d/%H", "%d", "%H/x"]),
    st.floats(0, 3 * DAY) | st.floats(0, 40 * DAY),
    st.lists(st.floats(0, 2 * DAY), min_size=1, max_size=5),
    st.floats(1e9, 2e9),
)
def test_every_partition_that_can_still_change_is_listed(
    form: str, look_back: float, steps: list[float], now: float
) -> None:
    """Against a model that asks at every quarter of an hour what the name was."""
    bucket = Bucket()
    try:
        census = census_of(bucket, f"oss://bucket/a%b/{form}/*", look_back=look_back)
    except ConfigError:
        assert "%H" in form
        return
    for step in steps:
        now += step
        bucket.listed.clear()
        take(census, now)
        moments = [now, *(now - back * 900 for back in range(int(look_back // 900) + 1)), now - look_back]
        expected = {f"a%b/{datetime.fromtimestamp(moment, UTC).strftime(form)}/" for moment in moments}
        listed = [prefix for prefix, _ in bucket.listed]
        assert expected <= set(listed)
        if step < look_back:
            closing = {datetime.fromtimestamp(now - look_back - back, UTC).strftime(form) for back in (step, 0)}
            assert len(listed) <= len(expected) + step // 3600 + len(closing)


# --- at random


PATTERNS = {"a": "oss://bucket/a/*", "b": "oss://bucket/b/**.log", "c": "oss://bucket/c/"}


class Model:
    """What was told of a group's objects. `check` fails for a change that is told twice or never."""

    def __init__(self) -> None:
        self.told: dict[str, ObjectMeta] = {}
        self.absences: Counter[str] = Counter()

    def check(self, objects: dict[str, ObjectMeta], changes: Changes[Row]) -> None:
        there = {key: meta for key, meta in objects.items() if key[0] != "b" or key.endswith(".log")}
        for key in keys_of(changes.new):
            assert key not in self.told
            self.told[key] = there[key]
        for key in keys_of(changes.moved):
            assert self.told[key] != there[key]
            self.told[key] = there[key]
        for key in self.told.keys() & there.keys():
            self.absences[key] = 0
        whole = {folder for folder, pattern in PATTERNS.items() if pattern not in changes.errors}
        self.absences.update(key for key in self.told.keys() - there.keys() if key[0] in whole)
        assert keys_of(changes.gone) == sorted(key for key, times in self.absences.items() if times == 2)
        for key in keys_of(changes.gone):
            del self.told[key], self.absences[key]
        for folder in whole:
            shown = {key: meta for key, meta in there.items() if key[0] == folder}
            assert {key: self.told.get(key) for key in shown} == shown


@settings(max_examples=60)
@given(st.randoms(use_true_random=False))
def test_whatever_happens_every_change_is_told_exactly_once(chance: random.Random) -> None:
    """Objects come, move, are read and go between listings that fail now and then, on any page."""
    bucket = Bucket(size=2)
    census = census_of(bucket, *PATTERNS.values())
    model = Model()
    keys = [f"{folder}/{number}{suffix}" for folder in "abc" for number in range(3) for suffix in ("", ".log")]
    weather = 0.0

    def fail(_: str) -> None:
        if chance.random() < weather:
            raise ServiceUnavailable("", status=503)

    bucket.refuse = fail
    for turn in range(30):
        weather = chance.choice([0.0, 0.0, 0.8])
        for key in chance.sample(keys, chance.randrange(5)):
            if weather and model.absences[key]:
                continue  # a page that fails leaves open whether it was absent once or twice
            if key in bucket.objects and chance.random() < 0.4:
                del bucket.objects[key]
            else:
                bucket.put(key, chance.randrange(3), etag=str(turn), modified=NOW + turn)
                row = census.find(ObjectRef("bucket", key))
                if row is not None and key in model.told and chance.random() < 0.3:
                    row.saw(bucket.objects[key])
                    model.told[key] = bucket.objects[key]
        changes = take(census)
        model.check(bucket.objects, changes)
    assert len(census) == len(model.told)


# --- over real sockets


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with running(["bucket", "doomed"]) as server:
        yield server


def against(server: LocalServer, act: Callable[[Client], Awaitable[None]]) -> None:
    async def main() -> None:
        async with connect(resolve_service(environ=server.environment())) as client:
            await act(client)

    asyncio.run(main())


def test_two_and_a_half_thousand_objects_over_real_sockets(
    server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three requests tell of them all; what an append and a reader's GET say agrees with what the listing says.

    Such listings are read the quick way.
    """
    monkeypatch.delattr(messages, "_listed")
    keys = [f"many/ä {number:04}.log" for number in range(2500)]
    for key in keys:
        server.store.append("bucket", key, 0, b"x")
    asked: list[str] = []

    async def act(_: Client) -> None:
        settings = resolve_service(environ=server.environment())
        async with connect(settings, on_request=lambda operation, *_: asked.append(operation)) as client:
            census = Census(client, [parse_address("oss://bucket/many/*.log")], row=Row)
            assert keys_of((await census.take(NOW)).new) == keys
            assert asked == ["list"] * 3
            row = census.find(ObjectRef("bucket", keys[7]))
            assert row is not None
            assert (row.size, row.type) == (1, "Appendable")
            await client.append(row.ref, 1, b"more")
            window = await client.fetch(row.ref, ByteRange(0, 100))
            row.saw(window.meta)
            assert told(await census.take(NOW)) == NOTHING
            await client.append(row.ref, 5, b"more")
            assert told(await census.take(NOW)) == ([], [keys[7]], [], [])
            row.saw(await client.head(row.ref))
            server.store.delete("bucket", keys[8])
            assert told(await census.take(NOW)) == NOTHING
            assert told(await census.take(NOW)) == ([], [], [keys[8]], [])

    against(server, act)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", operation="ListObjectsV2", after=1),
        Fault("html", operation="ListObjectsV2", after=1),
        Fault("malformed-xml", operation="ListObjectsV2", after=1, status=200),
        Fault("cut", operation="ListObjectsV2", after=1, at=1000),
        Fault("reset", operation="ListObjectsV2", after=1),
        Fault("status", operation="ListObjectsV2", after=1, status=403, code="AccessDenied"),
    ],
    ids=["503", "html", "malformed", "cut", "reset", "denied"],
)
def test_a_listing_that_fails_on_its_second_page_drops_nothing(server: LocalServer, fault: Fault) -> None:
    """It is told, and all is well again once the fault is gone."""
    folder = f"faults-{fault.kind}-{fault.status}"
    for number in range(1100):
        server.store.append("bucket", f"{folder}/{number:04}", 0, b"x")

    async def act(client: Client) -> None:
        census = Census(client, [parse_address(f"oss://bucket/{folder}/")], row=Row, sleep=no_sleep)
        assert len((await census.take(NOW)).new) == 1100
        server.store.append("bucket", f"{folder}/0001", 1, b"x")
        server.faults.add(fault)
        try:
            changes = await census.take(NOW)
            assert told(changes) == ([], [f"{folder}/0001"], [], [])
            assert list(changes.errors) == [f"oss://bucket/{folder}/"]
            assert told(await census.take(NOW)) == NOTHING
        finally:
            server.faults.clear()
        changes = await census.take(NOW)
        assert (told(changes), changes.errors, changes.count) == (NOTHING, {}, 1100)

    against(server, act)


def test_a_bucket_that_vanishes_keeps_its_rows(server: LocalServer) -> None:
    """And other buckets of the group go on."""
    server.store.append("doomed", "a", 0, b"x")
    server.store.append("bucket", "other/a", 0, b"x")

    async def act(client: Client) -> None:
        addresses = [parse_address(text) for text in ("oss://doomed/", "oss://doomed/b", "oss://bucket/other/*")]
        census = Census(client, addresses, row=Row)
        assert len((await census.take(NOW)).new) == 2
        server.store.delete("doomed", "a")
        server.store.delete_bucket("doomed")
        server.store.append("bucket", "other/a", 1, b"x")
        for moved in (["other/a"], [], []):
            changes = await census.take(NOW)
            assert told(changes) == ([], moved, [], [])
            assert [type(error) for error in changes.errors.values()] == [BucketNotFound]
        assert census.find(ObjectRef("doomed", "a")) is not None

    against(server, act)
