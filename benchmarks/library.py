"""How many lines a second a Python program gets: by the library, and by what else there is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks import servers
from benchmarks.catchup import GIB, OSS2, environment
from benchmarks.measure import Result, in_turn, ratio

LOOP = Path(__file__).parent / "lines_loop.py"


def lines(size: int = GIB, runs: int = 5) -> str:
    with servers.static_object(size) as port:
        url = f"http://127.0.0.1:{port}/bench/object"
        commands = {
            "`for line in tailer.lines(…)`": f"{sys.executable} {LOOP} lines {url}",
            "`async for batch in consumer`, the lines of each counted": f"{sys.executable} {LOOP} batches {url}",
            "`for line in smart_open.open(…)`": f"{OSS2} {LOOP} smart_open {url}",
            "a loop over `oss2`, CRC on": f"{OSS2} {LOOP} oss2 {url}",
        }
        counts = {number_of_lines(command, port) for command in commands.values()}
        if len(counts) != 1:
            sys.exit(f"they do not find the same number of lines: {counts}")
        results = in_turn(commands, runs, environment(port))
    count = counts.pop()
    head = "| by | lines a second | CPU | peak RSS | `tailer.lines` is faster by |\n| --- | --- | --- | --- | --- |"
    first = next(iter(results.values()))
    return (
        "## The library\n\n"
        f"{count:,} lines of 100 bytes in 1 GiB over loopback from nginx, start of the interpreter included. The "
        "library proves the CRC-64 of every byte, smart_open (over http) checks nothing.\n\n"
        + "\n".join([head, *(row(result, first, count) for result in results.values())])
    )


def number_of_lines(command: str, port: int) -> int:
    done = subprocess.run(
        command.split(), env={**os.environ, **environment(port)}, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def row(result: Result, first: Result, count: int) -> str:
    against = "" if result is first else f"{ratio(first, result):.1f} x"
    rate = f"{count / result.wall / 1e6:.1f} million"
    return f"| {result.name} | {rate} | {result.cpu:.1f} s | {result.rss / (1 << 20):.0f} MiB | {against} |"
