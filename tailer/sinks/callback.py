"""A function of the user's that takes the batches."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING

from tailer.errors import SinkError, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tailer.core.events import Batch, Event


class Callback:
    """A sink that calls a function with each batch: when it returns, the batch is delivered.

    An exception means that the batch is not delivered, and ends the follow with a SinkError whose
    ``__cause__`` it is; a SinkError of the function's own goes through as it is, so that raising `SinkBusy`
    asks for another try where the follow makes any (`Retrying`).

    At least once: what the function did with a batch is done again when the process is killed before the
    checkpoint is written. (object, generation, start, end) of a batch tell a repetition. Exactly once is had by
    storing the position ``batch.end`` together with the result, in one transaction.
    """

    def __init__(
        self,
        on_batch: Callable[[Batch], object],
        *,
        on_event: Callable[[Event], object] | None = None,
        threaded: bool = False,
    ) -> None:
        """`on_batch`: a function, or one that returns an awaitable. `on_event` hears of all that is no batch.

        Without `on_event`, a `Rewound` and a new generation pass by unheard, the latter to be seen in
        ``batch.generation``. `threaded` calls `on_batch` in a thread, so that a slow one stops nothing else;
        without it a function that is not async has the event loop for itself while it runs.
        Raises UsageError for an async `on_batch` in a thread.
        """
        if threaded and inspect.iscoroutinefunction(on_batch):
            raise UsageError("an async function cannot be called in a thread: leave threaded out")
        self._on_batch = on_batch
        self._on_event = on_event
        self._threaded = threaded

    async def write(self, batch: Batch) -> None:
        """Call the function. Raises SinkError when it raises."""
        try:
            if self._threaded:
                await _in_thread(self._on_batch, batch)
            else:
                await settled(self._on_batch(batch))
        except SinkError:
            raise
        except Exception as error:
            raise SinkError(f"{batch.object}: {_name(self._on_batch)} raised {_shown(error)}") from error

    async def notice(self, event: Event) -> None:
        """Call `on_event`. Raises SinkError when it raises."""
        if self._on_event is None:
            return
        try:
            await settled(self._on_event(event))
        except SinkError:
            raise
        except Exception as error:
            raise SinkError(f"{_name(self._on_event)} raised {_shown(error)}") from error

    async def close(self) -> None:
        """Nothing is kept back: when a call returned, its batch was delivered."""


async def settled(result: object | Awaitable[object]) -> None:
    """Wait for what a function gave, if it is to be waited for."""
    if inspect.isawaitable(result):
        await result


async def _in_thread(function: Callable[[Batch], object], batch: Batch) -> None:
    """A thread cannot be cancelled: whoever is, waits for its end, so that two calls never run at once."""
    call = asyncio.ensure_future(asyncio.to_thread(function, batch))
    try:
        await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        if not call.cancelled():
            call.exception()  # looked at, or asyncio complains of it; the batch is not acknowledged either way
        raise


def _name(function: Callable[..., object]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
