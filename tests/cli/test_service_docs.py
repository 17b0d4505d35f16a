"""The manual page and the completions of oss-tailer know every command and option of the parser, and no other."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tailer.cli.service import _parser

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "man" / "oss-tailer.1"
BASH = ROOT / "completions" / "oss-tailer.bash"
ZSH = ROOT / "completions" / "_oss-tailer"


def commands(parser: argparse.ArgumentParser, *words: str) -> Iterator[tuple[tuple[str, ...], set[str], set[str]]]:
    """The words of every command, the commands below it, and its options."""
    below = {name: one for it in parser._actions if isinstance(it.choices, dict) for name, one in it.choices.items()}
    yield words, set(below), {name for action in parser._actions for name in action.option_strings}
    for name, one in below.items():
        yield from commands(one, *words, name)


COMMANDS = list(commands(_parser()))
OPTIONS = set().union(*(options for _, _, options in COMMANDS))


def test_the_page_describes_every_option() -> None:
    options = PAGE.read_text().partition(".Sh OPTIONS")[2].partition(".Sh ENVIRONMENT")[0]
    items = [line for line in options.splitlines() if line.startswith(".It")]
    assert {f"-{name}" for line in items for name in re.findall(r"Fl (-?\w[\w-]*)", line)} == OPTIONS


def test_the_page_describes_every_command() -> None:
    described = {tuple(line.split()) for line in re.findall(r"^\.It Cm (.*)", PAGE.read_text(), re.MULTILINE)}
    assert described == {words for words, below, _ in COMMANDS if not below}


@pytest.mark.parametrize(
    "command", [["groff", "-mdoc", "-Tutf8", "-ww", "-z"], ["mandoc", "-Tlint", "-Wwarning"]], ids=lambda it: it[0]
)
def test_the_page_renders_without_a_warning(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([*command, str(PAGE)], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("", "")


def test_zsh_knows_every_option_and_no_other() -> None:
    assert set(re.findall(r"(?<=['{,)])--?[a-z][\w-]*", ZSH.read_text())) == OPTIONS


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_can_read_it() -> None:
    done = subprocess.run(["zsh", "-n", str(ZSH)], capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")


def offered(*words: str) -> set[str]:
    """What bash offers for the last of `words`."""
    driver = """
    source "$1"; shift
    COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))
    compopt() { :; }
    _oss_tailer
    printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", driver, "bash", str(BASH), "oss-tailer", *words],
        capture_output=True, text=True, check=True, timeout=30, cwd=ROOT,
    )  # fmt: skip
    assert done.stderr == ""
    return set(done.stdout.split())


@pytest.mark.parametrize(("words", "below", "options"), COMMANDS, ids=[" ".join(words) for words, _, _ in COMMANDS])
def test_bash_offers_every_command_and_option_and_no_other(
    words: tuple[str, ...], below: set[str], options: set[str]
) -> None:
    assert offered(*words, "-") == options
    if below:
        assert offered(*words, "") == below


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (["v"], {"verify"}),
        (["checkpoints", "e"], {"export"}),
        (["checkpoints", "list", "pyproject"], {"pyproject.toml"}),
        (["verify", "README.md", "oss:"], {"oss://"}),
        (["checkpoints", "list", "--group", ""], set()),
    ],
)
def test_bash_offers_what_fits(words: list[str], answers: set[str]) -> None:
    assert offered(*words) == answers
