"""How fast an object that is already there is read: against curl, which checks nothing, and a loop over oss2."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks import servers
from benchmarks.measure import Result, in_turn, ratio

GIB = 1 << 30
MIB = 1 << 20
# Memory that the page cache will want is touched first, and given back: on a virtual machine its host hands it out
# at the first touch, which takes either program between one and four seconds for the same file, at random.
TOUCH = f"{sys.executable} -c 'bytearray(b\"x\") * (3 << 30)'"
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
    with servers.static_object(size) as port, tempfile.TemporaryDirectory() as folder:
        url, ref = f"http://127.0.0.1:{port}/bench/object", "oss://bench/object"
        tail = f"oss-tail -c +1 {ref}"
        mirror = f"oss-tail -o {folder}/copy {ref}"
        to_file = {"oss-tail -o": mirror, "curl -o": f"curl -s -o {folder}/copy {url}"}
        to_file_by_oss2 = {"oss-tail -o": mirror, "oss2 loop, CRC on": f"{OSS2} {LOOP} {url} {folder}/copy"}
        to_null = {"oss-tail": f"{tail} > /dev/null", "curl": f"curl -s {url} > /dev/null"}
        to_pipe = {"oss-tail": f"{tail} | cat > /dev/null", "curl": f"curl -s {url} | cat > /dev/null"}
        clean = f"rm -f {folder}/copy; sync"
        rows = []
        for where, commands, before in (
            ("a file on a disk", to_file, f"{clean}; {TOUCH}"),
            ("a file on a disk, memory not touched before", to_file, clean),
            ("a file on a disk", to_file_by_oss2, f"{clean}; {TOUCH}"),
            ("/dev/null", to_null, clean),
            ("a pipe", to_pipe, clean),
        ):
            results = in_turn(commands, runs, environment(port), before=before)
            rows += [row(where, size, results, name) for name in results]
    return (
        f"## Catch-up of {size // MIB:,} MiB over loopback\n\n"
        "From nginx serving a static file with its recorded CRC-64. oss-tail checks the CRC-64 of every byte, "
        f"curl checks nothing. {runs} runs each, in turn; the ratio is the median of the ratios run by run. The file "
        "is made anew each time. On a virtual machine the host hands out memory at the first touch, and writing a new "
        "file of 1 GiB takes either program between one and four seconds, at random; so 3 GiB are touched and given "
        "back before each run, but for the rows that say otherwise.\n\n" + table(rows)
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
