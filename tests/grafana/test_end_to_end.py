"""The real service and the real canary over sockets, scraped by the real Prometheus.

Every expression of the dashboard gives data, nothing rings while all is well, and each alert rings when its fault is
caused. What only a bug can cause is in test_never_expected.py.
"""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

import tailer.local
from tailer.local import Fault
from tests.cli.conftest import OssTail, Running
from tests.grafana.conftest import GRAFANA, metrics_of, program
from tests.grafana.prometheus import Prometheus, free_port, running
from tests.grafana.test_alerts import ALERTS
from tests.grafana.test_never_expected import EXPECTED_OF_BUGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CONFIGURATION = """
checkpoint = "state.db"
stuck = "4s"
buffer_bytes = "16MiB"
drain = "1s"

[limits]
max_requests_per_second = 500
daily_requests = {daily_requests}

[server]
listen = "127.0.0.1:{port}"
object_series = 10

[sinks.disk]
type = "file"
path = "mirror"

[sinks.out]
type = "http"
url = "{url}"

[groups.web]
objects = ["oss://bucket/web/*.log"]
sink = "out"
list_interval = "500ms"
poll_min = "200ms"

[groups.archive]
objects = ["oss://bucket/archive/*"]
sink = "disk"
replaced = "stop"
list_interval = "500ms"
poll_min = "200ms"

[groups.nothing]
objects = ["oss://empty/*"]
sink = "disk"
list_interval = "500ms"
"""


class Receiver(BaseHTTPRequestHandler):
    """Takes what is posted to it, or refuses it."""

    refusing = threading.Event()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503 if self.refusing.is_set() else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing."""


class Place:
    """A service, its canary, what they read from and write to, and Prometheus looking on."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.folder = folder
        self.rung: set[str] = set()
        self.server = stack.enter_context(tailer.local.running(["bucket", "empty"]))
        self._tools = OssTail(self.server, folder)
        self._tools.program = (
            sys.executable,
            "-c",
            "import sys; from tailer.cli.service import main; sys.exit(main())",
        )
        receiver = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        stack.callback(receiver.server_close)
        stack.callback(receiver.shutdown)
        self._url = f"http://127.0.0.1:{receiver.server_port}/"
        self.port, canary = free_port(), free_port()
        self.configure()
        self.server.faults.add(Fault("status", operation="ListObjects*", status=403, code="AccessDenied"))
        self.service = self._run(stack, "run", str(folder / "config.toml"))
        self.canary = self._run(
            stack, "canary", "oss://bucket/canary/", *("--interval", "200ms", "--late", "700ms", "--poll", "100ms"),
            *("--metrics", str(canary)),
        )  # fmt: skip
        jobs = {"oss-tailer": [f"127.0.0.1:{self.port}"], "oss-tail-canary": [f"127.0.0.1:{canary}"]}
        self.prometheus: Prometheus = stack.enter_context(running(folder, jobs))
        self._stop, self._writing = threading.Event(), threading.Lock()
        producer = threading.Thread(target=self._produce)
        producer.start()
        stack.callback(producer.join)
        stack.callback(self._stop.set)

    def _run(self, stack: ExitStack, *arguments: str) -> Running:
        return stack.enter_context(self._tools.following(*arguments))

    def configure(self, daily_requests: int = 1_000_000) -> None:
        """Write the configuration, in one step."""
        text = CONFIGURATION.format(port=self.port, url=self._url, daily_requests=daily_requests)
        (self.folder / "config.new").write_text(text)
        (self.folder / "config.new").rename(self.folder / "config.toml")

    def append(self, key: str, data: bytes) -> None:
        """To an object of the bucket. One writer at a time, since nothing lies between its length and the append."""
        with self._writing:
            self._tools.append(key, data)

    def replace(self, key: str, data: bytes) -> None:
        """An object by another one."""
        with self._writing:
            self._tools.renew(key, data)

    def _produce(self) -> None:
        """A line to each of three objects, five times a second."""
        for number in range(1_000_000):
            for key in ("web/a.log", "web/b.log", "archive/c"):
                self.append(key, b"line %d of an ordinary log\n" % number)
            if self._stop.wait(0.2):
                return

    def wait_for_alerts(self, *names: str) -> None:
        """Until each of them has fired, at one time or another."""
        seen: set[str] = set()

        def missing() -> set[str]:
            seen.update(self.prometheus.firing())
            return set(names) - seen

        self.wait_for(missing)
        self.rung |= set(names)

    def wait_for(self, missing: Callable[[], object]) -> None:
        """Until nothing is missing any more; a test that waits in vain says what the service said."""
        self.prometheus.wait_for(missing, said=lambda: self.service.stderr)

    @contextmanager
    def checkpoint_locked(self) -> Iterator[None]:
        """Nobody else writes to the checkpoint file meanwhile."""
        file = sqlite3.connect(self.folder / "state.db", isolation_level=None, timeout=30)
        file.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            file.close()


def expressions() -> dict[str, str]:
    """Those of the dashboard, by panel and query, as Grafana sends them with everything chosen."""
    chosen = {"$job": "oss-tailer|oss-tail-canary", "$instance": ".+", "$group": "web|archive|nothing"}
    spans = {"$__rate_interval": "5s", "$__range": "1m"}
    found = {}
    for panel in json.loads((GRAFANA / "dashboards" / "oss-tail.json").read_text())["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for name, value in (chosen | spans).items():
                expression = expression.replace(name, value)
            found[f"{panel['title']} {target['refId']}"] = expression
    return found


@pytest.mark.timeout(300)
def test_every_panel_has_data_and_every_alert_rings_for_its_fault_alone(tmp_path: Path) -> None:
    """One test, since each part begins where the one before ended, and all take their time."""
    with ExitStack() as stack:
        place = Place(stack, tmp_path)
        cannot_be_listed(place)
        all_is_well(place)
        says_what_is_written(place)
        everything_fails(place)
        nothing_can_be_kept(place)
        configured_badly(place)
        killed(place)
        assert place.rung | EXPECTED_OF_BUGS == ALERTS.keys()


def cannot_be_listed(place: Place) -> None:
    place.wait_for_alerts("OssTailNotReady")
    place.server.faults.clear()


def all_is_well(place: Place) -> None:
    panels = expressions()
    prometheus = place.prometheus
    place.wait_for(lambda: [title for title, text in panels.items() if not prometheus.values(text)])
    place.wait_for(lambda: prometheus.firing() - {"OssTailFollowsNothing"})
    place.wait_for_alerts("OssTailFollowsNothing")


def says_what_is_written(place: Place) -> None:
    """The service's page has what docs/metrics.md says, and promtool finds nothing wrong with it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{place.port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = dict(re.findall(r"^# TYPE (oss_tail_\w+) (\w+)$", text, re.M))
    assert found == metrics_of("oss-tailer run")
    checked = subprocess.run(
        [program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=30
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def everything_fails(place: Place) -> None:
    """Except for keeping how far it came."""
    Receiver.refusing.set()
    for number in range(4):
        place.append(f"web/large-{number}.log", b"x" * (8 << 20))
    place.append("archive/corrupt", b"one line\n" * 100)
    place.replace("archive/c", b"another object\n")
    place.server.faults.add(
        Fault("flip-bit", operation="GetObject", key="archive/corrupt", at=5),
        Fault("stall", operation="AppendObject", key="canary/*", seconds=1.0),
        Fault("status", bucket="empty", code="SlowDown"),
    )
    place.wait_for_alerts(
        *("OssTailBehind", "OssTailReadsNothing", "OssTailUnhealthy", "OssTailSinkErrors", "OssTailSinkSaturated"),
        *("OssTailIntegrityMismatch", "OssTailObjectsFailed", "OssTailListingStale", "OssTailThrottled"),
        "OssTailCanaryLate",
    )


def nothing_can_be_kept(place: Place) -> None:
    place.server.faults.replace([Fault("status", operation="AppendObject", key="canary/*")])
    Receiver.refusing.clear()
    with place.checkpoint_locked():
        place.wait_for_alerts("OssTailCheckpointOld", "OssTailCheckpointErrors", "OssTailCanarySilent")


def configured_badly(place: Place) -> None:
    """First for few requests, then not at all."""
    (made,) = place.prometheus.values("oss_tail_requests_today")
    place.configure(daily_requests=int(made * 1.1))
    place.wait_for_alerts("OssTailBudgetTight")
    (place.folder / "config.toml").write_text("nonsense")
    place.wait_for_alerts("OssTailBadConfiguration")


def killed(place: Place) -> None:
    place.service.process.kill()
    place.canary.process.kill()
    place.wait_for_alerts("OssTailDown", "OssTailCanaryDown")
