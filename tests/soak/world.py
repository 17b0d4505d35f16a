"""The processes of a soak: a server that is killed, consumers that are killed, faults that change all the time."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tests.soak.records import BUCKET, key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parent.parent.parent
OSS_TAIL = (sys.executable, "-c", "import sys; from tailer.cli.tail import main; sys.exit(main())")
OSS_LOCAL = (sys.executable, "-c", "import sys; from tailer.cli.local import main; sys.exit(main())")
_FOREIGN = ("OSS", "ALIBABA", "HTTP", "http", "NO_PROXY", "no_proxy")
LIFE_VARIABLE = "SOAK_LIFE"  # in the environment of a consumer: which of its lives it is, from 0
_START_SECONDS = 60.0
_PRODUCERS = 2


def clean_environment(home: Path) -> dict[str, str]:
    """Nobody's configuration, and this very checkout."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {**inherited, "HOME": str(home), "PYTHONPATH": str(ROOT)}


class Server:
    """`oss-local --root`, on the same port in each of its lives."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.environment = clean_environment(folder)
        self.restarts = 0
        self.hit: Counter[str] = Counter()
        self._faults_file = folder / "faults.json"
        self._faults_file.write_text("[]")
        self._log = folder / "server.log"
        self._port = "0"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns when it listens. Raises RuntimeError when it does not come up."""
        command = [*OSS_LOCAL, "--root", str(self.root), "--bucket", BUCKET, "--port", self._port]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--faults", str(self._faults_file)],
                env=self.environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        lines = iter(self._process.stdout.readline, "")
        exports = re.findall(r"^export (\w+)=(\S+)$", "".join(_until_unset(lines)), re.MULTILINE)
        if not exports:
            raise RuntimeError(f"oss-local did not come up: {self._log.read_text()[-500:]}")
        self.environment.update((name, value.strip("'")) for name, value in exports)
        self._port = self.environment["OSS_ENDPOINT"].rpartition(":")[2]

    def kill(self) -> None:
        """With -9, in the middle of whatever it does."""
        self._count_hits()
        self.stop()

    def restart(self, downtime: float) -> None:
        """Kill it, and start it again on the same port over the same folder after `downtime` seconds."""
        self.kill()
        time.sleep(downtime)
        self.start()
        self.restarts += 1

    def stop(self) -> None:
        """Kill it if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def suffer(self, faults: Sequence[dict[str, object]], seed: int) -> None:
        """These faults instead of those in force."""
        self._count_hits()
        self._ask(json.dumps({"replace": list(faults), "seed": seed}).encode())

    def suffer_also(self, faults: Sequence[dict[str, object]]) -> None:
        """These faults as well."""
        self._ask(json.dumps(list(faults)).encode())

    def suffer_from_start(self, faults: Sequence[dict[str, object]]) -> None:
        """These faults from the first request of its next life on."""
        self._faults_file.write_text(json.dumps(list(faults)))

    def recover(self) -> None:
        """No more faults."""
        self.suffer_from_start([])
        self.suffer([], 0)

    def sizes(self, count: int) -> list[int]:
        """How long each object is now, in bytes; 0 for one that is not there yet."""
        return [_size(self.root / BUCKET / key_of(number)) for number in range(count)]

    def _count_hits(self) -> None:
        with suppress(OSError):  # it does not answer in time: then these are not counted
            for fault in self._ask(None)["faults"]:
                self.hit[_name(fault)] += fault["injected"]

    def _ask(self, body: bytes | None) -> dict[str, list[dict[str, int]]]:
        url = f"{self.environment['OSS_ENDPOINT']}/-/faults"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            report: dict[str, list[dict[str, int]]] = json.load(answer)
            return report


def _until_unset(lines: object) -> list[str]:
    """What oss-local prints, up to its last line."""
    taken = []
    for line in lines:  # type: ignore[attr-defined]
        taken.append(line)
        if line.startswith("unset"):
            break
    return taken


def _name(fault: dict[str, object]) -> str:
    kind = str(fault["kind"])
    return f"{kind} {fault['status']}" if kind in ("status", "html", "malformed-xml") else kind


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class Nemesis:
    """Which faults are in force: a new draw each time, so that every kind has its turn.

    What makes one reading wrong (`flip-bit`, `flip-crc`) hits one request and then another object: the same wrong
    bytes twice in a row are, by the rules, not noise but another object.
    """

    def __init__(self, chance: random.Random, objects: int) -> None:
        self._chance = chance
        self._objects = objects
        self._turn = 0
        self._before: list[int] = []
        self._grown: Counter[int] = Counter()

    def seed(self) -> int:
        """Where the server's chance begins anew."""
        return self._chance.randrange(1 << 30)

    def downtime(self) -> float:
        """For how many seconds the server is away."""
        return self._chance.choice([0.0, 0.0, 0.5, 2.0])

    def victim(self, consumers: Sequence[Consumer]) -> tuple[Life, float]:
        """Whom to kill while a burst is read, and in how many seconds."""
        return self._chance.choice(consumers).life, self._chance.uniform(0.2, 2.5)

    def forget_growth(self) -> None:
        """The server was started anew, and knows only one state of each object."""
        self._before = []
        self._grown.clear()

    def always(self) -> list[dict[str, object]]:
        """What can go wrong with any request at all times."""
        chance = self._chance
        return [
            {"kind": "status", "status": 503, "probability": 0.01},
            {"kind": "status", "status": 500, "code": "InternalError", "probability": 0.01},
            {"kind": "status", "status": 429, "code": "QpsLimitExceeded", "delay_ms": 300, "probability": 0.005},
            {"kind": "reset", "probability": 0.005},
            {"kind": "reset", "operation": "GetObject", "at": chance.randrange(1, 5000), "probability": 0.02},
            {"kind": "cut", "operation": "GetObject", "at": chance.randrange(1, 5000), "probability": 0.02},
            {"kind": "lose-answer", "operation": "AppendObject", "probability": 0.03},
            {"kind": "stall", "operation": "*Object", "seconds": chance.uniform(0.1, 1.5), "probability": 0.003},
        ]

    def draw(self, sizes: Sequence[int]) -> list[dict[str, object]]:
        """What goes wrong for the next seconds."""
        chance = self._chance
        sometimes: list[dict[str, object]] = [
            {"kind": "ignore-range", "operation": "GetObject", "probability": 0.02},
            {"kind": "shift-range", "operation": "GetObject", "by": chance.choice([-7, 1, 100]), "probability": 0.02},
            {"kind": "wrong-length", "operation": "GetObject", "by": chance.choice([-3, 5]), "probability": 0.02},
            {"kind": "html", "status": 502, "probability": 0.01},
            {"kind": "html", "status": 200, "operation": "GetObject", "probability": 0.01},
            {"kind": "malformed-xml", "status": 503, "probability": 0.01},
            {"kind": "slow", "operation": "GetObject", "rate": 200_000, "probability": 0.02},
            {"kind": "stall", "operation": "GetObject", "seconds": 1.0, "at": 100, "probability": 0.01},
            {"kind": "status", "status": 503, "operation": "HeadObject", "probability": 0.5, "count": 100},
        ]
        return [*self.always(), *chance.sample(sometimes, 4), *self._stale(sizes), *self._noise(sizes)]

    def _stale(self, sizes: Sequence[int]) -> list[dict[str, object]]:
        """HEADs as of before the last append, of objects that grew often enough for the server to know that."""
        self._grown.update(number for number, before in enumerate(self._before) if sizes[number] > before)
        self._before = list(sizes)
        known = [number for number, times in self._grown.items() if times >= 2]
        chosen = self._chance.sample(known, min(10, len(known)))
        return [{"kind": "stale-head", "key": key_of(number), "probability": 0.5} for number in chosen]

    def burst(self, number: int, before: int, after: int) -> list[dict[str, object]]:
        """What goes wrong while the object's burst [before, after) is read.

        A bit turned over in each of the first readings, near the beginning, and slow windows behind it: so that
        for some seconds a consumer that catches up has bytes whose proof is still to come, and may fail.
        """
        chance = self._chance
        gets: dict[str, object] = {"key": key_of(number), "operation": "GetObject"}
        near = min(after, before + (1 << 19))
        flips = [
            {**gets, "kind": "flip-bit", "at": chance.randrange(before, near), "after": spared, "count": 1}
            for spared in range(4)
        ]
        return [*flips, {**gets, "kind": "slow", "rate": 400_000, "after": 1, "count": 8, "probability": 0.4}]

    def _noise(self, sizes: Sequence[int]) -> list[dict[str, object]]:
        """A bit turned over: in bytes that are about to be read for the first time, or in the CRC-64 stated."""
        noise: list[dict[str, object]] = []
        for _ in range(6):
            number = self._turn = (self._turn + 1) % self._objects
            at = max(0, sizes[number] + self._chance.randrange(-1 << 9, 1 << 11))
            noise.append({"kind": "flip-bit", "key": key_of(number), "at": at, "count": 1})
        number = self._turn = (self._turn + 1) % self._objects
        noise.append({"kind": "flip-crc", "key": key_of(number), "count": 1})
        return noise


@dataclass
class Life:
    """One process of a consumer: what it wrote, and how it ended. Times as of `time.monotonic`.

    `growth`: (moment, size of `out`), sampled, so that it is known when a byte was delivered.
    """

    process: subprocess.Popen[bytes]
    out: Path
    stderr: Path
    began: float
    until: float = float("inf")
    killed: float | None = None
    growth: list[tuple[float, int]] = field(default_factory=list)

    def sample(self) -> None:
        """Note how much is delivered."""
        size = _size(self.out)
        if not self.growth or self.growth[-1][1] != size:
            self.growth.append((time.monotonic(), size))


class Consumer:
    """One consumer through all its lives. `command` makes its command line; `{out}` in it is this life's output."""

    def __init__(self, name: str, folder: Path, server: Server, command: Sequence[str]) -> None:
        self.name = name
        self.folder = folder / name
        (self.folder / "lives").mkdir(parents=True)
        self.lives: list[Life] = []
        self.kills = 0
        self.by_itself: list[str] = []
        self._command = command
        self._server = server

    @property
    def life(self) -> Life:
        """The present one, or the last."""
        return self.lives[-1]

    @property
    def pid(self) -> int:
        return self.life.process.pid

    def start(self, seconds: float = float("inf"), more: Sequence[str] = ()) -> None:
        """A new life, to be killed in so many seconds."""
        out = self.folder / "lives" / f"{len(self.lives):04d}.out"
        stderr = out.with_suffix(".err")
        command = [part.replace("{out}", str(out)) for part in (*self._command, *more)]
        with out.open("ab") as stdout, stderr.open("ab") as errors:
            process = subprocess.Popen(
                command,
                env={**self._server.environment, LIFE_VARIABLE: str(len(self.lives))},
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=errors,
            )
        now = time.monotonic()
        self.lives.append(Life(process, out, stderr, now, now + seconds))

    def kill(self) -> None:
        """With -9, in the middle of whatever it does."""
        life = self.life
        if life.process.poll() is not None:
            self.note_end()
            return
        life.killed = time.monotonic()
        life.process.kill()
        life.process.wait()
        life.sample()
        self.kills += 1

    def note_end(self) -> None:
        """It ended though nobody told it to."""
        life = self.life
        life.sample()
        self.by_itself.append(f"{life.stderr.name}: status {life.process.returncode}: {last_line(life.stderr)}")

    def end(self, seconds: float) -> int | None:
        """Wait until it ends by itself; kill it when that takes too long, and give None."""
        try:
            return self.life.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.stop()
            return None
        finally:
            self.life.sample()

    def terminate(self, seconds: float) -> int | None:
        """SIGTERM, and what it ended with."""
        self.life.process.terminate()
        return self.end(seconds)

    def stop(self) -> None:
        """Leave nothing running."""
        if self.lives and self.life.process.poll() is None:
            self.life.process.kill()
            self.life.process.wait()


class Producers:
    """The processes of `tests.soak.producer`, which share `objects` objects among them."""

    def __init__(self, folder: Path, server: Server, *, objects: int, seed: int, pause: float, bursting: int) -> None:
        self._folder = folder
        self._server = server
        self._objects = objects
        self._settings = {"seed": seed, "bursting": bursting, "pause": pause}
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Returns when every object is there. Raises RuntimeError when that takes too long."""
        edges = [self._objects * part // _PRODUCERS for part in range(_PRODUCERS + 1)]
        for first, last in pairwise(edges):
            wanted = {"first": first, "last": last, **self._settings}
            arguments = [f"--{name}={value}" for name, value in wanted.items()]
            with (self._folder / f"producer-{first}.err").open("wb") as log:
                report = f"--report={self._folder}/producer-{first}.json"
                command = ["tests.soak.producer", *arguments, report]
                self._processes.append(start_process(command, self._server.environment, log))
        if not wait_until(lambda: all(self._server.sizes(self._objects))):
            raise RuntimeError("the producers did not begin")

    def end(self) -> list[dict[str, object]]:
        """What each object came to. Raises RuntimeError when a producer failed."""
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        reports: list[dict[str, object]] = []
        for process in self._processes:
            process.wait(120)
        for path in sorted(self._folder.glob("producer-*.json")):
            reports += json.loads(path.read_text())
        if len(reports) != self._objects:
            errors = "".join(path.read_text() for path in sorted(self._folder.glob("producer-*.err")))
            raise RuntimeError(f"a producer failed: {errors}")
        return reports

    def stop(self) -> None:
        """Leave nothing running."""
        for process in self._processes:
            process.kill()
            process.wait()


def resident(pid: int) -> int:
    """Bytes in memory (proc(5), VmRSS); 0 for a process that ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
    return 0


def last_line(path: Path) -> str:
    """The last line of a log, for a message."""
    lines = path.read_text(errors="replace").splitlines()
    return lines[-1] if lines else ""


def start_process(arguments: Sequence[str], environment: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """A process of the harness itself."""
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )


def wait_until(is_so: Callable[[], bool], seconds: float = _START_SECONDS) -> bool:
    """Whether it became so in time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
