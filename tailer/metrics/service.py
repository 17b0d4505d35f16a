"""Metrics of the service: what its observer is told is counted, what its status says is read at each scrape.

No series names an object but those that were asked for (`ServiceMetrics.declare`): their number would grow with the
objects. All series of a group and of a sink are there from its declaration on, at 0, so that an alert sees the
first increase, and go with it.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from tailer import errors
from tailer.core.events import Batch, Failed, Replaced, Rewound, Truncated, Unproven, Verified
from tailer.metrics.exposition import KINDS, OPERATIONS, REASONS, RESULTS, Exposition, Requests, ends_in, name_of
from tailer.status import POLL_RESULTS, RELEASE_REASONS, STAGES, STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import TypeVar

    from prometheus_client import CollectorRegistry, Metric
    from prometheus_client.metrics import MetricWrapperBase

    from tailer.core.events import Event
    from tailer.core.position import ObjectRef
    from tailer.errors import TailerError
    from tailer.status import GroupStatus, ServiceStatus, Stage

    _Family = TypeVar("_Family", bound=MetricWrapperBase)

# How late a poll is, and how long a commit takes: milliseconds, where all is well.
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
# From one page of a thousand names to a hundred thousand names and a slow service.
_LISTING = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
# Last-Modified is in whole seconds, so that nothing below one of them means much.
_LATENCY = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0)

HINTED = ("followed", "unknown")

OTHER = "_other"
"""In the place of an object's name: all objects of the group that have no series of their own."""


class ServiceMetrics(Exposition):
    """Implements `tailer.status.Observer`; `status` is called at each scrape, on the thread that calls `text`."""

    def __init__(self, status: Callable[[], ServiceStatus]) -> None:
        """Raises ConfigError when prometheus-client is not installed."""
        super().__init__()
        self._requests = Requests(self._registry)
        self._families = _Families(self._registry)
        self._groups: dict[str, _Group] = {}
        self._sinks: dict[str, _Sink] = {}
        self._snapshot = _Snapshot(status)
        self._registry.register(self._snapshot)

    def declare(self, groups: Mapping[str, str], sinks: Iterable[str], *, object_series: int = 0) -> None:
        """There are these groups, each with the name of its sink, and these sinks; those that are no more go.

        To be called before a group starts, and again when the configuration was read again: what is told of a group
        that was not declared is not counted. `object_series`: how many objects, those with the most lag, get series of
        their own.
        """
        self._snapshot.object_series = object_series
        names = set(sinks)
        for name in self._groups.keys() - groups.keys():
            self._groups.pop(name).remove()
        for name, sink in groups.items():
            if name not in self._groups:
                self._groups[name] = _Group(self._families, name)
            self._groups[name].flow_into(sink)
        for name in self._sinks.keys() - names:
            self._sinks.pop(name).series.remove()
        for name in names - self._sinks.keys():
            self._sinks[name] = _Sink(self._families, name)

    # --- Observer

    def on_request(self, operation: str, status: int | None, seconds: float, received: int) -> None:
        """See Observer."""
        self._requests.count(operation, status, seconds, received)
        if status in (429, 503):
            self._families.throttled.labels(operation).inc()

    def on_listing(self, group: str, seconds: float, objects: int) -> None:
        """See Observer."""
        if one := self._groups.get(group):
            one.listing_seconds.observe(seconds)
            one.listed.inc(objects)

    def on_discovered(self, group: str, count: int) -> None:
        """See Observer."""
        if one := self._groups.get(group):
            one.discovered.inc(count)

    def on_released(self, group: str, reason: str, count: int) -> None:
        """See Observer."""
        if one := self._groups.get(group):
            one.released[reason].inc(count)

    def on_poll(self, group: str, result: str, lateness: float) -> None:
        """See Observer."""
        if one := self._groups.get(group):
            one.polls[result].inc()
            one.lateness.observe(max(0.0, lateness))

    def on_event(self, group: str, sink: str, ref: ObjectRef, event: Event) -> None:
        """See Observer."""
        if one := self._groups.get(group):
            one.count(sink, event)

    def on_latency(self, group: str, sink: str, seconds: float) -> None:
        """See Observer. A clock of the service that is ahead of ours gives 0."""
        if (one := self._groups.get(group)) and (flow := one.flow_to(sink)):
            flow.latency.observe(max(0.0, seconds))

    def on_sink(self, sink: str, seconds: float) -> None:
        """See Observer."""
        if one := self._sinks.get(sink):
            one.seconds.observe(seconds)

    def on_gap(self, group: str, gaps: int, overlaps: int) -> None:
        """See Observer."""
        if one := self._groups.get(group):
            one.gaps.inc(gaps)
            one.overlaps.inc(overlaps)

    def on_commit(self, group: str, seconds: float, error: TailerError | None) -> None:
        """See Observer."""
        if one := self._groups.get(group):
            one.commit_seconds.observe(seconds)
            one.commit_errors.inc(error is not None)

    def on_error(self, group: str, stage: Stage, error: TailerError) -> None:
        """See Observer."""
        if one := self._groups.get(group):
            one.errors[stage, name_of(error, KINDS)].inc()
            if isinstance(error, errors.ChainBroken):
                one.checks["mismatch"].inc()
            elif isinstance(error, errors.CrcMissing):
                one.checks["unavailable"].inc()

    def on_wasted(self, group: str, length: int) -> None:
        """See Observer."""
        if one := self._groups.get(group):
            one.wasted.inc(length)

    def on_hint(self, known: bool) -> None:
        """See Observer."""
        self._families.hints.labels(HINTED[not known]).inc()


class _Families:
    """All that is counted, in the order of the page."""

    def __init__(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Histogram

        def counter(name: str, what: str, *labels: str) -> Counter:
            return Counter(f"oss_tail_{name}", what, labels, registry=registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"oss_tail_{name}", what, labels, buckets=buckets, registry=registry)

        self.throttled = counter("throttled_requests", "Requests that were answered 429 or 503.", "operation")
        self.retries = counter("request_retries", "Requests that failed and were made again.", "group", "reason")
        self.wasted = counter("wasted_bytes", "Bytes fetched and thrown away.", "group")
        self.hints = counter("hints", "Hints from outside that an object has grown.", "result")

        self.discovered = counter("objects_discovered", "Objects followed that were not before.", "group")
        self.released = counter("objects_released", "Objects not followed any more.", "group", "reason")
        self.listed = counter("discovery_listed_objects", "Objects in complete listings.", "group")
        self.listing = histogram("discovery_duration_seconds", "Time of a complete listing.", _LISTING, "group")

        self.polls = counter("polls", "Looks at an object, by what they found.", "group", "result")
        self.lateness = histogram("poll_lateness_seconds", "How late an object was looked at.", _SHORT, "group")

        self.delivered = counter("delivered_bytes", "Bytes that the sink took.", "group", "sink")
        self.records = counter("delivered_records", "Records whose end the sink took.", "group", "sink")
        self.latency = histogram(
            "delivery_latency_seconds", "From the object's Last-Modified to its delivery.", _LATENCY, "group", "sink"
        )
        self.sink_seconds = histogram("sink_duration_seconds", "Time of a sink for one batch.", _SHORT, "sink")

        self.checks = counter("integrity_checks", "Comparisons with the CRC-64 of the object.", "group", "result")
        self.rewinds = counter("rewinds", "Times that bytes handed out were taken back.", "group")
        self.replacements = counter("replacements", "Times that another object stood under the name.", "group")
        self.truncations = counter("truncations", "Times that an object was shorter than what was read of it.", "group")
        self.gaps = counter("gaps", "Times that bytes were left out before a sink.", "group")
        self.overlaps = counter("overlaps", "Times that bytes came to a sink again without a word.", "group")

        self.commit = histogram("checkpoint_duration_seconds", "Time of a transaction of checkpoints.", _SHORT, "group")
        self.commit_errors = counter("checkpoint_write_errors", "Transactions of checkpoints that failed.", "group")
        self.errors = counter("errors", "Errors, whether or not it is tried again.", "group", "stage", "kind")

        for operation in OPERATIONS:
            self.throttled.labels(operation)
        for name in HINTED:
            self.hints.labels(name)


class _Series:
    """Series that come and go together."""

    def __init__(self) -> None:
        self._made: list[tuple[MetricWrapperBase, tuple[str, ...]]] = []

    def one(self, family: _Family, *values: str) -> _Family:
        """The series of these labels, from now on there."""
        self._made.append((family, values))
        return family.labels(*values)

    def each(self, family: _Family, value: str, last: Iterable[str]) -> dict[str, _Family]:
        """A series for each value of the last label."""
        return {name: self.one(family, value, name) for name in last}

    def remove(self) -> None:
        for family, values in self._made:
            family.remove(*values)


class _Group:
    """The series of one group, bound once: a look-up by labels costs more than the count."""

    def __init__(self, families: _Families, name: str) -> None:
        self._families, self._name = families, name
        self.series = series = _Series()
        self.flow: _Flow | None = None
        self.retries = series.each(families.retries, name, REASONS)
        self.wasted = series.one(families.wasted, name)
        self.discovered = series.one(families.discovered, name)
        self.released = series.each(families.released, name, RELEASE_REASONS)
        self.listed = series.one(families.listed, name)
        self.listing_seconds = series.one(families.listing, name)
        self.polls = series.each(families.polls, name, POLL_RESULTS)
        self.lateness = series.one(families.lateness, name)
        self.checks = series.each(families.checks, name, RESULTS)
        self.rewinds = series.one(families.rewinds, name)
        self.replacements = series.one(families.replacements, name)
        self.truncations = series.one(families.truncations, name)
        self.gaps = series.one(families.gaps, name)
        self.overlaps = series.one(families.overlaps, name)
        self.commit_seconds = series.one(families.commit, name)
        self.commit_errors = series.one(families.commit_errors, name)
        self.errors = {
            (stage, kind): series.one(families.errors, name, stage, kind) for stage in STAGES for kind in KINDS
        }

    def flow_into(self, sink: str) -> None:
        """What is delivered goes to `sink` from now on."""
        if self.flow is None or self.flow.sink != sink:
            self.remove_flow()
            self.flow = _Flow(self._families, self._name, sink)

    def remove_flow(self) -> None:
        if self.flow is not None:
            self.flow.series.remove()
            self.flow = None

    def remove(self) -> None:
        self.remove_flow()
        self.series.remove()

    def flow_to(self, sink: str) -> _Flow | None:
        """None for a sink that was declared away while something was on its way to it."""
        return self.flow if self.flow is not None and self.flow.sink == sink else None

    def count(self, sink: str, event: Event) -> None:
        match event:
            case Batch():
                if flow := self.flow_to(sink):
                    flow.count(event)
            case Verified():
                self.checks["ok"].inc()
            case Unproven():
                self.checks["unavailable"].inc()
            case Rewound():
                self.rewinds.inc()
                self.checks["mismatch"].inc()
            case Replaced():
                self.replacements.inc()
            case Truncated():
                self.truncations.inc()
            case Failed(error=error):
                self.retries[name_of(error, REASONS)].inc()
            case _:
                pass


class _Flow:
    """What one group delivers to its sink."""

    def __init__(self, families: _Families, group: str, sink: str) -> None:
        self.sink = sink
        self.series = series = _Series()
        self.delivered = series.one(families.delivered, group, sink)
        self.records = series.one(families.records, group, sink)
        self.latency = series.one(families.latency, group, sink)

    def count(self, batch: Batch) -> None:
        self.delivered.inc(batch.end - batch.start)
        self.records.inc(ends_in(batch))


class _Sink:
    """The series of one sink."""

    def __init__(self, families: _Families, name: str) -> None:
        self.series = _Series()
        self.seconds = self.series.one(families.sink_seconds, name)


class _Snapshot:
    """Everything that the status says, as metrics at each scrape (prometheus_client's custom collector)."""

    def __init__(self, status: Callable[[], ServiceStatus]) -> None:
        self._status = status
        self._seen_at: dict[str, float] = {}
        self.object_series = 0

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        yield from _of_service(status)
        yield from _of_groups(status, self._ages_of_listings(status))
        yield from _of_sinks(status)
        if self.object_series:
            yield from _of_objects(status, self.object_series)

    def _ages_of_listings(self, status: ServiceStatus) -> dict[str, float]:
        """A group that was never listed is as old as the first look at it: no listing is no good news."""
        self._seen_at = {one.name: self._seen_at.get(one.name, status.now) for one in status.groups}
        since = ((one.name, one.listed_at or self._seen_at[one.name]) for one in status.groups)
        return {name: max(0.0, status.now - at) for name, at in since}


def _gauge(name: str, what: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"oss_tail_{name}", what, labels=labels)
    for label, value in values:
        family.add_metric(label, value)
    return family


def _of_service(status: ServiceStatus) -> Iterator[Metric]:
    requests = status.requests

    def one(name: str, what: str, value: float) -> Metric:
        return _gauge(name, what, (), [((), value)])

    yield one("ready", "1 when credentials work and every group was listed.", status.ready)
    yield one("healthy", "1 when nothing is stuck.", status.healthy)
    yield one("config_last_reload_successful", "0 when the configuration file is bad.", status.config_error is None)
    yield one("buffer_limit_bytes", "Bytes that all groups together may hold in memory.", status.buffer_limit)
    yield one("requests_today", "Requests since midnight UTC.", requests.today)
    cost = [((requests.currency,), requests.cost)]
    yield _gauge("request_cost_today", "What they cost, in money.", ("currency",), cost)
    used = requests.today / requests.budget if requests.budget else 0.0
    yield one("request_budget_ratio", "Which part of the budget of today is used up.", used)
    yield one("request_budget_tight", "1 while requests wait for the budget of the day.", requests.tight)
    if requests.cap is not None:
        yield one("request_rate_limit", "Requests a second that are allowed.", requests.cap)


def _of_groups(status: ServiceStatus, listing_ages: Mapping[str, float]) -> Iterator[Metric]:
    def each(name: str, what: str, value: Callable[[GroupStatus], float]) -> Metric:
        return _gauge(name, what, ("group",), (((one.name,), value(one)) for one in status.groups))

    states = (((one.name, state), one.objects.get(state, 0)) for one, state in itertools.product(status.groups, STATES))
    yield _gauge("objects_followed", "Objects followed, by state.", ("group", "state"), states)
    yield each("lag_bytes", "Bytes that exist and were not delivered yet.", lambda one: one.lag)
    yield each("largest_lag_bytes", "The lag of the object that has the most.", lambda one: one.largest_lag)
    yield each("lag_seconds", "How long the delivery of the lag takes, at the rate of now.", _seconds_of_lag)
    yield each(
        "oldest_unread_age_seconds", "Since the oldest undelivered byte is known.", lambda one: one.oldest_unread
    )
    yield each("stalled_seconds", "Since there are bytes to deliver, and none comes closer.", lambda one: one.stalled)
    yield each("unproven_bytes", "Bytes delivered and not proven yet.", lambda one: one.unproven)
    yield each("buffered_bytes", "Bytes held in memory.", lambda one: one.buffered)
    yield each("poll_interval_seconds", "Time between two looks that is in force.", lambda one: one.poll_interval)
    yield each("discovery_age_seconds", "Since the last complete listing.", lambda one: listing_ages[one.name])
    yield each("checkpoint_age_seconds", "Since when there is something to commit.", lambda one: one.uncommitted)


def _seconds_of_lag(group: GroupStatus) -> float:
    """Of a group that delivers nothing, it takes at least as long again as it took up to now."""
    return group.lag / group.rate if group.rate else group.oldest_unread


def _of_sinks(status: ServiceStatus) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    waiting = (((one.name,), one.waiting) for one in status.sinks)
    yield _gauge("sink_waiting_batches", "Batches that wait for the sink.", ("sink",), waiting)
    failed = CounterMetricFamily("oss_tail_sink_errors", "Batches that the sink refused.", labels=("sink",))
    for one in status.sinks:
        failed.add_metric((one.name,), one.errors)
    yield failed


def _of_objects(status: ServiceStatus, most: int) -> Iterator[Metric]:
    rest = {one.name: one.lag for one in status.groups}
    chosen = [one for one in status.objects[:most] if one.group in rest]
    for one in chosen:
        rest[one.group] -= one.lag
    lags = [((one.group, one.object), one.lag) for one in chosen]
    lags += [((group, OTHER), max(0, lag)) for group, lag in rest.items()]
    ages = (((one.group, one.object), one.lag_seconds) for one in chosen)
    labels = ("group", "object")
    yield _gauge("object_lag_bytes", "Undelivered bytes of an object.", labels, lags)
    yield _gauge("object_lag_seconds", "Since an object has undelivered bytes.", labels, ages)
