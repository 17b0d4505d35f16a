"""Who is visited next: two queues, so that the large do not keep the small waiting, each with a share of the memory."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tailer.fleet.rows import FleetRow

_WINDOW = 512 * 1024  # what a follower asks for first
_MARGIN = 64 * 1024  # for what comes between the listing and the look
_LARGE = 8 * 1024 * 1024
_SMALL_AT_ONCE = 64
_LARGE_AT_ONCE = 4
_SMALL_TURN = 4 * 1024 * 1024
_LARGE_TURN = 64 * 1024 * 1024


class Lane:
    """A queue, first in, first out, of which at most `at_once` are visited, with `room` bytes reserved together.

    A visit that delivered more than `turn` bytes makes room for others.
    """

    def __init__(self, at_once: int, turn: int) -> None:
        self.at_once = at_once
        self.turn = turn
        self.room = 0
        self.reserved = 0
        self.queue: deque[FleetRow] = deque()
        self._running = 0

    def enter(self, wanted: int) -> int | None:
        """Reserve `wanted` bytes for a visit, or all that the lane may have; None where it has to wait."""
        need = min(wanted, self.room)
        if self._running >= self.at_once or (self._running and self.reserved + need > self.room):
            return None
        self._running += 1
        self.reserved += need
        return need

    def leave(self, reserved: int) -> None:
        """A visit is over."""
        self._running -= 1
        self.reserved -= reserved


class Lanes:
    """One lane for those of which a single request brings all there is, one for the others; half of the room each."""

    def __init__(self, room: int) -> None:
        self.small = Lane(_SMALL_AT_ONCE, _SMALL_TURN)
        self.large = Lane(_LARGE_AT_ONCE, _LARGE_TURN)
        self.limit(room)

    @property
    def reserved(self) -> int:
        """Bytes that the visits under way may hold."""
        return self.small.reserved + self.large.reserved

    def limit(self, room: int) -> None:
        """All visits together may hold `room` bytes from now on."""
        self.small.room = self.large.room = room // 2

    def of(self, row: FleetRow) -> tuple[Lane, int]:
        """Where `row` belongs as far as is known, and how many bytes its visit is to reserve."""
        expected = max(row.lag, 0 if row.pulse is None else 2 * row.pulse.delivered) + _MARGIN
        return (
            (self.small, min(expected, _WINDOW))
            if row.lag + _MARGIN <= _WINDOW
            else (self.large, min(expected, _LARGE))
        )
