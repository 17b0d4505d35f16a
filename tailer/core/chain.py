"""The running CRC-64 of what was read, checked against every pair (size, CRC) that the service stated."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tailer.core import crc64
from tailer.core.position import Claim, Link, Position

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_LINKS = 1024


@dataclass(frozen=True, slots=True)
class Break:
    """At `size` bytes the service stated one CRC-64 and the bytes read give another."""

    size: int
    stated: int
    computed: int


class Chain:
    """Carries the CRC-64 from `start` on, in order, and says how far it is proven.

    A chain that starts without a CRC (in the middle of an object) is *loose*: the first link that it meets
    ties it, and what it read before stays unproven (`Position.claim`). From there on every link is a check.
    One that is not `checked` only counts: it knows no CRC-64 and must be given no links.

    `confirmed` is true once a link matched; `watched` is the CRC-64 at the size `watch`, once the chain was there.

    A chain that reported a `Break` is of no more use: begin another one at a proven position.
    """

    def __init__(
        self,
        start: Position,
        *,
        proven: Position | None = None,
        links: Iterable[Link] = (),
        watch: int | None = None,
        checked: bool = True,
    ) -> None:
        self._generation = start.generation
        self._offset = start.offset
        self._checked = checked
        self._proven = start if proven is None else proven
        claim = start.claim or Claim(start.offset, start.offset, 0, None)
        # Where the loose part began, and the CRC-64 of it alone.
        self._start, self._loose = claim.start, claim.crc64
        self._crc = start.crc64 if checked else None
        self._claim = start.claim if self._crc is not None else None
        self._links: list[tuple[int, int]] = []
        self._watch = watch
        self.watched: int | None = None
        self.confirmed = False
        for link in links:
            self.expect(link)

    @property
    def position(self) -> Position:
        """The end of what was read, with the CRC-64 of all before it, None while the chain is loose."""
        claim = self._claim
        if self._crc is None and self._checked:
            claim = Claim(self._start, self._offset, self._loose, None)
        return Position(self._offset, self._crc, self._generation, claim)

    @property
    def proven(self) -> Position:
        """The last position that a link confirmed, or the one that the chain began from."""
        return self._proven

    def vouch(self, claim: Claim, beginning: int) -> None:
        """The bytes below the start were read, too, and fit: `claim`, the one of `position`, holds."""
        self._proven = self._proven.vouched(claim, beginning)
        self._claim = None

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
        elif self._checked:
            self._loose = crc64.update(view, self._loose)
        self._offset += len(view)

    def _arrive(self) -> Break | None:
        if self._watch == self._offset:
            self._watch, self.watched = None, self._crc
        if not self._links or self._links[0][0] != self._offset:
            return None
        _, stated = self._links.pop(0)
        if self._crc is None:
            self._crc = stated
            self._claim = Claim(self._start, self._offset, self._loose, stated)
        elif self._crc != stated:
            return Break(self._offset, stated, self._crc)
        else:
            self.confirmed = True
        self._proven = self.position
        return None
