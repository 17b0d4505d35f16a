"""From an append to its bytes on the output, at a given poll."""

from __future__ import annotations

import asyncio
import random
import statistics
import subprocess
import time

from tailer.config import resolve_service
from tailer.core.position import ObjectRef
from tailer.local import LocalServer
from tailer.oss.client import connect

INTERVAL = 0.1
APPENDS = 1000


def append_to_output() -> str:
    rows = [asyncio.run(measure(poll)) for poll in ("head", "get")]
    head = "| poll | median | p99 | HEAD requests | GET requests |\n| --- | --- | --- | --- | --- |"
    return (
        f"## From append to output, polled every {INTERVAL * 1000:.0f} ms\n\n"
        f"{APPENDS:,} appends at random times to an object in `oss-local`, followed by `oss-tail -f -s {INTERVAL}`; "
        "measured from the answer to the append until its bytes were read from the pipe.\n\n" + "\n".join([head, *rows])
    )


async def measure(poll: str) -> str:
    async with LocalServer(buckets=["bench"]) as server:
        ref = ObjectRef("bench", f"{poll}.log")
        environment = server.environment()
        async with connect(resolve_service(environ=environment)) as client:
            await client.append(ref, 0, b"start\n")
            process = await asyncio.create_subprocess_exec(
                *("oss-tail", "-f", "-c", "+1", "-s", str(INTERVAL), "--poll", poll, str(ref)),
                env={**dict(__import__("os").environ), **environment},
                stdout=subprocess.PIPE,
            )
            assert process.stdout is not None
            await process.stdout.readline()
            latencies = await collect(client, ref, process.stdout)
            process.terminate()
            await process.wait()
            counts = server.requests
    latencies.sort()
    median, p99 = statistics.median(latencies) * 1000, latencies[int(len(latencies) * 0.99)] * 1000
    return f"| {poll} | {median:.1f} ms | {p99:.1f} ms | {counts['HEAD']:,} | {counts['GET']:,} |"


async def collect(client: object, ref: ObjectRef, stream: asyncio.StreamReader) -> list[float]:
    sent: list[float] = []
    taken: list[float] = []

    async def read() -> None:
        while len(taken) < APPENDS:
            line = await stream.readline()
            taken.append(time.monotonic() - sent[int(line)])

    reader = asyncio.create_task(read())
    chance, position = random.Random(1), 6
    for number in range(APPENDS):
        await asyncio.sleep(chance.uniform(0.0, 0.12))
        piece = f"{number}\n".encode()
        sent.append(0.0)
        await client.append(ref, position, piece)  # type: ignore[attr-defined]
        sent[number] = time.monotonic()
        position += len(piece)
    await reader
    return taken
