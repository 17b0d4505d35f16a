"""Whether a soak of the service was passed."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from tests.soak.service.churn import volatile_key
from tests.soak.verdict import Row, difference, differences, row_of, theil_sen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.soak.service.receiver import Posts
    from tests.soak.service.watched import Sample, Service
    from tests.soak.verdict import Truth

# What docs/service.md promises, in its own figures: a bound that is taken from the code moves with what it is to hold.
REPEAT_SECONDS = 1.0
REPEAT_BYTES = 128 * 2**20
_MEASURED = (
    ("resident", "resident size", "MiB", 2**20),
    ("descriptors", "open files", "", 1),
    ("threads", "threads", "", 1),
)


def judge_copies(
    what: str, truth: Truth, volatile: Sequence[Path], path_of: Callable[[str], Path], key_of: Callable[[int], str]
) -> Row:
    """The copies of all objects, those that were replaced too, are the objects."""
    problems = differences(truth, lambda number: path_of(key_of(number)))
    for number, original in enumerate(volatile):
        found = difference(path_of(volatile_key(number)), memoryview(original.read_bytes()))
        problems += [found] if found else []
    count = len(truth.paths) + len(volatile)
    return row_of(what, problems, f"{count - len(problems)} of {count} equal, {len(volatile)} of them were replaced")


def judge_posts(what: str, posts: Posts, grace: float) -> Row:
    """In order, without a gap; again only what came within the bound before a kill."""
    problems = list(posts.problems)
    for one in posts.repeats:
        if one.age > REPEAT_SECONDS + grace or one.size > REPEAT_BYTES:
            problems.append(f"{one.what} came again, from {one.age:.2f} s before the kill")
    sizes, seconds = [one.size for one in posts.repeats], [one.age for one in posts.repeats] or [0.0]
    again = f"{sum(sizes):,} again at {len(sizes)} places"
    ages = f"median {statistics.median(seconds):.2f}, most {max(seconds):.2f} s"
    figures = f"{posts.received:,} bytes received; {again}, the oldest of each came before the kill by: {ages}"
    return row_of(what, problems, figures)


def judge_ledgers(services: Sequence[Service]) -> Row:
    """The ledgers before the sinks saw no gap and no overlap."""
    problems = [f"{one.name}: {one.told_gaps:.0f}" for one in services if one.told_gaps]
    return row_of(
        "oss_tail_gaps_total and oss_tail_overlaps_total", problems, "0 in every life" if not problems else ""
    )


def judge_health(steady: Service) -> Row:
    """The one that is never killed answered 200 to each question of how it was."""
    figures = f"asked {len(steady.samples)} times"
    return row_of(f"{steady.name} is healthy all the time", steady.unhealthy, figures)


def judge_lives(services: Sequence[Service], final: dict[str, int | None]) -> Row:
    """Nobody ended but by a signal; none wrote a traceback, or of a mistake of ours."""
    problems = [f"{one.name} {end}" for one in services for end in one.by_itself]
    for one in services:
        for life in one.lives:
            text = life.stderr.read_text(errors="replace")
            problems += [f"{life.stderr}: {word}" for word in ("Traceback", "mistake of ours") if word in text]
    problems += [f"{name} ended with {status}" for name, status in final.items() if status != 0]
    lives = sum(len(one.lives) for one in services)
    return row_of("no other end, no traceback", problems, f"{lives} lives; the last ones ended with status 0")


def judge_slopes(samples: Sequence[Sample], growth: float, more: int) -> list[Row]:
    """Memory, files and threads after the first third: their trends rise by `growth` MiB, or by `more`, at most."""
    kept = samples[len(samples) // 3 :]
    if len(kept) < 5:
        return [Row("no slope", False, f"only {len(kept)} samples")]
    return [_slope(kept, *measured, growth if measured[3] > 1 else more) for measured in _MEASURED]


def _slope(samples: Sequence[Sample], name: str, what: str, unit: str, scale: int, bound: float) -> Row:
    points = [(sample.moment, getattr(sample, name) / scale) for sample in samples]
    seconds = points[-1][0] - points[0][0]
    rise = theil_sen(points) * seconds
    values = [value for _, value in points]
    figures = (
        f"{min(values):.0f} to {max(values):.0f}, median {statistics.median(values):.0f} {unit}".rstrip()
        + f"; trend {rise:+.2f} in {seconds:.0f} s (at most {bound:.0f})"
    )
    return Row(f"{what}: no slope", rise <= bound, figures)
