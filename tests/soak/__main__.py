"""``make soak``: everything is killed again and again while everything goes wrong, and not one byte may be lost.

See docs/soak.md. Exit status 1 when something that is promised does not hold; the evidence is then kept.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tests.soak.ledger import json_lines, library_log
from tests.soak.records import BUCKET
from tests.soak.verdict import (
    Row,
    Truth,
    conduct,
    judge_deliveries,
    judge_ends,
    judge_memory,
    judge_mirror,
    judge_producers,
)
from tests.soak.world import OSS_TAIL, Consumer, Nemesis, Producers, Server, resident, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

PATTERN = f"oss://{BUCKET}/logs/*.log"
_FAULTS_CHANGE = 3.0  # seconds, as all of these
_LOOK = 0.1
_SAMPLE = 0.04
_PROGRESS = 15.0
_BURSTING = 4


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
        self._memory: list[tuple[float, int]] = []
        self._enough = threading.Event()
        interval = str(options.interval)
        tail = (*OSS_TAIL, "-F", "-c", "+1", "-s", interval)
        reader = (sys.executable, "-m", "tests.soak.reader", "--interval", interval)
        state = f"{folder}/state-"
        self._mirror = self._consumer("mirror", *OSS_TAIL, "-F", "-s", interval, "-o", f"{folder}/mirror/", PATTERN)
        self._library = self._consumer("library", *reader, PATTERN, f"{state}library.db", "{out}")
        self._json = self._consumer("json", *tail, "--json", "--checkpoint", f"{state}json.db", PATTERN)
        self._steady = self._consumer(
            "steady mirror", *OSS_TAIL, "-F", "-s", interval, "-o", f"{folder}/steady/", PATTERN
        )
        self._killed = [self._mirror, self._library, self._json]

    def _consumer(self, name: str, *command: str) -> Consumer:
        return Consumer(name, self._folder, self._server, command)

    @property
    def _kills(self) -> int:
        return sum(consumer.kills for consumer in self._killed)

    def run(self) -> list[Row]:
        """All of it; whatever happens, nothing is left running."""
        with ExitStack() as stack:
            stack.callback(self._stop_all)
            self._start()
            self._torment()
            reports = self._producers.end()  # with all faults still on
            final = self._catch_up()
        return self._judge(reports, final)

    # --- begin

    def _start(self) -> None:
        self._server.suffer_from_start(self._nemesis.always())
        self._server.start()
        self._producers.start()
        self._steady.start()
        for consumer in self._killed:
            consumer.start(self._lifetime())

    def _lifetime(self) -> float:
        """Seconds until the next kill: one in seven hits the start of a process, the others any moment of its work."""
        mean = 0.9 * len(self._killed) * self._options.duration / self._options.kills
        if self._chance.random() < 1 / 7:
            return self._chance.uniform(0.0, 0.6)
        return self._chance.uniform(0.3, 1.9) * mean

    # --- in between

    def _torment(self) -> None:
        began = told = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            tormentor = pool.submit(self._torment_server)
            try:
                while not self._is_enough(time.monotonic() - began) and not tormentor.done():
                    self._look_after_consumers()
                    if time.monotonic() - told > _PROGRESS:
                        told = time.monotonic()
                        self._tell(told - began)
                    time.sleep(_SAMPLE)
            finally:
                self._enough.set()
            tormentor.result()

    def _is_enough(self, seconds: float) -> bool:
        options = self._options
        done = self._kills >= options.kills and self._server.restarts >= options.restarts
        return (seconds >= options.duration and done) or seconds >= 2.5 * options.duration

    def _look_after_consumers(self) -> None:
        now = time.monotonic()
        if not self._memory or now - self._memory[-1][0] > 1.0:
            self._memory.append((now, resident(self._steady.pid)))
        for consumer in self._killed:
            life = consumer.life
            life.sample()
            if life.process.poll() is not None:
                consumer.note_end()
            elif now >= life.until:
                consumer.kill()
            else:
                continue
            consumer.start(self._lifetime())

    def _torment_server(self) -> None:
        """Other faults every few seconds, more of them for a burst; a kill and a new start every now and then."""
        began = time.monotonic()
        pause = 0.9 * self._options.duration / self._options.restarts
        next_draw, next_kill = began, began + pause / 2
        sizes = self._server.sizes(_BURSTING)
        while not self._enough.wait(_LOOK):
            now = time.monotonic()
            if now >= next_kill:
                self._restart_server()
                next_kill += pause
                next_draw = now
            if now >= next_draw:
                faults = self._nemesis.draw(self._server.sizes(self._options.objects))
                self._server.suffer(faults, self._nemesis.seed())
                next_draw = now + _FAULTS_CHANGE
            sizes = self._torment_bursts(sizes)

    def _restart_server(self) -> None:
        self._server.suffer_from_start(self._nemesis.always())
        self._server.restart(self._nemesis.downtime())
        self._nemesis.forget_growth()

    def _torment_bursts(self, before: list[int]) -> list[int]:
        """Faults where an object grew by a burst, and a kill while it is read. Gives the present sizes."""
        sizes = self._server.sizes(_BURSTING)
        for number, (old, new) in enumerate(zip(before, sizes, strict=True)):
            if new - old > 1 << 20:
                self._server.suffer_also(self._nemesis.burst(number, old, new))
                victim, seconds = self._nemesis.victim(self._killed)
                victim.until = min(victim.until, time.monotonic() + seconds)
        return sizes

    def _tell(self, seconds: float) -> None:
        size = sum(self._server.sizes(self._options.objects))
        print(
            f"soak: {seconds:5.0f} s, {self._kills} kills, {self._server.restarts} restarts, "
            f"{sum(self._server.hit.values()):,} faults, {size / 2**20:,.0f} MiB",
            flush=True,
        )

    # --- the end

    def _catch_up(self) -> dict[str, int | None]:
        """One last kill; then all goes well, and every consumer ends as it should. Gives their exit statuses."""
        self._server.recover()
        for consumer in self._killed:
            consumer.kill()
            consumer.start(more=["--exit-idle", str(self._options.exit_idle)])
        final = {consumer.name: consumer.end(180) for consumer in self._killed}
        objects = self._server.sizes(self._options.objects)
        wait_until(lambda: _total(self._folder / "steady") >= sum(objects), 60)
        self._memory.append((time.monotonic(), resident(self._steady.pid)))
        final[self._steady.name] = self._steady.terminate(30)
        return final

    def _stop_all(self) -> None:
        for consumer in [*self._killed, self._steady]:
            consumer.stop()
        self._producers.stop()
        self._server.stop()

    def _judge(self, reports: Sequence[dict[str, object]], final: dict[str, int | None]) -> list[Row]:
        options = self._options
        acknowledged = {int(str(report["number"])): int(str(report["size"])) for report in reports}
        truth = Truth(self._folder / "truth", options.seed, acknowledged)
        done = self._kills >= options.kills and self._server.restarts >= options.restarts
        hits = ", ".join(f"{name} {count}" for name, count in sorted(self._server.hit.items()) if count)
        figures = f"{self._kills} kills of {len(self._killed)} consumers, {self._server.restarts} of the server"
        grace = options.grace
        return [
            Row("killed with -9", done, figures),
            Row("faults", bool(hits), f"{sum(self._server.hit.values()):,} requests hit: {hits}"),
            judge_producers(truth, self._server.root, reports),
            judge_mirror(truth, self._mirror, self._folder / "mirror"),
            judge_mirror(truth, self._steady, self._folder / "steady"),
            judge_deliveries(truth, self._library, library_log, is_strict=True, grace=grace),
            judge_deliveries(truth, self._json, json_lines, is_strict=False, grace=grace),
            judge_ends([*self._killed, self._steady], final),
            judge_memory(self._memory, int(options.growth * 2**20)),
        ]


def _total(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it and show the table."""
    options = _parse(arguments)
    return conduct("soak", options, lambda folder: Soak(options, folder).run())


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="default: any")
    parser.add_argument("--objects", type=int, default=50)
    parser.add_argument("--kills", type=int, default=510, help="of consumers, altogether at least")
    parser.add_argument("--restarts", type=int, default=52, help="of the server, at least")
    parser.add_argument("--duration", type=float, default=1200.0, help="seconds that it goes on, at least")
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between two appends to an object, on average")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between two polls")
    parser.add_argument("--exit-idle", type=float, default=8.0, help="seconds without news that end a consumer")
    parser.add_argument("--grace", type=float, default=2.0, help="seconds a commit may be late on a busy machine")
    parser.add_argument("--growth", type=float, default=4.0, help="MiB that the trend of memory may rise in all")
    parser.add_argument("--folder", type=Path, help="where the evidence goes; default: the temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the evidence of a success, too")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left running
    sys.exit(main())
