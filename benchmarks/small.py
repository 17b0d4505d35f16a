"""What is paid before the first byte, and for a poll that finds nothing."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

from benchmarks.local import Running, oss_local
from benchmarks.measure import Result, in_turn, ratio
from tailer.config import resolve_service
from tailer.core.position import ObjectRef
from tailer.oss.client import connect

IDLE_INTERVAL = 0.02
REF = ObjectRef("bench", "small.log")


async def put(running: Running, ref: ObjectRef, data: bytes) -> None:
    async with connect(resolve_service(environ=running.environment)) as client:
        await client.append(ref, 0, data)


def start_up(runs: int = 21) -> str:
    with oss_local() as running:
        asyncio.run(put(running, REF, b"a line\n" * 100))
        commands = {
            "python -c pass": f"{sys.executable} -c pass",
            "oss-tail --version": "oss-tail --version",
            "oss-tail -n 10 (small object)": f"oss-tail -n 10 {REF}",
        }
        results = in_turn(commands, runs, running.environment)
    base = results["python -c pass"]
    head = "| command | median | times `python -c pass` |\n| --- | --- | --- |"
    rows = [start_row(result, base) for result in results.values()]
    preface = f"## Start-up\n\n{runs} runs each, in turn, the object in `oss-local` on loopback.\n\n"
    return preface + "\n".join([head, *rows])


def start_row(result: Result, base: Result) -> str:
    slower = "" if result is base else f"{1 / ratio(result, base):.1f}"
    return f"| `{result.name}` | {result.wall * 1000:.0f} ms | {slower} |"


def idle_poll(seconds: float = 8.0) -> str:
    with oss_local() as running:
        asyncio.run(put(running, REF, b"x" * 1000))
        rows = [idle_row(running, poll, seconds) for poll in ("head", "get")]
        rows += asyncio.run(parts_of_a_poll(running))
    head = "| what | how often | CPU each |\n| --- | --- | --- |"
    return (
        "## CPU of one idle poll\n\n"
        f"`oss-tail -f` on an object that does not grow, polled every {IDLE_INTERVAL * 1000:.0f} ms; user and "
        "system time of the process, what a short run takes taken off. Below it what that is made of: most of it is "
        "the price of waking up with cold caches, which a machine that is not idle does not pay.\n\n"
        + "\n".join([head, *rows])
    )


async def parts_of_a_poll(running: Running, times: int = 300) -> list[str]:
    """What one HEAD takes without a pause before it, and what a pause takes without a HEAD behind it."""
    async with connect(resolve_service(environ=running.environment)) as client:
        await client.head(REF)
        began = time.process_time()
        for _ in range(times):
            await client.head(REF)
        heads = time.process_time() - began
        for _ in range(times):
            await asyncio.sleep(IDLE_INTERVAL)
        sleeps = time.process_time() - began - heads
    return [
        f"| one HEAD after another, no pause | {times} | {heads / times * 1000:.2f} ms |",
        f"| one pause after another, no request | {times} | {sleeps / times * 1000:.2f} ms |",
    ]


def idle_row(running: Running, poll: str, seconds: float) -> str:
    short, few = idle_run(running, poll, 1.0)
    long, many = idle_run(running, poll, 1.0 + seconds)
    return f"| poll by {poll} | {many - few:,} | {(long - short) / (many - few) * 1000:.2f} ms |"


def idle_run(running: Running, poll: str, seconds: float) -> tuple[float, int]:
    """CPU seconds and requests of a follow that finds nothing for so long."""
    before = sum(running.requests().values())
    command = ["oss-tail", "-f", "-s", str(IDLE_INTERVAL), "--poll", poll, "--exit-idle", str(seconds), str(REF)]
    process = subprocess.Popen(command, env={**os.environ, **running.environment}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command} exited with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, sum(running.requests().values()) - before
