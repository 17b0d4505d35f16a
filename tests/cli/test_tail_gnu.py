"""`oss-tail` and GNU `tail` on the same bytes: the same output, the same exit status.

The files for `tail` lie below a folder named ``oss:``, so that ``oss://bucket/key`` names the same bytes for both
commands and even headers and messages can be compared.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Finished, OssTail

_TAIL = shutil.which("tail")


def _is_coreutils() -> bool:
    if _TAIL is None:
        return False
    shown = subprocess.run([_TAIL, "--version"], capture_output=True, text=True, check=False)
    return "coreutils" in shown.stdout


pytestmark = pytest.mark.skipif(not _is_coreutils(), reason="the tail of this machine is not the one of GNU coreutils")

BLOCK = 16 * 1024  # what is read first when the last lines are looked for

INPUTS = {
    "empty": b"",
    "x": b"x",
    "line": b"x\n",
    "xy": b"x\ny\n",
    "xy-open": b"x\ny",
    "newlines": b"\n" * 12,
    "crlf": b"a\r\nb\r\n\r\nc",
    "nuls": b"a\0b\nc\0\0d\0",
    "nul-open": b"x\0y",
    "abcd": b"abcd\n",
    "twelve": b"x\n" + b"y\n" * 10 + b"z",
    "numbers": b"".join(b"%d\n" % number for number in range(1, 21)),
    "all-bytes": bytes(range(256)) * 40,
    "block-1": b"a" * (BLOCK - 2) + b"\n",
    "block": b"a" * (BLOCK - 1) + b"\n",
    "block+1": b"a" * BLOCK + b"\n",
    "block-open": b"b\n" + b"a" * BLOCK,
    "newline-at-block": b"a" * 99 + b"\n" + b"b" * BLOCK,
    "two-long": b"a" * 3 * BLOCK + b"\n" + b"b" * 5 * BLOCK + b"\n",
    "many": b"".join(b"line %d of many\n" % number for number in range(9000)),
    "five-k": b"x\n" * (512 * 10 // 2 + 1),
}

AMOUNTS = [
    *("-n 0", "-n 1", "-n 2", "-n 3", "-n 10", "-n 11", "-n 12", "-n 13", "-n 5000"),
    *("-n +0", "-n +1", "-n +2", "-n +12", "-n +13", "-n +9000", "-n +9001"),
    *("-c 0", "-c 1", "-c 2", "-c 4096", f"-c {BLOCK - 1}", f"-c {BLOCK}", f"-c {BLOCK + 1}"),
    *("-c +0", "-c +1", "-c +2", f"-c +{BLOCK}", f"-c +{BLOCK + 1}", "-c +999999"),
    *("-z -n 1", "-z -n 2", "-z -n +2", "-z"),
]


def _cases(text: str) -> list[str]:
    """Command lines between bars."""
    return [case.strip() for case in " ".join(text.split()).split("|")]


# One operand, with the forms of tests/tail/tail.pl of coreutils among them.
FORMS = _cases("""
    -2c abcd | -9c abcd | -12c twelve | +2c abcd | +8c abcd | -1l x | -1l xy | -1l xy-open | +1l xy |
    +2l xy | -1 x | -1 xy | -1 xy-open | +1 xy | +2 xy | -l twelve | +c twelve | +l twelve | -b five-k |
    -1b five-k | +1b five-k | -0 xy | +0 xy | -3 numbers | +18 numbers | -5c numbers | -5l numbers |
    -3 -- numbers | +18 -- numbers | -c 2 abcd | -c2 abcd | -c 2 -- abcd | -n -10 twelve | -n -0 xy |
    -n -1 xy | -n -+3 numbers | -n3 numbers | -n 3b numbers | -c1b five-k | -c 1kB five-k | -c 1K five-k |
    -c 1KiB five-k | -c 1KB many | -c 1m many | -c 1MB many | -c 1kD five-k | -n k many | -n K many |
    -n b many | -c b many | -c +1K many | -c +1kB many | -n 010 numbers | -n 1E numbers | -n +1P numbers |
    -n 18446744073709551615 numbers | -c 18446744073709551615 numbers | -c +18446744073709551615 numbers |
    --lines=3 numbers | --lines 3 numbers | --li=3 numbers | --l 3 numbers | --bytes=3 numbers |
    --byt 4 numbers | --zero -n 1 nuls | --zero-terminated -n1 nuls | -zn2 nuls | -zc3 nuls | numbers -n 2 |
    -n 1 -n 2 numbers | -n 2 -c 3 numbers | -c 3 -n 2 numbers | -n +3 -n 2 numbers | -n +3 -c 4 numbers |
    -v xy | --verbose xy | -q xy | -v -q xy | -q -v xy | -qv xy | -vq xy | -v empty | --verb -n 1 xy |
    -v -n 0 xy | -s 5 xy | -s 0x1p3 xy | -s 1e1 xy | -s inf xy | -s -0 xy | --sleep-interval=.5 xy |
    --max-unchanged-stats=3 xy | --max 3 xy | --m=0 xy | --pid=0 xy | -n 0 no-such | -c 0 no-such xy |
    -n -0 no-such | -n +0 no-such | -c 1 no-such | no-such | -v no-such | -5 no-such | -c +0 empty
""")

# Several operands: headers, what is missing among them, the same one twice.
SEVERAL = _cases("""
    xy numbers | -n 1 xy numbers | -c 1 xy-open x abcd | -q xy numbers | --quiet xy numbers |
    --silent -n 1 xy numbers | -v xy numbers | -qv xy numbers | -vq xy numbers | empty empty |
    empty xy empty | xy empty | -n +2 xy numbers xy-open | -c +3 xy numbers | xy xy | xy no-such numbers |
    no-such xy | xy no-such | no-such no-such-2 | -q no-such xy | -v no-such | xy -n 1 numbers |
    -n 1 -- xy numbers | -z -n 1 nuls nul-open | -n 0 -v xy numbers | -c 0 xy no-such |
    many block-open -n 2 | -n +1 empty xy
""")

# stderr is compared as well: warnings, and what cannot be opened.
WORDS = _cases("""
    --retry -n 1 xy | --pid=1 -n 1 xy | --pid=1 --pid=2 --retry xy | no-such | xy no-such no-such-2 |
    -n 1 xy | no-such's | no-such~tilde | no-such'a=b | no-such:colon
""")

REFUSED = _cases("""
    -n 5x xy | -n + xy | -n - xy | -n --5 xy | -n ++3 xy | -n +-3 xy | -n 0x10 xy | -n 1B xy | -n 1ki xy |
    -n 1w xy | -n 1c xy | -n 1g xy | -cl xy | -c -- xy | -cn5 xy | -n x5 xy | -n 1.5 xy | -n 1,5 xy |
    -5 xy numbers | -5c xy numbers | -n3 -5 xy | -3 -q xy | -3z xy | -2cX xy | -f5 xy | -z5 xy | -5r xy |
    --pid=x xy | --pid=-1 xy | --pid=1.0 xy | --pid=99999999999 xy | -s x xy | -s -1 xy | -s nan xy |
    -s 1s xy | -s 1,5 xy | --max-unchanged-stats=x xy | --max-unchanged-stats=-1 xy | --foo xy | --foo=1 xy |
    -x xy | -qx xy | -n | --lines | -c | xy -n | --quiet=3 xy | --help=3 | --version=1 | --retry=x xy
""")


class World:
    """The same bytes as files and as objects."""

    def __init__(self, oss_tail: OssTail, folder: Path) -> None:
        self.oss_tail = oss_tail
        self._folder = folder
        (folder / "oss:" / "bucket").mkdir(parents=True)
        for name, data in INPUTS.items():
            self.write(name, data)

    def write(self, name: str, data: bytes) -> None:
        """A file, and an object that was appended in two pieces."""
        (self._folder / "oss:" / "bucket" / name).write_bytes(data)
        self.oss_tail.renew(name, data[: len(data) // 3])
        self.oss_tail.append(name, data[len(data) // 3 :])

    def gnu(self, arguments: list[str]) -> tuple[int, bytes, str]:
        environment = {**os.environ, "LC_ALL": "C"}
        done = subprocess.run(
            ["tail", *arguments], cwd=self._folder, env=environment, capture_output=True, timeout=10, check=False
        )
        return done.returncode, done.stdout, done.stderr.decode()

    def ours(self, arguments: list[str]) -> Finished:
        return self.oss_tail.here(arguments)


@pytest.fixture(scope="module")
def world(oss_tail: OssTail, tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(oss_tail, tmp_path_factory.mktemp("files"))


def _arguments(case: str) -> list[str]:
    """The words of a case, with operands as addresses."""
    words = case.split(" ")
    return [f"oss://bucket/{word}" if _is_operand(word) else word for word in words]


def _is_operand(word: str) -> bool:
    return word in INPUTS or word.startswith("no-such")


def _assert_alike(world: World, arguments: list[str]) -> None:
    status, stdout, _ = world.gnu(arguments)
    ours = world.ours(arguments)
    assert (ours.status, ours.stdout) == (status, stdout), ours.stderr


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("amount", AMOUNTS)
def test_amount(world: World, name: str, amount: str) -> None:
    """Every input with every amount."""
    _assert_alike(world, _arguments(f"{amount} {name}"))


@pytest.mark.parametrize("case", [*FORMS, *SEVERAL])
def test_form(world: World, case: str) -> None:
    """Every spelling, and several operands."""
    _assert_alike(world, _arguments(case))


@pytest.mark.parametrize("case", WORDS)
def test_words(world: World, case: str) -> None:
    """stderr says what `tail` says, bar the names of the two worlds."""
    arguments = _arguments(case)
    status, stdout, stderr = world.gnu(arguments)
    expected = stderr.replace("tail: ", "oss-tail: ").replace("No such file or directory", "No such key")
    assert world.ours(arguments) == (status, stdout, expected)


@pytest.mark.parametrize("case", REFUSED)
def test_refused(world: World, case: str) -> None:
    """What `tail` refuses is refused, with 2 instead of 1 and in the same words."""
    arguments = _arguments(case)
    status, _, stderr = world.gnu(arguments)
    ours = world.ours(arguments)
    first_line = stderr.splitlines()[0].replace("tail: ", "oss-tail: ").split(": Value too large")[0]
    assert (status, ours.status, ours.stdout) == (1, 2, b"")
    assert ours.stderr.splitlines()[0].split(": Value too large")[0] == first_line
    assert ours.stderr.splitlines()[1:] == ["Try 'oss-tail --help' for more information."]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    data=st.lists(st.sampled_from([b"\n", b"\0", b"a", b"bc" * 300, b"d\n" * 50, b"e" * BLOCK]), max_size=12),
    unit=st.sampled_from(["-n", "-c", "-zn"]),
    sign=st.sampled_from(["", "+", "-"]),
    count=st.integers(0, 40) | st.integers(0, 3 * BLOCK),
)
def test_any_bytes(world: World, data: list[bytes], unit: str, sign: str, count: int) -> None:
    """Whatever the bytes and the amount."""
    world.write("any", b"".join(data))
    _assert_alike(world, [unit, f"{sign}{count}", "oss://bucket/any"])


SAMPLE = _cases("""
    numbers | -n 3 numbers | -c 5 numbers | -n +15 numbers | -c +40 numbers | -5 numbers | +18 numbers |
    -n 0 numbers | xy numbers | -v empty xy no-such | -z -n 1 nuls | many | -c +1 many | -c +1 all-bytes |
    -n 2 two-long | no-such | -n 5x numbers
""")


@pytest.mark.parametrize("case", SAMPLE)
def test_command(world: World, case: str) -> None:
    """The installed command itself, into pipes."""
    arguments = _arguments(case)
    status, stdout, _ = world.gnu(arguments)
    ours = world.oss_tail.command(arguments)
    refused = ours.stderr.startswith("oss-tail: invalid")
    assert (1 if refused else ours.status, ours.stdout) == (status, stdout), ours.stderr
