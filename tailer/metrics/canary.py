"""Metrics of `oss-tailer canary`: what its audit counts, and how long its records took."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailer.metrics.exposition import Exposition

if TYPE_CHECKING:
    from collections.abc import Callable

_MEANINGS = {
    "appended": "Records that the canary's object has.",
    "received": "Records that came back, each once.",
    "missing": "Records that did not come though later ones did.",
    "duplicate": "Records that came once more.",
    "disordered": "Records that came behind a later one.",
    "late": "Records that took longer than is allowed.",
    "corrupt": "Records that are not what was appended.",
}
# A poll a second gives half a second in the mean; a record that waited for a slow poll takes as long as that.
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class CanaryMetrics(Exposition):
    """Counts for one canary, in a registry of its own. It is the canary's observer."""

    def __init__(self) -> None:
        """Raises ConfigError when prometheus-client is not installed."""
        super().__init__()
        from prometheus_client import Gauge, Histogram

        self._counters = {what: self._counter(f"canary_{what}", text) for what, text in _MEANINGS.items()}
        self._latency = Histogram(
            "oss_tail_canary_latency_seconds",
            "From the beginning of a record's append until it was received.",
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._oldest = Gauge(
            "oss_tail_canary_oldest_seconds",
            "Since the append of the oldest record that was not received yet.",
            registry=self._registry,
        )

    def watch(self, oldest: Callable[[], float]) -> None:
        """`oldest` gives the age in seconds of the oldest record under way, whenever it is asked for."""
        self._oldest.set_function(oldest)

    def count(self, what: str) -> None:
        """One more."""
        self._counters[what].inc()

    def observe(self, seconds: float) -> None:
        """A record was received so long after its append began."""
        self._latency.observe(seconds)
