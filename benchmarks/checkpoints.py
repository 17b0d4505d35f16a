"""What `--checkpoint` costs: of the catch-up rate, and in latency when many small batches come."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import tempfile
import time

from benchmarks import servers
from benchmarks.catchup import GIB, MIB, environment
from benchmarks.local import Running, oss_local
from benchmarks.measure import in_turn, ratio
from tailer.config import resolve_service
from tailer.core.position import ObjectRef
from tailer.oss.client import Client, connect

RATE = 100  # batches a second
BATCHES = 1000
ROUNDS = 2
RUNS = 11


def cost() -> str:
    with tempfile.TemporaryDirectory() as folder:
        return (
            "## Checkpoints\n\n"
            "`oss-tail --checkpoint` beside `oss-tail` without it: a commit, which is one fsync, begins once a second "
            "and every 128 MiB, beside the delivery. The checkpoint file is made anew each time. "
            f"{RUNS} runs each, in turn; the share is the median of the shares run by run.\n\n"
            + catch_up(folder)
            + "\n\n"
            + latency(folder)
        )


def catch_up(folder: str, size: int = GIB, runs: int = RUNS) -> str:
    """1 GiB over loopback to nowhere."""
    with servers.static_object(size) as port:
        command = "oss-tail -c +1 {} oss://bench/object > /dev/null"
        commands = {
            "with": command.format(f"--checkpoint {folder}/state.db"),
            "without": command.format(""),
        }
        results = in_turn(commands, runs, environment(port), before=f"rm -f {folder}/state.db*")
    rates = " | ".join(f"{size / results[name].wall / 1e6:,.0f} MB/s" for name in commands)
    share = ratio(results["with"], results["without"])
    return (
        f"| {size // MIB:,} MiB into /dev/null with | without | rate with, of the rate without |\n"
        f"| --- | --- | --- |\n| {rates} | {share:.3f} |"
    )


def latency(folder: str) -> str:
    """Small appends at a steady rate, from the answer to the append until the bytes are read from the pipe."""
    taken: dict[str, list[float]] = {"with": [], "without": []}
    with oss_local() as running:
        for number in range(ROUNDS):
            for name, latencies in taken.items():
                options = ("--checkpoint", f"{folder}/{number}.db") if name == "with" else ()
                latencies += asyncio.run(measure(running, f"{name}-{number}", options))
    with_, without = (statistics.median(latencies) * 1000 for latencies in taken.values())
    tails = " | ".join(f"{sorted(one)[int(len(one) * 0.99)] * 1000:.1f} ms" for one in taken.values())
    return (
        f"| {RATE} batches a second: median with | without | added | p99 with | without |\n"
        "| --- | --- | --- | --- | --- |\n"
        f"| {with_:.2f} ms | {without:.2f} ms | {with_ - without:.2f} ms | {tails} |"
    )


async def measure(running: Running, key: str, options: tuple[str, ...]) -> list[float]:
    ref = ObjectRef("bench", key)
    async with connect(resolve_service(environ=running.environment)) as client:
        await client.append(ref, 0, b"start\n")
        process = await asyncio.create_subprocess_exec(
            *("oss-tail", "-f", "-c", "+1", "-s", "0.01", *options, str(ref)),
            env={**os.environ, **running.environment},
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        await process.stdout.readline()
        latencies = await collect(client, ref, process.stdout)
        process.terminate()
        await process.wait()
    return latencies


async def collect(client: Client, ref: ObjectRef, stream: asyncio.StreamReader) -> list[float]:
    """Append a number a line at the given rate, and say for each how long it took to come out."""
    sent: list[float] = []
    taken: list[float] = []

    async def read() -> None:
        while len(taken) < BATCHES:
            number = int(await stream.readline())
            taken.append(time.monotonic() - sent[number])

    reader = asyncio.create_task(read())
    position, begun = 6, time.monotonic()
    for number in range(BATCHES):
        await asyncio.sleep(max(0.0, begun + number / RATE - time.monotonic()))
        piece = f"{number}\n".encode()
        sent.append(time.monotonic())
        await client.append(ref, position, piece)
        sent[number] = time.monotonic()
        position += len(piece)
    await reader
    return taken
