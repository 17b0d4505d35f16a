"""What `oss-local` can do, so that it is never what the other benchmarks measure."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from tailer.config import resolve_service
from tailer.core.position import ObjectRef
from tailer.core.ranges import ByteRange
from tailer.oss.client import Client, connect

WRITERS = 8
APPENDS = 6000
MIB = 1 << 20
READ = 1 << 30


@dataclass(frozen=True)
class Running:
    pid: int
    environment: dict[str, str]

    def cpu(self) -> float:
        """User and system seconds so far (proc(5), fields 14 and 15 of stat)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def requests(self) -> dict[str, int]:
        """How many HEAD and GET requests came since the first call: faults that hit nobody count them."""
        url = f"{self.environment['OSS_ENDPOINT']}/-/faults"
        if not json.load(urllib.request.urlopen(url))["faults"]:
            counters = [{"kind": "reset", "method": method, "probability": 0} for method in ("HEAD", "GET")]
            body = json.dumps(counters).encode()
            urllib.request.urlopen(urllib.request.Request(url, body, {"Content-Type": "application/json"})).close()
        report = json.load(urllib.request.urlopen(url))["faults"]
        return {fault["method"]: fault["matched"] for fault in report}


@contextlib.contextmanager
def oss_local(*arguments: str) -> Iterator[Running]:
    """The command itself, as a process of its own."""
    process = subprocess.Popen(["oss-local", "--bucket", "bench", *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        exports = [process.stdout.readline() for _ in range(4)]
        pairs = (line.removeprefix("export ").strip().split("=", 1) for line in exports)
        yield Running(process.pid, {name: value.strip("'\"") for name, value in pairs})
    finally:
        process.terminate()
        process.communicate()


def server() -> str:
    with oss_local() as running:
        rows = [asyncio.run(measure("memory", running))]
    with tempfile.TemporaryDirectory() as folder, oss_local("--root", folder) as running:
        rows.append(asyncio.run(measure("--root", running)))
    head = (
        "| store | appends of 1 KiB/s | per second of server CPU | GET | per second of server CPU |\n"
        "| --- | --- | --- | --- | --- |"
    )
    return (
        "## oss-local\n\n"
        f"{WRITERS} writers append to an object each, one request after another; then {READ // MIB:,} MiB are read "
        "in windows of 8 MiB, two in flight. Client and server share the machine's two cores.\n\n"
        + "\n".join([head, *rows])
    )


async def measure(name: str, running: Running) -> str:
    async with connect(resolve_service(environ=running.environment)) as client:
        async with timed(running) as appended:
            await asyncio.gather(*(append(client, number) for number in range(WRITERS)))
        await fill(client)
        async with timed(running) as read:
            await get(client)
    wall, cpu = appended
    read_wall, read_cpu = read
    return (
        f"| {name} | {APPENDS / wall:,.0f} | {APPENDS / cpu:,.0f} "
        f"| {READ / read_wall / 1e6:,.0f} MB/s | {READ / read_cpu / 1e6:,.0f} MB/s |"
    )


@contextlib.asynccontextmanager
async def timed(running: Running) -> AsyncIterator[list[float]]:
    """Wall and server CPU seconds of the block, filled in at its end."""
    taken: list[float] = []
    wall, cpu = time.perf_counter(), running.cpu()
    yield taken
    taken += [time.perf_counter() - wall, max(0.01, running.cpu() - cpu)]


async def append(client: Client, number: int) -> None:
    ref, data = ObjectRef("bench", f"writer-{number}"), b"x" * 1024
    for position in range(0, APPENDS // WRITERS * 1024, 1024):
        await client.append(ref, position, data)


async def fill(client: Client) -> None:
    piece = os.urandom(64 * MIB)
    for position in range(0, READ, len(piece)):
        await client.append(ObjectRef("bench", "large"), position, piece)


async def get(client: Client) -> None:
    ref, window = ObjectRef("bench", "large"), 8 * MIB

    async def lane(first: int) -> None:
        for start in range(first, READ, 2 * window):
            await client.fetch(ref, ByteRange(start, start + window))

    await asyncio.gather(lane(0), lane(window))
