"""Whether a soak was passed: every row of its table."""

from __future__ import annotations

import mmap
import re
import shutil
import signal
import statistics
import tempfile
import time
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tailer.core.position import ObjectRef
from tailer.sinks.names import mirror_path
from tests.soak.ledger import Auditor, Ledger
from tests.soak.records import BUCKET, key_of, write_expected

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from tests.soak.ledger import Entry
    from tests.soak.world import Consumer, Life

# What docs/soak.md promises, in its own figures: a bound that is taken from the code moves with what it is to hold.
REPEAT_SECONDS, REPEAT_BYTES = 1.0, 256 * 2**20
TRY_LATER = 75  # the reader's exit status when the service cannot be reached at its start
_TERMINATED = 128 + signal.SIGTERM
_OTHER_OBJECT = re.compile(r"has been replaced|file truncated|has become inaccessible|has appeared")


class Row(NamedTuple):
    """One thing that is promised."""

    what: str
    passed: bool
    figures: str


def conduct(name: str, options: argparse.Namespace, run: Callable[[Path], Sequence[Row]]) -> int:
    """Run a soak in a folder of its own and show its table: the exit status. The evidence of a failure is kept."""
    folder = Path(tempfile.mkdtemp(prefix=f"oss-tail-{name}-", dir=options.folder))
    print(f"{name}: seed {options.seed}, in {folder}", flush=True)
    began, passed = time.monotonic(), False
    try:
        rows = run(folder)
        passed = all(row.passed for row in rows)
        for row in rows:
            print(f"{'ok  ' if row.passed else 'FAIL'}  {row.what}\n        {row.figures}")
    finally:
        if passed and not options.keep:
            shutil.rmtree(folder)
        else:
            print(f"{name}: the evidence is in {folder}")
    print(f"{name}: {'passed' if passed else 'FAILED'} in {time.monotonic() - began:.0f} s", flush=True)
    return 0 if passed else 1


class Truth:
    """What every object holds, made anew from the seed, as long as was acknowledged."""

    def __init__(self, folder: Path, seed: int, acknowledged: dict[int, int]) -> None:
        folder.mkdir()
        self.whole = True
        self.bytes: dict[str, mmap.mmap | bytes] = {}
        self.paths: dict[int, Path] = {}
        for number, length in sorted(acknowledged.items()):
            self.paths[number] = path = folder / f"{number:02d}"
            self.whole &= write_expected(path, seed, number, length)
            with path.open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if length else b""
            self.bytes[f"oss://{BUCKET}/{key_of(number)}"] = content

    @property
    def total(self) -> int:
        """Bytes of all objects."""
        return sum(map(len, self.bytes.values()))


def judge_producers(truth: Truth, root: Path, reports: Sequence[dict[str, object]]) -> Row:
    """What was acknowledged is what the objects are."""
    problems = [str(report["problem"]) for report in reports if report["problem"]]
    problems += differences(truth, lambda number: root / BUCKET / key_of(number))
    if not truth.whole:
        problems.append("an object does not end with a record")
    sums = [sum(int(str(report[name])) for report in reports) for name in ("appends", "settled_done")]
    figures = f"{truth.total:,} bytes in {sums[0]:,} appends; {sums[1]:,} had no answer and were found done"
    return row_of("acknowledged appends are the objects", problems, figures)


def judge_mirror(truth: Truth, consumer: Consumer, mirror: Path) -> Row:
    """The mirrors are the objects, byte for byte."""
    problems = differences(truth, lambda number: mirror_path(mirror, ObjectRef(BUCKET, key_of(number))))
    kills = f"killed {consumer.kills} times" if consumer.kills else "never killed"
    count = len(truth.paths)
    return row_of(f"{consumer.name} ({kills})", problems, f"{count - len(problems)} of {count} files equal")


def differences(truth: Truth, path_of: Callable[[int], Path]) -> list[str]:
    return [
        found
        for number, expected in truth.paths.items()
        if (found := difference(path_of(number), memoryview(expected.read_bytes())))
    ]


def difference(path: Path, expected: memoryview) -> str | None:
    if not path.exists():
        return f"{path}: not there"
    content = memoryview(path.read_bytes())
    if content == expected:
        return None
    pairs = enumerate(zip(content, expected, strict=False))
    first = next((offset for offset, (here, there) in pairs if here != there), min(len(content), len(expected)))
    return f"{path}: {len(content)} bytes, not {len(expected)}; the first difference is at {first}"


def judge_deliveries(
    truth: Truth,
    consumer: Consumer,
    entries_of: Callable[[bytes], Iterator[Entry]],
    *,
    is_strict: bool,
    grace: float,
) -> Row:
    """Every record at least once, none wrong, and repeats within the bound."""
    ledger = Auditor(truth.bytes, is_strict=is_strict).audit(consumer.lives, entries_of)
    problems = list(ledger.problems)
    if ledger.oldest > REPEAT_SECONDS + grace:
        problems.append(f"a repeat of {ledger.oldest:.2f} s")
    if (most := max((size for size, _ in ledger.repeats), default=0)) > REPEAT_BYTES:
        problems.append(f"a repeat of {most} bytes")
    return row_of(f"{consumer.name} (killed {consumer.kills} times)", problems, _figures(ledger))


def _figures(ledger: Ledger) -> str:
    ages = sorted(age for _, age in ledger.repeats)
    late = ages[int(len(ages) * 0.99)] if ages else 0.0
    median = statistics.median(ages) if ages else 0.0
    repeated = sum(size for size, _ in ledger.repeats)
    return (
        f"{ledger.delivered:,} bytes delivered, {repeated:,} of them again at {len(ages)} places; the oldest of each "
        f"came before the kill by: median {median:.2f}, p99 {late:.2f}, most {ledger.oldest:.2f} s; "
        f"{ledger.voided:,} bytes taken back, {ledger.void_wrong} records wrong till then, {ledger.torn} torn by a kill"
    )


def judge_ends(consumers: Sequence[Consumer], final: dict[str, int | None]) -> Row:
    """Nobody ended but by a signal or as asked, and nobody took an object for another."""
    problems, later = [], 0
    for consumer in consumers:
        for end in consumer.by_itself:
            if f"status {TRY_LATER}:" in end:
                later += 1
            else:
                problems.append(f"{consumer.name} {end}")
        problems += [f"{consumer.name} {word}" for life in consumer.lives for word in _bad_words(life)]
    problems += [f"{name} ended with {status}" for name, status in final.items() if status not in (0, _TERMINATED)]
    figures = f"{sum(len(consumer.lives) for consumer in consumers)} lives; {later} began while the server was away"
    return row_of("no other end, no other object, no traceback", problems, figures)


def _bad_words(life: Life) -> Iterator[str]:
    text = life.stderr.read_text(errors="replace")
    if "Traceback" in text:
        yield f"{life.stderr.name}: a traceback"
    for line in text.splitlines():
        if _OTHER_OBJECT.search(line):
            yield f"{life.stderr.name}: {line}"


def judge_memory(samples: Sequence[tuple[float, int]], bound: int) -> Row:
    """The trend of the resident size after the first third of the run: it rises by `bound` bytes at most."""
    kept = samples[len(samples) // 3 :]
    if len(kept) < 10:
        return Row("memory has no slope", False, f"only {len(kept)} samples")
    slope = theil_sen(kept)
    seconds = kept[-1][0] - kept[0][0]
    median = statistics.median(size for _, size in kept)
    figures = (
        f"median {median / 2**20:.1f} MiB; {slope * seconds / 2**20:+.2f} MiB in {seconds:.0f} s "
        f"(at most {bound / 2**20:.1f})"
    )
    return Row("memory has no slope (the consumer never killed)", slope * seconds <= bound, figures)


def theil_sen(samples: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs, per second: single peaks do not move it."""
    thinned = samples[:: max(1, len(samples) // 200)]
    return statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(thinned, 2))


def row_of(what: str, problems: Sequence[str], figures: str) -> Row:
    shown = "".join(f"\n        {problem}" for problem in problems[:5])
    more = f"\n        and {len(problems) - 5} more" if len(problems) > 5 else ""
    return Row(what, not problems, figures + shown + more)
