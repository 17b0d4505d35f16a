"""The main job, live, on this machine alone: ``make demo``, or ``make demo FILE=/var/log/some.log``.

A producer appends a real file in irregular pieces, then live lines, to an object in `oss-local`;
``oss-tail -F`` follows it. At the end the output is compared with the object and one line says how it went.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from tailer.config import resolve_service
from tailer.core import crc64
from tailer.core.position import ObjectRef
from tailer.oss.client import connect

REF = ObjectRef("demo", "app.log")
INTERVAL = 0.1
LIVE_LINES = 40
MOST = 8 * 1024 * 1024


@dataclass
class Ledger:
    """What was appended and when; what came out and when. Offsets in bytes, times in seconds."""

    appended: bytearray = field(default_factory=bytearray)
    ends: list[tuple[int, float]] = field(default_factory=list)
    output: bytearray = field(default_factory=bytearray)
    came: list[tuple[int, float]] = field(default_factory=list)

    def latencies(self) -> list[float]:
        """From the answer to an append until its last byte was read from oss-tail's output."""
        taken, reads = [], iter(self.came)
        offset, when = next(reads, (0, 0.0))
        for end, acknowledged in self.ends:
            while offset < end:
                offset, when = next(reads)
            taken.append(max(0.0, when - acknowledged))
        return taken


def default_file() -> Path:
    """A real file that every machine with Python has, if there is no log to be had."""
    candidates = ["/var/log/syslog", "/var/log/dpkg.log", "/var/log/dnf.log", argparse.__file__]
    return next(Path(name) for name in candidates if os.access(name, os.R_OK) and os.path.getsize(name))


def pieces(data: bytes, chance: random.Random) -> list[bytes]:
    """Cut at random, from a few bytes to a tenth of it all, without regard to lines."""
    cuts, at = [], 0
    while at < len(data):
        size = int(len(data) ** chance.uniform(0.3, 0.85)) + 1
        cuts.append(data[at : at + size])
        at += size
    return cuts


async def produce(data: bytes, ledger: Ledger) -> None:
    """Append the file as fast as it goes, then a live line every 0.1 s or so."""
    chance = random.Random(20)
    async with connect(resolve_service()) as client:

        async def append(piece: bytes) -> None:
            result = await client.append(REF, len(ledger.appended), piece)
            ledger.appended += piece
            ledger.ends.append((len(ledger.appended), time.monotonic()))
            if result.crc64 != crc64.update(ledger.appended):
                raise SystemExit("demo: the service states another CRC-64 than that of the bytes appended")

        for piece in pieces(data, chance):
            await append(piece)
            await asyncio.sleep(chance.uniform(0, 0.03))
        for number in range(1, LIVE_LINES + 1):
            await append(f"{time.strftime('%H:%M:%S')} live line {number} of {LIVE_LINES}\n".encode())
            await asyncio.sleep(chance.uniform(0.05, 0.2))


async def consume(stream: asyncio.StreamReader, ledger: Ledger, live_from: int) -> None:
    """Take what oss-tail prints, note when, and show the live lines."""
    while data := await stream.read(1 << 16):
        ledger.output += data
        ledger.came.append((len(ledger.output), time.monotonic()))
        shown = max(live_from, len(ledger.output) - len(data))
        sys.stdout.write(bytes(ledger.output[shown:]).decode(errors="replace"))
        sys.stdout.flush()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def links_verified(port: int) -> int:
    """Read from the metrics of oss-tail how many statements of the service matched."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        found = re.search(r'^oss_tail_integrity_checks_total\{result="ok"\} (\S+)', answer.read().decode(), re.M)
    return int(float(found.group(1))) if found else 0


async def follow(path: Path, data: bytes) -> int:
    port = free_port()
    command = ["oss-tail", "-F", "-c", "+1", "-s", str(INTERVAL), "--metrics", str(port), str(REF)]
    print(f"$ {' '.join(command)}\n  ({path}, {len(data):,} bytes, in irregular pieces; then {LIVE_LINES} live lines)")
    print(f"  (metrics: http://127.0.0.1:{port}/metrics)", flush=True)
    ledger = Ledger()
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    consumer = asyncio.create_task(consume(process.stdout, ledger, len(data)))
    await produce(data, ledger)
    deadline = time.monotonic() + 5
    while len(ledger.output) < len(ledger.appended) and time.monotonic() < deadline:  # noqa: ASYNC110 - a deadline
        await asyncio.sleep(0.02)
    links = await asyncio.to_thread(links_verified, port)
    process.terminate()
    await asyncio.gather(consumer, process.wait())
    return report(ledger, links)


def report(ledger: Ledger, links: int) -> int:
    whole = bytes(ledger.output) == bytes(ledger.appended)
    if not whole:
        print(f"demo: FAILED, {len(ledger.appended):,} bytes appended, {len(ledger.output):,} came out, not the same")
        return 1
    latency = statistics.median(ledger.latencies()) * 1000
    print(
        f"demo: {len(ledger.output):,} bytes in {len(ledger.ends)} appends, {links} links verified, "
        f"median append-to-output {latency:.0f} ms at a {INTERVAL * 1000:.0f} ms poll, "
        "the chain holds and the output equals the object"
    )
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=None)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    path = options.file or default_file()
    if not os.access(path, os.R_OK) or not path.is_file():
        print(f"demo: cannot read {path}", file=sys.stderr)
        return 2
    if options.inside:
        return asyncio.run(follow(path, path.read_bytes()[:MOST]))
    again = [sys.executable, __file__, "--inside", "--file", str(path)]
    print(f"$ oss-local --bucket {REF.bucket} -- ...", flush=True)
    return subprocess.run(["oss-local", "--bucket", REF.bucket, "--", *again], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
