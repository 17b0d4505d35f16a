"""The running CRC-64 of what was read, checked against every pair (size, CRC) that the service stated."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailer.core import crc64
from tailer.core.position import Link, Position

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_LINKS = 1024


@dataclass(frozen=True, slots=True)
class Break:
    """At `size` bytes the service stated one CRC-64 and the bytes read give another."""

    size: int
    stated: int
    computed: int


@dataclass(frozen=True, slots=True)
class Claim:
    """What nothing vouches for yet: bytes [start, link.size) were read, and `crc64` is of them alone.

    Together with the bytes below `start` they must give `link`.
    """

    start: int
    crc64: int
    link: Link


class Chain:
    """Carries the CRC-64 from `start` on, in order, and says how far it is proven.

    A chain that starts without a CRC (in the middle of an object) is *loose*: the first link that it meets
    ties it, and what it read before stays unproven. From there on every link is a check.

    `claim` is what it tied. `confirmed` is true once a link matched; `watched` is the CRC-64 at the size `watch`, once
    the chain was there.

    A chain that reported a `Break` is of no more use: begin another one at a proven position.
    """

    def __init__(
        self,
        start: Position,
        *,
        proven: Position | None = None,
        unproven: int = 0,
        links: Iterable[Link] = (),
        watch: int | None = None,
    ) -> None:
        self._generation = start.generation
        self._offset = start.offset
        self._crc = start.crc64
        self._proven = start if proven is None else proven
        self._tied_at = start.offset if start.crc64 is None else unproven
        self._links: list[tuple[int, int]] = []
        self._watch = watch
        self._start, self._loose = start.offset, 0
        self.claim: Claim | None = None
        self.watched: int | None = None
        self.confirmed = False
        for link in links:
            self.expect(link)

    @property
    def position(self) -> Position:
        """The end of what was read, with the CRC-64 of all before it, None while the chain is loose."""
        return Position(self._offset, self._crc, self._generation)

    @property
    def proven(self) -> Position:
        """The last position that a link confirmed, or the one that the chain began from."""
        return self._proven

    @property
    def unproven(self) -> int:
        """Bytes below `proven` for which nothing vouches, because the chain did not begin at 0."""
        return self._tied_at

    def vouch(self) -> None:
        """The bytes below the start were read, too, and fit."""
        self._tied_at, self.claim = 0, None

    def expect(self, link: Link) -> None:
        """Remember to check `link` when the chain gets there. A later statement on a size replaces an earlier one."""
        if link.size < self._offset:
            return
        kept = [pair for pair in self._links if pair[0] != link.size]
        insort(kept, (link.size, link.crc64))
        # The links in the middle only tell earlier of a break that the last one tells anyway.
        self._links = kept if len(kept) <= _MOST_LINKS else kept[:-2] + kept[-1:]

    def feed(self, data: bytes | bytearray | memoryview) -> Break | None:
        """Go on over `data`, the bytes right after `position`; check every link on the way."""
        view = memoryview(data)
        while (stop := self._next_stop(self._offset + len(view))) is not None:
            length = stop - self._offset
            self._advance(view[:length])
            view = view[length:]
            if found := self._arrive():
                return found
        self._advance(view)
        return None

    def _next_stop(self, end: int) -> int | None:
        """The nearest offset up to `end` at which there is something to check or to note, if there is one."""
        stops = [self._links[0][0]] if self._links else []
        if self._watch is not None and self._watch >= self._offset:
            stops.append(self._watch)
        nearest = min(stops, default=end + 1)
        return nearest if nearest <= end else None

    def _advance(self, view: memoryview) -> None:
        if self._crc is not None:
            self._crc = crc64.update(view, self._crc)
        else:
            self._loose = crc64.update(view, self._loose)
        self._offset += len(view)

    def _arrive(self) -> Break | None:
        if self._watch == self._offset:
            self._watch, self.watched = None, self._crc
        if not self._links or self._links[0][0] != self._offset:
            return None
        _, stated = self._links.pop(0)
        if self._crc is None:
            self._crc, self._tied_at = stated, self._offset
            self.claim = Claim(self._start, self._loose, Link(self._offset, stated))
        elif self._crc != stated:
            return Break(self._offset, stated, self._crc)
        else:
            self.confirmed = True
        self._proven = self.position
        return None
