"""When to ask again: polls that find something, polls that do not, refusals; and how much to ask for at once.

Pure: the time comes in as an argument in seconds, chance as a number in [0, 1).
"""

from __future__ import annotations

from dataclasses import dataclass

_FASTEST_POLL = 0.01
_BACKOFF_BASE = 0.2
_BACKOFF_LIMIT = 20.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to poll, in seconds: every `fastest` while the object grows and for `patience` polls after,
    then each time half as long again, up to `slowest`. Never more often than every 10 ms."""

    fastest: float = 1.0
    slowest: float = 5.0
    patience: int = 30

    def after(self, unchanged: int) -> float:
        """Seconds to the next poll when the last `unchanged` polls found nothing new."""
        steps = min(64, max(0, unchanged - self.patience))
        fastest = max(self.fastest, _FASTEST_POLL)
        return min(fastest * 1.5**steps, max(self.slowest, fastest))


def back_off(attempt: int, chance: float, at_least: float | None = None) -> float:
    """Seconds to wait before trying for the `attempt`-th time again (from 1), never less than the service asked.

    Exponential, half of it by `chance`, so that many readers that fail together do not come back together.
    """
    full = min(_BACKOFF_LIMIT, _BACKOFF_BASE * 2.0 ** min(attempt - 1, 16))
    return max(full / 2 + full / 2 * chance, at_least or 0.0)


class Readahead:
    """How large a window to ask for, and how many at once, learnt from how long they take.

    A window grows while it arrives within a quarter of a second and shrinks when it takes more than one, so
    that a slow line shows progress and a fast one has few requests. The number in flight doubles as long as
    the rate gains by a tenth, which is what a long round trip or a limit per connection gives way to.
    """

    def __init__(self, largest: int, deepest: int) -> None:
        self._largest = largest
        self._smallest = min(largest, 64 * 1024)
        self._deepest = deepest
        self.window = min(largest, 512 * 1024)
        self.depth = min(deepest, 2)
        self._settled = False
        self._best = 0.0
        self._bytes = 0
        self._count = 0
        self._since: float | None = None

    def restart(self) -> None:
        """A pause came between: what was being measured is void, what was learnt stays."""
        self._since = None

    def learn(self, size: int, asked_at: float, now: float) -> None:
        """A window of `size` bytes, asked for at `asked_at`, has come."""
        took = now - asked_at
        if took < 0.25 and self.window <= size and self.window < self._largest:
            self._resize(min(self._largest, self.window * 2))
        elif took > 1.0 and self.window > self._smallest:
            self._resize(max(self._smallest, self.window // 2))
        elif not self._settled:
            self._measure(size, now)

    def _resize(self, window: int) -> None:
        self.window = window
        self.restart()

    def _measure(self, size: int, now: float) -> None:
        if self._since is None:
            self._since, self._bytes, self._count = now, 0, 0
            return
        self._bytes += size
        self._count += 1
        if self._count >= 2 * self.depth and now > self._since:
            self._judge(self._bytes / (now - self._since))
            self._since = None

    def _judge(self, rate: float) -> None:
        if rate > self._best * 1.1:
            self._best = rate
            self._settled = self.depth == self._deepest
            self.depth = min(self._deepest, self.depth * 2)
        else:
            self._settled = True
            self.depth = max(1, self.depth // 2)
