"""What a census of many objects costs: requests, CPU, time and memory of one, from 100 objects to 100,000.

``python -m benchmarks.discovery`` prints the table; the server is `oss-local`, in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tailer.config import resolve_service
from tailer.core.position import ObjectRef
from tailer.discovery import Census, Row
from tailer.local import running
from tailer.oss.address import parse_address
from tailer.oss.client import connect

SIZES = (100, 1_000, 10_000, 100_000)
HEADS = 10_000
ROOT = Path(__file__).parent.parent


def listing() -> str:
    """The section for docs/discovery.md."""
    rows = [_measured(size) for size in SIZES]
    table = "\n".join(
        "| {objects:,} | {requests} | {wall:.3f} | {cpu:.3f} | {per_object:.1f} | {memory:.0f} |".format(
            **row, per_object=row["cpu"] / row["objects"] * 1e6
        )
        for row in rows
    )
    heads = _measured(HEADS, "heads")
    return (
        "| objects | requests | seconds | CPU seconds | µs of CPU per object | bytes of RSS per object |\n"
        f"| --- | --- | --- | --- | --- | --- |\n{table}\n\n"
        f"{HEADS:,} objects by a HEAD each instead, 16 at once: {heads['requests']:,} requests, {heads['wall']:.1f} s, "
        f"{heads['cpu']:.1f} s of CPU."
    )


def _measured(size: int, how: str = "lists") -> dict[str, Any]:
    server = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.discovery", "serve", str(size)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    with server:
        environment = json.loads(server.stdout.readline())
        command = [sys.executable, "-m", "benchmarks.discovery", how, str(size)]
        done = subprocess.run(
            command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
        )
        server.stdin.close()
    return json.loads(done.stdout)


def key_of(number: int) -> str:
    return f"logs/region-{number % 7}/application-{number:06}.log"


def serve(size: int) -> None:
    with running(["bucket"]) as server:
        for number in range(size):
            server.store.append("bucket", key_of(number), 0, b"x")
        print(json.dumps(dict(server.environment())), flush=True)
        sys.stdin.read()


async def survey(size: int, *, heads: bool) -> dict[str, float]:
    """The best of a few; the first is not counted, as it makes the rows."""
    asked: list[str] = []
    async with connect(resolve_service(), on_request=lambda operation, *_: asked.append(operation)) as client:
        await client.list_objects("bucket")  # what one page needs for a moment is no memory of the rows
        base = _rss()
        addresses = [parse_address(f"oss://bucket/{key_of(n)}") for n in range(size)] if heads else []
        census = Census(client, addresses or [parse_address("oss://bucket/logs/**.log")], row=Row)
        assert len((await census.take(time.time())).new) == size
        walls, cpus = [], []
        for _ in range(1 if heads else 3):
            asked.clear()
            cpu, wall = time.process_time(), time.perf_counter()
            assert (await census.take(time.time())).moved == []
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
        assert census.find(ObjectRef("bucket", key_of(size - 1))) is not None
        memory = (_rss() - base) / size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "objects": size,
        "requests": len(asked),
        "wall": min(walls),
        "cpu": min(cpus),
        "memory": memory,
        "peak": peak,
    }


def _rss() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", number]:
            serve(int(number))
        case ["lists" | "heads" as kind, number]:
            print(json.dumps(asyncio.run(survey(int(number), heads=kind == "heads"))))
        case _:
            print(listing())
