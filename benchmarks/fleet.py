"""What it costs to follow many objects of which a few grow, and how soon each append is delivered.

``python -m benchmarks.fleet`` prints the table; the server and who appends are in a process of their own.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tailer.checkpoints import Checkpoints
from tailer.config import resolve_service
from tailer.configfile import GroupConfig, Limits
from tailer.fleet import Fleet, Governor
from tailer.local import running
from tailer.oss.client import connect
from tailer.status import SinkStatus

if TYPE_CHECKING:
    from tailer.core.events import Batch, Event
    from tailer.core.position import Mark, ObjectRef
    from tailer.errors import TailerError
    from tailer.status import Observer

SIZES = (1_000, 10_000)
SHARE = 0.01  # of the objects, appended to each second
LISTINGS = (1.0, 10.0)  # seconds between two
SECONDS = 20.0
FIRST = b"x" * 200 + b"\n"
ROOT = Path(__file__).parent.parent


class Arrivals:
    """An outlet, and the sink of its visits: when did each line come that says when it was written?"""

    name = type = "arrivals"

    def __init__(self) -> None:
        self.total = 0
        self.late: list[float] = []

    async def open(self, ref: ObjectRef, mark: Mark | None) -> tuple[Arrivals, Mark | None]:
        return self, mark

    async def write(self, batch: Batch) -> None:
        self.total += batch.end - batch.start
        lines = bytes(batch.data).splitlines()
        self.late += [time.monotonic() - float(line.split()[0]) for line in lines if not line.startswith(b"x")]

    async def notice(self, event: Event) -> None:
        """Nothing is done about it."""

    async def settle(self, error: TailerError) -> TailerError:
        return error

    async def sync(self) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Nothing is open."""

    def status(self) -> SinkStatus:
        return SinkStatus(self.name, self.type, self.total, 0, 0.0, 0, 0)


class Deaf:
    """An observer that does nothing with what it is told."""

    def __getattr__(self, name: str) -> object:
        return lambda *told: None


@dataclass
class Appending:
    """The other process."""

    process: subprocess.Popen[str]

    def hear(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def begin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


def table() -> str:
    """The section for docs/scheduling.md."""
    head = (
        "| objects | listed every | appends | CPU of one core | CPU for a visit | requests a second | "
        "delivered after: median, p99 | RSS over the base |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n"
    )
    rows = [in_its_own_process(size, every) for every in LISTINGS for size in SIZES]
    return head + "\n".join(
        "| {objects:,} | {every:.0f} s | {appends:,} | {cpu:.0%} | {visit:.2f} ms | {listings:.1f} LIST, "
        "{gets:.0f} GET | {median:.1f} s, {p99:.1f} s | {memory:.0f} MiB |".format(**row)
        for row in rows
    )


def in_its_own_process(size: int, every: float) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.fleet", "follow", str(size), str(every)]
    return json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)


def beside_a_server(size: int, every: float) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.fleet", "serve", str(size)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        other = Appending(process)
        found = asyncio.run(follow(other, size, every))
        other.begin()
    return {**found, "objects": size, "every": every}


async def follow(other: Appending, size: int, every: float) -> dict[str, float]:
    asked: Counter[str] = Counter()
    settings = resolve_service(environ={**os.environ, **await asyncio.to_thread(other.hear)})
    with tempfile.TemporaryDirectory() as folder, Checkpoints.open(f"{folder}/db", "b", owner="b") as kept:
        async with connect(settings, on_request=lambda operation, *_: asked.update([operation])) as client:
            arrivals, base = Arrivals(), _rss()
            group = GroupConfig("b", ("oss://bucket/logs/*.log",), "b", list_interval=every)
            reader = Governor(Limits()).reader(client, "b")
            fleet = Fleet(group, reader, kept, arrivals, cast("Observer", Deaf()), buffer_bytes=128 << 20)
            task = asyncio.create_task(fleet.run())
            found = await measured(other, arrivals, asked, size)
            found["memory"] = (_rss() - base) / 2**20
            await fleet.drain(10.0)
            await task
    return found


async def measured(other: Appending, arrivals: Arrivals, asked: Counter[str], size: int) -> dict[str, float]:
    """From when all is read that was there, to when all is read that was appended."""
    await reach(arrivals, size * len(FIRST))
    cpu, asked_before = time.process_time(), asked.copy()
    await asyncio.sleep(5.0)
    idle = (time.process_time() - cpu) / 5.0
    asked_before, cpu, start = asked.copy(), time.process_time(), time.monotonic()
    other.begin()
    await reach(arrivals, await asyncio.to_thread(other.hear))
    wall, cpu = time.monotonic() - start, time.process_time() - cpu
    made, late = asked - asked_before, sorted(arrivals.late)
    return {
        "appends": len(late),
        "cpu": cpu / wall,
        "visit": (cpu - idle * wall) / made["get"] * 1000,
        "listings": made["list"] / wall,
        "gets": made["get"] / wall,
        "median": late[len(late) // 2],
        "p99": late[len(late) * 99 // 100],
    }


async def reach(arrivals: Arrivals, total: int) -> None:
    async with asyncio.timeout(120.0):
        while arrivals.total < total:  # noqa: ASYNC110 - it is what is measured that must not be told
            await asyncio.sleep(0.05)


def serve(size: int) -> None:
    """Tell where the server is; append when asked to, and tell how many bytes there are then."""
    with running(["bucket"]) as server:
        lengths = [len(FIRST)] * size
        for number in range(size):
            server.store.append("bucket", f"logs/{number:06}.log", 0, FIRST)
        print(json.dumps(dict(server.environment())), flush=True)
        sys.stdin.readline()
        chance, due = random.Random(1), time.monotonic()
        for _ in range(int(SECONDS * size * SHARE)):
            due += 1 / (size * SHARE)
            time.sleep(max(0.0, due - time.monotonic()))
            number = chance.randrange(size)
            line = f"{time.monotonic():.6f} {'y' * 180}\n".encode()
            server.store.append("bucket", f"logs/{number:06}.log", lengths[number], line)
            lengths[number] += len(line)
        print(sum(lengths), flush=True)
        sys.stdin.readline()


def _rss() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve", number]:
            serve(int(number))
        case ["follow", number, every]:
            print(json.dumps(beside_a_server(int(number), float(every))))
        case _:
            print(table())
