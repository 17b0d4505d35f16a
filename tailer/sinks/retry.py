"""Hands a batch to a sink again and again while that sink is only busy (`SinkBusy`): a full disk, a 503."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from tailer.core.events import Failed
from tailer.core.schedule import back_off
from tailer.errors import SinkBusy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tailer.core.events import Batch, Event
    from tailer.follow import Sink


class Retrying:
    """Passes everything on to `sink`; a batch that it is too busy for waits and goes to it again.

    Nothing is read meanwhile but what was asked for before: that is the back-pressure. The sink is told of each
    attempt by ``notice(Failed(...))``, so that whatever announces a failed request announces this one as well.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        attempts: int | None = None,
        goes_on: Callable[[], bool] = lambda: True,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`attempts`: how often a batch is tried before its SinkBusy is raised, None for ever.

        `goes_on`: asked after each attempt; when it says no, the SinkBusy is raised as well.
        """
        self._sink = sink
        self._attempts = attempts
        self._goes_on = goes_on
        self._sleep = sleep
        self._chance = chance

    async def write(self, batch: Batch) -> None:
        """Pass the batch on until it is taken. Raises SinkError."""
        await self._until_taken(lambda: self._sink.write(batch))

    async def _until_taken(self, hand_on: Callable[[], Awaitable[None]]) -> None:
        attempt = 0
        while True:
            attempt += 1
            try:
                return await hand_on()
            except SinkBusy as error:
                if attempt == self._attempts or not self._goes_on():
                    raise
                await self._pause(error, attempt)

    async def _pause(self, error: SinkBusy, attempt: int) -> None:
        delay = back_off(attempt, self._chance(), error.retry_after)
        await self._sink.notice(Failed(error, delay, attempt))
        await self._sleep(delay)

    async def notice(self, event: Event) -> None:
        """Pass the event on, until it is taken: a rewind has to be known. Raises SinkError."""
        await self._until_taken(lambda: self._sink.notice(event))

    async def close(self) -> None:
        """Close the sink."""
        await self._sink.close()
