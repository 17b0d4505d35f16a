"""`--show-nonprinting`: content that a terminal may be trusted with; without it, the bytes and nothing else."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tailer.cli.options import parse
from tailer.cli.output import Printer, RawSink, Visible
from tailer.core.events import Batch, Rewound
from tailer.core.position import ObjectRef
from tailer.errors import UsageError
from tailer.local import Fault
from tailer.sinks.stdout import OutputStream

if TYPE_CHECKING:
    from pathlib import Path

    from tailer.core.events import Event
    from tests.cli.conftest import OssTail

REF = ObjectRef("bucket", "key")
NASTY = "\x1b]0;title\x07\x1b[2J\r\x9b31m\x7f\u202e\x00"
TEXT = "tab\t, 日本語, é, 🙂, a no-break\xa0space, e\u0301, \u200d joined\n"

pieces = st.lists(
    st.one_of(
        st.binary(max_size=6), st.text(max_size=4).map(str.encode), st.sampled_from([NASTY.encode(), b"\xe2\x82"])
    ),
    max_size=8,
).map(b"".join)


def shown(data: bytes) -> bytes:
    visible = Visible()
    return visible.feed(data) + visible.rest()


def test_what_is_shown_of_what() -> None:
    assert shown(NASTY.encode()) == b"^[]0;title^G^[[2J^MM-BM-^[31m^?M-bM-^@M-.^@"
    assert shown(b"\x9b31m \xff \xe2\x82 \xc0\xaf \xed\xa0\x80") == b"M-^[31m M-^? M-bM-^B M-@M-/ M-mM- M-^@"
    assert shown(TEXT.encode()) == TEXT.encode()


@given(st.lists(st.one_of(st.integers(0, 127), st.integers(0x80, 0xBF)), max_size=200).map(bytes))
@example(bytes(range(0xC0)))
def test_where_no_character_has_several_bytes_it_is_what_cat_shows(data: bytes) -> None:
    assert shown(data) == cat(data)


def cat(data: bytes) -> bytes:
    found = shutil.which("cat")
    assert found is not None
    return subprocess.run([found, "-v"], input=data, env={"LC_ALL": "C"}, capture_output=True, check=True).stdout


@given(pieces, st.lists(st.integers(0, 80), max_size=6))
@example("🙂".encode(), [1, 2, 3])
def test_however_it_is_cut_the_same_is_shown_and_nothing_of_it_does_harm(data: bytes, cuts: list[int]) -> None:
    visible = Visible()
    places = [0, *sorted(cuts), len(data)]
    cut = [visible.feed(data[start:end]) for start, end in pairwise(places)]
    whole = b"".join(cut) + visible.rest()
    assert whole == shown(data)
    harmless = whole.decode().replace("\t", "").replace("\n", "")
    assert not [character for character in harmless if ord(character) < 32 or 127 <= ord(character) < 160]
    assert not set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") & set(harmless)


@given(
    st.text(st.characters(exclude_categories=("Cc", "Cs", "Cf"), include_characters="\t\n"), max_size=80),
    st.integers(0, 400),
)
def test_text_passes_as_it_is(text: str, cut: int) -> None:
    data = text.encode()
    visible = Visible()
    assert visible.feed(data[:cut]) + visible.feed(data[cut:]) == data
    assert visible.rest() == b""


def printed(path: Path, *events: Event) -> bytes:
    async def run() -> None:
        with path.open("wb") as file:
            sink = RawSink(Printer(OutputStream(file.fileno()), headers=False), REF, show_nonprinting=True)
            for event in events:
                await (sink.write(event) if isinstance(event, Batch) else sink.notice(event))
            await sink.finish()
            await sink.close()

    asyncio.run(run())
    return path.read_bytes()


def batch(start: int, data: bytes, generation: int = 0) -> Batch:
    return Batch(REF, generation, start, start + len(data), data, verified=True)


EURO = "€".encode()


@pytest.mark.parametrize(
    ("events", "output"),
    [
        ([batch(0, b"a" + EURO[:2]), batch(3, EURO[2:])], b"a" + EURO),
        ([batch(0, b"a" + EURO[:2])], b"aM-bM-^B"),
        ([batch(0, b"a" + EURO[:2]), Rewound(0, 1, 3), batch(1, b"b")], b"ab"),
        ([batch(0, b"a" + EURO[:2]), Rewound(0, 2, 3), batch(2, EURO[1:])], b"a" + EURO),
        ([batch(0, b"a" + EURO[:2]), Rewound(0, 0, 3), batch(0, b"b" + EURO)], b"ab" + EURO),
        ([batch(0, b"a" + EURO[:2]), batch(0, b"new", generation=1)], b"aM-bM-^Bnew"),
    ],
    ids=["comes whole", "has no end", "is void", "is void in part", "is void with more", "another object comes"],
)
def test_half_a_character(tmp_path: Path, events: list[Event], output: bytes) -> None:
    assert printed(tmp_path / "out", *events) == output


def test_by_option_and_else_the_bytes(oss_tail: OssTail) -> None:
    data = f"{NASTY}{TEXT}".encode() + b"\xff\n"
    address = oss_tail.renew("nonprinting/all", data)
    assert oss_tail.here(["-c", "+1", address]) == (0, data, "")
    assert oss_tail.here(["-c", "+1", "--show-nonprinting", address]) == (0, shown(data), "")
    assert (
        oss_tail.here(["-n", "1", "--show-nonprinting", "-v", address]).stdout
        == b"==> %s <==\nM-^?\n" % address.encode()
    )


def test_a_follow_shows_a_character_when_it_is_whole(oss_tail: OssTail) -> None:
    address = oss_tail.renew("nonprinting/grows", b"one" + EURO[:1])
    with oss_tail.following("-f", "-c", "+1", "-s", "0.05", "--show-nonprinting", address) as tail:
        tail.wait_for_output(b"one")
        oss_tail.append("nonprinting/grows", EURO[1:] + b"\x1b[2J" + EURO[:2])
        tail.wait_for_output(b"one" + EURO + b"^[[2J")
        oss_tail.server.store.seal("bucket", "nonprinting/grows", 12)
        assert tail.end() == (0, b"one" + EURO + b"^[[2JM-bM-^B", "")


@pytest.mark.parametrize("more", [["--json"], ["-o", "file"], ["--exec", "cat"], ["--checkpoint", "marks.db"]])
def test_who_works_with_the_bytes_gets_the_bytes(more: list[str]) -> None:
    with pytest.raises(UsageError, match="--show-nonprinting is for people to look at"):
        parse(["--show-nonprinting", *more, "oss://b/k"])


def test_a_name_is_harmless_in_a_traceback(oss_tail: OssTail) -> None:
    """Of an object whose bytes are not those that its CRC-64 is of: every error about it names it."""
    address = oss_tail.renew(f"nonprinting/{NASTY.replace(chr(0), '')}", b"content\n" * 100)
    oss_tail.server.faults.add(Fault("flip-crc"))
    try:
        done = oss_tail.here(["-c", "+1", "--debug", address])
    finally:
        oss_tail.server.faults.clear()
    assert done.status == 3
    assert "Traceback" in done.stderr
    assert "\\033[2J" in done.stderr
    assert done.stderr.replace("\n", "").isprintable()


def test_names_are_harmless_on_every_way(oss_tail: OssTail) -> None:
    """With and without the option, in headers, in messages, and as the terminal's progress shows them."""
    address = oss_tail.renew(f"nonprinting/{NASTY.replace(chr(0), '')}", b"content\n" * 100)
    missing = f"{address}-missing"
    for options in (["-v"], ["-v", "--show-nonprinting"], ["--json"], ["-v", "--debug", "--progress"]):
        done = oss_tail.here([*options, address, missing])
        assert done.status == 1
        said = (done.stdout + done.stderr.encode()).decode().replace("\n", "")
        assert said.isprintable(), options
        assert "nonprinting/" in said
    assert os.fsencode(address) not in done.stdout
