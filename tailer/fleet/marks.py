"""How far the objects of a group are delivered, on the way into its checkpoints: a second's marks at once."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING

from tailer.checkpoints import CommitQueue
from tailer.core.schedule import back_off
from tailer.errors import CheckpointError, SinkError, TailerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from tailer.checkpoints import Checkpoints
    from tailer.core.position import Mark, ObjectRef
    from tailer.status import Observer, Stage

COMMIT_SECONDS = 1.0
COMMIT_BYTES = 64 * 1024 * 1024

_log = logging.getLogger("tailer.fleet")


class Marks:
    """Notes the marks of a group, and commits them `COMMIT_SECONDS` or `COMMIT_BYTES` after the first of them.

    Delivery stands still (`room`) where twice as many bytes would be delivered that no checkpoint tells of: a crash
    repeats no more than that, and loses nothing. `sync` makes safe what was delivered, and comes before each commit;
    of an object where it cannot (`unsafe`, with the reason) no mark is kept any more.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        sync: Callable[[], Awaitable[Mapping[ObjectRef, SinkError]]],
        observer: Observer,
        group: str,
    ) -> None:
        self.sync = sync
        self.committed_at: float | None = None
        self.error: TailerError | None = None
        self._queue = CommitQueue(checkpoints)
        self._observer = observer
        self._group = group
        self.unsafe: dict[ObjectRef, SinkError] = {}
        self._withheld: dict[ObjectRef, Mark] = {}
        self._noted: dict[ObjectRef, Mark] = {}
        self._taken: dict[ObjectRef, Mark] = {}
        self._since: float | None = None
        self._committing: float | None = None
        self._bytes = self._bytes_taken = 0
        self._something = asyncio.Event()
        self._much = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._turn = asyncio.Lock()

    def note(self, ref: ObjectRef, mark: Mark, delivered: int = 0) -> None:
        """`mark` is to be kept, soon: `delivered` bytes more are below it."""
        self._noted[ref] = mark
        self._bytes += delivered
        if self._since is None:
            self._since = time.monotonic()
            self._something.set()
        if self._bytes - self._bytes_taken >= COMMIT_BYTES:
            self._much.set()
        if self._bytes >= 2 * COMMIT_BYTES:
            self._room.clear()

    def latest(self, ref: ObjectRef) -> Mark | None:
        """The mark of `ref` that is noted and not kept yet."""
        return self._noted.get(ref) or self._taken.get(ref) or self._withheld.get(ref)

    @property
    def uncommitted(self) -> float:
        """Seconds since the oldest mark was noted that is not kept; 0 for none."""
        since = self._since if self._committing is None else self._committing
        return 0.0 if since is None else time.monotonic() - since

    async def room(self) -> None:
        """Return when more may be delivered."""
        await self._room.wait()

    async def keep(self, ref: ObjectRef, mark: Mark) -> None:
        """Return when `mark` is kept, which goes back, or is of another object: tried until it is."""
        await self.insist({ref: mark})

    async def insist(self, marks: Mapping[ObjectRef, Mark] | None = None) -> None:
        """Return when `marks`, and all that is noted, are kept: tried until they are."""
        attempt = 0
        while True:
            for ref, mark in (marks or {}).items():
                self.note(ref, mark)
            try:
                return await self.flush()
            except TailerError:
                attempt += 1
            await asyncio.sleep(back_off(attempt, random.random()))

    async def run(self) -> None:
        """Commit, again and again."""
        attempt = 0
        while True:
            await self._something.wait()
            if not self._much.is_set():
                await _either(self._much, COMMIT_SECONDS)
            try:
                await self.flush()
                attempt = 0
            except TailerError as error:
                if attempt == 0:
                    _log.error("marks cannot be kept: %s", error, extra={"group": self._group})
                attempt += 1
                await asyncio.sleep(back_off(attempt, random.random()))

    async def flush(self) -> None:
        """Keep all that is noted. Raises CheckpointError, and what `sync` raises: it is noted still, then."""
        async with self._turn:
            taken, since = self._noted, self._since
            if not taken:
                return
            self._noted, self._since, self._committing = {}, None, since
            self._taken, self._bytes_taken = taken, self._bytes
            self._something.clear()
            self._much.clear()
            try:
                await self._commit(taken)
            except BaseException:
                self._noted = {**taken, **self._noted}
                self._since = since
                self._something.set()
                raise
            else:
                self._bytes -= self._bytes_taken
            finally:
                self._committing = None
                self._taken, self._bytes_taken = {}, 0
            if self._bytes < 2 * COMMIT_BYTES:
                self._room.set()

    async def _commit(self, marks: dict[ObjectRef, Mark]) -> None:
        try:
            self._withhold(marks, await self.sync())
            await self._transact({ref: mark for ref, mark in marks.items() if ref not in self.unsafe})
        except TailerError as error:
            self.error = error
            stage: Stage = "checkpoint" if isinstance(error, CheckpointError) else "deliver"
            self._observer.on_error(self._group, stage, error)
            raise
        self.error = None
        self.committed_at = time.time()

    def _withhold(self, marks: dict[ObjectRef, Mark], unsafe: Mapping[ObjectRef, SinkError]) -> None:
        for ref in unsafe.keys() & marks.keys():
            self._withheld[ref] = marks[ref]
            if ref not in self.unsafe:
                self.unsafe[ref] = error = unsafe[ref]
                fields = {"group": self._group, "object": str(ref)}
                _log.error("no mark of it is kept any more: %s", error, extra=fields)
                self._observer.on_error(self._group, "deliver", error)

    async def _transact(self, marks: dict[ObjectRef, Mark]) -> None:
        started = time.perf_counter()
        error: CheckpointError | None = None
        try:
            await self._queue.commit_all(marks)
        except CheckpointError as failure:
            error = failure
            raise
        finally:
            self._observer.on_commit(self._group, time.perf_counter() - started, error)
            del error  # it holds this frame


async def _either(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
