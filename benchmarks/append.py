"""The write side beside the official SDKs and curl; and a growing file, from the writing to the object."""

from __future__ import annotations

import asyncio
import base64
import bisect
import hashlib
import hmac
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO
from urllib.parse import urlencode

from benchmarks.local import Running, oss_local
from benchmarks.measure import in_turn, ratio
from benchmarks.servers import appendable_objects
from tailer.config import resolve_service
from tailer.core.position import ObjectRef
from tailer.errors import ObjectNotFound
from tailer.oss.client import Client, connect

APPENDS = 2000
RUNS = 5
MIB = 1 << 20
STREAM = 1 << 30
LINES = 10_000
LINE = b"2026-01-02T03:04:05.678Z INFO  request served in 12 ms, status 200, 5,120 bytes, no error to be told" + b"\n"
PAUSE = 0.001
ROOT = Path(__file__).parent.parent

# Each appends 1 KiB `count` times and prints the wall and the CPU seconds of that, without its own start.
LOOP = """
import os, sys, time
count, data = {count}, b"x" * 1024
key = "small-%d-%s" % (os.getpid(), time.time_ns())
endpoint = os.environ["OSS_ENDPOINT"]
access = os.environ["OSS_ACCESS_KEY_ID"], os.environ["OSS_ACCESS_KEY_SECRET"]
{setup}
wall, cpu = time.perf_counter(), time.process_time()
{loop}
print(time.perf_counter() - wall, time.process_time() - cpu)
"""
OURS = LOOP.format(
    count=APPENDS,
    setup="import asyncio, tailer",
    loop="""
async def main():
    async with tailer.Appender("oss://bench/" + key) as out:
        for _ in range(count):
            await out.append(data)
asyncio.run(main())
""",
)
OSS2 = LOOP.format(
    count=APPENDS,
    setup="""
import oss2
bucket = oss2.Bucket(oss2.Auth(*access), endpoint, "bench")
""",
    loop="""
position, crc = 0, 0
for _ in range(count):
    done = bucket.append_object(key, position, data, init_crc=crc)
    position, crc = done.next_position, done.crc
""",
)
SDK_V2 = LOOP.format(
    count=APPENDS,
    setup="""
import alibabacloud_oss_v2 as oss
config = oss.config.load_default()
config.credentials_provider = oss.credentials.StaticCredentialsProvider(*access)
config.region, config.endpoint, config.use_path_style = os.environ["OSS_REGION"], endpoint, True
client = oss.Client(config)
""",
    loop="""
position, crc = 0, "0"
for _ in range(count):
    done = client.append_object(oss.AppendObjectRequest(
        bucket="bench", key=key, position=position, init_hash_crc64=crc, body=data))
    position, crc = done.next_position, done.hash_crc64
""",
)


def writing() -> str:
    return "\n\n".join([small_appends(), stream(), growing_file()])


def small_appends() -> str:
    head = "| writer | appends/s | client CPU each | times our time |\n| --- | --- | --- | --- |\n"
    with oss_local() as running:
        beside_oss_local = head + "\n".join(small_rows(running.environment))
        with appendable_objects() as port:
            environment = {**running.environment, "OSS_ENDPOINT": f"http://127.0.0.1:{port}"}
            beside_little = head + "\n".join(small_rows(environment))
    return (
        "## Appends of 1 KiB\n\n"
        f"One after another, {APPENDS:,} of them, {RUNS} runs in turn, CRC-64 checked by each, on two cores. First to "
        "a server that takes next to no time, so that it is the writers that are compared: it knows AppendObject, "
        f"keeps length and CRC-64 of each object, and looks at no signature.\n\n{beside_little}\n\n"
        f"Then to `oss-local` in memory, whose own time is in all three.\n\n{beside_oss_local}"
    )


def small_rows(environment: dict[str, str]) -> list[str]:
    programs = {
        "`tailer.Appender`": (sys.executable, OURS),
        "`oss2`": (str(ROOT / ".venv-oss2" / "bin" / "python"), OSS2),
        "`alibabacloud-oss-v2`": (sys.executable, SDK_V2),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for round_ in range(RUNS + 1):
        for name, (python, program) in programs.items():
            done = loop(python, program, environment)
            if round_:
                taken[name].append(done)
    ours = taken["`tailer.Appender`"]
    rows = []
    for name, samples in taken.items():
        wall, cpu = (statistics.median(column) for column in zip(*samples, strict=True))
        slower = statistics.median(theirs[0] / mine[0] for mine, theirs in zip(ours, samples, strict=True))
        rows.append(f"| {name} | {APPENDS / wall:,.0f} | {cpu / APPENDS * 1000:.2f} ms | {slower:.1f} |")
    return rows


def loop(python: str, program: str, environment: dict[str, str]) -> tuple[float, float]:
    done = subprocess.run(
        [python, "-c", program],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=120, cwd=ROOT,
    )  # fmt: skip
    if done.returncode:
        sys.exit(f"{python}: {done.stderr[-500:]}")
    wall, cpu = done.stdout.split()
    return float(wall), float(cpu)


def stream() -> str:
    with tempfile.TemporaryDirectory() as folder, oss_local() as running:
        data, block = Path(folder) / "data", os.urandom(MIB)
        with data.open("wb") as file:
            for _ in range(STREAM // MIB):
                file.write(block)
        commands = {
            "oss-append < FILE": f"oss-append oss://bench/stream-$RANDOM$RANDOM < {data}",
            "curl -T FILE": f"curl -sSf -T {data} '{presigned(running)}'",
        }
        results = in_turn(commands, RUNS, running.environment)
    rows = [
        f"| `{name}` | {STREAM / one.wall / 1e6:,.0f} MB/s | {one.cpu:.2f} s | "
        f"{ratio(one, results['curl -T FILE']):.2f} |"
        for name, one in results.items()
    ]
    return (
        "## 1 GiB into an object\n\n"
        f"{RUNS} runs in turn, to `oss-local` in memory on the same two cores. `oss-append` reads standard input, "
        "sends 8 MiB at a time and proves each; `curl` puts it in one request and proves nothing.\n\n"
        "| command | speed | client CPU | times curl |\n| --- | --- | --- | --- |\n" + "\n".join(rows)
    )


def presigned(running: Running) -> str:
    """A URL for one PUT (OSS documentation, "Add signatures to URLs", version 1)."""
    environment, expires = running.environment, int(time.time()) + 3600
    text = f"PUT\n\n\n{expires}\n/bench/curl"
    key = environment["OSS_ACCESS_KEY_SECRET"].encode()
    signature = base64.b64encode(hmac.new(key, text.encode(), hashlib.sha1).digest()).decode()
    query = {"OSSAccessKeyId": environment["OSS_ACCESS_KEY_ID"], "Expires": expires, "Signature": signature}
    return f"{environment['OSS_ENDPOINT']}/bench/curl?{urlencode(query)}"


def growing_file() -> str:
    rows = []
    with tempfile.TemporaryDirectory() as folder, oss_local() as running:
        for interval in (1.0, 0.2):
            latency, cpu = follow(running, Path(folder) / f"log-{interval}", interval)
            rows.append(f"| {interval:.1f} s | {latency * 1000:.0f} ms | {cpu:.1%} |")
    return (
        "## A growing file\n\n"
        f"`oss-append --lines -f` on a file that gets {1 / PAUSE:,.0f} lines a second, one by one, {LINES:,} in all, "
        "with one append per flush interval: from the writing of a line to its being in the object, as a HEAD every "
        "few milliseconds sees it.\n\n"
        "| flush interval | median | CPU of one core |\n| --- | --- | --- |\n" + "\n".join(rows)
    )


def follow(running: Running, log: Path, interval: float) -> tuple[float, float]:
    """Median seconds from the writing of a line to the object, and CPU seconds per second."""
    log.touch()
    ref = ObjectRef("bench", log.name)
    command = ["oss-append", "--lines", "--flush-interval", str(interval), str(ref), "-f", str(log)]
    with subprocess.Popen(command, env={**os.environ, **running.environment}) as process:
        try:
            return asyncio.run(watch(running, ref, log, Running(process.pid, {})))
        finally:
            process.terminate()


async def watch(running: Running, ref: ObjectRef, log: Path, appending: Running) -> tuple[float, float]:
    written: list[tuple[float, int]] = []
    async with connect(resolve_service(environ=running.environment)) as client:
        with log.open("ab", buffering=0) as file:
            await seen(client, ref, 0)
            wall, cpu = time.perf_counter(), appending.cpu()
            producer = threading.Thread(target=produce, args=(file, written))
            producer.start()
            arrivals = []
            while not arrivals or arrivals[-1][1] < LINES * len(LINE):
                at_least = arrivals[-1][1] + 1 if arrivals else 1
                arrivals.append(await seen(client, ref, at_least))
            taken = appending.cpu() - cpu, time.perf_counter() - wall
            producer.join()
    sizes = [size for _, size in arrivals]
    delays = [arrivals[bisect.bisect_left(sizes, end)][0] - moment for moment, end in written]
    return statistics.median(delays), taken[0] / taken[1]


def produce(file: IO[bytes], written: list[tuple[float, int]]) -> None:
    due = time.perf_counter()
    for number in range(1, LINES + 1):
        due += PAUSE
        time.sleep(max(0.0, due - time.perf_counter()))
        file.write(LINE)
        written.append((time.perf_counter(), number * len(LINE)))


async def seen(client: Client, ref: ObjectRef, size: int) -> tuple[float, int]:
    """When the object has at least so many bytes, and how many."""
    while True:
        try:
            meta = await client.head(ref)
        except ObjectNotFound:
            meta = None
        if meta is not None and meta.size >= size:
            return time.perf_counter(), meta.size
        await asyncio.sleep(0.004)
