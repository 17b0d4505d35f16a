"""Objects that are one stream, in the order of their names: which of them may be read now. Pure; time is passed in.

The next one begins only when the one before is finished: sealed, or there is a later one, and a look at it after that
was known finds nothing new, and nothing new came for a while. A name orders as people count: ``app-2`` comes before
``app-10``.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from typing import Generic, Protocol, TypeVar

_NUMBER = re.compile(r"([0-9]+)")

NaturalKey = tuple[list[str | int], str]


class Named(Protocol):
    """What is in order: its key, and when it was modified, in seconds since 1970 by the service's clock."""

    key: str
    modified: float | None


N = TypeVar("N", bound=Named)


def natural_key(name: str) -> NaturalKey:
    """What `name` sorts by: its numbers by their value, the rest as text; ``01`` comes before ``1``."""
    parts: list[str | int] = [int(part) if number % 2 else part for number, part in enumerate(_NUMBER.split(name))]
    return parts, name


class Sequence(Generic[N]):
    """The order, and how far it is finished. Moments are of a monotonic clock, in seconds.

    `quiet`: an object is not taken for finished before so many seconds passed without news of it: on our clock, or
    on the service's, between its Last-Modified and that of a later one.
    """

    def __init__(self, quiet: float) -> None:
        self._quiet = quiet
        self._order: list[tuple[NaturalKey, N]] = []
        self._done: set[N] = set()
        self._since: dict[N, float] = {}
        self._joined: dict[N, float] = {}
        self._last: N | None = None  # the last one that was begun
        self._last_behind = True

    @property
    def current(self) -> N | None:
        """The first one that is not finished: it alone may be read."""
        return next((row for _, row in self._order if row not in self._done), None)

    def join(self, row: N, now: float, *, begun: bool = False, behind: bool = True) -> bool:
        """There is another one, `begun` before now as a checkpoint says, and `behind` if there is more of it than that.

        All that were begun before the last such one, and are not behind, are finished: it would not have been begun
        otherwise. False: a later one was begun already, so what it holds comes out of order.
        """
        insort(self._order, (natural_key(row.key), row), key=lambda one: one[0])
        self._since[row] = self._joined[row] = now
        if begun and self._is_later(row):
            if self._last is not None and not self._last_behind:
                self._done.add(self._last)
            self._last, self._last_behind = row, behind
            return True
        if self._is_later(row):
            return True
        if begun and not behind:
            self._done.add(row)
        return row in self._done

    def leave(self, row: N) -> None:
        """It is gone."""
        place = self._place(row)
        if place < len(self._order) and self._order[place][1] is row:
            del self._order[place]
        self._done.discard(row)
        self._since.pop(row, None)
        self._joined.pop(row, None)
        if row is self._last:
            self._last = None

    def moved(self, row: N, now: float) -> bool:
        """It has changed. False: it was finished, so what is new comes out of order; its turn is again."""
        self._since[row] = now
        late = row in self._done
        self._done.discard(row)
        return not late

    def looked(self, row: N, began: float, now: float, *, grew: bool, sealed: bool) -> bool:
        """It was read to its end, by a look that `began` then. True: it is finished, and the next may begin."""
        if grew:
            self._since[row] = now
        if self._is_later(row):
            self._last, self._last_behind = row, True
        if sealed or (not grew and self._is_over(row, began, now)):
            self._done.add(row)
        return row in self._done

    def _is_later(self, row: N) -> bool:
        """Is no later one begun?"""
        return self._last is None or natural_key(row.key)[0] >= natural_key(self._last.key)[0]

    def _is_over(self, row: N, began: float, now: float) -> bool:
        later = [one for _, one in self._order[self._place(row) + 1 :] if self._joined[one] <= began]
        if not later:
            return False
        return now - self._since[row] >= self._quiet or any(self._is_quiet_between(row, one) for one in later)

    def _is_quiet_between(self, row: N, later: N) -> bool:
        return None not in (row.modified, later.modified) and later.modified - row.modified >= self._quiet  # type: ignore[operator] # neither is None

    def _place(self, row: N) -> int:
        """Where it is, or would be; two buckets can have objects of one name."""
        name = natural_key(row.key)
        place = bisect_left(self._order, name, key=lambda one: one[0])
        while place < len(self._order) and self._order[place][0] == name and self._order[place][1] is not row:
            place += 1
        return place
