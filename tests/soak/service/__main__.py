"""``make soak-service``: the service under kill -9, reloads and faults for an hour, and not one byte may be lost.

Two of them follow the same objects: one is killed again and again, the other never. See docs/soak.md. Exit status 1
when something that is promised does not hold; the evidence is then kept.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tailer.core.position import ObjectRef
from tailer.sinks.names import mirror_path
from tests.soak.records import BUCKET, key_of
from tests.soak.service.churn import volatile_key
from tests.soak.service.plot import plot
from tests.soak.service.receiver import Posts, receiving
from tests.soak.service.verdict import (
    judge_copies,
    judge_health,
    judge_ledgers,
    judge_lives,
    judge_posts,
    judge_slopes,
)
from tests.soak.service.watched import Service
from tests.soak.verdict import Row, Truth, conduct, judge_producers
from tests.soak.world import Nemesis, Producers, Server, start_process, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

_LOOK = 0.1  # seconds, as all of these
_FAULTS_CHANGE = 3.0
_PROGRESS = 15.0
_CATCH_UP = 240.0
_BURSTING = 4
_REFUSED = 0.01  # of the POSTs, by the receiver


class Clock:
    """Says when something is due that is to be done every `pause` seconds, from `first` on."""

    def __init__(self, first: float, pause: float) -> None:
        self._next = time.monotonic() + first
        self._pause = pause

    def is_due(self) -> bool:
        """Whether it is, once for each time."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + self._pause
        return True


class Soak:
    """One run in `folder`."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self._options = options
        self._folder = folder
        self._chance = random.Random(options.seed)
        self._server = Server(folder)
        self._nemesis = Nemesis(random.Random(f"{options.seed}/faults"), options.objects)
        self._producers = Producers(
            folder,
            self._server,
            objects=options.objects,
            seed=options.seed,
            pause=options.pause,
            bursting=_BURSTING,
        )
        self._churn: subprocess.Popen[bytes] | None = None
        self._posts = [Posts(folder / name / "posts", "logs/") for name in ("killed", "steady")]
        self._services: list[Service] = []

    @property
    def _killed(self) -> Service:
        return self._services[0]

    @property
    def _steady(self) -> Service:
        return self._services[1]

    def run(self) -> list[Row]:
        """All of it; whatever happens, nothing is left running."""
        with ExitStack() as stack:
            port = stack.enter_context(receiving(self._posts, _REFUSED, self._options.seed))
            stack.callback(self._stop_all)
            self._start(port)
            self._torment()
            reports = self._end_writers()
            final = self._catch_up()
        self._plot()
        return self._judge(reports, final)

    def _start(self, port: int) -> None:
        self._server.suffer_from_start(self._nemesis.always())
        self._server.start()
        self._producers.start()
        options = self._options
        settings = {"seed": options.seed, "objects": options.volatile, "pause": options.churn, "spell": options.life}
        command = ["tests.soak.service.churn", *(f"--{name}={value}" for name, value in settings.items())]
        with (self._folder / "churn.err").open("wb") as log:
            self._churn = start_process(command, self._server.environment, log)
        for number, name in enumerate(("killed", "steady")):
            url = f"http://127.0.0.1:{port}/{number}"
            service = Service(name, self._folder, self._server, url, options.interval)
            service.configure()
            service.start(self._lifetime())
            self._services.append(service)

    def _lifetime(self) -> float:
        """Seconds until the next kill: one in seven while it starts, the others at any moment of its work."""
        if self._chance.random() < 1 / 7:
            return self._chance.uniform(0.0, 1.5)
        return self._chance.uniform(0.3, 1.9) * self._options.life

    # --- in between

    def _torment(self) -> None:
        options = self._options
        wait_until(self._steady.has_begun)  # else a busy machine measures its start
        began = time.monotonic()
        faults, restarts = Clock(0.0, _FAULTS_CHANGE), Clock(options.restart / 2, options.restart)
        reloads, samples, progress = Clock(5.0, options.reload), Clock(0.0, options.sample), Clock(0.0, _PROGRESS)
        while time.monotonic() - began < options.duration:
            if restarts.is_due():
                self._restart_server()
            if faults.is_due():
                sizes = self._server.sizes(options.objects)
                self._server.suffer(self._nemesis.draw(sizes), self._nemesis.seed())
            for service in self._services:
                self._look_after(service)
            if reloads.is_due():
                self._chance.choice(self._services).reload(self._chance)
            if samples.is_due():
                self._measure()
            if progress.is_due():
                self._tell(time.monotonic() - began)
            time.sleep(_LOOK)

    def _look_after(self, service: Service) -> None:
        """A new process where it ended by itself, or is to be killed now."""
        life = service.life
        if life.process.poll() is not None:
            service.note_end()
        elif service is self._killed and time.monotonic() >= life.until:
            self._kill()
        else:
            return
        service.mend()
        service.start(self._lifetime())

    def _kill(self) -> None:
        self._killed.kill()
        self._posts[0].killed(len(self._killed.lives) - 1, self._killed.life.killed or time.monotonic())

    def _restart_server(self) -> None:
        self._server.suffer_from_start(self._nemesis.always())
        self._server.restart(self._nemesis.downtime())
        self._nemesis.forget_growth()

    def _measure(self) -> None:
        for service in self._services:
            service.measure()

    def _tell(self, seconds: float) -> None:
        size = sum(self._server.sizes(self._options.objects))
        sample = self._steady.samples[-1] if self._steady.samples else None
        print(
            f"soak: {seconds:5.0f} s, {self._killed.kills} kills, {self._server.restarts} restarts, "
            f"{self._reloads} reloads, {sum(self._server.hit.values()):,} faults, {size / 2**20:,.0f} MiB, steady: "
            + (f"{sample.resident / 2**20:.0f} MiB, {sample.descriptors} files" if sample else "not measured yet"),
            flush=True,
        )

    @property
    def _reloads(self) -> int:
        return sum(service.reloads for service in self._services)

    # --- the end

    def _end_writers(self) -> list[dict[str, object]]:
        """With all faults still on."""
        assert self._churn is not None
        self._churn.send_signal(signal.SIGTERM)
        reports = self._producers.end()
        if self._churn.wait(120):
            raise RuntimeError(f"churn failed: {(self._folder / 'churn.err').read_text()}")
        return reports

    def _catch_up(self) -> dict[str, int | None]:
        """One last kill; then all goes well, and both come to the end of everything. Gives their exit statuses."""
        self._kill()
        self._server.recover()
        for service in self._services:
            service.configure()
        self._killed.start()
        wait_until(self._is_all_there, _CATCH_UP)
        self._measure()
        for service in self._services:
            service.ask()
            status = self._folder / service.name / "status.json"
            status.write_text(service.status())
        return {service.name: service.terminate(60) for service in self._services}

    def _is_all_there(self) -> bool:
        """By lengths; what the bytes are is judged later."""
        options, root = self._options, self._server.root / BUCKET
        keys = [*map(key_of, range(options.objects)), *map(volatile_key, range(options.volatile))]
        sizes = {key: (root / key).stat().st_size for key in keys}
        # What its last life but one posted may be all that there is, and comes again.
        return all(service.is_at_rest() for service in self._services) and all(
            {key: posts.ends().get(key) for key in keys} == sizes
            and all(_is_long(_mirror_of(service, key), size) for key, size in sizes.items())
            for service, posts in zip(self._services, self._posts, strict=True)
        )

    def _stop_all(self) -> None:
        for service in self._services:
            service.stop()
        self._producers.stop()
        if self._churn is not None:
            self._churn.kill()
            self._churn.wait()
        self._server.stop()

    def _plot(self) -> None:
        lines = [(f"{one.name} ({one.kills} kills)" if one.kills else one.name, one.samples) for one in self._services]
        raw = {name: [sample._asdict() for sample in samples] for name, samples in lines}
        (self._folder / "samples.json").write_text(json.dumps(raw))
        if self._options.plot:
            self._options.plot.write_text(plot(lines))

    def _judge(self, reports: Sequence[dict[str, object]], final: dict[str, int | None]) -> list[Row]:
        options = self._options
        acknowledged = {int(str(report["number"])): int(str(report["size"])) for report in reports}
        truth = Truth(self._folder / "truth", options.seed, acknowledged)
        root = self._server.root / BUCKET
        volatile = [root / volatile_key(number) for number in range(options.volatile)]
        hits = ", ".join(f"{name} {count}" for name, count in sorted(self._server.hit.items()) if count)
        figures = f"{self._killed.kills} kills of the service, {self._server.restarts} of the server, "
        rows = [
            Row(
                "killed with -9, reloaded",
                bool(self._killed.kills and self._reloads),
                f"{figures}{self._reloads} reloads",
            ),
            Row("faults", bool(hits), f"{sum(self._server.hit.values()):,} requests hit: {hits}"),
            judge_producers(truth, self._server.root, reports),
        ]
        for service, posts in zip(self._services, self._posts, strict=True):
            name, mirror, folder = service.name, lambda key, one=service: _mirror_of(one, key), posts.folder
            rows += [
                judge_copies(f"{name}: mirrors", truth, volatile, mirror, key_of),
                judge_copies(f"{name}: what was posted", truth, volatile, lambda key, at=folder: at / key, key_of),
                judge_posts(f"{name}: POSTs in order, again only within the bound", posts, options.grace),
            ]
        return [
            *rows,
            judge_ledgers(self._services),
            judge_health(self._steady),
            judge_lives(self._services, final),
            *judge_slopes(self._steady.samples, options.growth, options.more),
        ]


def _mirror_of(service: Service, key: str) -> Path:
    return mirror_path(service.mirrors, ObjectRef(BUCKET, key))


def _is_long(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size == size


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and show the table."""
    options = _parse(arguments)
    return conduct("soak-service", options, lambda folder: Soak(options, folder).run())


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.service", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="default: any")
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--volatile", type=int, default=20, help="objects more, which are replaced and deleted")
    parser.add_argument("--duration", type=float, default=3600.0, help="seconds")
    parser.add_argument(
        "--pause", type=float, default=50.0, help="seconds between two appends to an object, on average"
    )
    parser.add_argument(
        "--churn", type=float, default=1.0, help="seconds between two changes of volatile ones, while they change"
    )
    parser.add_argument("--life", type=float, default=20.0, help="seconds between two kills, on average")
    parser.add_argument("--restart", type=float, default=60.0, help="seconds between two kills of the server")
    parser.add_argument("--reload", type=float, default=7.0, help="seconds between two reloads of one of the services")
    parser.add_argument("--interval", type=float, default=2.0, help="seconds between two listings")
    parser.add_argument("--sample", type=float, default=3.0, help="seconds between two measurements")
    parser.add_argument("--grace", type=float, default=3.0, help="seconds a commit may be late on a busy machine")
    parser.add_argument("--growth", type=float, default=16.0, help="MiB that the trend of memory may rise in all")
    parser.add_argument("--more", type=int, default=16, help="files, and threads, that the trend may rise in all")
    parser.add_argument("--plot", type=Path, help="where to draw memory, files and threads, as SVG")
    parser.add_argument("--folder", type=Path, help="where the evidence goes; default: the temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the evidence of a success, too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left running
    sys.exit(main())
