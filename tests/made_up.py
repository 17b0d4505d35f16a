"""A service that is made up: whatever a test wants to see behind the port, on the page and in `oss-tailer top`."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tailer.status import GroupStatus, ObjectStatus, RequestStatus, ServiceStatus, SinkStatus
from tailer.web import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailer.core.position import ObjectRef
    from tailer.web.server import Port

NOW = 1_790_000_000.0
"""The moment of the status, in seconds since 1970."""


def object_status(key: str = "web-01.log", **changes: Any) -> ObjectStatus:
    """An object of the group ``web`` that grows by 2 MB a second and is 1.5 MB behind."""
    one = ObjectStatus(
        object=f"oss://logs/{key}",
        group="web",
        state="active",
        generation=0,
        position=123_456_789,
        size=124_956_789,
        lag=1_500_000,
        lag_seconds=2.5,
        rates=tuple(2e6 + 1e6 * (step % 7) / 7 for step in range(30)),
        chain="proven",
        poll_interval=1.0,
        polled_at=NOW - 0.4,
    )
    return replace(one, **changes)


def group_status(**changes: Any) -> GroupStatus:
    """The group ``web`` with 1,240 objects."""
    group = GroupStatus(
        name="web",
        sink="mirror",
        objects={"active": 12, "idle": 1220, "missing": 0, "sealed": 8, "failed": 0},
        lag=1_500_000,
        largest_lag=1_500_000,
        oldest_unread=2.5,
        stalled=0.4,
        unproven=0,
        buffered=4_000_000,
        delivered_bytes=987_654_321_000,
        rate=2_400_000.0,
        poll_interval=1.0,
        listed_at=NOW - 4.0,
        listing_seconds=0.8,
        listing_error=None,
        committed_at=NOW - 0.6,
        uncommitted=0.6,
    )
    return replace(group, **changes)


def service_status(**changes: Any) -> ServiceStatus:
    """One that is well."""
    status = ServiceStatus(
        version="0.1.0",
        started_at=NOW - 3 * 86400.0 - 4000.0,
        now=NOW,
        ready=True,
        healthy=True,
        problems=(),
        groups=(group_status(),),
        objects=(object_status(), object_status("web-02.log", state="idle", lag=0, lag_seconds=0.0, rates=(0.0,) * 30)),
        sinks=(SinkStatus("mirror", "file", 987_654_321_000, 7_654_321, 4321.0, 2, 0),),
        requests=RequestStatus(today=51_234, rate=3.2, cap=20.0, budget=1_000_000, cost=0.0512, currency="CNY"),
    )
    return replace(status, **changes)


@dataclass
class MadeUp:
    """A `Served`. `known` are the objects that are followed; `hinted` those that were named."""

    shown: ServiceStatus = field(default_factory=service_status)
    known: set[str] = field(default_factory=set)
    hinted: list[str] = field(default_factory=list)
    asked: int = 0
    lives: bool = True

    def status(self) -> ServiceStatus:
        self.asked += 1
        return self.shown

    def moves(self) -> bool:
        return self.lives

    def metrics_text(self) -> str:
        return "# TYPE made_up gauge\nmade_up 1\n"

    def hint(self, ref: ObjectRef) -> bool:
        self.hinted.append(str(ref))
        return str(ref) in self.known


@contextmanager
def open_port(served: MadeUp, port: int = 0) -> Iterator[str]:
    """A port on loopback in a thread of its own; its URL without a slash at the end."""
    started: list[Port | BaseException] = []
    ready, over = threading.Event(), threading.Event()

    async def main() -> None:
        opened = await serve(served, "127.0.0.1", port)
        started.append(opened)
        ready.set()
        await asyncio.to_thread(over.wait)
        await opened.close()

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            started.append(error)
            ready.set()
            raise

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        assert not isinstance(started[0], BaseException), started[0]
        yield f"http://127.0.0.1:{started[0].port}"
    finally:
        over.set()
        thread.join()
