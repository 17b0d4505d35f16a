"""What is asked for together, one listing or one HEAD, and a listing page by page, each held against the one before."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Protocol

from tailer.core.position import ObjectRef
from tailer.errors import ConfigError, ProtocolError
from tailer.oss.address import glob_regex, literal_prefix

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from tailer.oss.address import Address
    from tailer.oss.messages import ListPage

_EMPTY_PAGES = 1000  # that follow each other and say nothing but "go on"

tick = count(1).__next__
"""What was asked before what: larger is later."""


class Lister(Protocol):
    """Who lists a bucket, a page at a time."""

    async def list_objects(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", continuation_token: str | None = None
    ) -> ListPage:
        """One page, in byte order of the keys. Raises BucketNotFound and whatever else the service refuses with."""
        ...


@dataclass(slots=True, eq=False)
class Scope:
    """What one listing is of, or one HEAD where `single`: `prefix` is then the key.

    `flat`: only what has no further slash behind the prefix. `name` says all of it, for people and to know it again.
    `since` and `until`, seconds since 1970: when a partition by time begins, and when nothing in it can change
    any more. `complete_in`: the last round that brought all of it. `first`: what its first complete round brings was
    there before us. `listed`: it was, and there was room for all. `addresses`: those of the configuration for which it
    stands.
    """

    scheme: str
    bucket: str
    prefix: str
    flat: bool
    single: bool
    name: str
    expression: str
    addresses: tuple[str, ...]
    until: float = math.inf
    since: float = -math.inf
    complete_in: int = 0
    first: bool = True
    listed: bool = False
    absent: bool = False
    _regex: re.Pattern[str] | None = None

    @classmethod
    def of(cls, address: Address, until: float = math.inf) -> Scope:
        """All that `address` names, which holds no time."""
        key = address.ref.key
        single = not (address.pattern or address.prefix)
        prefix = literal_prefix(key) if address.pattern else key
        flat = single or (address.pattern and "/" not in key[len(prefix) :] and "**" not in key)
        expression = glob_regex(key).pattern if address.pattern else re.escape(key) + ("" if single else ".*")
        ref, name = address.ref, str(address)
        return cls(ref.scheme, ref.bucket, prefix, flat, single, name, expression, (name,), until)

    @property
    def ref(self) -> ObjectRef:
        """The object, of a single one."""
        return ObjectRef(self.bucket, self.prefix, self.scheme)

    def ask(self, lister: Lister, token: str | None) -> Awaitable[ListPage]:
        """The page that `token` stands for. Raises what the lister raises."""
        delimiter = "/" if self.flat else ""
        return lister.list_objects(self.bucket, self.prefix, delimiter=delimiter, continuation_token=token)

    def matches(self, key: str) -> bool:
        """Whether an address names the object, which is in the listing. Console "folders" are no objects to us."""
        if self._regex is None:
            self._regex = re.compile(self.expression, re.DOTALL)
        return not key.endswith("/") and self._regex.fullmatch(key) is not None

    def names(self, ref: ObjectRef) -> bool:
        """Whether an address names the object, wherever it is."""
        return (ref.scheme, ref.bucket) == (self.scheme, self.bucket) and self.matches(ref.key)

    def covers(self, other: Scope) -> bool:
        """Whether this listing shows all that `other` would."""
        if self.single or (self.scheme, self.bucket) != (other.scheme, other.bucket):
            return False
        rest = other.prefix[len(self.prefix) :]
        return other.prefix.startswith(self.prefix) and (not self.flat or (other.flat and "/" not in rest))

    def include(self, other: Scope) -> None:
        """Stand for `other` as well, which this covers."""
        self.name = f"{self.name} {other.name}"
        self.addresses += other.addresses
        self.expression = f"(?:{self.expression})|(?:{other.expression})"


def merged(scopes: Iterable[Scope]) -> list[Scope]:
    """As few listings as show the same. One that covers another sorts before it."""
    kept: list[Scope] = []
    names: set[str] = set()
    for scope in sorted(scopes, key=lambda one: (one.bucket, one.prefix, one.flat, one.single, one.name)):
        if scope.name in names:
            continue
        names.add(scope.name)
        wider = next((one for one in kept if one.covers(scope)), None)
        if wider is None:
            kept.append(scope)
        else:
            wider.include(scope)
    return kept


async def walk(
    scope: Scope,
    ask: Callable[[str | None], Awaitable[ListPage]],
    show: Callable[[ListPage, int], None],
    most: float = math.inf,
) -> None:
    """Hand page after page to `show`, each with the tick at which it was asked for.

    Raises ProtocolError for a page that does not follow the one before, ConfigError after twice `most` keys: what is
    new is in the way of what is known, and hides no change of it.
    """
    token: str | None = None
    last, keys, empty = "", 0, 0
    while True:
        asked = tick()
        page = await ask(token)
        last = _check_page(scope, page, last)
        keys += len(page.objects)
        empty = 0 if page.objects or page.prefixes else empty + 1
        show(page, asked)
        if keys > 2 * most:
            raise too_many(most)
        if page.next_token is None:
            return
        if page.next_token == token or empty > _EMPTY_PAGES:
            raise ProtocolError("a listing that goes on for ever")
        token = page.next_token


def _check_page(scope: Scope, page: ListPage, last: str) -> str:
    """The last name of `page`, which must come behind `last`. Raises ProtocolError for another order or prefix."""
    names = [one.key for one in page.objects]
    if page.prefixes:
        names = sorted([*names, *page.prefixes])
    for name in names:
        if name <= last:
            raise ProtocolError("a listing whose keys are not in order")
        last = name
    if names and not (names[0].startswith(scope.prefix) and last.startswith(scope.prefix)):
        raise ProtocolError("a listing with keys that were not asked for")
    return last


def too_many(most: float) -> ConfigError:
    """What is said of more objects than are followed."""
    return ConfigError(f"more than {most} objects", hint="raise max_objects, or name fewer with a longer prefix")
