"""Names and lines on stderr."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer.cli.messages import Messages, quote


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("plain", "'plain'"),
        ("", "''"),
        ("a b", "'a b'"),
        ("it's", '"it\'s"'),
        ("it's $5", "'it'\\''s $5'"),
        ("a\nb", "'a'$'\\n''b'"),
        ("\n", "''$'\\n'"),
        ("a\x1b[0m", "'a'$'\\033''[0m'"),
        ("é", "'é'"),
        ("\u202e", "''$'\\342\\200\\256'"),
    ],
)
def test_quote(name: str, quoted: str) -> None:
    """As coreutils 9.1 quotes file names in messages."""
    assert quote(name) == quoted


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=20))
def test_a_shell_reads_it_back(names: list[str]) -> None:
    """Printable, and the same name to bash."""
    script = " ".join(map(quote, names))
    assert script.isprintable()
    read = subprocess.run(["bash", "-c", f"printf '%s\\0' {script}"], capture_output=True, check=True).stdout
    assert read.decode().split("\0")[:-1] == names


def _said(*texts: object, debug: bool = False) -> str:
    reader, writer = os.pipe()
    messages = Messages(writer, debug=debug)
    for text in texts:
        messages.say(text)
    messages.debug("more")
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        return file.read()


def test_one_line_whatever_it_holds() -> None:
    assert _said("a\x1b[2Jb\nc é") == "oss-tail: a\\033[2Jb\\nc é\n"


def test_debug_is_for_debugging() -> None:
    assert _said("x") == "oss-tail: x\n"
    assert _said("x", debug=True) == "oss-tail: x\noss-tail: debug: more\n"


def test_what_is_in_the_way_is_asked_to_leave() -> None:
    reader, writer = os.pipe()
    messages = Messages(writer)
    messages.before = lambda: messages.draw("<clear>")
    messages.say("x")
    os.close(writer)
    with open(reader, encoding="utf-8") as file:
        assert file.read() == "<clear>oss-tail: x\n"


def test_nobody_listens() -> None:
    """A closed stderr ends nothing."""
    reader, writer = os.pipe()
    os.close(reader)
    Messages(writer).say("x")
    os.close(writer)
    Messages(writer).say("x")
    assert not os.path.exists(f"/proc/self/fd/{writer}")
