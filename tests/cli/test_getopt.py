"""The command line as GNU getopt_long reads it."""

from __future__ import annotations

import pytest

from tailer.cli.getopt import Option, read
from tailer.errors import UsageError

OPTIONS = (
    Option("n", ("lines",), "N", "first", ""),
    Option("f", ("follow",), "HOW", "first", "", optional=True),
    Option("q", ("quiet", "silent"), None, "first", ""),
    Option("", ("sleep",), "S", "first", ""),
    Option("F", (), None, "first", ""),
    Option("", ("from",), "WHERE", "second", ""),
    Option("", ("profile",), "NAME", "second", ""),
    Option("", ("progress",), None, "second", ""),
)


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ("", []),
        ("a b", [("", "a"), ("", "b")]),
        ("-n5 a", [("lines", "5"), ("", "a")]),
        ("-n 5", [("lines", "5")]),
        ("-n -5", [("lines", "-5")]),
        ("-n -- a", [("lines", "--"), ("", "a")]),
        ("-qn5", [("quiet", None), ("lines", "5")]),
        ("-nq5", [("lines", "q5")]),
        ("-fq", [("follow", None), ("quiet", None)]),
        ("-F", [("F", None)]),
        ("a -q b", [("", "a"), ("quiet", None), ("", "b")]),
        ("a -- -q --", [("", "a"), ("", "-q"), ("", "--")]),
        ("-", [("", "-")]),
        ("--lines=5", [("lines", "5")]),
        ("--lines 5", [("lines", "5")]),
        ("--lines=", [("lines", "")]),
        ("--lines=a=b", [("lines", "a=b")]),
        ("--follow name", [("follow", None), ("", "name")]),
        ("--follow=name", [("follow", "name")]),
        ("--silent", [("quiet", None)]),
        ("--li 5", [("lines", "5")]),
        ("--q", [("quiet", None)]),
        ("--f=x", [("follow", "x")]),
        ("--fr x", [("from", "x")]),
        ("--prof x", [("profile", "x")]),
        ("--progress", [("progress", None)]),
    ],
)
def test_read(words: str, given: list[tuple[str, str | None]]) -> None:
    assert list(read(words.split(), OPTIONS)) == given


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("-x", "invalid option -- 'x'"),
        ("-qx", "invalid option -- 'x'"),
        ("-é", "invalid option -- 'é'"),
        ("-q5", "option used in invalid context -- 5"),
        ("-n", "option requires an argument -- 'n'"),
        ("--lines", "option '--lines' requires an argument"),
        ("--li", "option '--lines' requires an argument"),
        ("--quiet=1", "option '--quiet' doesn't allow an argument"),
        ("--what=1", "unrecognized option '--what=1'"),
        ("--s", "option '--s' is ambiguous; possibilities: '--silent' '--sleep'"),
        ("--pro", "option '--pro' is ambiguous; possibilities: '--profile' '--progress'"),
    ],
)
def test_refused(words: str, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        list(read(words.split(), OPTIONS))
    assert str(refused.value) == said


def test_what_came_before_an_error_is_yielded() -> None:
    """So that --help in front of a mistake helps."""
    given = read(["-q", "-x"], OPTIONS)
    assert next(given) == ("quiet", None)
    with pytest.raises(UsageError):
        next(given)
