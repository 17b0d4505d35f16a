"""What is not needed is not imported: that is what makes the command start at once."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tailer.cli.tail import run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import OssTail

_SHOW = """
import sys
from tailer.cli.tail import run
status = run(sys.argv[1:], stdout=1)
print(status, *sorted(sys.modules), file=sys.stderr)
"""

NEVER = {"argparse", "prometheus_client", "sqlite3", "aiohttp", "alibabacloud_credentials", "requests", "tailer.local"}
NOT_TO_READ = NEVER | {"httpx", "tailer.sinks.file", "tailer.sinks.jsonl", "tailer.metrics", "tailer.cli.progress"}
NOT_TO_HELP = NOT_TO_READ | {"asyncio", "ssl", "logging", "pyreqwest", "tailer.core.tail", "tailer.oss", "fastcrc"}


def _imported(oss_tail: OssTail, *arguments: str) -> tuple[int, set[str]]:
    done = subprocess.run(
        [sys.executable, "-c", _SHOW, *arguments], env=oss_tail.environment, capture_output=True, text=True, check=True
    )
    status, *modules = done.stderr.splitlines()[-1].split()
    return int(status), set(modules)


@pytest.mark.parametrize(("arguments", "status"), [(["--version"], 0), (["--help"], 0), (["--nonsense"], 2), ([], 2)])
def test_without_reading(oss_tail: OssTail, arguments: list[str], status: int) -> None:
    ended, modules = _imported(oss_tail, *arguments)
    assert ended == status
    assert not modules & NOT_TO_HELP


def test_reading(oss_tail: OssTail) -> None:
    address = oss_tail.append("small", b"a\n")
    status, modules = _imported(oss_tail, "-n", "10", address)
    assert status == 0
    assert not modules & NOT_TO_READ


def test_version(oss_tail: OssTail) -> None:
    from tailer.version import __version__

    assert oss_tail.command(["--version"]) == (0, f"oss-tail {__version__}\n".encode(), "")


def test_help_to_a_full_disk(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full, (tmp_path / "stderr").open("wb") as stderr:
        assert run(["--help"], stdout=full.fileno(), stderr=stderr.fileno()) == 1
    assert (tmp_path / "stderr").read_text() == "oss-tail: write error: No space left on device\n"
