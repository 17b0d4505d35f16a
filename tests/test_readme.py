"""The README is true: every command block in it is run, and what it shows as output is what comes out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.M | re.S)
FOLLOWS = 124  # timeout(1): a follow that had to be ended


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


def run(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_there_are_no_other_blocks() -> None:
    """A block in another language would escape the tests below."""
    assert {name for name, _ in BLOCKS} == {"sh", "console", "text"}


@pytest.mark.parametrize("block", blocks("console"))
def test_a_session_prints_what_it_shows(block: str, tmp_path: Path) -> None:
    commands = re.split(r"^\$ ", block, flags=re.M)[1:]
    assert commands
    for command, expected in (one.split("\n", 1) for one in commands):
        done = run(command, tmp_path)
        assert (done.stdout, done.returncode) == (expected, 0), done.stderr


def make_targets() -> list[str]:
    return [line.split()[1] for block in blocks("sh") for line in block.splitlines() if line.startswith("make ")]


def test_the_make_targets_exist() -> None:
    assert make_targets() == ["demo", "test"]
    for target in make_targets():
        done = run(f"make -n {target}", ROOT)
        assert done.returncode == 0, done.stderr


def test_the_demo_ends_by_itself_and_says_that_the_chain_holds() -> None:
    done = run(f"{sys.executable} demo.py", ROOT)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^demo: [\d,]+ bytes in \d+ appends, [1-9]\d* links verified, median append-to-output \d+ ms .*"
        r"the chain holds and the output equals the object$",
        done.stdout,
        re.M,
    )


def usage_lines() -> list[str]:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("oss-tail ")]
    assert len(lines) == 7
    return lines


@pytest.mark.parametrize("line", usage_lines())
def test_the_examples_run(line: str, tmp_path: Path) -> None:
    """Against oss-local; a follow is ended after a while and must have printed by then what there was."""
    shutil.copytree(ROOT / "docs", tmp_path / "store" / "my-bucket" / "logs")
    data = b"".join(b"line %d\n" % number for number in range(1000))
    (tmp_path / "store" / "my-bucket" / "logs" / "app.log").write_bytes(data)
    command = line.split("#")[0].strip().replace("oss-tail", "timeout 3 oss-tail", 1)
    (tmp_path / "line.sh").write_text(f"set -o pipefail; {command}\n")
    done = run("oss-local --root store -- bash line.sh", tmp_path)
    assert done.returncode == (FOLLOWS if re.search(r" -[fF]\b", line) else 0), done.stderr
    expected = {"-n 100": "line 900\n", "-n 0": "", "-c +1": "", "-o": "", "--json": '"start":'}
    wanted = next((text for option, text in expected.items() if f" {option} " in line), "line 999\n")
    assert wanted in done.stdout
    if " -o " in line:
        assert (tmp_path / "app.log").read_bytes() == data


def test_the_package_installs_as_written() -> None:
    """The extras named in the README are those of the project."""
    (line,) = [line for block in blocks("sh") for line in block.splitlines() if " install " in line]
    assert line == "python3 -m pip install '.[local,metrics]'"
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M)
    assert {"local", "metrics", "credentials", "dev"} <= set(extras)
