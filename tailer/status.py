"""What the service tells of itself: values for the status page, `oss-tailer top`, health and metrics.

All are plain and frozen, so that they can be made into JSON by `dataclasses.asdict` as they are. Sizes and offsets are
in bytes, durations in seconds, moments (`…_at`) in seconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tailer.core.events import Event
    from tailer.core.position import ObjectRef
    from tailer.errors import TailerError

STATES = ("active", "idle", "missing", "sealed", "failed")
"""Of an object: has bytes to be delivered; has none; is not there; is finished; its reading stopped with an error."""

POLL_RESULTS = ("grew", "unchanged", "missing", "replaced", "error")
RELEASE_REASONS = ("gone", "old", "sealed", "config", "failed")
CHAIN_STATES = ("proven", "unproven", "broken", "off")


@dataclass(frozen=True, slots=True)
class ObjectStatus:
    """One followed object. `rates` are bytes per second of the last 30 steps of 10 s, the newest last."""

    object: str
    group: str
    state: str
    generation: int
    position: int
    size: int
    lag: int
    lag_seconds: float
    rates: tuple[float, ...]
    chain: str
    poll_interval: float
    polled_at: float | None
    last_error: str | None = None
    last_error_at: float | None = None


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """One sink. `busy_seconds` is the time that batches spent in it; `waiting` how many wait for it now."""

    name: str
    type: str
    delivered_bytes: int
    delivered_records: int
    busy_seconds: float
    waiting: int
    errors: int
    last_error: str | None = None
    last_error_at: float | None = None


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """One group. `oldest_unread` is the time since the oldest byte that was not delivered became known, 0 for none;
    `stalled` for how long there have been bytes to deliver and none came closer to it, 0 while they do; `listed_at` is
    when the last complete listing ended; `committed_at` when the checkpoint last said all there was."""

    name: str
    sink: str
    objects: Mapping[str, int]
    lag: int
    largest_lag: int
    oldest_unread: float
    stalled: float
    unproven: int
    buffered: int
    delivered_bytes: int
    rate: float
    poll_interval: float
    listed_at: float | None
    listing_seconds: float
    listing_error: str | None
    committed_at: float | None
    uncommitted: float


@dataclass(frozen=True, slots=True)
class RequestStatus:
    """Requests of the process since midnight UTC, and what they cost. `budget` None: there is no limit. `tight`: some
    have to wait, since they are spread over the rest of the day."""

    today: int
    rate: float
    cap: float | None
    budget: int | None
    cost: float
    currency: str
    tight: bool = False


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """All of it. `objects` are those with the most lag, then those that grew last; there may be more of them.

    `problems` are lines that say why it is not healthy, or not ready. `buffer_limit`: how much all groups together may
    hold in memory.
    """

    version: str
    started_at: float
    now: float
    ready: bool
    healthy: bool
    problems: tuple[str, ...]
    groups: tuple[GroupStatus, ...]
    objects: tuple[ObjectStatus, ...]
    sinks: tuple[SinkStatus, ...]
    requests: RequestStatus
    config_error: str | None = None
    buffer_limit: int = 0


Stage = Literal["discover", "read", "verify", "deliver", "checkpoint", "config"]
STAGES: tuple[Stage, ...] = ("discover", "read", "verify", "deliver", "checkpoint", "config")


class Observer(Protocol):
    """Told of what happens, as it happens, on the event loop. None of its methods may raise or take long."""

    def on_request(self, operation: str, status: int | None, seconds: float, received: int) -> None:
        """A request is over (`oss.client.Observe`)."""
        ...

    def on_listing(self, group: str, seconds: float, objects: int) -> None:
        """A complete listing is over: how long it took, how many rows it had."""
        ...

    def on_discovered(self, group: str, count: int) -> None:
        """So many objects are followed now that were not before."""
        ...

    def on_released(self, group: str, reason: str, count: int) -> None:
        """So many are not followed any more, for one of `RELEASE_REASONS`."""
        ...

    def on_poll(self, group: str, result: str, lateness: float) -> None:
        """An object was looked at, with one of `POLL_RESULTS`; so much later than it was due."""
        ...

    def on_event(self, group: str, sink: str, ref: ObjectRef, event: Event) -> None:
        """An event of an object; a batch once it was delivered."""
        ...

    def on_latency(self, group: str, sink: str, seconds: float) -> None:
        """Bytes were delivered so long after the object was modified (by its Last-Modified: whole seconds)."""
        ...

    def on_sink(self, sink: str, seconds: float) -> None:
        """A sink worked so long on a batch, whatever came of it."""
        ...

    def on_gap(self, group: str, gaps: int, overlaps: int) -> None:
        """The ledger at a sink found bytes left out, or brought again without a word. Never expected."""
        ...

    def on_commit(self, group: str, seconds: float, error: TailerError | None) -> None:
        """A transaction of checkpoints is over."""
        ...

    def on_error(self, group: str, stage: Stage, error: TailerError) -> None:
        """Something failed, whether or not it is tried again."""
        ...

    def on_wasted(self, group: str, length: int) -> None:
        """Bytes were fetched and thrown away."""
        ...

    def on_hint(self, known: bool) -> None:
        """A hint from outside came, about a followed object or another one."""
        ...
