"""How fast an object that is already there is read: against curl, which checks nothing, and a loop over oss2."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmarks import servers
from benchmarks.measure import Result, in_turn, ratio

GIB = 1 << 30
MIB = 1 << 20
# What was seen before the file was moved into memory belongs beside the figures taken there.
ON_DISK = (
    "On a disk the order is not settled: seven earlier tries into a file under /tmp gave 1.36, 0.80, 1.80, 0.62, "
    "0.78, 0.59 and 0.77 times the rate of `curl -o`, five of them slower (the last two with windows of 2 MiB). "
    "The file was moved into memory after those."
)
OSS2 = Path(__file__).parent.parent / ".venv-oss2" / "bin" / "python"
LOOP = Path(__file__).parent / "oss2_loop.py"


def environment(port: int) -> dict[str, str]:
    return {
        "OSS_ENDPOINT": f"http://127.0.0.1:{port}",
        "OSS_REGION": "cn-hangzhou",
        "OSS_ACCESS_KEY_ID": "bench",
        "OSS_ACCESS_KEY_SECRET": "bench-secret",
    }


def fast_line(size: int = GIB, runs: int = 11) -> str:
    """1 GiB over loopback: into a file, into /dev/null, into a pipe."""
    with servers.static_object(size) as port, tempfile.TemporaryDirectory(dir=fast_disk()) as folder:
        url, ref = f"http://127.0.0.1:{port}/bench/object", "oss://bench/object"
        tail = f"oss-tail -c +1 {ref}"
        mirror = f"oss-tail -o {folder}/copy {ref}"
        to_file = {"oss-tail -o": mirror, "curl -o": f"curl -s -o {folder}/copy {url}"}
        to_file_by_oss2 = {"oss-tail -o": mirror, "oss2 loop, CRC on": f"{OSS2} {LOOP} {url} {folder}/copy"}
        to_null = {"oss-tail": f"{tail} > /dev/null", "curl": f"curl -s {url} > /dev/null"}
        to_pipe = {"oss-tail": f"{tail} | cat > /dev/null", "curl": f"curl -s {url} | cat > /dev/null"}
        rows = []
        for where, commands in (
            ("a file", to_file),
            ("a file", to_file_by_oss2),
            ("/dev/null", to_null),
            ("a pipe", to_pipe),
        ):
            results = in_turn(commands, runs, environment(port), before=f"rm -f {folder}/copy")
            rows += [row(where, size, results, name) for name in results]
    return (
        f"## Catch-up of {size // MIB:,} MiB over loopback\n\n"
        "From nginx serving a static file with its recorded CRC-64. oss-tail checks the CRC-64 of every byte, "
        "curl checks nothing. The file is made anew each time, on a file system in memory where there is one. Where "
        "the best is far from the median, the machine was busy finding memory. " + ON_DISK + "\n\n" + table(rows)
    )


def slow_line(size: int = GIB, runs: int = 3, round_trip: float = 0.020, rate: float = 25e6) -> str:
    """The same over a long, thin line per connection."""
    with servers.static_object(size) as port, servers.slow_line(port, round_trip, rate) as far:
        url = f"http://127.0.0.1:{far}/bench/object"
        commands = {
            "oss-tail": "oss-tail -c +1 oss://bench/object > /dev/null",
            "curl": f"curl -s {url} > /dev/null",
        }
        results = in_turn(commands, runs, environment(far))
    return (
        f"## Catch-up of {size // MIB:,} MiB over {round_trip * 1000:.0f} ms "
        f"and {rate / 1e6:.0f} MB/s per connection\n\n"
        "Through a proxy that delays and throttles each connection; oss-tail fetches windows in parallel and "
        "delivers them in order.\n\n" + table([row("/dev/null", size, results, name) for name in results])
    )


def fast_disk() -> str | None:
    """Not the disk is to be measured."""
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def row(where: str, size: int, results: dict[str, Result], name: str) -> tuple[str, ...]:
    ours = next(iter(results.values()))
    result = results[name]
    against = "" if result is ours else f"{ratio(ours, result):.2f} x"
    rate = f"{size / result.wall / 1e6:,.0f} MB/s"
    best = f"{size / result.best / 1e6:,.0f} MB/s"
    return where, name, rate, best, f"{result.cpu:.2f} s", f"{result.rss / MIB:.0f} MiB", against


def table(rows: list[tuple[str, ...]]) -> str:
    head = ("into", "by", "rate", "best", "CPU", "peak RSS", "oss-tail is faster by")
    lines = [" | ".join(cells) for cells in (head, ("---",) * len(head), *rows)]
    return "\n".join(f"| {line} |" for line in lines)
