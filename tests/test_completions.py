"""The shell completions know every option of the parser, and do in real shells what they are there for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tailer.cli.options import OPTIONS

COMPLETIONS = Path(__file__).parents[1] / "completions"
BASH = COMPLETIONS / "oss-tail.bash"
ZSH = COMPLETIONS / "_oss-tail"

# What readline would set for the words of the test, and what the function answers, one line each.
DRIVER = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 ))
compopt() { echo "compopt $*"; }
_oss_tail
printf '%s\\n' "${COMPREPLY[@]}"
"""


def spellings() -> set[str]:
    """Every option as the parser takes it, with ``=`` behind long ones that have a value."""
    found = set()
    for option in OPTIONS:
        found |= {f"-{option.letter}"} if option.letter else set()
        for name in option.names:
            found.add(f"--{name}=" if option.value is not None else f"--{name}")
            found |= {f"--{name}"} if option.optional else set()
    return found


def complete(*words: str, home: Path | None = None) -> list[str]:
    """What bash offers for the last of `words`."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    done = subprocess.run(
        [bash, "--norc", "--noprofile", "-c", DRIVER, "bash", str(BASH), "oss-tail", *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=home,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home or "/nonexistent")},
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


def offered(*words: str, home: Path | None = None) -> list[str]:
    """The same without what is said to readline."""
    return [line for line in complete(*words, home=home) if line and not line.startswith("compopt ")]


def test_bash_offers_every_option_and_no_other() -> None:
    assert set(offered("-")) == spellings()


@pytest.mark.parametrize(
    ("words", "answers"),
    [
        (["--fo"], ["--follow", "--follow="]),
        (["--line"], ["--lines="]),
        (["--no-s"], ["--no-sign-request"]),
        (["--poll", "=", ""], ["head", "get"]),
        (["--poll", "="], ["head", "get"]),
        (["--poll", "=", "h"], ["head"]),
        (["--poll", "g"], ["get"]),
        (["--follow", "=", ""], ["descriptor", "name"]),
        (["--follow", "n"], []),
        (["--integrity", "=", "s"], ["strict"]),
        (["--from", ""], ["start", "end"]),
        (["-n", ""], []),
        (["--region", "=", ""], []),
        (["-F", ""], ["oss://", "https://"]),
        (["-F", "o"], ["oss://"]),
        (["--", "-"], []),
        (["-n", "5", "--", "h"], ["https://"]),
        (["--nothing-like-it"], []),
    ],
)
def test_bash_offers_what_fits(words: list[str], answers: list[str]) -> None:
    assert offered(*words) == answers


def test_bash_sets_no_space_after_what_goes_on() -> None:
    assert "compopt -o nospace" in complete("--line")
    assert "compopt -o nospace" in complete("oss")
    assert "compopt -o nospace" not in complete("--js")


def test_bash_offers_files_for_the_output(tmp_path: Path) -> None:
    (tmp_path / "my logs").mkdir()
    (tmp_path / "other").touch()
    for words in (["-o", ""], ["--output", "=", ""], ["--output", ""]):
        assert sorted(offered(*words, home=tmp_path)) == ["my logs", "other"]
    assert "compopt -o filenames" in complete("-o", "", home=tmp_path)


def test_bash_offers_the_profiles_of_the_configuration_file(tmp_path: Path) -> None:
    (tmp_path / ".ossutilconfig").write_text("[default]\nregion=x\n[profile dev]\n [ Credentials ]\n# [no]\n")
    assert offered("--profile", "=", "", home=tmp_path) == ["default", "dev", "Credentials"]
    assert offered("--profile", "d", home=tmp_path) == ["default", "dev"]


def test_bash_does_it_for_a_person_at_a_terminal() -> None:
    """In an interactive shell, with readline: options, values behind "=" and addresses by the tabulator."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    leader, follower = os.openpty()
    shell = subprocess.Popen(
        [bash, "--norc", "--noprofile", "-i"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "TERM": "dumb", "INPUTRC": "/dev/null", "PS1": ""},
    )
    os.close(follower)
    try:
        os.write(leader, f"oss-tail() {{ printf '<%s>' \"$@\"; }}; source '{BASH}'\n".encode())
        os.write(leader, b"oss-tail --no-si\t--pol\tg\t-F os\tlogs/k\n")
        seen = b""
        while b"<oss://logs/k>" not in seen:
            seen += os.read(leader, 4096)
        assert b"<--no-sign-request><--poll=get><-F><oss://logs/k>" in seen
    finally:
        shell.kill()
        shell.wait()
        os.close(leader)


def test_zsh_offers_every_option_and_no_other() -> None:
    text = ZSH.read_text()
    found = {match.rstrip("+-") for match in re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*=?[+-]?(?=[\[,}])", text)}
    assert found | {"--follow"} == spellings()


def test_zsh_finds_no_mistake_in_it() -> None:
    zsh = shutil.which("zsh")
    if zsh is None:
        pytest.skip("zsh is not installed")
    done = subprocess.run([zsh, "-n", str(ZSH)], capture_output=True, text=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
