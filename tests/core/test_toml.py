"""Where the keys of a TOML document stand: found for each key that `tomllib` finds, on the line that holds it."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer.core.toml import key_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailer.core.toml import Path


def ways(value: object, way: Path = ()) -> Iterator[Path]:
    """The ways to all keys and elements in what `tomllib` gives."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, one in inside:
        yield (*way, step)
        yield from ways(one, (*way, step))


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", {}),
        ("# a = 1\n\na = 1 # b = 2", {("a",): 3}),
        ("a.b . 'c d' = 1", {("a",): 1, ("a", "b"): 1, ("a", "b", "c d"): 1}),
        ("[t]\n[ u . v ]\nw = 1", {("t",): 1, ("u",): 2, ("u", "v"): 2, ("u", "v", "w"): 3}),
        ("[u.v]\n[u]\nw = 1", {("u",): 1, ("u", "v"): 1, ("u", "w"): 3}),
        ('a = """\nb = 1\n"""\nc = 1', {("a",): 1, ("c",): 4}),
        ('a = """x\\""""""\nc = 1', {("a",): 1, ("c",): 2}),
        ("a = '''\n\\'''''\nc = 1", {("a",): 1, ("c",): 3}),
        (
            "a = [\n1, # ]\n '],' ,\n[2]\n]\nc = 1",
            {("a",): 1, ("a", 0): 2, ("a", 1): 3, ("a", 2): 4, ("a", 2, 0): 4, ("c",): 6},
        ),
        (
            "a = {b = '}', c.d = [{e = 1}]}",
            {
                ("a",): 1,
                ("a", "b"): 1,
                ("a", "c"): 1,
                ("a", "c", "d"): 1,
                ("a", "c", "d", 0): 1,
                ("a", "c", "d", 0, "e"): 1,
            },
        ),
        (
            "[[s]]\na = 1\n[s.t]\nb = 1\n[[s]]\na = 2",
            {
                ("s",): 1,
                ("s", 0): 1,
                ("s", 0, "a"): 2,
                ("s", 0, "t"): 3,
                ("s", 0, "t", "b"): 4,
                ("s", 1): 5,
                ("s", 1, "a"): 6,
            },
        ),
        ('"\\u0061\\n\\U0001F600" = 1', {("a\n\U0001f600",): 1}),
        ("a = 1979-05-27 07:32:00\nb = 1", {("a",): 1, ("b",): 2}),
        ("a = 1\r\nb = 2\r\n", {("a",): 1, ("b",): 2}),
    ],
)
def test_where_they_are(text: str, lines: dict[Path, int]) -> None:
    assert key_lines(text) == lines
    assert set(ways(tomllib.loads(text))) == set(lines)


NAMES = st.text(max_size=6) | st.sampled_from(["a", "b-1", "a.b", '"', "'", "#", "[x]", "="])
VALUES = st.recursive(
    st.integers()
    | st.booleans()
    | st.text(max_size=12)
    | st.sampled_from(['"""', "\\", "a\n[b]\nc = 1", "}", "]", "'''"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=5)


def quoted(text: str) -> str:
    """A basic string of TOML: JSON's but for DEL; characters beyond the first plane stay as they are."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def long_quoted(text: str) -> str:
    """The same over several lines."""
    return '"""\n' + quoted(text)[1:-1].replace("\\n", "\n") + '"""'


def written(value: object, draw: st.DrawFn) -> str:
    """A value in one of the forms that it can have."""
    if isinstance(value, bool | int):
        return str(value).lower()
    if isinstance(value, str):
        return draw(st.sampled_from([quoted, long_quoted]))(value)
    gap = draw(st.sampled_from(["", " ", "\n", " # ] } = \n"]))
    if isinstance(value, list):
        return "[" + "".join(f"{gap}{written(one, draw)}{gap}," for one in value) + f"{gap}]"
    assert isinstance(value, dict)
    return "{" + ",".join(f" {quoted(name)} = {written(one, draw)} " for name, one in value.items()) + "}"


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A document, with tables below headers or in braces."""
    lines, tables = [], []
    for name, value in draw(DOCUMENTS).items():
        if isinstance(value, dict) and draw(st.booleans()):
            tables.append(f"[{quoted(name)}] # [x]")
            tables += [f"{quoted(inner)} = {written(one, draw)}" for inner, one in value.items()]
        else:
            lines.append(f"{quoted(name)} = {written(value, draw)}")
    return "\n".join([*lines, *tables])


@given(texts())
def test_the_line_that_is_found_holds_the_key(text: str) -> None:
    """All that `tomllib` finds, nothing else, and each key on a line where it is written."""
    found = key_lines(text)
    assert set(found) == set(ways(tomllib.loads(text)))
    lines = text.split("\n")
    assert all(quoted(way[-1]) in lines[line - 1] for way, line in found.items() if isinstance(way[-1], str))
