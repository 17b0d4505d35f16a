"""What happens when bytes, or what is stated of them, are wrong: no wrong byte goes out without being told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tailer.errors import TailerError
from tailer.local import Fault
from tests.faults.conftest import TEXT, begins, command_only, library_only, read_impatiently
from tests.faults.proxy import Conduct

if TYPE_CHECKING:
    from pathlib import Path

    from tailer.oss.transport import Kind
    from tests.faults.conftest import Faulty
    from tests.faults.proxy import Proxy

FLIP = Fault("flip-bit", operation="GetObject", at=5)
FLIP_ONCE = Fault("flip-bit", operation="GetObject", at=5, count=1)
BETWEEN = "(is something between you and the service?)"
MANY_WINDOWS = b"".join(b"line %07d\n" % number for number in range(200_000))
"""2.6 MB, more than is ever held back until it is proven."""


# --- bits


@begins(
    ("-c", "+1"), ("--integrity", "strict", "-c", "+1"), command=[("-n", "2"), ("--integrity", "strict", "-c", "+4")]
)
def test_bit_flipped_once(tail: Faulty, options: tuple[str, ...]) -> None:
    """The CRC-64 does not fit, so the bytes are read again: the output is right, nothing doubled, nothing said."""
    tail.suffers(FLIP_ONCE)
    skipped = {"+1": 0, "2": 4, "+4": 3}[options[-1]]
    assert tail.reads(*options) == (0, TEXT[skipped:], "")
    assert tail.suffered == 1


@begins(("-c", "+1"), command=[("-n", "2")])
def test_bit_flipped_for_ever(tail: Faulty, options: tuple[str, ...]) -> None:
    """Exit 3, one line with both CRC-64s, no output."""
    tail.suffers(FLIP)
    done = tail.reads(*options)
    assert done[:2] == (3, b"")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"oss-tail: {tail.address}: CRC-64 of the first {len(TEXT)} bytes is ")


def test_bit_flipped_once_while_following(tail: Faulty) -> None:
    """Bytes at the end are held until they are proven, so the flipped one is never seen."""
    with tail.follows() as running:
        running.wait_for_output(TEXT)
        tail.suffers(Fault("flip-bit", operation="GetObject", at=len(TEXT) + 2, count=1))
        tail.grows(b"four\n")
        running.wait_for_output(TEXT + b"four\n")
        assert (tail.suffered, running.stderr) == (1, "")


@pytest.mark.parametrize("option", ["-f", "-F"])
def test_bit_flipped_for_ever_while_following(tail: Faulty, option: str) -> None:
    """Exit 3, and the output ends with the last byte that was right.

    Bytes that never fit what came before are, for all that can be told, another object: -F starts over, and
    then the CRC-64 does not fit from the first byte on.
    """
    with tail.follows(option) as running:
        running.wait_for_output(TEXT)
        tail.suffers(Fault("flip-bit", operation="GetObject", at=len(TEXT) + 2))
        tail.grows(b"four\n")
        done = running.end()
    assert done[:2] == (3, TEXT)
    assert len(done.stderr.splitlines()) == (1 if option == "-f" else 2)


def test_bit_flipped_once_in_a_long_catch_up(tail: Faulty) -> None:
    """Bytes go out as they come; what was wrong is said to be void, the right ones follow, and it exits 3."""
    tail.holds(MANY_WINDOWS)
    tail.suffers(FLIP_ONCE)
    done = tail.reads()
    assert done.status == 3
    void = len(done.stdout) - len(MANY_WINDOWS)
    assert done.stdout[void:] == MANY_WINDOWS
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"oss-tail: '{tail.address}': bytes 0 to {void} ")
    assert "void" in line


def test_bit_flipped_once_in_a_long_catch_up_strict(tail: Faulty) -> None:
    """With --integrity strict nothing goes out before it is proven, so there is nothing to take back."""
    tail.holds(MANY_WINDOWS)
    tail.suffers(FLIP_ONCE)
    done = tail.reads("--integrity", "strict", "-c", "+1")
    assert (done.status, done.stdout == MANY_WINDOWS, done.stderr) == (0, True, "")


@command_only
def test_bit_flipped_once_in_a_long_mirror(tail: Faulty, tmp_path: Path) -> None:
    """A file can be cut back: the mirror is right."""
    tail.holds(MANY_WINDOWS)
    tail.suffers(FLIP_ONCE)
    done = tail.reads("-o", str(tmp_path / "mirror"))
    assert done.status == 0
    assert (tmp_path / "mirror").read_bytes() == MANY_WINDOWS


@command_only
@pytest.mark.parametrize("data", [TEXT, MANY_WINDOWS], ids=["short", "long"])
def test_bit_flipped_for_ever_in_a_mirror(tail: Faulty, tmp_path: Path, data: bytes) -> None:
    """Exit 3; the file holds what is proven, which is nothing."""
    tail.holds(data)
    tail.suffers(FLIP)
    done = tail.reads("-o", str(tmp_path / "mirror"))
    assert done.status == 3
    assert (tmp_path / "mirror").read_bytes() == b""


@command_only
def test_bit_flipped_for_ever_in_a_mirror_that_goes_on(tail: Faulty, tmp_path: Path) -> None:
    """Exit 3; the file keeps what was proven before."""
    path = tmp_path / "mirror"
    with tail.mirrors(path, "-f") as running:
        running.wait_for(lambda: path.exists() and path.read_bytes() == TEXT)
        tail.suffers(Fault("flip-bit", operation="GetObject", at=len(TEXT) + 2))
        tail.grows(b"four\n")
        assert running.end().status == 3
    assert path.read_bytes() == TEXT


# --- what is stated of them


def test_crc_flipped_once(tail: Faulty) -> None:
    """Read again, and right: nothing said."""
    tail.suffers(Fault("flip-crc", operation="GetObject", count=1))
    assert tail.reads() == (0, TEXT, "")
    assert tail.suffered == 1


def test_crc_flipped_for_ever(tail: Faulty) -> None:
    """Exit 3: whether the bytes are wrong or the statement cannot be known. --integrity off takes them as they are."""
    tail.suffers(Fault("flip-crc"))
    done = tail.reads()
    assert done[:2] == (3, b"")
    assert len(done.stderr.splitlines()) == 1
    assert tail.reads("--integrity", "off", "-c", "+1") == (0, TEXT, "")


@begins(("-c", "+1"), command=[("-n", "2")])
def test_crc_missing(tail: Faulty, options: tuple[str, ...]) -> None:
    """Nothing can be proven: exit 3, one line that says how to go on all the same."""
    tail.suffers(Fault("drop-header"))
    line = f"oss-tail: {tail.address}: the service states no CRC-64 for it (--integrity off follows it unproven)\n"
    assert tail.reads(*options) == (3, b"", line)


def test_crc_missing_and_not_asked_for(tail: Faulty) -> None:
    """With --integrity off it goes on, and says once that nothing is proven."""
    tail.suffers(Fault("drop-header"))
    with tail.follows("-F", "--integrity", "off") as running:
        running.wait_for_output(TEXT)
        tail.grows(b"four\n")
        running.wait_for_output(TEXT + b"four\n")
        tail.grows(b"five\n")
        running.wait_for_output(TEXT + b"four\nfive\n")
        line = f"oss-tail: '{tail.address}': the service states no CRC-64; from byte 0 on nothing is proven\n"
        assert running.stderr == line


def test_crc_missing_in_one_answer(tail: Faulty) -> None:
    """Of an object that had one before: exit 3, for then nobody can tell what is missing."""
    with tail.follows() as running:
        running.wait_for_output(TEXT)
        tail.suffers(Fault("drop-header", operation="GetObject"))
        tail.grows(b"four\n")
        done = running.end()
    assert done[:2] == (3, TEXT)
    assert "the service states no CRC-64 for it" in done.stderr


@library_only
def test_bit_flipped_in_the_head_of_an_answer(tail: Faulty, transport: Kind, proxy: Proxy) -> None:
    """Any bit of the status line and of the headers: the right bytes, or none and an error that says why."""
    proxy.misbehave(Conduct.FLIPS_A_BIT, times=60)

    async def read() -> bytes | TailerError:
        try:
            return (await read_impatiently(tail, transport, 0.5)).data
        except TailerError as error:
            return error

    async def read_often() -> list[bytes | TailerError]:
        return await asyncio.gather(*(read() for _ in range(60)))

    outcomes = asyncio.run(read_often())
    assert [found for found in outcomes if not isinstance(found, TailerError) and found != TEXT] == []
    assert outcomes.count(TEXT) > 10
    assert proxy.behaves


LIES = {
    "Content-Length too large": Fault("wrong-length", operation="GetObject", by=3),
    "Content-Length too small": Fault("wrong-length", operation="GetObject", by=-3),
    "Content-Range of other bytes": Fault("shift-range", operation="GetObject", by=1),
    "200 for a range": Fault("ignore-range", operation="GetObject"),
}


@pytest.mark.parametrize("lie", LIES)
def test_lying_answer_that_passes(tail: Faulty, lie: str) -> None:
    """Its body is not used; asked again, the right bytes come once."""
    tail.holds(MANY_WINDOWS)
    fault = LIES[lie]
    tail.suffers(Fault(fault.kind, operation=fault.operation, by=fault.by, after=1, count=1))
    done = tail.reads()
    assert (done.status, done.stdout == MANY_WINDOWS) == (0, True)
    assert tail.suffered == 1
    assert done.stderr.endswith("; trying again\n")


@pytest.mark.parametrize("lie", ["Content-Range of other bytes", "200 for a range"])
def test_lying_answer_for_ever(tail: Faulty, lie: str) -> None:
    """A reading gives up after four tries, exit 1; no byte of it is output."""
    tail.suffers(LIES[lie])
    done = tail.reads()
    assert done[:2] == (1, b"")
    assert tail.suffered == 4
    assert done.stderr.splitlines()[-1].startswith(f"oss-tail: error reading '{tail.address}': ")


@pytest.mark.parametrize("poll", ["head", "get"])
def test_whole_object_for_a_range_while_following(tail: Faulty, poll: str) -> None:
    """200 with everything again, where only what is new was asked for: nothing is doubled."""
    with tail.follows("-F", "--poll", poll) as running:
        running.wait_for_output(TEXT)
        tail.suffers(Fault("ignore-range", operation="GetObject", count=2))
        tail.grows(b"four\n")
        running.wait_for_output(TEXT + b"four\n")
        assert tail.suffered == 2
        assert BETWEEN in running.stderr
