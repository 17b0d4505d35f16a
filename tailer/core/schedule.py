"""When to ask again: polls that find something, polls that do not, refusals; and how much to ask for at once.

Pure: the time comes in as an argument in seconds, chance as a number in [0, 1).
"""

from __future__ import annotations

from dataclasses import dataclass

_FASTEST_POLL = 0.01
_BACKOFF_BASE = 0.2
_BACKOFF_LIMIT = 20.0
_LOOKS_IN_A_GAP = 4
_LOOKS_IN_VAIN = 2 * _LOOKS_IN_A_GAP
_LOOKS_AT_A_STRANGER = 3
_FIRST_WINDOW = 512 * 1024
_SMALLEST_WINDOW = 64 * 1024
# A window that takes less than this many seconds is limited by this machine, which more of them would not help.
_OURS = 0.05


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to poll, in seconds: every `fastest` while the object grows and for `patience` after, then each
    time half as long again, up to `slowest`. Never more often than every 10 ms."""

    fastest: float = 1.0
    slowest: float = 5.0
    patience: float = 30.0

    def after(self, unchanged: int) -> float:
        """Seconds to the next poll when the last `unchanged` polls found nothing new."""
        fastest = max(self.fastest, _FASTEST_POLL)
        steps = int(min(64, max(0, unchanged - self.patience // fastest)))
        return min(fastest * 1.5**steps, max(self.slowest, fastest))


def next_look(unchanged: int, gap: float, fastest: float, slowest: float, listings: float) -> float | None:
    """Seconds to the next look at an object that is one of many; None: leave it to the listings, `listings` apart.

    The last `unchanged` looks found nothing new. `gap`: how far apart it grew lately, 0 where that is not known. It is
    looked at four times in that time, but no more often than every `fastest`; once it has been still for twice as
    long, each time half as long again, up to `slowest`.
    """
    patience = _LOOKS_IN_VAIN if gap else _LOOKS_AT_A_STRANGER
    interval = max(fastest, gap / _LOOKS_IN_A_GAP) * 1.5 ** min(64, max(0, unchanged - patience))
    interval = min(interval, max(fastest, slowest))
    return interval if interval < listings else None


def back_off(attempt: int, chance: float, at_least: float | None = None) -> float:
    """Seconds to wait before trying for the `attempt`-th time again (from 1), never less than the service asked.

    Exponential, half of it by `chance`, so that many readers that fail together do not come back together.
    """
    full = min(_BACKOFF_LIMIT, _BACKOFF_BASE * 2.0 ** min(attempt - 1, 16))
    return max(full / 2 + full / 2 * chance, at_least or 0.0)


class Readahead:
    """How large a window to ask for, and how many at once, learnt from how long they take.

    A window grows while it arrives within a quarter of a second and shrinks when it takes more than one, so
    that a slow line shows progress and a fast one has few requests. The number in flight doubles, round by
    round, while windows take so long that somebody else is the bottleneck and the rate gains by a tenth: a
    long round trip and a limit per connection give way to that. All windows in flight together are at most
    `budget` bytes.
    """

    def __init__(self, largest: int, deepest: int, budget: int) -> None:
        self._largest = largest
        self._smallest = min(largest, _SMALLEST_WINDOW)
        self._deepest = deepest
        self._budget = budget
        self._window = min(largest, _FIRST_WINDOW)
        self.depth = min(deepest, 2)
        self.restart()

    @property
    def window(self) -> int:
        """The bytes to ask for next."""
        return max(self._smallest, min(self._window, self._budget // self.depth))

    def restart(self) -> None:
        """A pause came between: what was being measured is void, what was learnt stays."""
        self._settled = False
        self._best, self._best_depth = 0.0, self.depth
        self._bytes = self._count = self._misses = 0
        self._since: float | None = None

    def learn(self, size: int, asked_at: float, now: float) -> None:
        """A window of `size` bytes, asked for at `asked_at`, has come."""
        took, full = now - asked_at, size >= self.window
        if took < 0.25 and full:
            self._window = min(self._largest, self.window * 2)
        elif took > 1.0:
            self._window = max(self._smallest, self.window // 2)
        if took >= _OURS and not self._settled:
            self._measure(size, now)

    def _measure(self, size: int, now: float) -> None:
        if self._since is None:
            self._since = now
            return
        self._bytes += size
        self._count += 1
        if self._count >= self.depth and now > self._since:
            self._judge(self._bytes / (now - self._since))
            self._since, self._bytes, self._count = now, 0, 0

    def _judge(self, rate: float) -> None:
        """A gain counts at once; a round without one may still hold windows from before the last change."""
        if rate > self._best * 1.1:
            self._best, self._best_depth, self._misses = rate, self.depth, 0
            self.depth = min(self._deepest, self.depth * 2)
        else:
            self._misses += 1
        if self._misses == 2 or self._best_depth == self._deepest:
            self._settled = True
            self.depth = self._best_depth
