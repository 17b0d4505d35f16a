"""The page about the server is true: its commands run, and it names all that there is."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tailer.cli.local import _parser
from tailer.local.faults import KINDS
from tailer.local.operations import OPERATION_NAMES

TEXT = (Path(__file__).parents[2] / "docs" / "oss-local.md").read_text(encoding="utf-8")
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def blocks(language: str) -> list[str]:
    """All code of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page uses curl")
@pytest.mark.parametrize("block", blocks("sh"))
def test_commands_run(block: str, tmp_path: Path) -> None:
    """Each block by itself, every command with success."""
    program = "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\nset -e\n" + block
    result = subprocess.run(
        ["bash", "-c", program], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("block", blocks("python"))
def test_programs_run(block: str, tmp_path: Path) -> None:
    """Around which the server is there."""
    words = ["oss-local", "--", sys.executable, "-c", block]
    result = subprocess.run(words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


def test_everything_is_named() -> None:
    """Operations, kinds of faults, options."""
    assert [name for name in OPERATION_NAMES if name not in TEXT] == []
    assert [kind for kind in KINDS if f"| `{kind}` |" not in TEXT] == []
    options = [word for action in _parser()._actions for word in action.option_strings if word.startswith("--")]
    unnamed = {"--help", "--version", "--verbose"}
    assert [option for option in options if option not in TEXT and option not in unnamed] == []
