"""Which objects an address names, over a listing that comes in pages."""

from __future__ import annotations

import asyncio

import pytest

from tailer.core.position import ObjectMeta, ObjectRef
from tailer.discovery import matching_objects
from tailer.oss.address import parse_address
from tailer.oss.messages import ListedObject, ListPage

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
