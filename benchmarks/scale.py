"""What `oss-tailer run` costs over `oss-local`, both as the commands that they are, appends from a third process.

``python -m benchmarks.scale grow 10000 any`` follows objects of which 1 % grow each second (``same``: always the same),
``idle 100000`` objects that rest, ``many 1000000`` such objects that a server makes as they are asked for, ``together
1000 600`` objects that all grow, at 50 MB/s in sum for so many seconds (that takes 60 GB in the folder for temporary
files), ``tail 1000 120`` has `tail -F` follow files with the same lines,
and ``heads 10000`` asks for each object by HEAD. Each prints lines of JSON; CPU and memory are those of the process
that follows, as proc(5) tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import filecmp
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.local import Running, oss_local
from tailer.config import resolve_service
from tailer.core.position import ObjectRef
from tailer.oss.client import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tailer.oss.client import Client

SHARE = 0.01  # of the objects, appended to each second
SECONDS = 30.0
FIRST = b"x" * 200 + b"\n"
RATE = 50_000_000  # bytes a second, of all objects together
TURN = 2  # seconds between two appends to each of them
AT_ONCE = 32
PATIENCE = 170.0
ROOT = Path(__file__).parent.parent
METRIC = re.compile(r"^(oss_tail_\w+)(?:{([^}]*)})? (\S+)$", re.MULTILINE)


class Tailer(Running):
    """`oss-tailer run` under way."""

    def rss(self) -> int:
        """Bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def metrics(self) -> Counter[str]:
        """By name, all label sets together; requests by ``requests:OPERATION`` as well."""
        with urllib.request.urlopen(self.environment["PORT"] + "/metrics") as answer:
            text = answer.read().decode()
        found: Counter[str] = Counter()
        for name, labels, value in METRIC.findall(text):
            found[name] += float(value)  # type: ignore[assignment]
            if name == "oss_tail_requests_total" and (operation := re.search(r'operation="(\w+)"', labels)):
                found[f"requests:{operation[1]}"] += int(float(value))
        return found


@contextlib.contextmanager
def oss_tailer(server: Running, folder: Path, objects: str, sink: str, group: str, out: int) -> Iterator[Tailer]:
    """The command itself; `sink` and `group` are further lines of their tables."""
    port = free_port()
    config = folder / "service.toml"
    config.write_text(
        f'checkpoint = "{folder}/state.db"\n[server]\nlisten = {port}\n[sinks.out]\n{sink}\n'
        f'[groups.bench]\nobjects = ["{objects}"]\nsink = "out"\npoll_min = "1s"\n{group}\n'
    )
    environment = {**os.environ, **server.environment}
    with subprocess.Popen(["oss-tailer", "run", str(config)], env=environment, stdout=out) as process:
        try:
            tailer = Tailer(process.pid, {"PORT": f"http://127.0.0.1:{port}"})
            until(lambda: answers(f"{tailer.environment['PORT']}/readyz"))
            yield tailer
        finally:
            process.send_signal(signal.SIGTERM)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def until(done: Callable[[], bool], seconds: float = PATIENCE, every: float = 0.1) -> None:
    """Wait until `done()` is true, asking `every` so many seconds. Exits the benchmark when it is not in time."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            sys.exit("it took too long")
        time.sleep(every)


@contextlib.contextmanager
def writer(server: Running, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """This module in a process of its own, with the keys of the server. It is waited for."""
    command = [sys.executable, "-m", "benchmarks.scale", *arguments]
    environment = {**os.environ, **server.environment}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        yield process
    if process.returncode:
        sys.exit(f"the writer exited with {process.returncode}")


def base_memory(server: Running) -> int:
    """RSS of a service whose pattern matches nothing, after three listings."""
    with (
        tempfile.TemporaryDirectory() as folder,
        oss_tailer(server, Path(folder), "oss://bench/none/*", 'type = "stdout"', 'list_interval = "1s"', 2) as tailer,
    ):
        time.sleep(3.0)
        tailer.metrics()
        return tailer.rss()


# --- 1 % of them grow each second


class Lines:
    """Reads a pipe to its end; how long after it was written did each line come that says when that was?"""

    def __init__(self, pipe: int) -> None:
        self.total = 0
        self.late: list[float] = []
        self._pipe = pipe
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        with open(self._pipe, "rb") as pipe:
            for line in pipe:
                if not line.startswith(b"x"):
                    self.late.append(time.monotonic() - float(line.split()[0]))
                self.total += len(line)


def grow(size: int, which: str) -> dict[str, object]:
    """`which`: ``any``, each of all in turn, at random; or ``same``, the same 1 % every second."""
    with oss_local() as server, tempfile.TemporaryDirectory() as folder:
        base = base_memory(server)
        with writer(server, "fill", str(size)):
            pass
        read, write = os.pipe()
        lines = Lines(read)
        pattern, interval = "oss://bench/logs/*.log", 'list_interval = "1s"'
        with oss_tailer(server, Path(folder), pattern, 'type = "stdout"', interval, write) as tailer:
            os.close(write)
            until(lambda: lines.total >= size * len(FIRST))
            time.sleep(10.0)
            idle = taken(tailer, 10.0)
            with writer(server, "append", str(size), which) as process:
                busy = taken(tailer, SECONDS)
                assert process.stdout is not None
                expected = json.loads(process.stdout.read())
            until(lambda: len(lines.late) >= expected, 30.0)
            memory, after = tailer.rss(), tailer.metrics()
    late = sorted(lines.late)
    return {
        "objects": size, "which": which, "appends": expected, "delivered": len(late), "idle": idle, "growing": busy,
        "median": late[len(late) // 2], "p99": late[len(late) * 99 // 100], "worst": late[-1],
        "base_mib": base / 2**20, "over_base_mib": (memory - base) / 2**20, **unsound(after),
    }  # fmt: skip


def taken(tailer: Tailer, seconds: float) -> dict[str, float]:
    """CPU (of one core) and requests a second, over so many seconds from now."""
    before, cpu, start = tailer.metrics(), tailer.cpu(), time.monotonic()
    time.sleep(seconds)
    wall = time.monotonic() - start
    used, made = tailer.cpu() - cpu, tailer.metrics() - before
    return {"cpu": used / wall, **{one: made[f"requests:{one}"] / wall for one in ("list", "get", "head")}}


def unsound(metrics: Counter[str]) -> dict[str, float]:
    return {name: metrics[f"oss_tail_{name}_total"] for name in ("gaps", "overlaps", "errors")}


async def fill(client: Client, size: int) -> None:
    async def some(first: int) -> None:
        for number in range(first, size, AT_ONCE):
            await client.append(key(number), 0, FIRST)

    await asyncio.gather(*(some(first) for first in range(AT_ONCE)))


def key(number: int) -> ObjectRef:
    return ObjectRef("bench", f"logs/{number:06}.log")


async def append(client: Client, size: int, which: str) -> None:
    """Tell at the end how many lines were appended."""
    count, few = int(SECONDS * size * SHARE), int(size * SHARE)
    order = random.Random(1).sample(range(size), size)
    due = time.monotonic()
    lengths: Counter[int] = Counter()
    for turn in range(count):
        due += 1 / few
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        number = order[turn % (few if which == "same" else size)]
        line = f"{time.monotonic():.6f} {'y' * 180}\n".encode()
        lengths[number] += len(line)
        await client.append(key(number), len(FIRST) + lengths[number] - len(line), line)
    print(count, flush=True)


# --- all rest


def idle(size: int) -> dict[str, object]:
    """`start = "end"`: nothing of them is read."""
    with oss_local() as server:
        base = base_memory(server)
        with writer(server, "fill", str(size)):
            pass
        return resting(server, size, "oss://bench/logs/*.log", base)


def many(size: int) -> dict[str, object]:
    """The same without a store: `oss-local` would need an hour to be given a million."""
    with made_up(size) as server:
        return resting(server, size, "oss://bench/*.log", base_memory(server))


def resting(server: Running, size: int, pattern: str, base: int) -> dict[str, object]:
    begun = time.monotonic()
    group = f'start = "end"\nlist_interval = "5s"\nmax_objects = {size}'
    with (
        tempfile.TemporaryDirectory() as folder,
        oss_tailer(server, Path(folder), pattern, 'type = "stdout"', group, 2) as tailer,
    ):
        ready, cycles = time.monotonic() - begun, "oss_tail_discovery_duration_seconds_count"
        until(lambda: tailer.metrics()[cycles] >= 3, every=0.5)
        before, cpu = tailer.metrics(), tailer.cpu()
        until(lambda: tailer.metrics()[cycles] >= before[cycles] + 2, every=0.5)
        after, used, memory = tailer.metrics(), tailer.cpu() - cpu, tailer.rss()
    made = after - before
    return {
        "objects": size, "cpu_per_cycle": used / made[cycles], "requests": made["oss_tail_requests_total"],
        "seconds_per_cycle": made["oss_tail_discovery_duration_seconds_sum"] / made[cycles], "ready_after": ready,
        "base_mib": base / 2**20, "bytes_per_object": (memory - base) / size,
    }  # fmt: skip


@contextlib.contextmanager
def made_up(size: int) -> Iterator[Running]:
    """A server of so many objects, as a process of its own; it ends with its standard input."""
    command = [sys.executable, "-m", "tests.many", str(size)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        keys = {"OSS_REGION": "cn-local", "OSS_ACCESS_KEY_ID": "any", "OSS_ACCESS_KEY_SECRET": "any"}
        yield Running(process.pid, {**keys, "OSS_ENDPOINT": process.stdout.readline().strip()})


# --- all grow


def together(size: int, seconds: int) -> dict[str, object]:
    """Mirrors of all, compared at the end byte for byte with what was appended. Objects and mirrors are on the disk."""
    turns = seconds // TURN
    with tempfile.TemporaryDirectory() as name, oss_local("--root", f"{name}/objects") as server:
        mirror, lags, sizes = Path(name) / "mirror", list[float](), list[float]()
        base, sink = base_memory(server), f'type = "file"\npath = "{mirror}"\nconcurrency = 16'
        group = 'list_interval = "1s"'
        with (
            oss_tailer(server, Path(name), "oss://bench/logs/*.log", sink, group, 2) as tailer,
            writer(server, "pour", str(size), str(turns)) as process,
        ):
            cpu, server_cpu, start = tailer.cpu(), server.cpu(), time.monotonic()
            while process.poll() is None:
                time.sleep(2.0)
                lags.append(tailer.metrics()["oss_tail_lag_bytes"] / 1e6)
                sizes.append((tailer.rss() - base) / 2**20)
            wall = time.monotonic() - start
            used, server_used = (tailer.cpu() - cpu) / wall, (server.cpu() - server_cpu) / wall
            assert process.stdout is not None
            pouring = json.loads(process.stdout.read())
            total = turns * size * share(size)
            until(lambda: mirrored(mirror) >= total, 60.0)
            caught_up, after = time.monotonic() - start - wall, tailer.metrics()
        wrong = differing(mirror, size, turns)
    halves = lags[: len(lags) // 2], lags[len(lags) // 2 :]
    return {
        "objects": size, "seconds": pouring["seconds"], "mb_per_second": total / pouring["seconds"] / 1e6, "cpu": used,
        "writer_cpu": pouring["cpu"], "server_cpu": server_used, "lag_mb_median": sorted(lags)[len(lags) // 2],
        "lag_mb_first_half": max(halves[0]), "lag_mb_second_half": max(halves[1]), "caught_up_after": caught_up,
        "differing": wrong, "over_base_mib_half_way": sizes[len(sizes) // 2], "over_base_mib": max(sizes),
        "requests": after["oss_tail_requests_total"], **unsound(after),
    }  # fmt: skip


def share(size: int) -> int:
    """Bytes that each of so many objects grows by at a time."""
    return RATE * TURN // size // 200 * 200


def mirrored(mirror: Path) -> int:
    return sum(path.stat().st_size for path in mirror.rglob("*.log"))


def differing(mirror: Path, size: int, turns: int) -> int:
    """How many mirrors are not what was appended."""
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as expected:
        for turn in range(turns):
            expected.write(piece(turn, share(size)))
        expected.flush()
        found = {path.name: path for path in mirror.rglob("*.log")}
        names = [f"{number:06}.log" for number in range(size)]
        return sum(n not in found or not filecmp.cmp(expected.name, found[n], shallow=False) for n in names)


def piece(turn: int, length: int) -> bytes:
    """What each object grows by at a time: lines of 200 bytes that say which turn it is."""
    return (b"%08d " % turn + b"z" * 190 + b"\n") * (length // 200)


async def pour(client: Client, size: int, turns: int) -> None:
    """Each object by its share each turn, one after another as evenly as can be; tell how long that took."""
    length = share(size)
    start = time.monotonic()

    async def some(first: int) -> None:
        for turn in range(turns):
            data = piece(turn, length)
            for number in range(first, size, AT_ONCE):
                due = start + TURN * (turn + number / size)
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await client.append(key(number), turn * length, data)

    await asyncio.gather(*(some(first) for first in range(AT_ONCE)))
    seconds = time.monotonic() - start
    print(json.dumps({"seconds": seconds, "cpu": time.process_time() / seconds}), flush=True)


def local_tail(size: int, seconds: int) -> dict[str, object]:
    """GNU `tail -F` on files that grow alike, into one file."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shm:
        names = [f"{shm}/{number:06}.log" for number in range(size)]
        files = [open(name, "ab", buffering=0) for name in names]  # noqa: SIM115 - closed below
        length, wrote = share(size), 0
        with open(f"{shm}/out", "wb") as out:
            process = subprocess.Popen(["tail", "-q", "-n", "+1", "-F", *names], stdout=out)
            time.sleep(1.0)
            tail, start = Tailer(process.pid, {}), time.monotonic()
            cpu = tail.cpu()
            for turn in range(seconds // TURN):
                data = piece(turn, length)
                for number, file in enumerate(files):
                    if number % 10 == 0:
                        time.sleep(max(0.0, start + TURN * (turn + number / size) - time.monotonic()))
                    wrote += file.write(data)
            wall = time.monotonic() - start
            until(lambda: Path(f"{shm}/out").stat().st_size >= wrote, 30.0)
            used, memory = (tail.cpu() - cpu) / wall, tail.rss()
            process.terminate()
            process.wait()
        for file in files:
            file.close()
    return {"by": "tail -F", "mb_per_second": wrote / wall / 1e6, "cpu": used, "rss_mib": memory / 2**20}


# --- for comparison


def heads(size: int) -> dict[str, object]:
    """A HEAD of each object a second, as far as that can be had, for 20 seconds."""
    with oss_local() as server:
        with writer(server, "fill", str(size)):
            pass
        with writer(server, "look", str(size)) as process:
            assert process.stdout is not None
            return dict(json.loads(process.stdout.read()))


async def look(client: Client, size: int) -> None:
    made, start, cpu = 0, time.monotonic(), time.process_time()

    async def some(first: int) -> None:
        nonlocal made
        turn = 0
        while time.monotonic() < start + 20.0:
            for number in range(first, size, AT_ONCE):
                await client.head(key(number))
                made += 1
            turn += 1
            await asyncio.sleep(max(0.0, start + turn - time.monotonic()))

    await asyncio.gather(*(some(first) for first in range(AT_ONCE)))
    wall, used = time.monotonic() - start, time.process_time() - cpu
    print(json.dumps({"objects": size, "heads": made / wall, "cpu": used / wall, "ms_each": used / made * 1000}))


async def as_writer(name: str, arguments: list[str]) -> None:
    async with connect(resolve_service(environ=dict(os.environ))) as client:
        match name, arguments:
            case "fill", [size]:
                await fill(client, int(size))
            case "append", [size, which]:
                await append(client, int(size), which)
            case "pour", [size, turns]:
                await pour(client, int(size), int(turns))
            case "look", [size]:
                await look(client, int(size))
            case _:
                sys.exit(__doc__)


def main(arguments: list[str]) -> None:
    match arguments:
        case ["grow", size, ("any" | "same") as which]:
            print(json.dumps(grow(int(size), which)))
        case ["idle", *sizes]:
            for size in sizes:
                print(json.dumps(idle(int(size))), flush=True)
        case ["many", size]:
            print(json.dumps(many(int(size))))
        case ["together", size, seconds]:
            print(json.dumps(together(int(size), int(seconds))))
        case ["tail", size, seconds]:
            print(json.dumps(local_tail(int(size), int(seconds))))
        case ["heads", size]:
            print(json.dumps(heads(int(size))))
        case [name, *rest]:
            asyncio.run(as_writer(name, rest))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
