"""Which objects an address names now: itself, or what a pattern or a prefix matches in a listing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from tailer.oss.address import glob_regex, literal_prefix

if TYPE_CHECKING:
    from tailer.core.position import ObjectRef
    from tailer.oss.address import Address
    from tailer.oss.messages import ListPage


class Lister(Protocol):
    """Who lists a bucket, a page at a time."""

    async def list_objects(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", continuation_token: str | None = None
    ) -> ListPage:
        """One page, in byte order of the keys. Raises BucketNotFound and whatever else the service refuses with."""
        ...


async def matching_objects(lister: Lister, address: Address) -> list[ObjectRef]:
    """The objects that `address` names, in byte order of their keys; of one that is no pattern, that object.

    The "folders" that consoles make, empty objects named ``…/``, are left out. Raises what the lister raises.
    """
    if not (address.pattern or address.prefix):
        return [address.ref]
    prefix = literal_prefix(address.ref.key) if address.pattern else address.ref.key
    matcher = glob_regex(address.ref.key) if address.pattern else None
    flat = address.pattern and "/" not in address.ref.key[len(prefix) :] and "**" not in address.ref.key
    found: list[ObjectRef] = []
    token: str | None = None
    while True:
        page = await lister.list_objects(
            address.ref.bucket, prefix, delimiter="/" if flat else "", continuation_token=token
        )
        for listed in page.objects:
            if not listed.key.endswith("/") and (matcher is None or matcher.fullmatch(listed.key)):
                found.append(replace(address.ref, key=listed.key))
        token = page.next_token
        if token is None:
            return found
