"""What is said of a whole status in one line."""

from __future__ import annotations

from typing import Any

import pytest

from tailer.status import SinkStatus
from tailer.web.verdict import judge
from tests.made_up import NOW, group_status, object_status, service_status


def test_nothing_to_say_is_all_is_well() -> None:
    verdict = judge(service_status())
    assert (verdict.level, verdict.line, verdict.details) == ("well", "All is well", ())


def test_a_service_without_groups_says_that_it_follows_nothing() -> None:
    verdict = judge(service_status(groups=(), objects=(), sinks=()))
    assert (verdict.level, verdict.line) == ("well", "All is well: there is nothing to follow")


def test_one_that_starts_is_neither_well_nor_bad() -> None:
    verdict = judge(service_status(ready=False, problems=("group web: not listed yet",)))
    assert (verdict.level, verdict.line) == ("warn", "Starting: not ready yet")
    assert verdict.details == ("group web: not listed yet",)


SINK_ERROR = SinkStatus("hook", "http", 0, 0, 0.0, 3, 7, "503", NOW - 10.0)


@pytest.mark.parametrize(
    ("changes", "level", "detail"),
    [
        ({"healthy": False, "problems": ("group web:\nstuck",)}, "bad", "group web: stuck"),
        ({"healthy": False}, "bad", "it is not healthy"),
        (
            {"objects": (object_status(chain="broken", state="failed", last_error="bytes 0 to 9 differ"),)},
            "bad",
            "oss://logs/web-01.log: bytes 0 to 9 differ",
        ),
        ({"objects": (object_status(state="failed"),)}, "warn", "oss://logs/web-01.log: failed"),
        ({"config_error": "line 3: what?"}, "warn", "the configuration was not taken over: line 3: what?"),
        ({"groups": (group_status(listing_error="403"),)}, "warn", "group web: cannot be listed: 403"),
        ({"groups": (group_status(objects={"failed": 1}),)}, "warn", "group web: 1 object failed"),
        ({"groups": (group_status(objects={"failed": 1200}),)}, "warn", "group web: 1,200 objects failed"),
        ({"sinks": (SINK_ERROR,)}, "warn", "sink hook: 503"),
        ({"problems": ("the daily budget is tight: 9 requests",)}, "warn", "the daily budget is tight: 9 requests"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_named(changes: dict[str, Any], level: str, detail: str) -> None:
    verdict = judge(service_status(**changes))
    assert verdict.level == level
    assert verdict.details[0].startswith(detail)
    assert not any("\n" in line for line in verdict.details)


def test_an_error_that_a_sink_got_over_is_forgotten() -> None:
    old = SinkStatus("hook", "http", 0, 0, 0.0, 0, 7, "503", NOW - 3600.0)
    assert judge(service_status(sinks=(old,))).level == "well"


def test_a_thousand_failures_are_not_a_thousand_lines() -> None:
    failed = tuple(object_status(f"{number}.log", state="failed") for number in range(1000))
    verdict = judge(service_status(objects=failed))
    assert len(verdict.details) == 6
    assert verdict.details[-1] == "and 995 more of the objects shown: failed"


def test_the_line_keeps_still_while_numbers_move() -> None:
    """It is read out by screen readers each time it changes."""
    one = judge(service_status())
    other = judge(service_status(now=NOW + 1.0, groups=(group_status(lag=7, rate=1.0),)))
    assert one == other
