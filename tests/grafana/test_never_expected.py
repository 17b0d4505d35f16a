"""The alerts of what only a bug can cause, fired by the real Prometheus: the counts are told to the real metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tailer.metrics import ServiceMetrics
from tailer.metrics.canary import CanaryMetrics
from tests.grafana.prometheus import running
from tests.metrics.conftest import GROUP, STATUS, object_status

if TYPE_CHECKING:
    from pathlib import Path

EXPECTED_OF_BUGS = {"OssTailGap", "OssTailCanaryWrong"}

QUIET = replace(GROUP, lag=0, largest_lag=0, oldest_unread=0.0, uncommitted=0.0, objects={"idle": 3})


def test_a_gap_and_a_canary_that_is_wrong(tmp_path: Path) -> None:
    status = replace(STATUS, groups=(QUIET,), objects=(object_status('oss://b/"odd"\r\n\\key\0', 0),))
    service, canary = ServiceMetrics(lambda: status), CanaryMetrics()
    service.declare({"web": "disk"}, ["disk"], object_series=1)
    pages = {"oss-tailer": service, "oss-tail-canary": canary}
    jobs = {job: [f"127.0.0.1:{page.serve('127.0.0.1', 0)}"] for job, page in pages.items()}
    try:
        with running(tmp_path, jobs) as prometheus:
            prometheus.wait_for(lambda: len(prometheus.values("up == 1")) < 2)
            assert not prometheus.firing() & EXPECTED_OF_BUGS
            service.on_gap("web", 1, 0)
            canary.count("missing")
            prometheus.wait_for(lambda: EXPECTED_OF_BUGS - prometheus.firing())
            (series,) = prometheus.get("query", query='oss_tail_object_lag_bytes{object!="_other"}')["result"]
            assert series["metric"]["object"] == 'oss://b/"odd"\r\n\\key\0'
    finally:
        service.close()
        canary.close()
