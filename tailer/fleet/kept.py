"""What a group keeps over restarts: the checkpoints of its objects, for how long, and which addresses were listed."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING

from tailer.core.schedule import back_off
from tailer.errors import CheckpointError, TailerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from tailer.checkpoints import Checkpoint, Checkpoints
    from tailer.core.position import ObjectRef
    from tailer.fleet.marks import Marks

LOADED_AT_ONCE = 500
_PRUNED_EVERY = 3600.0

_log = logging.getLogger("tailer.fleet")


class Kept:
    """The checkpoints of a group, and the marks on their way there. `failed` is told of what is tried again.

    `unlisted`: addresses whose first complete listing is still to come. `unread`: by address, since when
    (seconds since 1970) its partitions by time were not all seen whole and read to their end. `pruned`: when what went
    long ago was last forgotten, monotonic.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        marks: Marks,
        fields: Mapping[str, object],
        failed: Callable[[TailerError], None],
    ) -> None:
        self.unlisted: set[str] = set()
        self.unread: dict[str, float] = {}
        self.pruned = float("-inf")
        self._checkpoints = checkpoints
        self._marks = marks
        self._fields = fields
        self._failed = failed

    async def begin(self, addresses: list[str]) -> None:
        """What `addresses` name is followed from now on. Raises CheckpointError."""
        self.unlisted = await asyncio.to_thread(self._checkpoints.begin, addresses)
        self.unread = await asyncio.to_thread(self._checkpoints.unread)

    def was_read(self, ref: ObjectRef) -> bool:
        """Was anything of it ever read? Who is in doubt does not leave it alone."""
        try:
            return self._marks.latest(ref) is not None or self._checkpoints.load(ref) is not None
        except CheckpointError:
            return True

    async def load(self, refs: list[ObjectRef]) -> dict[ObjectRef, Checkpoint]:
        """What is known of `refs`, which are followed from now on: tried until it can be read."""
        attempt = 0
        while True:
            try:
                return await asyncio.to_thread(self._find, refs)
            except CheckpointError as error:
                attempt += 1
                self._failed(error)
            await asyncio.sleep(back_off(attempt, random.random()))

    def _find(self, refs: list[ObjectRef]) -> dict[ObjectRef, Checkpoint]:
        known = self._checkpoints.find(refs)
        if known:
            self._checkpoints.note_gone(known, None)
        return known

    async def note_listed(self, addresses: set[str]) -> None:
        """All that `addresses` name was listed once, and where it begins is kept: what comes from now on is new."""
        if not addresses:
            return
        try:
            await self._marks.flush()
            await asyncio.to_thread(self._checkpoints.listed, addresses)
            self.unlisted -= addresses
        except TailerError as error:  # the next listing tries again
            self._failed(error)

    async def note_unread(self, unread: dict[str, float]) -> None:
        """Keep that, for the next process to look back so far. What lies before it is read, and its marks are kept."""
        if unread == self.unread:
            return
        try:
            await self._marks.flush()
            await asyncio.to_thread(self._checkpoints.note_unread, unread)
            self.unread = unread
        except TailerError as error:  # the next listing tries again
            self._failed(error)

    async def prune(self, keep: float, followed: Callable[[Iterable[ObjectRef]], set[ObjectRef]]) -> None:
        """Forget, from time to time, the checkpoints of objects that went more than `keep` seconds ago.

        `followed` says which of some are there still.
        """
        if time.monotonic() - self.pruned <= _PRUNED_EVERY:
            return
        after: ObjectRef | None = None
        forgotten = 0
        try:
            while page := await asyncio.to_thread(self._checkpoints.gone_since, after, LOADED_AT_ONCE):
                after = page[-1][0]
                there = followed(ref for ref, _ in page)
                forgotten += await self._forget([one for one in page if one[0] not in there], keep)
        except TailerError as error:  # the next listing tries again
            self._failed(error)
            return
        if forgotten:
            _log.info("forgot %d checkpoints of objects that went", forgotten, extra=self._fields)
        self.pruned = time.monotonic()

    async def _forget(self, gone: list[tuple[ObjectRef, float | None]], keep: float) -> int:
        """How many of the objects in `gone`, each with when it was first found to be gone, were forgotten."""
        now = time.time()
        if new := [ref for ref, since in gone if since is None]:
            await asyncio.to_thread(self._checkpoints.note_gone, new, now)
        over = [ref for ref, since in gone if (now if since is None else since) <= now - keep]
        if over:
            await asyncio.to_thread(self._checkpoints.reset, *over)
        return len(over)
