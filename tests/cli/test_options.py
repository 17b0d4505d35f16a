"""Options and their values; what GNU tail takes as well is held against it in test_tail_gnu.py."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer.cli.options import OPTIONS, Amount, Options, help_text, parse
from tailer.errors import UsageError
from tailer.sinks.fsync import AT_CLOSE, EACH_BATCH, NEVER, Fsync


@pytest.mark.parametrize(
    ("words", "amount"),
    [
        ("x", Amount(10)),
        ("-n 3 x", Amount(3)),
        ("-n +3 x", Amount(3, from_start=True)),
        ("-c 2kB x", Amount(2000, lines=False)),
        ("-c +2K x", Amount(2048, lines=False, from_start=True)),
        ("-n 1Q x", Amount(2**64)),
        ("-n 9" + "9" * 4999 + " x", Amount(2**64)),
        ("-n " + "0" * 6000 + "7 x", Amount(7)),
        ("--from start x", Amount(1, lines=False, from_start=True)),
        ("--from end x", Amount(0, lines=False)),
        ("--from 0 x", Amount(1, lines=False, from_start=True)),
        ("--from 100 x", Amount(101, lines=False, from_start=True)),
        ("--from 100 -n 5 x", Amount(5, from_start=True)),
        ("-n +5 --from end x", Amount(0, lines=False)),
        ("-5 x", Amount(5)),
        ("+5c x", Amount(5, lines=False, from_start=True)),
        ("-2b x", Amount(1024, lines=False)),
    ],
)
def test_amount(words: str, amount: Amount) -> None:
    assert parse(words.split()).amount == amount


@pytest.mark.parametrize(
    ("words", "follow", "retry"),
    [
        ("x", "no", False),
        ("-f x", "descriptor", False),
        ("-5f x", "descriptor", False),
        ("--follow x", "descriptor", False),
        ("--follow=name x", "name", False),
        ("--follow=n x", "name", False),
        ("-F x", "name", True),
        ("-F -f x", "descriptor", True),
        ("--retry -f x", "descriptor", True),
        ("-F --once x", "no", False),
    ],
)
def test_follow(words: str, follow: str, retry: bool) -> None:
    options = parse(words.split())
    assert (options.follow, options.retry) == (follow, retry)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1", 1.0),
        ("0", 0.01),
        (".5", 0.5),
        ("1e2", 100.0),
        ("0x10", 16.0),
        ("inf", 365 * 86400.0),
        ("1e999", 365 * 86400.0),
    ],
)
def test_seconds(text: str, seconds: float) -> None:
    """Neither busy nor asleep for ever."""
    assert parse(["-s", text, "x"]).interval == seconds


@pytest.mark.parametrize("text", ["", "x", "-1", "nan", "1_0", "1 ", "0x", "0x1p999999", "infinite", ".", "٣"])
def test_bad_seconds(text: str) -> None:
    with pytest.raises(UsageError, match="invalid number of seconds"):
        parse(["-s", text, "x"])


@given(st.lists(st.text(max_size=8), max_size=6))
def test_any_words_parse_or_are_refused(words: list[str]) -> None:
    """Whatever is typed: options, or a UsageError, and nothing else."""
    with suppress(UsageError):
        assert isinstance(parse(words), Options)


def test_later_ones_win() -> None:
    options = parse(["-v", "-q", "-n", "1", "--poll=get", "--poll=head", "-s1", "-s2", "--region=a", "--region=b", "x"])
    assert (options.headers, options.amount.count, options.poll) == ("never", 1, "head")
    assert (options.interval, options.region) == (2.0, "b")


def test_everything_of_ours() -> None:
    words = """--json --integrity strict --poll get --metrics 9464 --progress --no-glob --endpoint e --region r
        --profile p --no-sign-request --debug --exit-idle 3 -z -f x"""
    options = parse(words.split())
    assert options == Options(
        addresses=("x",),
        follow="descriptor",
        json=True,
        integrity="strict",
        poll="get",
        metrics="9464",
        progress=True,
        glob=False,
        endpoint="e",
        region="r",
        profile="p",
        sign=False,
        debug=True,
        exit_idle=3.0,
        zero=True,
    )


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("never", NEVER),
        ("close", AT_CLOSE),
        ("batch", EACH_BATCH),
        ("5s", Fsync(seconds=5.0)),
        ("0.5s", Fsync(seconds=0.5)),
        ("64M", Fsync(bytes=64 << 20)),
        ("1000", Fsync(bytes=1000)),
        ("64K,1s", Fsync(seconds=1.0, bytes=64 << 10)),
    ],
)
def test_when_to_fsync(text: str, policy: Fsync) -> None:
    assert parse(["-o", "copy", "--fsync", text, "x"]).fsync == policy


@pytest.mark.parametrize(
    "text", ["", "always", "0", "0s", "-1s", "1s,2s", "1M,2M", "1s,", "s", "5S", "1e3", "٣s", "2" * 400]
)
def test_a_wrong_fsync_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="for '--fsync': never, close, batch, a time"):
        parse(["-o", "copy", f"--fsync={text}", "x"])


@pytest.mark.parametrize("words", [["--fsync=close"], ["--keep-generations"]])
def test_what_is_about_a_mirror_needs_one(words: list[str]) -> None:
    with pytest.raises(UsageError, match=rf"{words[0].split('=')[0]} needs --output PATH"):
        parse([*words, "x"])


def test_help_wins_over_what_comes_after_it() -> None:
    assert parse(["--help", "--nonsense"]).show == "help"
    assert parse(["--version"]).show == "version"


def test_help_names_every_option() -> None:
    text = help_text()
    for option in OPTIONS:
        for name in option.names:
            assert f"--{name}" in text
        if option.letter:
            assert f"-{option.letter}" in text
        assert option.help.split()[0] in text


def test_help_fits_a_terminal() -> None:
    assert max(map(len, help_text().splitlines())) <= 96


def test_no_option_twice() -> None:
    names = [name for option in OPTIONS for name in option.names]
    letters = [option.letter for option in OPTIONS if option.letter]
    assert len(names) == len(set(names))
    assert len(letters) == len(set(letters))


def test_how_much_a_strict_reading_keeps() -> None:
    assert parse(["--integrity=strict", "--spool-bytes", "64M", "x"]).spool_bytes == 64 << 20
    for wrong in ("0", "much"):
        with pytest.raises(UsageError, match="--spool-bytes"):
            parse([f"--spool-bytes={wrong}", "x"])
