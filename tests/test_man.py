"""The manual page renders without a warning and describes every option of the parser, and no other."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tailer.cli.options import OPTIONS, help_text

PAGE = Path(__file__).parents[1] / "man" / "oss-tail.1"


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which(command[0])
    if program is None:
        pytest.skip(f"{command[0]} is not installed")
    return subprocess.run(
        [program, *command[1:]],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", **environment},
    )


@pytest.fixture(scope="module")
def rendered() -> str:
    """The page as plain text, in lines that are never broken within an item."""
    text = run("groff", "-mdoc", "-Tutf8", "-P-cbou", "-rLL=2000n", str(PAGE)).stdout
    return re.sub(r"\x1b\[[0-9;]*m|.\x08", "", text)


@pytest.mark.parametrize(
    "command",
    [["groff", "-mdoc", "-Tutf8", "-ww", "-z"], ["man", "--warnings", "-l"], ["mandoc", "-Tlint", "-Wwarning"]],
    ids=lambda command: command[0],
)
def test_it_renders_without_a_warning(command: list[str]) -> None:
    done = run(*command, str(PAGE), MAN_KEEP_STDERR="1", MANROFFOPT="-ww")
    assert done.stderr == ""
    assert command[0] == "man" or done.stdout == ""


def test_it_describes_the_options_of_the_parser(rendered: str) -> None:
    section = rendered[rendered.index("Options of GNU tail") : rendered.index("MIRRORS\n")]
    items = re.findall(r"^     (-[^\n]*?)(?:  |$)", section, re.M)
    described = {frozenset(re.findall(r"(?<![\w-])--?\w[\w-]*", item.replace(" = ", "="))) for item in items}
    wanted = {
        frozenset([*(f"-{letter}" for letter in option.letter), *(f"--{name}" for name in option.names)])
        for option in OPTIONS
    }
    assert described == wanted


def test_options_with_a_value_say_so_and_how(rendered: str) -> None:
    for option in OPTIONS:
        sign = r"(?![\[=\w-])" if option.value is None else r"\[=" if option.optional else "="
        assert option.name == "F" or re.search(f"--{option.name}{sign}", rendered), option.name


def test_every_exit_status_and_variable_of_the_help_is_on_the_page(rendered: str) -> None:
    for word in re.findall(r"\b(?:OSS|SSL|HTTPS?|NO)[A-Z]*_[A-Z_]+\b", help_text()):
        assert word in rendered, word
    statuses = re.findall(r"^  (\d+) ", help_text()[help_text().index("Exit status:") :], re.M)
    assert statuses == ["0", "1", "2", "3", "130"]
    for status in statuses:
        assert re.search(rf"^     {status}\b", rendered, re.M), status
