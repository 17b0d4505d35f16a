"""The gate that all requests of the process pass: it counts them, and holds them up where they would be too many."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from tailer.core.budget import Allowance
from tailer.status import RequestStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from tailer.configfile import Limits
    from tailer.core.position import ObjectMeta, ObjectRef, Window
    from tailer.core.ranges import ByteRange
    from tailer.oss.messages import ListPage

_WINDOW = 10  # seconds over which the rate is told

_log = logging.getLogger("tailer.fleet")


class Reader(Protocol):
    """What a fleet asks of the service: an `ObjectReader` that lists as well."""

    async def head(self, ref: ObjectRef) -> ObjectMeta: ...

    async def fetch(self, ref: ObjectRef, range: ByteRange) -> Window: ...

    async def list_objects(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", continuation_token: str | None = None
    ) -> ListPage: ...


class Governor:
    """Lets requests through: those of one group in the order in which they came, the groups in turn.

    Counts are of this process: one that is started again begins the day anew.
    """

    def __init__(
        self, limits: Limits, *, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._limits = limits
        self._allowance = Allowance(limits.max_requests_per_second, _budget(limits), clock(), wall())
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}  # the group whose turn it is comes first
        self._timer: asyncio.TimerHandle | None = None
        self._recent: deque[tuple[int, int]] = deque()
        self._tight = False

    def reader(self, reader: Reader, group: str) -> Reader:
        """`reader` for one group: each of its requests waits for its turn."""
        return _Governed(self, reader, group)

    def apply(self, limits: Limits) -> None:
        """Go on with other limits; what was counted stays."""
        self._limits = limits
        self._allowance.limit(limits.max_requests_per_second, _budget(limits), self._clock(), self._wall())
        self._serve()

    async def admit(self, group: str) -> None:
        """Return when the group may make a request, which is counted."""
        if not self._lines and self._allowance.delay(self._clock(), self._wall()) <= 0:
            self._count()
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(group, deque()).append(turn)
        if self._timer is None:
            self._serve()
        await turn

    def status(self) -> RequestStatus:
        """What was asked today, how fast just now, and what that costs."""
        wall, limits = self._wall(), self._limits
        today = self._allowance.day.spent(wall)
        self._forget(int(self._clock()))
        return RequestStatus(
            today=today,
            rate=sum(count for _, count in self._recent) / _WINDOW,
            cap=limits.max_requests_per_second,
            budget=self._allowance.day.limit,
            cost=today / 10_000 * limits.price,
            currency=limits.currency,
            tight=self._holds_up(),
        )

    def problem(self) -> str | None:
        """Why requests have to wait: the day's budget does not allow more of them. None where it does."""
        if not self._holds_up():
            return None
        left = (self._allowance.day.limit or 0) - self._allowance.day.spent(self._wall())
        return f"the daily budget is tight: {max(0, left)} requests are left for the rest of the day (UTC)"

    def _holds_up(self) -> bool:
        return self._tight and bool(self._lines)

    def _count(self) -> None:
        second = int(self._clock())
        self._allowance.take(self._clock(), self._wall())
        if self._recent and self._recent[-1][0] == second:
            self._recent[-1] = (second, self._recent[-1][1] + 1)
        else:
            self._recent.append((second, 1))
            self._forget(second)

    def _forget(self, second: int) -> None:
        while self._recent and self._recent[0][0] <= second - _WINDOW:
            self._recent.popleft()

    def _serve(self) -> None:
        """Let through who may pass now, and come back when the next one may."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._lines:
            now, wall = self._clock(), self._wall()
            if (delay := self._allowance.delay(now, wall)) > 0:
                self._note_tight(now, wall)
                self._timer = asyncio.get_running_loop().call_later(delay, self._serve)
                return
            if (turn := self._next()) is not None:
                turn.set_result(None)
                self._count()
        self._tight = False

    def _next(self) -> asyncio.Future[None] | None:
        """Who comes next, None for one that does not wait any more; then it is another group's turn."""
        group, line = next(iter(self._lines.items()))
        turn = line.popleft()
        del self._lines[group]
        if line:
            self._lines[group] = line
        return None if turn.done() else turn

    def _note_tight(self, now: float, wall: float) -> None:
        tight = self._allowance.tight(now, wall) > 0
        if tight and not self._tight:
            _log.warning("requests are spread over the rest of the day: the daily budget does not allow more")
        self._tight = tight


def _budget(limits: Limits) -> int | None:
    """Requests a day, from a number or from money."""
    if limits.daily_requests is not None or limits.daily_cost is None or limits.price <= 0:
        return limits.daily_requests
    return int(limits.daily_cost / limits.price * 10_000)


class _Governed:
    """A `Reader` behind the gate."""

    def __init__(self, governor: Governor, reader: Reader, group: str) -> None:
        self._governor = governor
        self._reader = reader
        self._group = group

    async def head(self, ref: ObjectRef) -> ObjectMeta:
        await self._governor.admit(self._group)
        return await self._reader.head(ref)

    async def fetch(self, ref: ObjectRef, range: ByteRange) -> Window:
        await self._governor.admit(self._group)
        return await self._reader.fetch(ref, range)

    async def list_objects(
        self, bucket: str, prefix: str = "", *, delimiter: str = "", continuation_token: str | None = None
    ) -> ListPage:
        await self._governor.admit(self._group)
        return await self._reader.list_objects(
            bucket, prefix, delimiter=delimiter, continuation_token=continuation_token
        )
