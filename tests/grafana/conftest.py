"""What the dashboard and the alerts may speak of, and promtool to have them judged."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "grafana"
UNPACKED = ROOT / ".prometheus" / "usr" / "bin"
"""Where `make prometheus` puts it, on a machine that has none."""

FROM_PROMETHEUS = {"up": "gauge", "ALERTS": "gauge"}
OF_THE_PROCESS = {
    "process_cpu_seconds_total": "counter",
    "process_resident_memory_bytes": "gauge",
    "process_start_time_seconds": "gauge",
    "process_open_fds": "gauge",
    "process_max_fds": "gauge",
}


def metrics_of(*headings: str) -> dict[str, str]:
    """Name and type of all metrics in these sections of docs/metrics.md, which its own test holds against the code."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    sections = [page.partition(f"\n## `{heading}`\n")[2].partition("\n## ")[0] for heading in headings]
    return {
        name: kind for text in sections for name, kind in re.findall(r"^\| `(oss_tail_\w+)` \| (\w+) \|", text, re.M)
    }


METRICS = metrics_of("oss-tailer run", "oss-tailer canary")
KNOWN = METRICS | FROM_PROMETHEUS | OF_THE_PROCESS

SELECTOR = re.compile(r"([a-zA-Z_]\w*)\{([^}]*)\}")
_NAME = re.compile(r"(?<![\w\"$.])([a-zA-Z_:][\w:]*)(?!\w*\s*\()")
_GROUPING = re.compile(r"\b(?:by|on|ignoring|without|group_left|group_right)\s*\([^)]*\)")
_WORDS = {"and", "or", "unless", "bool", "by", "on", "offset", "sum", "min", "max", "vector", "inf", "nan"}


def names_in(expression: str) -> set[str]:
    """All metrics that an expression reads; of the series of a histogram, the histogram's name."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"[^\"]*\"", " ", _GROUPING.sub(" ", expression))
    names = {name for name in _NAME.findall(bare) if name not in _WORDS}
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def program(name: str) -> str:
    """Prometheus or promtool: the system's, or the one of `make prometheus`."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), str(UNPACKED)]))
    if found is None:
        pytest.skip(f"{name} is not installed, and `make prometheus` was not run")
    return found


@pytest.fixture(scope="session")
def promtool() -> Callable[[Sequence[str], Path], subprocess.CompletedProcess[str]]:
    """Runs promtool in a folder."""
    path = program("promtool")

    def run(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([path, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=60)

    return run
