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


OURS = f"{sys.executable} {LOOP}"
LINES = {"`for line in tailer.lines(…)`": f"{OURS} lines"}
BATCHES = {"`async for batch in consumer`, `len(batch.records)` of each": f"{OURS} batches"}
OTHERS = {
    "`for line in smart_open.open(…)`": f"{OSS2} {LOOP} smart_open",
    "a loop over `oss2`, CRC on": f"{OSS2} {LOOP} oss2",
}


def lines(size: int = GIB, runs: int = 11, of_others: int = 3) -> str:
    with servers.static_object(size) as port:
        counts = {number_of_lines(command, port) for command in {**LINES, **BATCHES, **OTHERS}.values()}
        if len(counts) != 1:
            sys.exit(f"they do not find the same number of lines: {counts}")
        ours = by_turns({**LINES, **BATCHES}, port, runs)
        beside = by_turns({**LINES, **OTHERS}, port, of_others)
    return table(counts.pop(), ours, beside)


def by_turns(commands: dict[str, str], port: int, runs: int) -> list[Result]:
    whole = {name: f"{command} {url_of(port)}" for name, command in commands.items()}
    return [*in_turn(whole, runs, environment(port), uncounted=0).values()]


def table(count: int, ours: list[Result], beside: list[Result]) -> str:
    """Of two rounds of turns, each of which begins with `tailer.lines`."""
    head = "| by | lines a second | CPU | peak RSS | `tailer.lines` is faster by |\n| --- | --- | --- | --- | --- |"
    rows = [row(result, results[0], count) for results in (ours, beside) for result in results]
    del rows[len(ours)]  # it is there already, of more runs
    return (
        "## The library\n\n"
        f"{count:,} lines of 100 bytes in 1 GiB over loopback from nginx, start of the interpreter included. The "
        "library proves the CRC-64 of every byte, smart_open (over http) checks nothing. The first two rows: "
        f"{len(ours[0].samples)} runs each, in turn; the others: {len(beside[0].samples)} runs each, in turn with "
        "`tailer.lines`.\n\n" + "\n".join([head, *rows])
    )


def url_of(port: int) -> str:
    return f"http://127.0.0.1:{port}/bench/object"


def number_of_lines(command: str, port: int) -> int:
    done = subprocess.run(
        [*command.split(), url_of(port)],
        env={**os.environ, **environment(port)},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def row(result: Result, first: Result, count: int) -> str:
    against = "" if result is first else f"{ratio(first, result):.1f} x"
    rate = f"{count / result.wall / 1e6:.1f} million"
    return f"| {result.name} | {rate} | {result.cpu:.1f} s | {result.rss / (1 << 20):.0f} MiB | {against} |"
