"""From an append to its bytes on the output, at a given poll."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import subprocess
import time

from benchmarks.local import Running, oss_local
from tailer.config import resolve_service
from tailer.core.position import ObjectRef
from tailer.oss.client import Client, connect

INTERVAL = 0.1
APPENDS = 1000


def append_to_output() -> str:
    with oss_local() as running:
        rows = [asyncio.run(measure(running, poll)) for poll in ("head", "get")]
    head = "| poll | median | p99 | HEAD requests | GET requests |\n| --- | --- | --- | --- | --- |"
    return (
        f"## From append to output, polled every {INTERVAL * 1000:.0f} ms\n\n"
        f"{APPENDS:,} appends at random times to an object in `oss-local`, followed by `oss-tail -f -s {INTERVAL}`; "
        "measured from the answer to the append until its bytes were read from the pipe.\n\n" + "\n".join([head, *rows])
    )


async def measure(running: Running, poll: str) -> str:
    ref = ObjectRef("bench", f"{poll}.log")
    async with connect(resolve_service(environ=running.environment)) as client:
        await client.append(ref, 0, b"start\n")
        before = running.requests()
        process = await asyncio.create_subprocess_exec(
            *("oss-tail", "-f", "-c", "+1", "-s", str(INTERVAL), "--poll", poll, str(ref)),
            env={**os.environ, **running.environment},
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        await process.stdout.readline()
        latencies = sorted(await collect(client, ref, process.stdout))
        process.terminate()
        await process.wait()
    median, p99 = statistics.median(latencies) * 1000, latencies[int(len(latencies) * 0.99)] * 1000
    heads, gets = (running.requests()[method] - before[method] for method in ("HEAD", "GET"))
    return f"| {poll} | {median:.1f} ms | {p99:.1f} ms | {heads:,} | {gets:,} |"


async def collect(client: Client, ref: ObjectRef, stream: asyncio.StreamReader) -> list[float]:
    """Append a number a line, and say for each how long it took to come out."""
    sent: list[float] = []
    taken: list[float] = []

    async def read() -> None:
        while len(taken) < APPENDS:
            number = int(await stream.readline())
            taken.append(time.monotonic() - sent[number])

    reader = asyncio.create_task(read())
    chance, position = random.Random(1), 6
    for number in range(APPENDS):
        await asyncio.sleep(chance.uniform(0.0, 0.12))
        piece = f"{number}\n".encode()
        sent.append(time.monotonic())
        await client.append(ref, position, piece)
        sent[number] = time.monotonic()
        position += len(piece)
    await reader
    return taken
