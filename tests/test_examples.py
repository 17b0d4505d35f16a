"""Every program in examples/ runs, as it is, against a server; exactly-once is shown with kill -9."""

from __future__ import annotations

import os
import random
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import tailer.local

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parent.parent / "examples"
KILLS = 15


@pytest.fixture(scope="module")
def server() -> Iterator[tailer.local.LocalServer]:
    with tailer.local.running(["bucket"]) as running:
        yield running


def start(server: tailer.local.LocalServer, name: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env={**os.environ, **server.environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(server: tailer.local.LocalServer, name: str, *arguments: str) -> str:
    process = start(server, name, *arguments)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "")
    return out


def test_every_example_has_its_test() -> None:
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == [
        "append.py",
        "consumer.py",
        "exactly_once.py",
        "handler.py",
        "lines.py",
    ]


def test_lines(server: tailer.local.LocalServer) -> None:
    server.store.append("bucket", "lines", 0, b"fine\nERROR one\nERROR two\n")
    assert output(server, "lines.py", "ERROR", "oss://bucket/lines") == "2\n"


def test_append(server: tailer.local.LocalServer) -> None:
    assert output(server, "append.py", "oss://bucket/words", "one", "two").startswith("oss://bucket/words has 8 bytes")
    assert output(server, "append.py", "oss://bucket/words", "three").startswith("oss://bucket/words has 14 bytes")
    assert server.store.read("bucket", "words") == b"one\ntwo\nthree\n"


def test_handler(server: tailer.local.LocalServer, tmp_path: Path) -> None:
    server.store.append("bucket", "handler", 0, b"1\n2\n")
    arguments = (str(tmp_path / "state.db"), "oss://bucket/handler")
    assert output(server, "handler.py", *arguments) == "oss://bucket/handler 0-4: 2 records\n"
    server.store.append("bucket", "handler", 4, b"3\n")
    assert output(server, "handler.py", *arguments) == "oss://bucket/handler 4-6: 1 records\n"


def test_consumer(server: tailer.local.LocalServer, tmp_path: Path) -> None:
    for key in ("logs/a.log", "logs/b.log"):
        server.store.append("bucket", key, 0, key.encode() + b"\n")
    arguments = (str(tmp_path / "state.db"), "oss://bucket/logs/*.log")
    assert sorted(output(server, "consumer.py", *arguments).split()) == ["logs/a.log", "logs/b.log"]
    assert output(server, "consumer.py", *arguments) == ""


def test_exactly_once_survives_kill_9(server: tailer.local.LocalServer, tmp_path: Path) -> None:
    """Killed again and again while the object grows: every line is there once, and at its place."""
    chance, size, text = random.Random(7), 0, b""
    path, address = str(tmp_path / "lines.db"), "oss://bucket/exactly"
    for kill in range(KILLS):
        process = start(server, "exactly_once.py", path, address)
        until = time.monotonic() + chance.uniform(0.2, 0.9)
        while time.monotonic() < until:
            more = b"".join(b"%d %d\n" % (kill, chance.randrange(10**9)) for _ in range(200))
            size = server.store.append("bucket", "exactly", size, more).size
            text += more
            time.sleep(0.005)
        process.kill()
        process.communicate()
    assert output(server, "exactly_once.py", path, address) == ""
    rows = sqlite3.connect(path).execute("SELECT start, data FROM line ORDER BY start").fetchall()
    assert b"".join(data + b"\n" for _, data in rows) == text
    assert [start for start, _ in rows[:2]] == [0, len(rows[0][1]) + 1]
