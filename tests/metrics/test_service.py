"""Metrics of the service: what it is told is counted where it belongs; what its status says is read at each scrape."""

from __future__ import annotations

import itertools
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tailer import errors
from tailer.core.events import (
    Appeared,
    Batch,
    Event,
    Failed,
    Gone,
    Grew,
    Replaced,
    Rewound,
    Sealed,
    Truncated,
    Unproven,
    Verified,
)
from tailer.core.position import ObjectMeta, ObjectRef, Position
from tailer.metrics import OPERATIONS, RESULTS, ServiceMetrics
from tailer.metrics.exposition import KINDS, REASONS
from tailer.status import POLL_RESULTS, RELEASE_REASONS, STAGES
from tests.metrics.conftest import EMPTY, GROUP, NOW, REQUESTS, SINK, STATUS, object_status, samples

if TYPE_CHECKING:
    from collections.abc import Callable

    from tailer.status import Observer, ServiceStatus

A = ObjectRef("b", "app.log")
GROUPS = {"web": "disk", "billing": "http"}
SINKS = ("disk", "http")


def batch(data: bytes) -> Batch:
    return Batch(A, 0, 0, len(data), memoryview(data), verified=True, delimiter=b"\n")


@pytest.fixture
def metrics() -> ServiceMetrics:
    """Of a service with two groups and nothing in them."""
    made = ServiceMetrics(lambda: EMPTY)
    made.declare(GROUPS, SINKS)
    return made


def counted(metrics: ServiceMetrics) -> dict[str, float]:
    """All that was told: what is not 0, without what the empty status says, and without buckets."""
    static = ("ready", "healthy", "config_last", "discovery_age")
    return {
        name: value for name, value in samples(metrics).items() if not name.startswith(static) and "_bucket" not in name
    }


def test_it_is_an_observer(metrics: ServiceMetrics) -> None:
    observer: Observer = metrics
    assert observer is metrics


def test_every_series_of_what_was_declared_is_there_at_0(metrics: ServiceMetrics) -> None:
    text = metrics.text()
    assert counted(metrics) == {}
    for group, sink in GROUPS.items():
        of_group = {
            "request_retries_total": [f'reason="{reason}"' for reason in REASONS],
            "integrity_checks_total": [f'result="{result}"' for result in RESULTS],
            "polls_total": [f'result="{result}"' for result in POLL_RESULTS],
            "objects_released_total": [f'reason="{reason}"' for reason in RELEASE_REASONS],
        }
        for name, last in of_group.items():
            assert all(f'oss_tail_{name}{{group="{group}",{label}}} 0.0\n' in text for label in last), name
        for stage, kind in itertools.product(STAGES, KINDS):
            assert f'oss_tail_errors_total{{group="{group}",kind="{kind}",stage="{stage}"}} 0.0\n' in text
        assert f'oss_tail_delivered_bytes_total{{group="{group}",sink="{sink}"}} 0.0\n' in text
        assert f'oss_tail_delivery_latency_seconds_count{{group="{group}",sink="{sink}"}} 0.0\n' in text
        for name in ("gaps", "overlaps", "rewinds", "wasted_bytes", "objects_discovered", "checkpoint_write_errors"):
            assert f'oss_tail_{name}_total{{group="{group}"}} 0.0\n' in text, name
    for sink in SINKS:
        assert f'oss_tail_sink_duration_seconds_count{{sink="{sink}"}} 0.0\n' in text
    for operation in OPERATIONS:
        assert f'oss_tail_throttled_requests_total{{operation="{operation}"}} 0.0\n' in text
    assert 'oss_tail_hints_total{result="unknown"} 0.0\n' in text


# --- declared again


def groups_and_sinks(metrics: ServiceMetrics) -> tuple[set[str], set[str]]:
    labels = [sample.labels for family in text_string_to_metric_families(metrics.text()) for sample in family.samples]
    return {one["group"] for one in labels if "group" in one}, {one["sink"] for one in labels if "sink" in one}


def test_a_group_and_a_sink_that_are_no_more_take_all_their_series_along(metrics: ServiceMetrics) -> None:
    assert groups_and_sinks(metrics) == ({"web", "billing"}, {"disk", "http"})
    metrics.declare({"web": "disk"}, ["disk"])
    assert groups_and_sinks(metrics) == ({"web"}, {"disk"})
    metrics.declare({}, [])
    assert groups_and_sinks(metrics) == (set(), set())


def test_what_stays_keeps_its_counts(metrics: ServiceMetrics) -> None:
    metrics.on_event("web", "disk", A, batch(b"12345"))
    metrics.on_sink("disk", 0.5)
    before = counted(metrics)
    metrics.declare({"web": "disk", "new": "disk"}, ["disk"])
    assert counted(metrics) == before


def test_a_group_with_another_sink_begins_a_new_count(metrics: ServiceMetrics) -> None:
    metrics.on_event("web", "disk", A, batch(b"12345"))
    metrics.declare({"web": "http"}, SINKS)
    assert counted(metrics) == {}
    metrics.on_event("web", "disk", A, batch(b"12345"))
    assert counted(metrics) == {}, "for the sink that it no longer has"
    metrics.on_event("web", "http", A, batch(b"12345"))
    assert counted(metrics) == {'delivered_bytes_total{group="web",sink="http"}': 5}


def test_what_comes_late_of_a_removed_group_is_not_counted(metrics: ServiceMetrics) -> None:
    metrics.declare({}, [])
    metrics.on_listing("web", 1.0, 5)
    metrics.on_discovered("web", 1)
    metrics.on_released("web", "gone", 1)
    metrics.on_poll("web", "grew", 0.0)
    metrics.on_event("web", "disk", A, batch(b"1"))
    metrics.on_latency("web", "disk", 1.0)
    metrics.on_sink("disk", 1.0)
    metrics.on_gap("web", 1, 1)
    metrics.on_commit("web", 1.0, None)
    metrics.on_error("web", "read", errors.TailerError("x"))
    metrics.on_wasted("web", 1)
    assert counted(metrics) == {}


# --- what counts


@pytest.mark.parametrize(
    ("tell", "expected"),
    [
        (
            lambda m: m.on_listing("web", 0.2, 7),
            {
                'discovery_duration_seconds_count{group="web"}': 1,
                'discovery_duration_seconds_sum{group="web"}': 0.2,
                'discovery_listed_objects_total{group="web"}': 7,
            },
        ),
        (lambda m: m.on_discovered("web", 3), {'objects_discovered_total{group="web"}': 3}),
        (lambda m: m.on_released("web", "old", 2), {'objects_released_total{group="web",reason="old"}': 2}),
        (
            lambda m: m.on_poll("web", "unchanged", 0.5),
            {
                'polls_total{group="web",result="unchanged"}': 1,
                'poll_lateness_seconds_count{group="web"}': 1,
                'poll_lateness_seconds_sum{group="web"}': 0.5,
            },
        ),
        (
            lambda m: m.on_poll("web", "grew", -0.001),
            {'polls_total{group="web",result="grew"}': 1, 'poll_lateness_seconds_count{group="web"}': 1},
        ),
        (
            lambda m: m.on_latency("web", "disk", 1.5),
            {
                'delivery_latency_seconds_count{group="web",sink="disk"}': 1,
                'delivery_latency_seconds_sum{group="web",sink="disk"}': 1.5,
            },
        ),
        (
            lambda m: m.on_latency("web", "disk", -3.0),
            {'delivery_latency_seconds_count{group="web",sink="disk"}': 1},
        ),
        (
            lambda m: m.on_sink("disk", 0.25),
            {'sink_duration_seconds_count{sink="disk"}': 1, 'sink_duration_seconds_sum{sink="disk"}': 0.25},
        ),
        (lambda m: m.on_gap("web", 1, 0), {'gaps_total{group="web"}': 1}),
        (lambda m: m.on_gap("web", 0, 2), {'overlaps_total{group="web"}': 2}),
        (
            lambda m: m.on_commit("web", 0.5, None),
            {'checkpoint_duration_seconds_count{group="web"}': 1, 'checkpoint_duration_seconds_sum{group="web"}': 0.5},
        ),
        (
            lambda m: m.on_commit("web", 0.0, errors.CheckpointError("full")),
            {'checkpoint_duration_seconds_count{group="web"}': 1, 'checkpoint_write_errors_total{group="web"}': 1},
        ),
        (lambda m: m.on_wasted("web", 100), {'wasted_bytes_total{group="web"}': 100}),
        (lambda m: m.on_hint(known=True), {'hints_total{result="followed"}': 1}),
        (lambda m: m.on_hint(known=False), {'hints_total{result="unknown"}': 1}),
    ],
)
def test_what_it_is_told_counts_where_it_belongs(
    metrics: ServiceMetrics, tell: Callable[[ServiceMetrics], None], expected: dict[str, float]
) -> None:
    tell(metrics)
    assert counted(metrics) == expected


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (
            batch(b"a\nb\nc"),
            {'delivered_bytes_total{GROUP,sink="disk"}': 5, 'delivered_records_total{GROUP,sink="disk"}': 2},
        ),
        (Verified(Position(5)), {'integrity_checks_total{GROUP,result="ok"}': 1}),
        (Unproven(0, 5), {'integrity_checks_total{GROUP,result="unavailable"}': 1}),
        (Rewound(0, 3, 5), {"rewinds_total{GROUP}": 1, 'integrity_checks_total{GROUP,result="mismatch"}': 1}),
        (Replaced(1, "x"), {"replacements_total{GROUP}": 1}),
        (Truncated(1, 5, 2), {"truncations_total{GROUP}": 1}),
        (Failed(errors.Throttled("x", status=429), 1.0, 1), {'request_retries_total{GROUP,reason="throttled"}': 1}),
        (Appeared(1, ObjectMeta(3)), {}),
        (Gone(0, 5), {}),
        (Sealed(5), {}),
        (Grew(0, 0, 5), {}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_events_count_where_they_belong(metrics: ServiceMetrics, event: Event, expected: dict[str, float]) -> None:
    metrics.on_event("web", "disk", A, event)
    assert counted(metrics) == {name.replace("GROUP", 'group="web"'): value for name, value in expected.items()}


@pytest.mark.parametrize(
    ("stage", "error", "kind", "check"),
    [
        ("discover", errors.AccessDenied("x", status=403), "service", None),
        ("read", errors.ConnectError("x"), "transport", None),
        ("verify", errors.ChainBroken("x"), "integrity", "mismatch"),
        ("read", errors.CrcMissing("x"), "integrity", "unavailable"),
        ("deliver", errors.SinkBusy("x"), "sink", None),
        ("checkpoint", errors.CheckpointError("x"), "other", None),
        ("config", errors.ConfigError("x"), "usage", None),
    ],
)
def test_an_error_counts_by_stage_and_kind(
    metrics: ServiceMetrics, stage: str, error: errors.TailerError, kind: str, check: str | None
) -> None:
    metrics.on_error("web", stage, error)  # type: ignore[arg-type]
    expected = {f'errors_total{{group="web",kind="{kind}",stage="{stage}"}}': 1.0}
    if check is not None:
        expected[f'integrity_checks_total{{group="web",result="{check}"}}'] = 1
    assert counted(metrics) == expected


def test_requests_count_by_answer_and_what_asks_for_fewer_besides(metrics: ServiceMetrics) -> None:
    for operation, status in [("list", 200), ("get", 206), ("get", 429), ("get", 503), ("head", None), ("get", 404)]:
        metrics.on_request(operation, status, 0.1, 10)
    found = counted(metrics)
    assert found['requests_total{code_class="2xx",operation="get"}'] == 1
    assert found['requests_total{code_class="none",operation="head"}'] == 1
    assert found['requests_total{code_class="4xx",operation="get"}'] == 2
    assert found["received_bytes_total"] == 60
    assert {name: value for name, value in found.items() if "throttled" in name} == {
        'throttled_requests_total{operation="get"}': 2
    }


def test_telling_of_a_batch_is_cheap(metrics: ServiceMetrics) -> None:
    """At most 10 µs of CPU for a batch of ordinary size: the best of several tries, so that a busy machine is none."""
    one = batch(b"a line of an ordinary log, with some words in it\n" * 20)

    def cost(times: int) -> float:
        started = time.thread_time()
        for _ in range(times):
            metrics.on_event("web", "disk", A, one)
        return (time.thread_time() - started) / times

    assert min(cost(500) for _ in range(10)) < 10e-6


# --- what the status says


def of(status: ServiceStatus, *, object_series: int = 0) -> dict[str, float]:
    metrics = ServiceMetrics(lambda: status)
    metrics.declare({}, [], object_series=object_series)
    return samples(metrics)


def test_the_gauges_say_what_the_status_says() -> None:
    assert of(STATUS) == {
        "ready": 1,
        "healthy": 1,
        "config_last_reload_successful": 1,
        "buffer_limit_bytes": 8192,
        "requests_today": 250,
        'request_cost_today{currency="CNY"}': 0.25,
        "request_budget_ratio": 0.25,
        "request_rate_limit": 20,
        'objects_followed{group="web",state="active"}': 2,
        'objects_followed{group="web",state="idle"}': 5,
        'lag_bytes{group="web"}': 3000,
        'largest_lag_bytes{group="web"}': 2000,
        'lag_seconds{group="web"}': 3.0,
        'oldest_unread_age_seconds{group="web"}': 7.5,
        'stalled_seconds{group="web"}': 1.5,
        'unproven_bytes{group="web"}': 10,
        'buffered_bytes{group="web"}': 4096,
        'poll_interval_seconds{group="web"}': 4,
        'discovery_age_seconds{group="web"}': 3,
        'checkpoint_age_seconds{group="web"}': 0.5,
        'sink_waiting_batches{sink="disk"}': 2,
        'sink_errors_total{sink="disk"}': 3,
    }


def test_trouble_is_a_0() -> None:
    assert of(replace(STATUS, requests=replace(REQUESTS, tight=True)))["request_budget_tight"] == 1
    found = of(replace(STATUS, ready=False, healthy=False, config_error="config.toml:1: no"))
    assert not found.keys() & {"ready", "healthy", "config_last_reload_successful"}


def test_without_limits_there_is_no_limit_and_nothing_used_of_it() -> None:
    found = of(EMPTY)
    assert "request_rate_limit" not in found
    assert "request_budget_ratio" not in found


def test_lag_in_seconds_of_a_group_that_stands_still_is_the_age_of_its_oldest_byte() -> None:
    still = replace(STATUS, groups=(replace(GROUP, rate=0.0),))
    assert of(still)['lag_seconds{group="web"}'] == 7.5
    assert math.isfinite(of(replace(STATUS, groups=(replace(GROUP, rate=0.0, lag=0),)))['lag_seconds{group="web"}'])


def test_a_group_never_listed_is_as_old_as_the_first_look_at_it() -> None:
    never = replace(STATUS, groups=(replace(GROUP, listed_at=None),))
    now = [never]
    metrics = ServiceMetrics(lambda: now[0])
    assert 'discovery_age_seconds{group="web"}' not in samples(metrics)
    now[0] = replace(never, now=NOW + 60)
    assert samples(metrics)['discovery_age_seconds{group="web"}'] == 60
    now[0] = replace(never, now=NOW - 3600)
    assert 'discovery_age_seconds{group="web"}' not in samples(metrics), "a clock set back makes nothing younger than 0"


def test_objects_have_series_only_where_it_is_asked_for() -> None:
    assert not [name for name in of(STATUS) if name.startswith("object_")]
    found = of(replace(STATUS, groups=(GROUP, replace(GROUP, name="other", lag=5))), object_series=2)
    assert {name: value for name, value in found.items() if name.startswith("object_")} == {
        'object_lag_bytes{group="web",object="oss://b/1"}': 2000,
        'object_lag_bytes{group="web",object="oss://b/2"}': 700,
        'object_lag_bytes{group="web",object="_other"}': 300,
        'object_lag_bytes{group="other",object="_other"}': 5,
        'object_lag_seconds{group="web",object="oss://b/1"}': 20,
        'object_lag_seconds{group="web",object="oss://b/2"}': 7,
    }


@pytest.mark.parametrize("key", ['quo"te', "back\\slash", "new\nline", "car\rriage", "üñ文", "nul\0", "{}=,"])
def test_any_key_can_be_the_name_of_a_series(key: str) -> None:
    status = replace(STATUS, objects=(object_status(f"oss://b/{key}", 2000),))
    metrics = ServiceMetrics(lambda: status)
    metrics.declare({}, [], object_series=1)
    (family,) = [
        one for one in text_string_to_metric_families(metrics.text()) if one.name == "oss_tail_object_lag_seconds"
    ]
    assert [sample.labels["object"] for sample in family.samples] == [f"oss://b/{key}"]


def test_an_object_of_a_group_that_just_went_is_left_out() -> None:
    status = replace(STATUS, objects=(object_status("oss://b/x", 1, group="gone"),))
    assert not [name for name in of(status, object_series=5) if "gone" in name]


def test_ten_groups_are_made_into_text_fast() -> None:
    """A scrape runs on the event loop: at most 50 ms of CPU for ten groups, the best of several."""
    names = [f"group-{number}" for number in range(10)]
    status = replace(STATUS, groups=tuple(replace(GROUP, name=name) for name in names), sinks=(SINK,))
    metrics = ServiceMetrics(lambda: status)
    metrics.declare(dict.fromkeys(names, "disk"), ["disk"])

    def cost() -> float:
        started = time.thread_time()
        metrics.text()
        return time.thread_time() - started

    assert min(cost() for _ in range(5)) < 0.05
