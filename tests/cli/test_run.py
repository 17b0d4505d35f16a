"""`oss-tailer run` as a process: signals, exit statuses, and what is left after it is killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

import tailer.local
from tailer.checkpoints import read_all
from tailer.cli.run import _run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-c", "import sys; from tailer.cli.service import main; sys.exit(main())", "run"]

GROUP = """
[groups.{name}]
objects = ["oss://logs/{objects}"]
sink = "{sink}"
list_interval = 0.2
poll_min = 0.1
"""


def group(name: str, sink: str, objects: str = "**") -> str:
    return GROUP.format(name=name, sink=sink, objects=objects)


class World:
    """A server, a folder with a configuration, and processes that are ended at the end."""

    def __init__(self, server: tailer.local.LocalServer, folder: Path) -> None:
        self.server = server
        self.config = folder / "service.toml"
        self.mirror = folder / "mirror"
        self.log = folder / "log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("OSS", "ALIBABA"))},
            **server.environment(),
            "HOME": str(folder),
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        self.folder = folder

    def write(self, *tables: str, listen: str = "false", head: str = "") -> None:
        sink = f'[sinks.mirror]\ntype = "file"\npath = "{self.mirror}"\n'
        new = self.config.with_suffix(".new")
        new.write_text(f'checkpoint = "state.db"\n{head}\n[server]\nlisten = {listen}\n' + sink + "".join(tables))
        new.replace(self.config)

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen([*COMMAND, str(self.config)], env=self.environment, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def run(self) -> tuple[int, str]:
        """To its end, which is to come at once."""
        done = subprocess.run(
            [*COMMAND, str(self.config)], env=self.environment, capture_output=True, timeout=60, check=False
        )
        return done.returncode, done.stderr.decode()

    def append(self, key: str, data: bytes) -> None:
        found = self.server.store.find("logs", key)
        self.server.store.append("logs", key, found.size if found else 0, data)

    def object(self, key: str) -> bytes:
        return self.server.store.read("logs", key)

    def mirrored(self, key: str) -> bytes:
        path = self.mirror / "logs" / key
        return path.read_bytes() if path.exists() else b""

    def wait_for(self, is_so: Callable[[], object], what: str, seconds: float = 40.0) -> None:
        deadline = time.monotonic() + seconds
        while not is_so():
            assert all(one.poll() is None for one in self.processes[-1:]), f"it ended before {what}:\n{self.said()}"
            assert time.monotonic() < deadline, f"not in {seconds} s: {what}\n{self.said()}"
            time.sleep(0.02)

    def knows(self, group: str, keys: Iterable[str]) -> bool:
        """Has the group a checkpoint of each of them?"""
        path = self.folder / "state.db"
        known = {one.ref.key for one in read_all(path, group)} if path.exists() else set()
        return known.issuperset(keys)

    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with tailer.local.running(["logs"]) as server:
        made = World(server, tmp_path)
        yield made
        for process in made.processes:
            process.kill()
            process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_when_all_is_delivered_and_committed(world: World, number: signal.Signals) -> None:
    world.append("a.log", b"one\n")
    world.write(group("web", "mirror"))
    process = world.start()
    world.wait_for(lambda: world.mirrored("a.log") == b"one\n", "the first line")
    process.send_signal(number)
    assert process.wait(30) == 0
    lines = world.said().splitlines()
    assert "msg=started" in lines[0]
    assert "msg=stopped" in lines[-1]
    kept = subprocess.run(
        [*COMMAND[:-1], "checkpoints", "list", str(world.folder / "state.db")], capture_output=True, check=True
    )
    assert kept.stdout.decode().splitlines()[1].split()[:3] == ["web", "4", "4"]


def test_what_is_in_hand_and_takes_too_long_is_said_and_comes_again(world: World) -> None:
    begun = world.folder / "begun"
    sink = f'[sinks.slow]\ntype = "exec"\ncommand = ["sh", "-c", "touch {begun}; exec sleep 60"]\n'
    world.append("a.log", b"one\n")
    world.write(sink, group("web", "slow"), head='drain = "200ms"')
    process = world.start()
    world.wait_for(begun.exists, "the command")
    process.terminate()
    assert process.wait(30) == 1
    assert "nothing is lost" in world.said()
    world.write(group("web", "mirror"))
    world.start()
    world.wait_for(lambda: world.mirrored("a.log") == b"one\n", "the line that had not been delivered")


def test_it_gives_memory_back_for_as_long_as_it_runs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    happened = []

    async def give_back() -> None:
        happened.append("began")
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            happened.append("ended")

    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tailer.cli.run.give_memory_back", give_back)
    world.write(group("web", "mirror"))
    assert asyncio.run(_run(str(world.config))) == 0
    assert happened == ["began", "ended"]


def test_a_port_that_is_taken_is_one_line_and_exit_status_2(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        world.write(group("web", "mirror"), listen=f'"127.0.0.1:{port}"')
        status, stderr = world.run()
    assert status == 2
    hint = "[server] listen says where, or false"
    assert stderr == f"oss-tailer: cannot serve on 127.0.0.1:{port}: Address already in use ({hint})\n"


def test_all_mistakes_of_the_file_are_said_with_exit_status_2(world: World) -> None:
    world.config.write_text(
        'checkpoint = "state.db"\n[groups.web]\nobjects = ["oss://logs/*"]\nsink = "nowhere"\npoll_mn = 1\n'
    )
    status, stderr = world.run()
    assert status == 2
    assert len(stderr.splitlines()) == 2
    assert "groups.web.poll_mn" in stderr
    assert "nowhere" in stderr


def test_a_sighup_before_it_has_begun_does_not_end_it(tmp_path: Path) -> None:
    program = """
import os, signal, sys
from tailer import logs
from tailer.cli.service import main
set_up = logs.set_up
logs.set_up = lambda *how: (os.kill(os.getpid(), signal.SIGHUP), set_up(*how))
sys.exit(main(["run", "nowhere.toml"]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "nowhere.toml" in done.stderr


def test_a_hundred_sighups_a_second_are_a_few_reloads_and_hold_nothing_up(world: World) -> None:
    world.append("a.log", b"one\n")
    world.write(group("web", "mirror"))
    process = world.start()
    world.wait_for(lambda: world.mirrored("a.log") == b"one\n", "the first line")
    begun = time.monotonic()
    for number in range(150):
        process.send_signal(signal.SIGHUP)
        if number == 75:
            world.append("a.log", b"two\n")
        time.sleep(0.01)
    world.wait_for(lambda: world.mirrored("a.log") == b"one\ntwo\n", "the second line")
    world.wait_for(lambda: "the configuration was read again" in world.said(), "a reload")
    reloads = world.said().count("the configuration was read again")
    assert reloads <= 2 + 2 * (time.monotonic() - begun)
    process.terminate()
    assert process.wait(30) == 0


def test_a_second_one_on_the_same_group_is_refused_with_one_line(world: World) -> None:
    world.append("a.log", b"one\n")
    world.write(group("web", "mirror"))
    first = world.start()
    world.wait_for(lambda: world.mirrored("a.log"), "the first one")
    status, stderr = world.run()
    assert status == 1
    assert len(stderr.splitlines()) == 1
    assert "'web'" in stderr
    assert str(first.pid) in stderr
    assert first.poll() is None


def test_the_log_is_json_and_the_port_is_told_when_that_is_asked_for(world: World) -> None:
    world.append("a.log", b"one\n")
    world.write(group("web", "mirror"), head='log_format = "json"', listen='"127.0.0.1:0"')
    process = world.start()
    world.wait_for(lambda: '"url"' in world.said(), "the port")
    world.wait_for(lambda: world.mirrored("a.log"), "the first line")
    lines = [json.loads(line) for line in world.said().splitlines()]
    url = next(line["url"] for line in lines if "url" in line)
    with urllib.request.urlopen(f"{url}healthz", timeout=10) as answer:
        assert answer.read() == b"ok\n"
    process.terminate()
    assert process.wait(30) == 0
    secret = world.environment["OSS_ACCESS_KEY_SECRET"]
    assert secret not in world.said()


# --- killed


class Receiver:
    """Takes POSTs: what came of each object, and whether anything was left out in between."""

    def __init__(self) -> None:
        self.data: dict[str, bytearray] = defaultdict(bytearray)
        self.gaps: list[tuple[str, int, int]] = []
        self.differs: list[tuple[str, int]] = []
        self.lock = threading.Lock()

    def take(self, name: str, start: int, body: bytes) -> None:
        with self.lock:
            known = self.data[name]
            if start > len(known):
                self.gaps.append((name, len(known), start))
            if known[start : start + len(body)] != body[: max(0, len(known) - start)]:
                self.differs.append((name, start))
            known[start : start + len(body)] = body

    @contextlib.contextmanager
    def serving(self) -> Iterator[int]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) == length:  # else its sender was killed
                    receiver.take(self.headers["X-OSS-Tail-Object"], int(self.headers["X-OSS-Tail-Start"]), body)
                    with contextlib.suppress(ConnectionError):
                        self.send_response(204)
                        self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """Connections of one that is killed break."""

        with Server(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield server.server_address[1]
            server.shutdown()
            thread.join()


class Producer:
    """Appends lines to many objects, by chance, until it is told to end."""

    def __init__(self, world: World, keys: list[str], seed: int) -> None:
        self._world = world
        self._keys = keys
        self._chance = random.Random(seed)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.appends = 0

    def __enter__(self) -> Producer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(0.004):
            key = self._chance.choice(self._keys)
            lines = b"".join(b"%s %d\n" % (key.encode(), self._chance.getrandbits(64)) for _ in range(20))
            self._world.append(key, lines[: self._chance.randrange(1, len(lines))])
            self.appends += 1


FAULTS = (
    tailer.local.Fault("reset", probability=0.02),
    tailer.local.Fault("cut", operation="GetObject", at=50, probability=0.02),
    tailer.local.Fault("flip-bit", at=40, probability=0.02),
    tailer.local.Fault("status", probability=0.02),
)


def test_kills_and_reloads_leave_mirrors_exact_and_lose_nothing_on_the_way_to_a_server(world: World) -> None:
    """Thirty objects into a mirror (exactly once) and by HTTP (at least once), under kill -9, SIGHUP and faults.

    Two more are replaced again and again, as soon as a checkpoint knows them: whatever the kills break off, their
    mirrors are the last of them in the end.
    """
    keys, replaced = [f"app-{number}.log" for number in range(30)], ["new-0.log", "new-1.log"]
    receiver, chance = Receiver(), random.Random(5)
    for fault in FAULTS:
        world.server.faults.add(fault)
    with receiver.serving() as port:
        http = f'[sinks.http]\ntype = "http"\nurl = "http://127.0.0.1:{port}/"\n'
        tables = http, group("mirrors", "mirror"), group("posts", "http", "app-*")
        world.write(*tables)
        with Producer(world, [*keys, *replaced], 7) as producer:
            for number in range(4):
                started, before = world.said().count("msg=started"), producer.appends
                process = world.start()
                world.wait_for(lambda started=started: world.said().count("msg=started") > started, "a start")
                for _ in range(100):
                    process.send_signal(signal.SIGHUP)
                    time.sleep(0.002)
                world.write(*tables, f"poll_max = {20 + number}\n")
                world.wait_for(lambda before=before: producer.appends > before + 100, "some appends")
                time.sleep(chance.uniform(0.1, 0.6))
                world.wait_for(lambda: world.knows("mirrors", replaced), "checkpoints of what is to be replaced")
                for key in replaced:
                    world.server.store.delete("logs", key)
                time.sleep(chance.uniform(0.0, 0.3))
                assert process.poll() is None, world.said()
                process.kill()
                process.wait()
        world.server.faults.clear()
        for key in [*keys, *replaced]:
            world.append(key, b" the end\n")
        process = world.start()
        for key in [*keys, *replaced]:
            world.wait_for(lambda key=key: world.mirrored(key) == world.object(key), f"a mirror of {key} as it is")
        for key in keys:
            got = receiver.data[f"oss://logs/{key}"]
            world.wait_for(lambda key=key, got=got: got == world.object(key), f"all of {key}, posted")
        process.terminate()
        assert process.wait(30) == 0
    assert 'msg="the configuration was read again"' in world.said()
    assert receiver.gaps == []
    assert receiver.differs == []
    left = {path.name.partition("%g")[0] for path in (world.mirror / "logs").iterdir()}
    assert left == {*keys, *replaced}, "no note, no half of a generation"
