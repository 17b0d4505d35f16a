"""What is paid before the first byte, and for a poll that finds nothing."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time

from benchmarks.measure import Result, in_turn, ratio
from tailer.local import running

IDLE_INTERVAL = 0.02


def start_up(runs: int = 21) -> str:
    with running(buckets=["bench"]) as server:
        server.put("bench", "small.log", b"a line\n" * 100)
        commands = {
            "python -c pass": f"{sys.executable} -c pass",
            "oss-tail --version": "oss-tail --version",
            "oss-tail -n 10 (small object)": "oss-tail -n 10 oss://bench/small.log",
        }
        results = in_turn(commands, runs, server.environment())
    base = results["python -c pass"]
    head = "| command | median | × `python -c pass` | peak RSS |\n| --- | --- | --- | --- |"
    rows = [start_row(result, base) for result in results.values()]
    return f"## Start-up\n\n{runs} runs each, in turn, the object in `oss-local` on loopback.\n\n" + "\n".join(
        [head, *rows]
    )


def start_row(result: Result, base: Result) -> str:
    slower = "" if result is base else f"{1 / ratio(result, base):.1f}"
    return f"| `{result.name}` | {result.wall * 1000:.0f} ms | {slower} | {result.rss / 2**20:.0f} MiB |"


def idle_poll(seconds: float = 6.0) -> str:
    rows = [idle_row(poll, seconds) for poll in ("head", "get")]
    head = "| poll | polls | CPU per poll |\n| --- | --- | --- |"
    return (
        "## CPU of one idle poll\n\n"
        f"`oss-tail -f` on an object that does not grow, polled every {IDLE_INTERVAL * 1000:.0f} ms for {seconds:.0f} s; "
        "user and system time of the process, start-up taken off.\n\n" + "\n".join([head, *rows])
    )


def idle_row(poll: str, seconds: float) -> str:
    with running(buckets=["bench"]) as server:
        server.put("bench", "idle.log", b"x" * 1000)
        short, few = idle_run(server.environment(), poll, 1.0, server)
        long, many = idle_run(server.environment(), poll, 1.0 + seconds, server)
    per_poll = (long - short) / (many - few)
    return f"| {poll} | {many - few:,} | {per_poll * 1000:.2f} ms |"


def idle_run(environment: dict[str, str], poll: str, seconds: float, server: object) -> tuple[float, int]:
    """CPU seconds and requests of one follow that finds nothing for so long."""
    before = sum(server.requests.values())  # type: ignore[attr-defined]
    command = ["oss-tail", "-f", "-s", str(IDLE_INTERVAL), "--poll", poll]
    process = subprocess.Popen(
        [*command, "--exit-idle", str(seconds), "oss://bench/idle.log"],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
    )
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return usage.ru_utime + usage.ru_stime, sum(server.requests.values()) - before  # type: ignore[attr-defined]
