"""All of a status in one line, and what is to be looked at: for the page and `oss-tailer top` alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailer.status import ObjectStatus, ServiceStatus

Level = Literal["well", "warn", "bad"]

_RECENT = 300.0  # seconds for which an error of a sink is worth a word after it was got over
_MOST_OBJECTS = 5  # are named one by one


@dataclass(frozen=True, slots=True)
class Verdict:
    """`line` is for people, and holds no number that changes every second; `details` are lines, too.

    well: nothing to do. warn: it works, and something is to be looked at. bad: it does not do its work.
    """

    level: Level
    line: str
    details: tuple[str, ...]


def judge(status: ServiceStatus) -> Verdict:
    """What a person has to know first."""
    bad = list(_what_is_bad(status))
    warnings = list(_what_is_odd(status))
    details = tuple(dict.fromkeys(" ".join(line.split()) for line in [*bad, *warnings]))
    if bad:
        return Verdict("bad", "Not well", details)
    if not status.ready:
        return Verdict("warn", "Starting: not ready yet", details)
    if details:
        return Verdict("warn", "Working, with something to look at", details)
    return Verdict("well", "All is well" if status.groups else "All is well: there is nothing to follow", ())


def _what_is_bad(status: ServiceStatus) -> Iterator[str]:
    if not status.healthy:
        yield from status.problems or ("it is not healthy",)
    broken = [one for one in status.objects if one.chain == "broken"]
    yield from _each(broken, "the chain is broken")


def _what_is_odd(status: ServiceStatus) -> Iterator[str]:
    if status.healthy:
        yield from status.problems
    if status.config_error is not None:
        yield f"the configuration was not taken over: {status.config_error}"
    for group in status.groups:
        if group.listing_error is not None:
            yield f"group {group.name}: cannot be listed: {group.listing_error}"
        if failed := group.objects.get("failed", 0):
            yield f"group {group.name}: {failed:,} object{'s' * (failed > 1)} failed"
    yield from _each([one for one in status.objects if one.state == "failed" and one.chain != "broken"], "failed")
    for sink in status.sinks:
        if sink.last_error is not None and status.now - (sink.last_error_at or 0.0) < _RECENT:
            yield f"sink {sink.name}: {sink.last_error}"


def _each(objects: list[ObjectStatus], what: str) -> Iterator[str]:
    for one in objects[:_MOST_OBJECTS]:
        yield f"{one.object}: {one.last_error or what}"
    if len(objects) > _MOST_OBJECTS:
        yield f"and {len(objects) - _MOST_OBJECTS} more of the objects shown: {what}"
