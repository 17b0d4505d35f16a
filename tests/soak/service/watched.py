"""A service of the soak: its configuration, which changes all the time, and what is measured of its process."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from tests.soak.records import BUCKET
from tests.soak.service.churn import PREFIX
from tests.soak.service.receiver import LIFE
from tests.soak.world import LIFE_VARIABLE, Consumer, resident

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.soak.world import Server

OSS_TAILER = (sys.executable, "-c", "import sys; from tailer.cli.service import main; sys.exit(main())")
ALL = "logs/*.log"
_NEVER_WRONG = re.compile(r"^oss_tail_(?:gaps|overlaps)_total\{.*\} (\S+)$", re.MULTILINE)
_HASTY = 20  # SIGHUPs at once


class Sample(NamedTuple):
    """What one process of a service had in hand. `resident` in bytes; `moment` as of `time.monotonic`."""

    moment: float
    pid: int
    resident: int
    descriptors: int
    threads: int


class Service(Consumer):
    """`oss-tailer run` with a group into mirrors and a group into a receiver, through all its lives."""

    def __init__(self, name: str, folder: Path, server: Server, url: str, interval: float) -> None:
        config = folder / name / "service.toml"
        super().__init__(name, folder, server, [*OSS_TAILER, "run", str(config)])
        self.samples: list[Sample] = []
        self.told_gaps = 0.0
        self.unhealthy: list[str] = []
        self.reloads = 0
        self._has_mistakes = False
        self._config = config
        self._url = url
        self._interval = interval
        self._port = _free_port()

    @property
    def mirrors(self) -> Path:
        """The folder of the mirrors."""
        return self.folder / "mirror"

    def configure(self, mirrored: str = ALL, posted: str | None = ALL, more: str = "", poll_max: float = 10.0) -> None:
        """Write the file: which objects the groups have, `posted` None for no such group, `more` at its beginning."""
        text = f'checkpoint = "state.db"\n{more}\n[server]\nlisten = "127.0.0.1:{self._port}"\n'
        text += '[sinks.archive]\ntype = "file"\npath = "mirror"\n'
        text += f'[sinks.collector]\ntype = "http"\nurl = "{self._url}"\nconcurrency = 8\n'
        text += f'headers = {{ {LIFE} = {{ env = "{LIFE_VARIABLE}" }} }}\n'
        text += self._group("mirrors", mirrored, "archive") + f"poll_max = {poll_max}\n"
        if posted is not None:
            text += self._group("posts", posted, "collector") + 'integrity = "strict"\n'
        self._put(text)
        self._has_mistakes = False

    def reload(self, chance: random.Random) -> None:
        """Another configuration, told by the change of the file, or by many signals as well."""
        some = f"logs/*[{chance.choice(['0-4', '5-9', '13579'])}].log"
        change = chance.randrange(6)
        if change == 0:
            self.configure(mirrored=some)
        elif change == 1:
            self.configure(posted=some)
        elif change == 2:
            self.configure(posted=None)
        elif change == 3 and self.has_begun():  # one that is starting would end by it
            self._put('checkpoint = "state.db"\n[groups.mirrors]\nsink = "nowhere"\n')
            self._has_mistakes = True
        else:
            limits = chance.choice(["", "[limits]\nmax_requests_per_second = 5000\n", 'stuck = "4m"\n'])
            self.configure(more=limits, poll_max=chance.choice([5.0, 10.0]))
        if chance.random() < 0.5:
            self.hang_up()
        self.reloads += 1

    def mend(self) -> None:
        """A file without mistakes, where it has some: with them no service starts."""
        if self._has_mistakes:
            self.configure()

    def hang_up(self) -> None:
        """SIGHUP, many times. One that does not listen for signals yet would be ended by them, as by default."""
        if self.has_begun():
            for _ in range(_HASTY):
                self.life.process.send_signal(signal.SIGHUP)

    def has_begun(self) -> bool:
        return "msg=started" in self.life.stderr.read_text(errors="replace")

    def measure(self) -> None:
        """Take a sample of the process, and ask it how it is, once it has begun: until then it can only grow."""
        if not self.has_begun():
            return
        pid = self.pid
        with suppress(OSError):
            process = f"/proc/{pid}"
            counts = len(os.listdir(f"{process}/fd")), len(os.listdir(f"{process}/task"))
            if size := resident(pid):
                self.samples.append(Sample(time.monotonic(), pid, size, *counts))
        self.ask()

    def ask(self) -> None:
        """Whether it is healthy, and what its ledger says of gaps and overlaps."""
        try:
            self._get("healthz")
            self.told_gaps = max(self.told_gaps, sum(map(float, _NEVER_WRONG.findall(self._get("metrics")))))
        except urllib.error.HTTPError as error:
            self.unhealthy.append(error.read().decode(errors="replace").strip())
        except OSError as error:
            self.unhealthy.append(str(error))

    def is_at_rest(self) -> bool:
        """Has it read, delivered and committed all that it knows of?"""
        if not self.has_begun():
            return False
        status = json.loads(self.status())
        return bool(status["ready"]) and not any(group["lag"] or group["uncommitted"] for group in status["groups"])

    def status(self) -> str:
        """Its page of JSON."""
        return self._get("status.json")

    def _get(self, path: str) -> str:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self._port}/{path}", timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    def _group(self, name: str, objects: str, sink: str) -> str:
        named = f'"oss://{BUCKET}/{objects}", "oss://{BUCKET}/{PREFIX}*.log"'
        return (
            f'[groups.{name}]\nobjects = [{named}]\nsink = "{sink}"\n'
            f"list_interval = {self._interval}\npoll_min = {self._interval / 2}\n"
        )

    def _put(self, text: str) -> None:
        new = self._config.with_suffix(".new")
        new.write_text(text)
        new.replace(self._config)


def lives(samples: Sequence[Sample]) -> list[list[Sample]]:
    """The samples of each process apart."""
    found: dict[int, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.pid, []).append(sample)
    return list(found.values())


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port
