"""How many requests may be made, and when: so many each second, and so many each day, spread over what is left of it.

Pure: `now` is a monotonic clock, `wall` the time of day in seconds since 1970; the day is that of UTC.
"""

from __future__ import annotations

_DAY = 86400
_AT_ONCE = 600.0  # seconds of the day's share that may be spent in one go
_LONGEST = 60.0  # seconds: no answer to "when?" looks further ahead, as the clock or the limits may change


class Bucket:
    """Lets `rate` tokens through each second, and after a pause up to `burst` at once. It begins full."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def set(self, rate: float, burst: float, now: float) -> None:
        """Go on at another rate: what was saved up stays, as far as there is room for it."""
        self._fill(now)
        self._rate, self._burst = rate, burst
        self._tokens = min(self._tokens, burst)

    def delay(self, now: float) -> float:
        """Seconds until one may pass; 0: now."""
        self._fill(now)
        if self._tokens >= 1:
            return 0.0
        return min(_LONGEST, (1 - self._tokens) / self._rate) if self._rate > 0 else _LONGEST

    def take(self, now: float) -> None:
        """One passes, whether or not it may."""
        self._fill(now)
        self._tokens -= 1

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = now


class Day:
    """Counts what was spent of `limit` since midnight UTC.

    A clock that is set back within the day, or over midnight into the day before, does not begin the day anew.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._day = 0
        self._spent = 0

    def spent(self, wall: float) -> int:
        """How many were counted today."""
        self._turn(wall)
        return self._spent

    def count(self, wall: float) -> None:
        """One more."""
        self._turn(wall)
        self._spent += 1

    def rate(self, wall: float) -> float | None:
        """How many may be spent each second, for what is left to last until midnight; None: there is no limit."""
        self._turn(wall)
        if self.limit is None:
            return None
        left = (self._day + 1) * _DAY - wall
        return max(0, self.limit - self._spent) / max(1.0, left)

    def _turn(self, wall: float) -> None:
        day = int(wall // _DAY)
        # One day back is a clock that was set back over midnight; more is one that had been wrong before.
        if day > self._day or day < self._day - 1:
            self._day, self._spent = day, 0


class Allowance:
    """Both limits together. `per_second` and `per_day` None: there is none.

    What the day allows is spread over what is left of it: at most ten minutes' share may be spent at once.
    """

    def __init__(self, per_second: float | None, per_day: int | None, now: float, wall: float) -> None:
        self.day = Day(per_day)
        self._second: Bucket | None = None
        self._share: Bucket | None = None
        self.limit(per_second, per_day, now, wall)

    def limit(self, per_second: float | None, per_day: int | None, now: float, wall: float) -> None:
        """Go on with other limits; what was spent today stays spent."""
        self.day.limit = per_day
        self._second = None if per_second is None else Bucket(per_second, max(1.0, per_second), now)
        rate = self.day.rate(wall)
        self._share = None if rate is None else Bucket(rate, self._most(rate), now)

    def delay(self, now: float, wall: float) -> float:
        """Seconds until the next request may be made; 0: now."""
        return max(0.0 if self._second is None else self._second.delay(now), self.tight(now, wall))

    def tight(self, now: float, wall: float) -> float:
        """Seconds that the day's budget alone asks to wait for."""
        if self._share is None:
            return 0.0
        rate = self.day.rate(wall) or 0.0
        self._share.set(rate, self._most(rate), now)
        return self._share.delay(now) if rate > 0 else _LONGEST

    def take(self, now: float, wall: float) -> None:
        """A request is made."""
        self.day.count(wall)
        for bucket in (self._second, self._share):
            if bucket is not None:
                bucket.take(now)

    @staticmethod
    def _most(rate: float) -> float:
        return max(1.0, rate * _AT_ONCE)
