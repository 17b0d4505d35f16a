"""How a group fares: who is behind, who failed, what was delivered; noted as it happens, told when asked."""

from __future__ import annotations

import time
from collections import Counter
from heapq import nsmallest
from itertools import chain, islice
from typing import TYPE_CHECKING

from tailer.core.options import Integrity
from tailer.errors import IntegrityError, SinkError
from tailer.fleet.rows import Rates
from tailer.status import STATES, ObjectStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tailer.configfile import GroupConfig
    from tailer.errors import TailerError
    from tailer.fleet.rows import FleetRow

_MOST_PULSES = 5000
_STUBBORN = 3  # failures in turn, each of which may pass, after which an object counts as failed


class Tally:
    """The objects that are more than a row at rest, and sums over all of them. Times are monotonic but for ``…_at``."""

    def __init__(self) -> None:
        self.listed_at: float | None = None
        self.listed_when: float | None = None
        self.listing_seconds = 0.0
        self.listing_error: str | None = None
        self.missing = 0
        self.delivered_bytes = 0
        self.moved_when = time.monotonic()
        self.rates = Rates()
        self._behind: dict[FleetRow, float] = {}
        self._pulses: dict[FleetRow, None] = {}
        self._states: dict[FleetRow, str] = {}
        self._loose: dict[FleetRow, int] = {}
        self._tidied = 0.0

    # --- what happens

    def weigh(self, row: FleetRow, now: float) -> None:
        """Its size, its mark or what was read of it have changed."""
        if row.lag:
            self._behind.setdefault(row, now)
        else:
            self._behind.pop(row, None)
        if unproven := row.mark.unproven:
            self._loose[row] = unproven
        else:
            self._loose.pop(row, None)

    def visited(self, row: FleetRow, now: float, *, grew: bool, delivered: int) -> None:
        """A look at it is over. What it still lacks became known since."""
        pulse = row.awake()
        self._pulses.pop(row, None)
        self._pulses[row] = None
        pulse.polled, pulse.polled_at = now, time.time()
        if grew:
            if pulse.grown:
                gap = now - pulse.grown
                pulse.gap = (pulse.gap + gap) / 2 if pulse.gap else gap
            pulse.grown, pulse.unchanged = now, 0
            pulse.delivered = delivered
            self._behind.pop(row, None)
        else:
            pulse.unchanged += 1
        self.weigh(row, now)

    def delivered(self, row: FleetRow, length: int, now: float) -> None:
        """The sink took so many bytes of it."""
        pulse = row.awake()
        self._pulses[row] = None
        if pulse.rates is None:
            pulse.rates = Rates()
        pulse.rates.add(length, now)
        self.rates.add(length, now)
        self.delivered_bytes += length
        self.moved_when = now

    def fetched(self, row: FleetRow, end: int, now: float) -> None:
        """It came closer to a delivery, if nobody had fetched so much of it before."""
        pulse = row.awake()
        if end > max(row.read, pulse.reached):
            pulse.reached, self.moved_when = end, now

    def fail(self, row: FleetRow, error: TailerError, *, passes: bool) -> None:
        """A look at it failed; what `passes` may do so by itself."""
        pulse = row.awake()
        self._pulses[row] = None
        if not pulse.failures:
            pulse.failing = time.monotonic()
        pulse.failures += 1
        pulse.error, pulse.error_at = error, time.time()
        if not passes or pulse.failures >= _STUBBORN:
            self.turn(row, "failed")

    def succeed(self, row: FleetRow, state: str | None = None) -> None:
        """A look at it did not fail; `state` is what was found that is more than ``active`` or ``idle``."""
        pulse = row.awake()
        pulse.failures, pulse.error = 0, None
        self.turn(row, state)

    def turn(self, row: FleetRow, state: str | None) -> None:
        """It is ``missing``, ``sealed`` or ``failed``, or (None) none of these."""
        if state is None:
            self._states.pop(row, None)
        else:
            self._states[row] = state

    def drop(self, row: FleetRow) -> None:
        """It is not followed any more."""
        row.pulse = None
        for kept in (self._behind, self._pulses, self._states, self._loose):
            kept.pop(row, None)

    def forget(self, now: float, after: float) -> None:
        """Keep no more than a row of those that have been at rest for `after` seconds, or that are very many."""
        if now - self._tidied < after / 10:
            return
        self._tidied = now
        many = len(self._pulses) - _MOST_PULSES
        for row in [*self._pulses]:  # the one that was visited last is the last
            pulse = row.pulse
            rests = row.phase == "resting" and not row.due and self._states.get(row) not in ("failed", "missing")
            if pulse is None or (rests and (many > 0 or now - max(pulse.polled, pulse.grown) > after)):
                row.pulse = None
                del self._pulses[row]
                many -= 1

    # --- what is asked

    def state(self, row: FleetRow) -> str:
        """One of `status.STATES`."""
        return self._states.get(row) or ("active" if row in self._behind else "idle")

    def behind(self) -> list[FleetRow]:
        """Those with bytes that were not read."""
        return [*self._behind]

    def failed(self) -> list[FleetRow]:
        """Those whose reading stopped with an error."""
        return [row for row, state in self._states.items() if state == "failed"]

    def counts(self, rows: int) -> dict[str, int]:
        """How many of `rows` objects are in which state; beside them those named one by one that are not there."""
        counts = Counter(self._states.values())
        counts["active"] = sum(row not in self._states for row in self._behind)
        counts["idle"] = max(0, rows - sum(counts.values()))
        counts["missing"] += self.missing
        return {state: counts[state] for state in STATES}

    @property
    def lag(self) -> int:
        """Bytes that were not read, of all."""
        return sum(row.lag for row in self._behind)

    @property
    def largest_lag(self) -> int:
        """Bytes, of the one that lacks the most."""
        return max((row.lag for row in self._behind), default=0)

    @property
    def unproven(self) -> int:
        """Bytes delivered that nothing vouches for."""
        return sum(self._loose.values())

    def oldest_unread(self, now: float) -> float:
        """Seconds since the oldest byte that was not read became known."""
        return max(0.0, now - min(self._behind.values())) if self._behind else 0.0

    def stalled(self, now: float) -> float:
        """For how many seconds there have been bytes to read, and none came closer to its delivery. An object that has
        trouble of its own does not count."""
        waiting = [since for row, since in self._behind.items() if not self._is_alone(row)]
        return max(0.0, now - max(min(waiting), self.moved_when)) if waiting else 0.0

    def _is_alone(self, row: FleetRow) -> bool:
        """Is it the object that is not to be read, while others are? What fails since before the last delivery is not
        what held up the others; neither is a chain that broke, or one mirror that is refused."""
        if (state := self._states.get(row)) is None:
            return False
        pulse = row.pulse
        if state != "failed" or pulse is None or isinstance(pulse.error, IntegrityError):
            return True
        refused = isinstance(pulse.error, SinkError) and not pulse.error.retriable
        return refused or pulse.failing < self.moved_when

    def objects(self, group: GroupConfig, rest: Iterable[FleetRow], most: int) -> list[ObjectStatus]:
        """Those with the most lag, then those that grew last, then as many of the `rest` as there is room for."""
        known: Mapping[FleetRow, None] = dict.fromkeys(chain(self._behind, self.failed(), self._pulses))
        first = nsmallest(most, known, key=lambda row: (-row.lag, 0.0 if row.pulse is None else -row.pulse.grown))
        more = islice((row for row in rest if row not in known and not row.ignored), most - len(first))
        now = time.monotonic()
        return [self._object(row, group, now) for row in chain(first, more)]

    def _object(self, row: FleetRow, group: GroupConfig, now: float) -> ObjectStatus:
        pulse, since = row.pulse, self._behind.get(row)
        return ObjectStatus(
            object=str(row.ref),
            group=group.name,
            state=self.state(row),
            generation=row.mark.delivered.generation,
            position=row.mark.delivered.offset,
            size=row.size,
            lag=row.lag,
            lag_seconds=0.0 if since is None else max(0.0, now - since),
            rates=() if pulse is None or pulse.rates is None else pulse.rates.per_second(now),
            chain=self._chain(row, group),
            poll_interval=group.list_interval if pulse is None or not row.due else pulse.interval,
            polled_at=self.listed_at if pulse is None else pulse.polled_at,
            last_error=None if pulse is None or pulse.error is None else str(pulse.error),
            last_error_at=None if pulse is None else pulse.error_at,
        )

    def _chain(self, row: FleetRow, group: GroupConfig) -> str:
        if group.integrity is Integrity.OFF:
            return "off"
        if row.pulse is not None and isinstance(row.pulse.error, IntegrityError):
            return "broken"
        return "unproven" if row in self._loose else "proven"
