"""Partitions by time: which names a pattern with ``%Y %m %d %H`` has now, and which can still change. All is UTC."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from tailer.discovery.scope import Scope
from tailer.errors import ConfigError

if TYPE_CHECKING:
    from tailer.oss.address import Address

_MOST_PARTITIONS = 1000  # of one pattern: each is a listing of its own, every time
_ONCE_MORE = 24  # partitions of long ago that are open at the same time: their rows are, too
_AHEAD = 86400.0  # seconds: how far a partition may lie in the future, after a clock was set back, and still be listed
_DIRECTIVE = re.compile(r"%[YmdH]")
_EPOCH = datetime(1970, 1, 1)


def is_partitioned(address: Address) -> bool:
    """Whether there is a time in the name; a URL is taken as it is."""
    return address.url is None and _DIRECTIVE.search(address.ref.key) is not None


class Partitions:
    """The partitions of one pattern that can still change.

    One is open from its beginning until `look_back` seconds after its end, and then for one more complete listing: no
    outage, however long, closes what was not seen whole. `listed`: all that were open were seen whole once. `resting`
    is of the whole pattern and never asked for: rows belong to it from a change of the configuration until a listing
    shows them again, by when their own partitions begin.
    """

    def __init__(self, address: Address, look_back: float) -> None:
        self.name = str(address)
        self._address = address
        self._look_back = look_back
        self._unit = max(("%Y", "%m", "%d", "%H").index(match[0]) for match in _DIRECTIVE.finditer(address.ref.key))
        self._open: dict[datetime, Scope] = {}
        self._last: float | None = None
        self._unread = math.inf
        self._resting: dict[float, Scope] = {}
        self.first = True
        self.listed = False
        self.resting = self._any_time()
        number = look_back / (366 * 86400, 31 * 86400, 86400, 3600)[self._unit]
        if number > _MOST_PARTITIONS:
            raise ConfigError(
                f"{address}: a look-back of {look_back:.0f} s is {number:.0f} partitions, each a listing of its own: "
                f"at most {_MOST_PARTITIONS}"
            )

    def same(self, other: Partitions) -> bool:
        """Whether both are of one pattern and one look-back."""
        return (self._address, self._look_back) == (other._address, other._look_back)

    def adopted(self, scope: Scope) -> Scope:
        """Where a row of `scope` belongs, whose key the pattern matches."""
        if scope in self._open.values():
            return scope
        return self._resting.setdefault(scope.since, replace(self.resting, since=scope.since))

    def resume(self, since: float) -> None:
        """Open once more all that end after then (seconds since 1970), however long ago: not all of them was read."""
        self._unread = min(self._unread, since)

    @property
    def since(self) -> float:
        """When the oldest one begins that is open, or is to be opened once more."""
        return min((self._unread, *(scope.since for scope in self._open.values())))

    def due(self, now: float) -> list[Scope]:
        """What is to be listed at `now`, the newest first."""
        since = (now if self._last is None else min(now, self._last)) - self._look_back
        oldest, moment = self._floor(since), self._floor(now)
        while moment >= oldest and len(self._open) <= 2 * _MOST_PARTITIONS:
            if moment not in self._open:
                self._open[moment] = self._scope(moment)
            moment = self._floor_of(moment - timedelta(seconds=1))
        self._open_once_more(oldest, now)
        self._last = now
        ahead = _EPOCH + timedelta(seconds=now + _AHEAD)
        # Names come again where a pattern has no year, say: the newest is the one that stays open longest.
        newest = {self._open[moment].name: moment for moment in sorted(self._open) if moment <= ahead}
        self._open = {moment: self._open[moment] for moment in sorted(newest.values(), reverse=True)}
        return list(self._open.values())

    def _open_once_more(self, before: datetime, now: float) -> None:
        """Of those that end before then and were not read, some, when the last ones are closed again."""
        if not math.isfinite(self._unread) or any(scope.until <= now for scope in self._open.values()):
            return
        moment = self._floor(self._unread)
        for _ in range(_ONCE_MORE):
            if moment >= before:
                break
            self._open[moment] = self._scope(moment)
            moment = self._following(moment)
        self._unread = math.inf if moment >= before else (moment - _EPOCH).total_seconds()

    def close(self, now: float, this_round: int) -> list[Scope]:
        """Those that were listed whole in `this_round`, after their time; they are not due again."""
        whole = [moment for moment, scope in self._open.items() if scope.complete_in == this_round]
        found_all = len(whole) == len(self._open)
        self.listed |= all(scope.listed for scope in self._open.values())
        closed = [self._open.pop(moment) for moment in whole if self._open[moment].until <= now]
        if not found_all:
            return closed
        resting, self._resting = self._resting, {}
        return [*closed, *resting.values()]

    def _any_time(self) -> Scope:
        digits = {"%Y": "[0-9]" * 4}
        key = _DIRECTIVE.sub(lambda match: digits.get(match[0], "[0-9]" * 2), self._address.ref.key)
        key += "**" if self._address.prefix else ""
        address = replace(self._address, ref=replace(self._address.ref, key=key), pattern=True, prefix=False)
        scope = Scope.of(address, -math.inf)
        scope.addresses = (self.name,)
        return scope

    def _scope(self, moment: datetime) -> Scope:
        key = _DIRECTIVE.sub(lambda match: moment.strftime(match[0]).rjust(2, "0"), self._address.ref.key)
        end = (self._following(moment) - _EPOCH).total_seconds()
        address = replace(self._address, ref=replace(self._address.ref, key=key))
        scope = Scope.of(address, end + self._look_back)
        scope.since = (moment - _EPOCH).total_seconds()
        scope.first = self.first and self._last is None
        scope.addresses = (self.name,)
        return scope

    def _floor(self, seconds: float) -> datetime:
        return self._floor_of(_EPOCH + timedelta(seconds=seconds))

    def _floor_of(self, moment: datetime) -> datetime:
        month = moment.month if self._unit >= 1 else 1
        day = moment.day if self._unit >= 2 else 1
        hour = moment.hour if self._unit >= 3 else 0
        return moment.replace(month=month, day=day, hour=hour, minute=0, second=0, microsecond=0)

    def _following(self, moment: datetime) -> datetime:
        longest = (timedelta(days=366), timedelta(days=31), timedelta(days=1), timedelta(hours=1))[self._unit]
        return self._floor_of(moment + longest)
