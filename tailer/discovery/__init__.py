"""Which objects there are: what an address names now, and what has changed about a whole group of objects.

One page of a listing (ListObjectsV2) tells size, ETag and Last-Modified of a thousand objects, for one request: a
`Census` takes it again and again and says what is new, what moved and what went, so that an object at rest costs no
request of its own. docs/discovery.md has the rules and what they cost.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tailer.discovery.census import Census, Changes, Row, Surveyor
from tailer.discovery.scope import Lister, Scope, walk

if TYPE_CHECKING:
    from tailer.core.position import ObjectRef
    from tailer.oss.address import Address
    from tailer.oss.messages import ListPage

__all__ = ["Census", "Changes", "Lister", "Row", "Scope", "Surveyor", "matching_objects"]


async def matching_objects(lister: Lister, address: Address) -> list[ObjectRef]:
    """The objects that `address` names, in byte order of their keys; of one that is no pattern, that object.

    The "folders" that consoles make, empty objects named ``…/``, are left out. Raises what the lister raises, and
    ProtocolError for a listing that cannot be right.
    """
    scope = Scope.of(address)
    if scope.single:
        return [address.ref]
    found: list[ObjectRef] = []

    def collect(page: ListPage, _: int) -> None:
        found.extend(replace(address.ref, key=row.key) for row in page.objects if scope.matches(row.key))

    await walk(scope, lambda token: scope.ask(lister, token), collect)
    return found
