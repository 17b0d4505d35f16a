"""The manual page and the completions of oss-local know every option of the parser, and no other."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tailer.cli.local import _parser
from tailer.local.permissions import GRANTS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "man" / "oss-local.1"
COMPLETIONS = ROOT / "completions"
OPTIONS = {name for action in _parser()._actions for name in action.option_strings}
HELP = _parser().format_help()


def test_the_page_describes_every_option() -> None:
    options = PAGE.read_text().partition(".Sh OPTIONS")[2].partition(".Sh ACCESS KEYS")[0]
    items = [line for line in options.splitlines() if line.startswith(".It")]
    assert {f"-{name}" for line in items for name in re.findall(r"Fl (-?\w[\w-]*)", line)} == OPTIONS


def test_the_page_has_what_the_help_has_beside_options() -> None:
    """Grants, variables and exit statuses."""
    page, epilog = PAGE.read_text(), HELP[HELP.index("Without COMMAND") :]
    words = {*GRANTS, *re.findall(r"OSS_[A-Z_]+", epilog)}
    assert {word for word in words if word not in page or word not in epilog} == set()
    statuses = set(re.findall(r"\b\d{1,3}\b", epilog.partition("Exit status:")[2]))
    assert statuses == {"0", "2", "126", "127", "130", "143"}
    assert {status for status in statuses if not re.search(rf"\b{status}\b", page.partition(".Sh EXIT")[2])} == set()


@pytest.mark.parametrize(
    "command", [["groff", "-mdoc", "-Tutf8", "-ww", "-z"], ["mandoc", "-Tlint", "-Wwarning"]], ids=lambda it: it[0]
)
def test_the_page_renders_without_a_warning(command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run([*command, str(PAGE)], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("", "")


def test_zsh_knows_every_option_and_no_other() -> None:
    text = (COMPLETIONS / "_oss-local").read_text()
    assert {name.rstrip("=") for name in re.findall(r"(?:'(?:\([^)]*\)|\*)?|[{,])(--?\w[\w-]*)", text)} == OPTIONS


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_can_read_it() -> None:
    done = subprocess.run(["zsh", "-n", str(COMPLETIONS / "_oss-local")], capture_output=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")


def offered(*words: str) -> set[str]:
    """What bash offers for the last of `words`."""
    driver = """
    source "$1"; shift
    COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))
    compopt() { :; }
    _oss_local
    printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", driver, "bash", COMPLETIONS / "oss-local.bash", "oss-local", *words],
        capture_output=True, text=True, check=True, timeout=30, cwd=ROOT,
    )  # fmt: skip
    assert done.stderr == ""
    return set(done.stdout.split())


def test_bash_offers_every_option_and_no_other() -> None:
    assert offered("-") == {*OPTIONS, "--"}


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (["--root", "tail"], {"tailer"}),
        (["--root", "pyproject"], set()),
        (["--keys", "pyproject"], {"pyproject.toml"}),
        (["--faults", "pyproject"], {"pyproject.toml"}),
        (["--host", "l"], {"localhost"}),
        (["--bucket", ""], set()),
        (["--fs"], {"--fsync"}),
        (["--", "cat", "pyproject"], {"pyproject.toml"}),
        (["--", "cat", "--ro"], set()),
    ],
)
def test_bash_offers_what_fits(words: list[str], answers: set[str]) -> None:
    assert offered(*words) == answers


def test_bash_offers_commands_behind_the_dashes() -> None:
    assert {"bash", "basename"} <= offered("--", "bas")
    assert "basename" not in offered("bas")
