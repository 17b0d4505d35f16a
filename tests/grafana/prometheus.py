"""The real Prometheus on a port of its own, in a hurry: a scrape each second, and rules whose minutes are seconds."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.grafana.conftest import GRAFANA, program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path


def free_port() -> int:
    """One that nobody listens at now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def hurried(rules: str) -> dict[str, Any]:
    """The alerts as they are, but that each waits a second, looks back five, and finds old what is so for seconds."""
    found: dict[str, Any] = yaml.safe_load(rules)
    for rule in (rule for group in found["groups"] for rule in group["rules"]):
        rule["expr"] = re.sub(r"\[\d+m\]", "[5s]", rule["expr"])
        rule["expr"] = re.sub(
            r"(_(?:age|stalled)_seconds > )(\d+)", lambda age: f"{age[1]}{max(2, int(age[2]) // 100)}", rule["expr"]
        )
        rule["expr"] = rule["expr"].replace("process_start_time_seconds < 600", "process_start_time_seconds < 5")
        if "for" in rule:
            rule["for"] = "1s"
    return found


class Prometheus:
    """One that runs."""

    def __init__(self, url: str, process: subprocess.Popen[bytes]) -> None:
        self._url, self._process = url, process

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self._url}/api/v1/{path}?{query}", timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            pytest.fail(f"{path}: {parameters}: {error.read().decode()}")

    def values(self, expression: str) -> list[float]:
        """What an expression gives now, without what is no number."""
        found = [float(one["value"][1]) for one in self.get("query", query=expression)["result"]]
        return [value for value in found if value == value]

    def firing(self) -> set[str]:
        """The alerts that fire now."""
        return {one["labels"]["alertname"] for one in self.get("alerts")["alerts"] if one["state"] == "firing"}

    def wait_for(self, missing: Callable[[], object], said: Callable[[], str] = str, seconds: float = 60.0) -> None:
        """Until nothing is missing any more; who waits in vain is told what is, and what was `said`."""
        deadline = time.monotonic() + seconds
        while left := missing():
            assert self._process.poll() is None, "Prometheus has ended"
            if time.monotonic() > deadline:
                pytest.fail(f"not there in {seconds} s: {left}\n{said()}")
            time.sleep(0.1)


@contextmanager
def running(folder: Path, jobs: Mapping[str, Sequence[str]]) -> Iterator[Prometheus]:
    """Prometheus, scraping each job's targets (``host:port``). Ended at the end of the block."""
    (folder / "rules.yaml").write_text(yaml.safe_dump(hurried((GRAFANA / "alerts.yaml").read_text())))
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(targets)}]} for job, targets in jobs.items()
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    port = free_port()
    command = [program("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], cwd=folder, stdout=log, stderr=log
        )
    try:
        yield Prometheus(_ready(f"http://127.0.0.1:{port}", process, folder / "prometheus.log"), process)
    finally:
        process.kill()
        process.wait()


def _ready(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/-/ready", timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return url
    pytest.fail(f"Prometheus did not start:\n{log.read_text()}")
