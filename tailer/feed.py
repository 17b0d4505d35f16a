"""What one object's follower gives to a `Consumer`: one batch at a time, and the marks of those that were taken."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tailer.core.events import Rewound
from tailer.core.position import Mark, Position
from tailer.core.tail import Tail
from tailer.errors import ChainBroken, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from tailer.core.events import Batch, Event
    from tailer.core.position import ObjectRef

    OnEvent = Callable[[ObjectRef, Event], Awaitable[None] | None]


class RememberingTail(Tail):
    """Knows where the mark stood when the last batch was acknowledged; it may have moved for other reasons since."""

    acknowledged: Mark = Mark()

    def acknowledge(self, batch: Batch) -> None:
        super().acknowledge(batch)
        self.acknowledged = self.mark


@dataclass(frozen=True, slots=True)
class _HandedOut:
    """A batch by its id, and the mark behind it."""

    id: tuple[int, int, int]
    mark: Mark


class Feed:
    """The sink of one object's follower: holds one batch until the loop takes it, and knows what was taken."""

    def __init__(
        self,
        ref: ObjectRef,
        on_event: OnEvent | None,
        offer: Callable[[Feed], None],
        take_back: Callable[[Feed, Rewound, Mark], None],
        committed: Mark | None,
    ) -> None:
        self.ref = ref
        self.committed = committed
        self.paused = False
        self.task: asyncio.Task[None] | None = None
        self._on_event = on_event
        self._offer = offer
        self._take_back = take_back
        self.reset()

    def reset(self) -> None:
        """Forget what was read: it begins anew somewhere else."""
        if self.task is not None:
            self.task.cancel()
        self.tail: RememberingTail | None = None
        self.position: Position | None = None
        self.batch: Batch | None = None
        self.error: Exception | None = None
        self.over = self.ended = False
        self.processed: Mark | None = None
        self._handed_out: deque[_HandedOut] = deque()
        self._free = asyncio.Event()
        self._free.set()

    def begin(self, reading: Coroutine[None, None, None]) -> None:
        """Read, in a task."""
        self.task = asyncio.create_task(reading, name=f"read {self.ref}")

    # --- as a sink

    async def write(self, batch: Batch) -> None:
        """Hold the batch as soon as the one before is taken. Nothing awaits between that and its acknowledgement."""
        await self._free.wait()
        self._free.clear()
        self.batch = batch
        self._offer(self)

    async def notice(self, event: Event) -> None:
        """Tell the user, behind the batches before it. A rewind that nobody is told of is an error."""
        told = self._rewind(event) if isinstance(event, Rewound) else event
        if told is None:
            return
        if self._on_event is None:
            if isinstance(told, Rewound):
                raise ChainBroken(
                    f"{self.ref}: bytes [{told.to}, {told.end}) that were handed out are not the object's",
                    hint="on_event= is told of it, integrity='strict' avoids it",
                )
            return
        await self._free.wait()
        result = self._on_event(self.ref, told)
        if inspect.isawaitable(result):
            await result

    async def close(self) -> None:
        """Nothing is in hand that is not the loop's."""

    def _rewind(self, event: Rewound) -> Rewound | None:
        """The event as the user has to know it: of what he was given; None when that is nothing."""
        had, tail = self.position, self.tail
        if had is None or tail is None:
            return None  # nothing was read yet
        if self.batch is not None and self.batch.generation == event.generation and self.batch.end > event.to:
            self.batch = None
            self._free.set()
        if had.generation != event.generation or had.offset <= event.to:
            return None
        self.position = tail.mark.delivered
        self._take_back(self, event, tail.mark)
        return replace(event, end=had.offset)

    # --- what was taken

    def take(self, batch: Batch, *, keep: bool) -> None:
        """`batch`, which waits, is handed out; `keep`: it will be committed."""
        assert self.tail is not None  # it brought the batch
        mark = self.tail.acknowledged
        self.batch, self.position = None, mark.delivered
        if keep:
            self._handed_out.append(_HandedOut(_id(batch), mark))
        self._free.set()

    def is_next(self, batch: Batch) -> bool:
        """Note that `batch` is processed; False when it is committed already. Raises UsageError out of turn."""
        ids = [one.id for one in self._handed_out]
        what = f"batch [{batch.start}, {batch.end}) of generation {batch.generation} of {self.ref}"
        if _id(batch) in ids:
            if ids[0] != _id(batch):
                _, start, end = ids[0]
                raise UsageError(f"{what} cannot be committed before [{start}, {end})")
            self.processed = self._handed_out[0].mark
            return True
        done = self.committed.delivered if self.committed is not None else Position()
        if (batch.generation, batch.end) <= (done.generation, done.offset):
            return False
        raise UsageError(f"{what} was not handed out by this consumer, or was taken back")

    def process_through(self, batch: Batch) -> None:
        """Note that `batch` and those before it are processed."""
        for one in self._handed_out:
            self.processed = one.mark
            if one.id == _id(batch):
                return

    def process_all(self) -> None:
        """Note that all that was taken is processed."""
        if self._handed_out:
            self.processed = self._handed_out[-1].mark

    def proven(self, mark: Mark) -> Mark:
        """`mark` with the proof that came since."""
        assert self.tail is not None  # a mark comes from it
        latest = self.tail.mark.verified
        if latest.generation != mark.delivered.generation or latest.offset <= mark.verified.offset:
            return mark
        if latest.offset <= mark.delivered.offset:
            return replace(mark, verified=latest)
        # A place inside a long record is nowhere to rewind to.
        return mark if mark.inside else replace(mark, verified=mark.delivered)

    def kept(self, mark: Mark) -> None:
        """The checkpoint says `mark` now."""
        self.committed, self.processed = mark, None
        done = mark.delivered
        while self._handed_out and _place(self._handed_out[0].mark.delivered) <= _place(done):
            self._handed_out.popleft()

    def void(self, event: Rewound, mark: Mark) -> bool:
        """Take back what `event` voids; whether some of it is committed."""
        left = (event.generation, event.to)
        while self._handed_out and _place(self._handed_out[-1].mark.delivered) > left:
            self._handed_out.pop()
        self.processed = None
        return self.committed is not None and _place(self.committed.delivered) > left


def _id(batch: Batch) -> tuple[int, int, int]:
    return batch.generation, batch.start, batch.end


def _place(position: Position) -> tuple[int, int]:
    return position.generation, position.offset
