"""The manual page and the completion of oss-append know every option of the parser, and no other."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tailer.cli.append import _parser

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "man" / "oss-append.1"
COMPLETION = ROOT / "completions" / "oss-append.bash"
OPTIONS = {name for action in _parser()._actions for name in action.option_strings}


def test_the_page_describes_every_option() -> None:
    options = PAGE.read_text().partition(".Sh OPTIONS")[2].partition(".Sh ENVIRONMENT")[0]
    items = [line for line in options.splitlines() if line.startswith(".It")]
    assert {f"-{name}" for line in items for name in re.findall(r"Fl (-?\w[\w-]*)", line)} == OPTIONS


@pytest.mark.parametrize(
    "command", [["groff", "-mdoc", "-Tutf8", "-ww", "-z"], ["mandoc", "-Tlint", "-Wwarning"]], ids=lambda it: it[0]
)
def test_the_page_renders_without_a_warning(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([*command, str(PAGE)], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("", "")


def test_zsh_knows_every_option_and_no_other() -> None:
    text = (ROOT / "completions" / "_oss-append").read_text()
    assert {name.rstrip("=+") for name in re.findall(r"(?:'(?:\([^)]*\)|\*)?|[{,])(--?\w[\w-]*)", text)} == OPTIONS


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_can_read_it() -> None:
    done = subprocess.run(["zsh", "-n", str(ROOT / "completions" / "_oss-append")], capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")


def offered(*words: str) -> set[str]:
    """What bash offers for the last of `words`."""
    driver = """
    source "$1"; shift
    COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))
    compopt() { :; }
    _oss_append
    printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", driver, "bash", str(COMPLETION), "oss-append", *words],
        capture_output=True, text=True, check=True, timeout=30, cwd=ROOT,
    )  # fmt: skip
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_offers_every_option_and_no_other() -> None:
    assert offered("-") == OPTIONS


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (["--acl", "public"], {"public-read", "public-read-write"}),
        (["--storage-class", "I"], {"IA"}),
        (["o"], {"oss://"}),
        (["oss://b/k", "-f", "pyproject"], {"pyproject.toml"}),
        (["oss://b/k", "pyproject"], {"pyproject.toml"}),
        (["--meta", ""], set()),
    ],
)
def test_bash_offers_what_fits(words: list[str], answers: set[str]) -> None:
    assert offered(*words) == answers
