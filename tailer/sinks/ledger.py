"""Book-keeping at a sink: is every byte of an object delivered once, in order, without gap or overlap?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tailer.core.events import Appeared, Replaced, Rewound, Truncated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailer.core.events import Batch, Event
    from tailer.core.position import ObjectRef
    from tailer.follow import Sink


@dataclass(frozen=True, slots=True)
class Account:
    """What was delivered of one generation of one object: bytes [start, end) when all is well.

    `gaps` counts batches that began behind the end of the one before, `overlaps` those that began before it;
    `missing` and `doubled` are their bytes. `rewinds` counts announced ones, which are neither.
    """

    start: int
    end: int
    gaps: int = 0
    overlaps: int = 0
    missing: int = 0
    doubled: int = 0
    rewinds: int = 0

    def after(self, batch: Batch) -> Account:
        """The account with `batch` entered."""
        gap, overlap = max(0, batch.start - self.end), max(0, self.end - batch.start)
        return replace(
            self,
            end=batch.end,
            gaps=self.gaps + (gap > 0),
            overlaps=self.overlaps + (overlap > 0),
            missing=self.missing + gap,
            doubled=self.doubled + overlap,
        )


class Ledger:
    """Passes everything on to `sink`, and enters each batch that was delivered.

    A batch that was refused and handed on again is entered once. A ledger is for one object, as a sink is.
    `gaps` and `overlaps` stay 0, whatever happens: anything else is a mistake of ours, or of a position that
    was stored before its batch was delivered.
    """

    def __init__(self, sink: Sink, ref: ObjectRef, *, start: int | None = None) -> None:
        """`start`: the offset where delivery has to begin; None for wherever the first batch begins."""
        self._sink = sink
        self._ref = ref
        self._start = start
        self._accounts: dict[tuple[ObjectRef, int], Account] = {}

    @property
    def accounts(self) -> Mapping[tuple[ObjectRef, int], Account]:
        """What was delivered, by object and generation."""
        return self._accounts

    @property
    def gaps(self) -> int:
        """How often bytes were left out."""
        return sum(account.gaps for account in self._accounts.values())

    @property
    def overlaps(self) -> int:
        """How often bytes came again without a rewind."""
        return sum(account.overlaps for account in self._accounts.values())

    async def write(self, batch: Batch) -> None:
        """Pass the batch on; enter it once it is delivered. Raises what the sink raises."""
        await self._sink.write(batch)
        key = (batch.object, batch.generation)
        account = self._accounts.get(key) or self._opened(batch)
        self._accounts[key] = account.after(batch)

    def _opened(self, batch: Batch) -> Account:
        """The generation that was there first begins where it was asked to; every other one with its first byte."""
        first = self._start if self._start is not None else batch.start
        start = 0 if self._accounts else first
        return Account(start, start)

    async def notice(self, event: Event) -> None:
        """Pass the event on; a rewind is entered: what lies behind it is void, and due again."""
        await self._sink.notice(event)
        if isinstance(event, Replaced | Truncated | Appeared):
            self._start = 0
        elif isinstance(event, Rewound):
            key = (self._ref, event.generation)
            account = self._accounts.get(key) or Account(event.to, event.to)
            start = min(account.start, event.to)
            self._accounts[key] = replace(account, start=start, end=event.to, rewinds=account.rewinds + 1)

    async def close(self) -> None:
        """Close the sink."""
        await self._sink.close()
