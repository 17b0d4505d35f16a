"""Run commands in turn, again and again, and say what each took: median seconds, CPU seconds, peak RSS."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Sample:
    wall: float
    cpu: float
    rss: int  # bytes, the largest single process


@dataclass(frozen=True)
class Result:
    name: str
    samples: tuple[Sample, ...]

    @property
    def wall(self) -> float:
        return statistics.median(sample.wall for sample in self.samples)

    @property
    def best(self) -> float:
        return min(sample.wall for sample in self.samples)

    @property
    def cpu(self) -> float:
        return statistics.median(sample.cpu for sample in self.samples)

    @property
    def rss(self) -> int:
        return max(sample.rss for sample in self.samples)


def run_once(command: str, environment: dict[str, str]) -> Sample:
    """One run of a shell command to its end; its own stderr is shown when it fails."""
    before = time.perf_counter()
    process = subprocess.Popen(
        ["bash", "-o", "pipefail", "-c", command],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - before
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command}\nexited with {process.returncode}: {errors.decode(errors='replace')[-500:]}")
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def in_turn(
    commands: dict[str, str],
    runs: int,
    environment: dict[str, str] | None = None,
    *,
    before: str = "true",
    uncounted: int = 1,
) -> dict[str, Result]:
    """Each command `runs` times, A B C A B C …, after rounds that are not counted; `before` each, untimed."""
    samples: dict[str, list[Sample]] = {name: [] for name in commands}
    for round_ in range(uncounted + runs):
        for name, command in commands.items():
            run_once(before, {})
            sample = run_once(command, environment or {})
            if round_ >= uncounted:
                samples[name].append(sample)
    return {name: Result(name, tuple(taken)) for name, taken in samples.items()}


def ratio(a: Result, b: Result) -> float:
    """How many times faster `a` is than `b`: the median of the ratios taken run by run."""
    return statistics.median(y.wall / x.wall for x, y in zip(a.samples, b.samples, strict=True))
