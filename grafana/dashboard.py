"""The dashboard for Grafana: `make grafana` writes it to dashboards/oss-tail.json. Edit here, never there.

Rows are the questions that an operator asks, the verdict first. In expressions ``%I`` stands for the labels that choose
an instance, ``%G`` for those that choose a group of it, ``%R`` for the span that Grafana finds right for a rate.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).parent / "dashboards" / "oss-tail.json"

Json = dict[str, Any]

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
GREEN, YELLOW, RED = "green", "yellow", "red"

_SHORTHAND = {
    "%I": 'job=~"$job",instance=~"$instance"',
    "%G": 'job=~"$job",instance=~"$instance",group=~"$group"',
    "%R": "$__rate_interval",
}


def expression(text: str) -> str:
    """PromQL, with what the shorthand stands for."""
    for short, long in _SHORTHAND.items():
        text = text.replace(short, long)
    return text


# --- parts


def target(text: str, legend: str, *, instant: bool = False) -> Json:
    """One query and how its series are called."""
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": expression(text),
        "instant": instant,
        "legendFormat": legend,
        "range": not instant,
    }


def thresholds(*steps: tuple[float, str]) -> Json:
    """Green, and from each value on another colour."""
    first: Json = {"color": GREEN, "value": None}
    return {"mode": "absolute", "steps": [first, *({"color": color, "value": value} for value, color in steps)]}


def panel(kind: str, title: str, description: str, unit: str, targets: list[Json], **more: Any) -> Json:
    """What every panel has. `more` may hold `width`, `height`, `defaults` and `options`."""
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "targets": [{**one, "refId": chr(ord("A") + index)} for index, one in enumerate(targets)],
        "fieldConfig": {"defaults": {"unit": unit, **more.get("defaults", {})}, "overrides": more.get("overrides", [])},
        "options": more.get("options", {}),
        "gridPos": {"w": more["width"], "h": more["height"]},
        **({"transformations": more["transformations"]} if "transformations" in more else {}),
    }


def stat(
    title: str, description: str, unit: str, text: str, *steps: tuple[float, str], mappings: list[Json] | None = None
) -> Json:
    """One number, coloured by `steps`."""
    return panel(
        "stat",
        title,
        description,
        unit,
        [target(text, title)],
        width=4,
        height=4,
        defaults={"thresholds": thresholds(*steps), "mappings": mappings or [], "noValue": "no data"},
        options={
            "colorMode": "background",
            "graphMode": "area",
            "justifyMode": "center",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "value",
        },
    )


def graph(
    title: str,
    description: str,
    unit: str,
    *lines: tuple[str, str],
    limit: float | None = None,
    stack: bool = False,
    width: int = 12,
) -> Json:
    """Lines over time, each a query and its legend. `limit`: where it becomes bad."""
    custom: Json = {
        "drawStyle": "line",
        "fillOpacity": 30 if stack else 8,
        "lineWidth": 1,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stack else "none", "group": "A"},
        "thresholdsStyle": {"mode": "off" if limit is None else "dashed"},
    }
    return panel(
        "timeseries",
        title,
        description,
        unit,
        [target(text, legend) for text, legend in lines],
        width=width,
        height=8,
        defaults={
            "custom": custom,
            "min": 0,
            "thresholds": thresholds(*(() if limit is None else ((limit, RED),))),
        },
        options={
            "legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    )


def table(title: str, description: str, unit: str, text: str, columns: dict[str, str], value: str) -> Json:
    """One row for each series now: its labels under the names in `columns`, and its value."""
    kept = {name: index for index, name in enumerate([*columns, "Value"])}
    return panel(
        "table",
        title,
        description,
        unit,
        [{**target(text, "", instant=True), "format": "table"}],
        width=12,
        height=8,
        defaults={"thresholds": thresholds()},
        options={"sortBy": [{"displayName": value, "desc": True}]},
        transformations=[
            {"id": "filterFieldsByName", "options": {"include": {"names": list(kept)}}},
            {"id": "organize", "options": {"indexByName": kept, "renameByName": {**columns, "Value": value}}},
        ],
    )


def quantiles(metric: str, matcher: str, by: str) -> tuple[tuple[str, str], ...]:
    """The median and the 99th percentile of a histogram, for each value of the label `by`."""
    rate = f"sum by (le, {by}) (rate({metric}_bucket{{{matcher}}}[%R]))"
    return tuple(
        (f"histogram_quantile({share}, {rate})", f"{name} {{{{{by}}}}}")
        for share, name in ((0.5, "p50"), (0.99, "p99"))
    )


def values(**words: tuple[str, str]) -> list[Json]:
    """Words and colours in the place of numbers: ``_0=("stuck", RED)``."""
    options = {name.removeprefix("_"): {"text": text, "color": color} for name, (text, color) in words.items()}
    return [{"type": "value", "options": options}]


# --- the rows

VERDICT = (
    stat(
        "Service",
        "Whether every instance answers, works and is not stuck. What is wrong stands on its status page.",
        "none",
        "min(min(up{%I}) * (min(oss_tail_healthy{%I}) or vector(1)))",
        mappings=values(_0=("trouble", RED), _1=("well", GREEN)),
    ),
    stat(
        "Oldest unread byte",
        "Since when the oldest byte that was not delivered is known to exist, of all groups. This is how far we are "
        "behind. Below the interval of polls it is no lag.",
        "s",
        "max(oss_tail_oldest_unread_age_seconds{%G})",
        (60, YELLOW),
        (300, RED),
    ),
    stat(
        "Lag",
        "Bytes that exist and were not delivered, of all groups.",
        "bytes",
        "sum(oss_tail_lag_bytes{%G})",
        (64 * 1024 * 1024, YELLOW),
        (1024 * 1024 * 1024, RED),
    ),
    stat(
        "CRC-64 mismatches",
        "How often in the time shown bytes were read that are not what the service vouches for. None of them counts as "
        "delivered and proven; but something on the way changes data.",
        "none",
        'sum(increase(oss_tail_integrity_checks_total{%G,result="mismatch"}[$__range]))',
        (0.5, RED),
    ),
    stat(
        "Gaps and overlaps",
        "How often in the time shown bytes were left out before a sink, or came again without a word. It is 0.",
        "none",
        "sum(increase(oss_tail_gaps_total{%G}[$__range])) + sum(increase(oss_tail_overlaps_total{%G}[$__range]))",
        (0.5, RED),
    ),
    stat(
        "Objects failed",
        "Objects whose reading stopped with an error. They are tried again rarely; the others go on.",
        "none",
        'sum(oss_tail_objects_followed{%G,state="failed"})',
        (1, RED),
    ),
    stat(
        "Ready",
        "Whether credentials work and each group was listed.",
        "none",
        "min(oss_tail_ready{%I})",
        mappings=values(_0=("not yet", YELLOW), _1=("ready", GREEN)),
    ),
    stat(
        "Configuration",
        "Whether the configuration file, as it is now, is what the service works with.",
        "none",
        "min(oss_tail_config_last_reload_successful{%I})",
        mappings=values(_0=("refused", RED), _1=("in force", GREEN)),
    ),
    stat(
        "Uncommitted",
        "Since when something was delivered that no checkpoint says: after a crash that much may be delivered again.",
        "s",
        "max(oss_tail_checkpoint_age_seconds{%G})",
        (10, YELLOW),
        (60, RED),
    ),
    stat(
        "Last listing",
        "Since the last complete listing, of the group where it is longest ago. Until the next one nobody sees that an "
        "object at rest grew.",
        "s",
        "max(oss_tail_discovery_age_seconds{%G})",
        (120, YELLOW),
        (600, RED),
    ),
    stat(
        "Requests refused",
        "Which part of the requests was answered with 429 or 503: fewer are asked for.",
        "percentunit",
        "sum(rate(oss_tail_throttled_requests_total{%I}[%R])) / sum(rate(oss_tail_requests_total{%I}[%R]))",
        (0.01, YELLOW),
        (0.05, RED),
    ),
    stat(
        "Budget",
        "Of requests, or money: tight where more are needed than what is left for today. They are spread over the rest "
        "of the day (UTC) then, and everything is delivered later.",
        "none",
        "max(oss_tail_request_budget_tight{%I})",
        mappings=values(_0=("enough", GREEN), _1=("tight", YELLOW)),
    ),
)

BEHIND = (
    graph(
        "Age of the oldest unread byte",
        "By group. A line that rises by a second each second is a group that stands still, and that called nothing "
        "delivered rises with it; one that falls back catches up. The dashed line is where OssTailBehind begins to "
        "count.",
        "s",
        ("max by (group) (oss_tail_oldest_unread_age_seconds{%G})", "{{group}}"),
        ("max by (group) (oss_tail_stalled_seconds{%G})", "{{group}}: nothing delivered"),
        limit=300,
    ),
    graph(
        "From append to delivery",
        "From the object's Last-Modified to the delivery of its bytes. The service gives whole seconds, and its clock "
        "may differ from ours: half a second more or less means nothing.",
        "s",
        *quantiles("oss_tail_delivery_latency_seconds", "%G", "group"),
    ),
    graph(
        "Lag in bytes",
        "By group: all of it, and that of the object that has the most. Where the two are close, one object is behind.",
        "bytes",
        ("sum by (group) (oss_tail_lag_bytes{%G})", "{{group}}"),
        ("max by (group) (oss_tail_largest_lag_bytes{%G})", "{{group}}: largest"),
    ),
    graph(
        "Lag in seconds of delivery",
        "How long the delivery of the lag takes at the rate of now; while nothing is delivered, the age of the oldest "
        "byte.",
        "s",
        ("max by (group) (oss_tail_lag_seconds{%G})", "{{group}}"),
    ),
    table(
        "Which objects",
        "The ten objects with the most undelivered bytes now. For this the service needs object_series = 10 or more in "
        "[server] of its configuration. _other is what is left of a group.",
        "bytes",
        "topk(10, oss_tail_object_lag_bytes{%G})",
        {"group": "group", "object": "object", "instance": "instance"},
        "lag",
    ),
    graph(
        "Since when are they behind",
        "The same objects: since when each has undelivered bytes.",
        "s",
        ("topk(10, oss_tail_object_lag_seconds{%G})", "{{object}}"),
    ),
)

FLOW = (
    graph(
        "Bytes a second",
        "Fetched from the service, and delivered to sinks. More fetched than delivered is the overlap of polls, what "
        "was thrown away, and listings.",
        "Bps",
        ("sum(rate(oss_tail_received_bytes_total{%I}[%R]))", "fetched"),
        ("sum by (group, sink) (rate(oss_tail_delivered_bytes_total{%G}[%R]))", "{{group}} → {{sink}}"),
    ),
    graph(
        "Records a second",
        "Records whose end a sink took.",
        "cps",
        ("sum by (group, sink) (rate(oss_tail_delivered_records_total{%G}[%R]))", "{{group}} → {{sink}}"),
    ),
    graph(
        "Thrown away",
        "Bytes that were fetched and thrown away: cut answers, and what was read again. They were paid for.",
        "Bps",
        ("sum by (group) (rate(oss_tail_wasted_bytes_total{%G}[%R]))", "{{group}}"),
    ),
    graph(
        "Objects by state",
        "active: bytes are on their way; idle: all that exists was read; missing: waited for; sealed: complete; "
        "failed: stopped with an error.",
        "none",
        ("sum by (state) (oss_tail_objects_followed{%G})", "{{state}}"),
        stack=True,
    ),
)

INTACT = (
    graph(
        "Comparisons with the object's CRC-64",
        "ok is what to see wherever bytes flow. mismatch: something on the way changes data, or objects are rewritten. "
        "unavailable: the service states no CRC-64, so that nothing is proven.",
        "cps",
        ("sum by (result) (rate(oss_tail_integrity_checks_total{%G}[%R]))", "{{result}}"),
    ),
    graph(
        "Delivered and not proven yet",
        "Bytes that a sink took and that no CRC-64 has confirmed yet: while catching up, and of objects that are read "
        "from their middle on.",
        "bytes",
        ("sum by (group) (oss_tail_unproven_bytes{%G})", "{{group}}"),
    ),
    graph(
        "Objects that changed otherwise than by growing",
        "Replaced by another, shorter than before, or bytes taken back that had been handed out.",
        "none",
        ("sum by (group) (increase(oss_tail_replacements_total{%G}[%R]))", "{{group}}: replaced"),
        ("sum by (group) (increase(oss_tail_truncations_total{%G}[%R]))", "{{group}}: shorter"),
        ("sum by (group) (increase(oss_tail_rewinds_total{%G}[%R]))", "{{group}}: taken back"),
    ),
    graph(
        "Gaps and overlaps before the sinks",
        "Bytes left out, or brought again without a word. Both are 0: anything else is a bug, and worth a report.",
        "none",
        ("sum by (group) (increase(oss_tail_gaps_total{%G}[%R]))", "{{group}}: gaps"),
        ("sum by (group) (increase(oss_tail_overlaps_total{%G}[%R]))", "{{group}}: overlaps"),
        limit=1,
    ),
)

COST = (
    graph(
        "Requests a second",
        "By operation: these are paid for. The limit is max_requests_per_second, where there is one.",
        "reqps",
        ("sum by (operation) (rate(oss_tail_requests_total{%I}[%R]))", "{{operation}}"),
        ("sum(oss_tail_request_rate_limit{%I})", "limit"),
    ),
    graph(
        "What polls find",
        "A poll that finds nothing is the price of noticing soon. Many unchanged ones: poll_max is short.",
        "cps",
        ("sum by (result) (rate(oss_tail_polls_total{%G}[%R]))", "{{result}}"),
        stack=True,
    ),
    graph(
        "Requests today",
        "Since midnight UTC, counted by each process since it started.",
        "none",
        ("sum by (instance) (oss_tail_requests_today{%I})", "{{instance}}"),
        width=8,
    ),
    graph(
        "Cost today",
        "What these requests cost, at the price in [limits] of the configuration. Traffic is not in it.",
        "none",
        ("sum by (currency) (oss_tail_request_cost_today{%I})", "{{currency}}"),
        width=8,
    ),
    graph(
        "Budget used today",
        "When it is tight, polls are spread over what is left of the day, and everything is delivered later.",
        "percentunit",
        ("max by (instance) (oss_tail_request_budget_ratio{%I})", "{{instance}}"),
        width=8,
    ),
    graph(
        "Poll interval in force",
        "Time between two looks: poll_min while bytes are on their way, otherwise that of the listings.",
        "s",
        ("max by (group) (oss_tail_poll_interval_seconds{%G})", "{{group}}"),
        width=8,
    ),
    graph(
        "How late polls are",
        "How much later than it was due an object was looked at: too little CPU, too tight a limit of requests, or a "
        "slow sink.",
        "s",
        *quantiles("oss_tail_poll_lateness_seconds", "%G", "group"),
        width=8,
    ),
    graph(
        "Hints",
        "Notifications that an object has grown. Many of unknown objects: the rule for notifications is too wide.",
        "cps",
        ("sum by (result) (rate(oss_tail_hints_total{%I}[%R]))", "{{result}}"),
        width=8,
    ),
    graph(
        "Time of a listing",
        "How long a complete listing of a group takes.",
        "s",
        *quantiles("oss_tail_discovery_duration_seconds", "%G", "group"),
        width=8,
    ),
    graph(
        "Objects listed",
        "How many objects the listings showed: a thousand to a request.",
        "cps",
        ("sum by (group) (rate(oss_tail_discovery_listed_objects_total{%G}[%R]))", "{{group}}"),
        width=8,
    ),
    graph(
        "Objects that came and went",
        "Found, and not followed any more: gone, too old, sealed, or not in the configuration.",
        "cps",
        ("sum by (group) (rate(oss_tail_objects_discovered_total{%G}[%R]))", "{{group}}: found"),
        ("sum by (group, reason) (rate(oss_tail_objects_released_total{%G}[%R]))", "{{group}}: {{reason}}"),
        width=8,
    ),
)

FAILING = (
    graph(
        "Errors by stage",
        "By what was being done, whether or not it is tried again. Each is a line of the log.",
        "cps",
        ("sum by (stage) (rate(oss_tail_errors_total{%G}[%R]))", "{{stage}}"),
        width=8,
    ),
    graph(
        "Errors by kind",
        "usage: the configuration; service: a refusal; transport: no answer; protocol: a proxy or a bug; integrity: "
        "bytes that are not the object's.",
        "cps",
        ("sum by (kind) (rate(oss_tail_errors_total{%G}[%R]))", "{{kind}}"),
        width=8,
    ),
    graph(
        "Requests by answer",
        "none: no answer, or no longer wanted. 4xx: 403 is a permission, 404 an object that went, 416 one that shrank.",
        "reqps",
        ("sum by (code_class) (rate(oss_tail_requests_total{%I}[%R]))", "{{code_class}}"),
        stack=True,
        width=8,
    ),
    graph(
        "Requests made again",
        "By why the one before failed.",
        "cps",
        ("sum by (reason) (rate(oss_tail_request_retries_total{%G}[%R]))", "{{reason}}"),
    ),
    graph(
        "Asked to slow down",
        "Which part of the requests of each operation was answered with 429 or 503.",
        "percentunit",
        (
            "sum by (operation) (rate(oss_tail_throttled_requests_total{%I}[%R]))"
            " / sum by (operation) (rate(oss_tail_requests_total{%I}[%R]))",
            "{{operation}}",
        ),
        limit=0.05,
    ),
    graph(
        "Time of a request",
        "From sending it to the end of the body of its answer.",
        "s",
        *quantiles("oss_tail_request_duration_seconds", "%I", "operation"),
    ),
    graph(
        "Batches refused by a sink",
        "Refused for now or for good; a batch that was refused comes again, and nothing is stepped over.",
        "cps",
        ("sum by (sink) (rate(oss_tail_sink_errors_total{%I}[%R]))", "{{sink}}"),
    ),
)

DELIVERY = (
    graph(
        "Batches under way in a sink",
        "Seconds of work in the sink for each second: at the sink's concurrency it can take no more, and is what holds "
        "everything up.",
        "none",
        ("sum by (sink) (rate(oss_tail_sink_duration_seconds_sum{%I}[%R]))", "{{sink}}"),
        width=8,
    ),
    graph(
        "Time of a sink for a batch",
        "How long the sink worked on one batch, whatever came of it.",
        "s",
        *quantiles("oss_tail_sink_duration_seconds", "%I", "sink"),
        width=8,
    ),
    graph(
        "Batches waiting for a sink",
        "Held in memory until the sink is free.",
        "none",
        ("sum by (sink) (oss_tail_sink_waiting_batches{%I})", "{{sink}}"),
        width=8,
    ),
    graph(
        "Held in memory",
        "Bytes reserved for what is being read, and how many there may be (buffer_bytes). Each group has an equal "
        "share, half of it for what one request brings, half for more; what finds no room waits.",
        "bytes",
        ("sum by (group) (oss_tail_buffered_bytes{%G})", "{{group}}"),
        ("sum(oss_tail_buffer_limit_bytes{%I})", "limit"),
        width=8,
    ),
    graph(
        "Time of a commit",
        "Of one transaction of checkpoints, fsync included.",
        "s",
        *quantiles("oss_tail_checkpoint_duration_seconds", "%G", "group"),
        width=8,
    ),
    graph(
        "Commits that failed",
        "While they fail, delivery goes on, and after a crash all since the last good one comes again.",
        "cps",
        ("sum by (group) (rate(oss_tail_checkpoint_write_errors_total{%G}[%R]))", "{{group}}"),
        width=8,
    ),
)

CANARY = (
    graph(
        "Records of the canary",
        "What it appended to an object of its own, and what came back by the way that all data takes.",
        "cps",
        ("sum by (instance) (rate(oss_tail_canary_appended_total{%I}[%R]))", "{{instance}}: appended"),
        ("sum by (instance) (rate(oss_tail_canary_received_total{%I}[%R]))", "{{instance}}: received"),
        width=8,
    ),
    graph(
        "What is wrong with them",
        "Each of these is 0. Missing, twice, in another order or changed: a bug, or a reader that is not ours. Late: "
        "what is allowed is an option of the canary.",
        "none",
        ("sum(increase(oss_tail_canary_missing_total{%I}[%R]))", "missing"),
        ("sum(increase(oss_tail_canary_duplicate_total{%I}[%R]))", "twice"),
        ("sum(increase(oss_tail_canary_disordered_total{%I}[%R]))", "in another order"),
        ("sum(increase(oss_tail_canary_corrupt_total{%I}[%R]))", "changed"),
        ("sum(increase(oss_tail_canary_late_total{%I}[%R]))", "late"),
        width=8,
    ),
    graph(
        "How long they take",
        "From the beginning of the append until the record came back, on one clock; and the age of the oldest that is "
        "still under way.",
        "s",
        *quantiles("oss_tail_canary_latency_seconds", "%I", "instance"),
        ("max by (instance) (oss_tail_canary_oldest_seconds{%I})", "{{instance}}: under way"),
        width=8,
    ),
)

RESOURCES = (
    graph(
        "CPU",
        "Cores in use; one process cannot use much more than one.",
        "none",
        ("sum by (job, instance) (rate(process_cpu_seconds_total{%I}[%R]))", "{{job}} {{instance}}"),
        width=8,
    ),
    graph(
        "Memory",
        "Resident memory of the process.",
        "bytes",
        ("sum by (job, instance) (process_resident_memory_bytes{%I})", "{{job}} {{instance}}"),
        width=8,
    ),
    graph(
        "Open files",
        "Files and sockets, and how many there may be.",
        "none",
        ("sum by (job, instance) (process_open_fds{%I})", "{{job}} {{instance}}"),
        ("min by (job) (process_max_fds{%I})", "{{job}}: limit"),
        width=8,
    ),
)

ROWS: tuple[tuple[str, tuple[Json, ...]], ...] = (
    ("Is all well?", VERDICT),
    ("Are we behind? By how much, since when, which objects?", BEHIND),
    ("What flows?", FLOW),
    ("Is the data intact?", INTACT),
    ("What do the polls cost?", COST),
    ("What is failing?", FAILING),
    ("What holds it up? Sinks, memory, checkpoints", DELIVERY),
    ("What does the canary say?", CANARY),
    ("What does it take?", RESOURCES),
)


# --- the whole


def variable(name: str, query: str) -> Json:
    """One that is chosen from the values of a label, several at once, all at first."""
    return {
        "type": "query",
        "name": name,
        "label": name,
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "options": [],
        "hide": 0,
    }


VARIABLES = [
    {
        "type": "datasource",
        "name": "datasource",
        "label": "data source",
        "query": "prometheus",
        "refresh": 1,
        "multi": False,
        "includeAll": False,
        "current": {},
        "options": [],
        "hide": 0,
    },
    variable("job", "label_values(oss_tail_build_info, job)"),
    variable("instance", 'label_values(oss_tail_build_info{job=~"$job"}, instance)'),
    variable("group", 'label_values(oss_tail_lag_bytes{job=~"$job",instance=~"$instance"}, group)'),
]

ANNOTATIONS = [
    {
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    },
    {
        "datasource": DATASOURCE,
        "enable": True,
        "expr": 'ALERTS{alertname=~"OssTail.+",alertstate="firing"}',
        "iconColor": "red",
        "name": "Alerts",
        "tagKeys": "group,instance",
        "titleFormat": "{{alertname}}",
    },
]


def laid_out() -> list[Json]:
    """All panels with their ids and places, from left to right and from top to bottom."""
    panels: list[Json] = []
    top = 0
    for title, row in ROWS:
        panels.append(
            {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": WIDTH, "h": 1}}
        )
        panels[-1]["gridPos"] |= {"x": 0, "y": top}
        top, left, height = top + 1, 0, 0
        for one in row:
            place = one["gridPos"]
            if left + place["w"] > WIDTH:
                top, left, height = top + height, 0, 0
            panels.append({**one, "gridPos": {**place, "x": left, "y": top}})
            left, height = left + place["w"], max(height, place["h"])
        top += height
    return [{"id": index, **one} for index, one in enumerate(panels, 1)]


def dashboard() -> Json:
    """As Grafana imports it."""
    return {
        "id": None,
        "uid": "oss-tail",
        "title": "oss-tail",
        "description": "Growing objects in Alibaba Cloud OSS: are we behind, is the data intact, what does it cost?",
        "tags": ["oss-tail"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "links": [],
        "annotations": {"list": ANNOTATIONS},
        "templating": {"list": VARIABLES},
        "panels": laid_out(),
    }


def text() -> str:
    """What the file says."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    OUTPUT.write_text(text())
    sys.stdout.write(f"{OUTPUT}\n")
