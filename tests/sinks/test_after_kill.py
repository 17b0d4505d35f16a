"""Sinks behind a checkpoint, in a process that is killed: nothing is lost, and what comes again is the same."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

import tailer.local

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATA = b"".join(b"line %d\n" % number for number in range(600_000))

# Follows argv[2] to its end with the sink argv[1], whose output goes to argv[3], behind the checkpoint argv[4].
READER = """
import asyncio, os, sys, time
from tailer.checkpoints import Checkpoints, CommitQueue
from tailer.config import resolve_service
from tailer.core.options import TailOptions
from tailer.core.position import Mark
from tailer.core.tail import Tail
from tailer.follow import Follower
from tailer.oss.address import parse_address
from tailer.oss.client import connect
from tailer.sinks.callback import Callback
from tailer.sinks.exec import CommandPerBatch
from tailer.sinks.http import HttpPost

kind, name, out, state = sys.argv[1:]

def keep(batch):
    part = f"{out}/{time.monotonic_ns()}-{batch.start}-{batch.end}"
    with open(part + ".new", "wb") as file:
        file.write(batch.data)
    os.rename(part + ".new", part)

COMMAND = f'''part={out}/$(date +%s%N)-$OSS_TAIL_START-$OSS_TAIL_END
cat > $part.new; [ $(wc -c < $part.new) = $((OSS_TAIL_END - OSS_TAIL_START)) ] && mv $part.new $part'''

def sink():
    if kind == "http":
        return HttpPost(out, largest_body=200_000)
    return Callback(keep) if kind == "callback" else CommandPerBatch(COMMAND)

async def run():
    address = parse_address(name)
    with Checkpoints.open(state, owner="test") as marks:
        async with connect(resolve_service(), [address]) as client:
            mark = marks.load(address.ref) or Mark()
            options = TailOptions(delimiter=b"\\n", max_window=100_000)
            tail = Tail(address.ref, options, mark, now=time.monotonic())
            follower = Follower(client, tail, sink(), store=CommitQueue(marks), commit_bytes=500_000)
            await follower.run()

asyncio.run(run())
"""


class Kept:
    """What arrived, in the order of its arrival: start, end and the bytes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.posted: list[tuple[int, int, bytes]] = []

    def all(self) -> list[tuple[int, int, bytes]]:
        found = []
        for path in sorted(path for path in self._folder.iterdir() if not path.name.endswith(".new")):
            _, start, end = path.name.split("-")
            found.append((int(start), int(end), path.read_bytes()))
        return found + self.posted

    def count(self) -> int:
        return len(os.listdir(self._folder)) + len(self.posted)


@contextlib.contextmanager
def web(kept: Kept) -> Iterator[str]:
    """A server that keeps what is POSTed; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            start, end = (int(self.headers[f"X-OSS-Tail-{name}"]) for name in ("Start", "End"))
            if len(body) == end - start:
                kept.posted.append((start, end, body))
                self.send_response(204)
                self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/in"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("kind", ["callback", "exec", "http"])
def test_after_a_kill_every_byte_comes_at_least_once(kind: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    kept, chance, kills = Kept(tmp_path / "out"), random.Random(kind), 0
    with tailer.local.running(["bucket"]) as server, web(kept) as url:
        server.store.append("bucket", "k", 0, DATA)
        where = url if kind == "http" else str(tmp_path / "out")
        command = [sys.executable, "-c", READER, kind, "oss://bucket/k", where, str(tmp_path / "state.db")]
        environment = {**os.environ, **server.environment(), "HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
        for run in range(8):
            enough = kept.count() + chance.randrange(1, 12) if run < 4 else 10**9
            with subprocess.Popen(command, env=environment) as reader:
                while reader.poll() is None and kept.count() < enough:
                    time.sleep(0.001)
                if reader.poll() is None:
                    reader.kill()
                    kills += 1
            assert reader.returncode in (0, -9)
            if reader.returncode == 0:
                break
    assert kills >= 2
    reached = 0
    for start, end, data in kept.all():
        assert start <= reached, "a gap"
        assert data == DATA[start:end]
        reached = max(reached, end)
    assert reached == len(DATA)
