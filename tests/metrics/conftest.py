"""A status of a service to make metrics of, and what a page of metrics says."""

from __future__ import annotations

from dataclasses import replace

from tailer.metrics import Metrics, ServiceMetrics
from tailer.status import GroupStatus, ObjectStatus, RequestStatus, ServiceStatus, SinkStatus

NOW = 1_790_000_000.0

GROUP = GroupStatus(
    name="web",
    sink="disk",
    objects={"active": 2, "idle": 5},
    lag=3000,
    largest_lag=2000,
    oldest_unread=7.5,
    stalled=1.5,
    unproven=10,
    buffered=4096,
    delivered_bytes=123456,
    rate=1000.0,
    poll_interval=4.0,
    listed_at=NOW - 3.0,
    listing_seconds=0.2,
    listing_error=None,
    committed_at=NOW - 1.0,
    uncommitted=0.5,
)
SINK = SinkStatus("disk", "file", 123456, 1000, 1.5, 2, 3)
REQUESTS = RequestStatus(today=250, rate=1.5, cap=20.0, budget=1000, cost=0.25, currency="CNY")


def object_status(name: str, lag: int, group: str = "web") -> ObjectStatus:
    return ObjectStatus(name, group, "active", 0, 100, 100 + lag, lag, lag / 100, (), "proven", 1.0, NOW)


STATUS = ServiceStatus(
    version="1",
    started_at=NOW - 100.0,
    now=NOW,
    ready=True,
    healthy=True,
    problems=(),
    groups=(GROUP,),
    objects=(
        object_status("oss://b/1", 2000),
        object_status("oss://b/2", 700),
        object_status("oss://b/3", 300),
    ),
    sinks=(SINK,),
    requests=REQUESTS,
    buffer_limit=8192,
)
EMPTY = replace(
    STATUS,
    groups=(),
    objects=(),
    sinks=(),
    requests=replace(REQUESTS, today=0, cost=0.0, cap=None, budget=None),
    buffer_limit=0,
)


def samples(metrics: Metrics | ServiceMetrics) -> dict[str, float]:
    """All series of ours that are not 0, by the name that the text format gives them."""
    lines = [line for line in metrics.text().splitlines() if line.startswith("oss_tail_")]
    values = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}
    return {name.removeprefix("oss_tail_"): value for name, value in values.items() if value and "build" not in name}
