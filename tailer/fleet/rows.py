"""What a fleet keeps of an object: little of one at rest, more of one that lately grew or failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tailer.core.position import Mark
from tailer.discovery import Row

if TYPE_CHECKING:
    from tailer.core.position import ObjectMeta
    from tailer.discovery import Scope
    from tailer.errors import TailerError

Phase = Literal["new", "resting", "waiting", "visiting"]

STEP = 10.0  # seconds
STEPS = 30

_START = Mark()


class Rates:
    """Bytes in the last steps of `STEP` seconds, the newest last. Times are of a monotonic clock."""

    __slots__ = ("_at", "_steps")

    def __init__(self) -> None:
        self._at = 0
        self._steps = [0]

    def add(self, count: int, now: float) -> None:
        """So many bytes came."""
        self._turn(now)
        self._steps[-1] += count

    def per_second(self, now: float) -> tuple[float, ...]:
        """Of each step, the newest last, which is not over yet."""
        self._turn(now)
        return tuple([0.0] * (STEPS - len(self._steps)) + [count / STEP for count in self._steps])

    def now(self, now: float) -> float:
        """Over the last step that is over, and the present one."""
        self._turn(now)
        recent = self._steps[-2:]
        return sum(recent) / (STEP * (len(recent) - 1) + max(1.0, now % STEP))

    def _turn(self, now: float) -> None:
        at = int(now // STEP)
        if self._at and at > self._at:
            self._steps = (self._steps + [0] * min(STEPS, at - self._at))[-STEPS:]
        self._at = at


class Pulse:
    """Of an object that lately grew or failed, or is being looked at.

    `unchanged`: how many looks in turn found nothing new; `failures`: how many failed. `delivered`: bytes, of the last
    look that found some; `reached`: how far it was ever fetched. `grown` and `polled`: when it grew (0: not in our
    time) and was looked at, `failing`: since when every look failed, monotonic; `interval`: seconds from `polled` to
    the next look. `polled_at` and `error_at` are seconds since 1970.
    """

    __slots__ = (
        "delivered", "error", "error_at", "failing", "failures", "gap", "grown", "interval", "polled", "polled_at",
        "rates", "reached", "unchanged",
    )  # fmt: skip

    def __init__(self) -> None:
        self.unchanged = 0
        self.failures = 0
        self.failing = 0.0
        self.grown = 0.0
        self.gap = 0.0
        self.polled = 0.0
        self.interval = 0.0
        self.delivered = 0
        self.reached = 0
        self.polled_at: float | None = None
        self.error: TailerError | None = None
        self.error_at: float | None = None
        self.rates: Rates | None = None


class FleetRow(Row):
    """An object of a fleet.

    `phase`: of a ``new`` one it is not known yet where it begins. `mark` is where delivery stands, `read` how far the
    object was read: a record that has not ended is read and not delivered. `due`: when the next look at it is or was
    due, monotonic; 0 for none. `again`: what is being looked at, or is new, is to be looked at once more. `leaving`: it
    is not followed any more, or only to its end (``old``). `ending`: the next visit hands on the last record, too,
    though it has no end.
    """

    __slots__ = ("again", "due", "ending", "leaving", "mark", "phase", "pulse", "read")

    def __init__(self, scope: Scope, key: str, meta: ObjectMeta) -> None:
        super().__init__(scope, key, meta)
        self.mark = _START
        self.read = 0
        self.phase: Phase = "new"
        self.again = False
        self.ending = False
        self.leaving: str | None = None
        self.due = 0.0
        self.pulse: Pulse | None = None

    @property
    def lag(self) -> int:
        """Bytes that are known and were not read."""
        return max(0, self.size - self.read)

    @property
    def begun(self) -> bool:
        """Was anything of it read, or did a checkpoint say where to begin?"""
        return self.mark is not _START

    def awake(self) -> Pulse:
        """Its pulse, from now on."""
        if self.pulse is None:
            self.pulse = Pulse()
        return self.pulse

    def begin_at(self, mark: Mark) -> None:
        """Reading goes on there."""
        self.mark = mark
        self.read = mark.delivered.offset
