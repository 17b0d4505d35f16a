"""Prometheus metrics: what to count, and an endpoint to read it from. The tables are in docs/metrics.md.

`prometheus_client` is imported only when one of them is made: a command without metrics never pays for it.
"""

from __future__ import annotations

from tailer.metrics.exposition import CODE_CLASSES, CONTENT_TYPE, OPERATIONS, RESULTS, Exposition, parse_listen
from tailer.metrics.service import OTHER, ServiceMetrics
from tailer.metrics.tail import Metrics

__all__ = [
    "CODE_CLASSES",
    "CONTENT_TYPE",
    "OPERATIONS",
    "OTHER",
    "RESULTS",
    "Exposition",
    "Metrics",
    "ServiceMetrics",
    "parse_listen",
]
