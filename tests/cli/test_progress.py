"""The progress line: what it says, how wide it gets, when it shows and when it is gone again."""

from __future__ import annotations

import fcntl
import os
import struct
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer.cli.progress import Progress, Reading, cells, human_size, shorten
from tailer.core.events import (
    Appeared,
    Batch,
    Event,
    Failed,
    Gone,
    Grew,
    Replaced,
    Rewound,
    Sealed,
    Truncated,
    Unproven,
    Verified,
)
from tailer.core.position import ObjectMeta, ObjectRef, Position
from tailer.errors import ConnectionLost

A = ObjectRef("b", "app.log")
B = ObjectRef("b", "other.log")
GB = 10**9


class Terminal:
    """What a terminal of one line shows, and how often it was written to."""

    def __init__(self, columns: int = 120) -> None:
        self.columns = columns
        self.screen = ""
        self.writes = 0

    def write(self, text: str) -> None:
        self.writes += 1
        assert not set(text) & set("\n\x1b"), "only rewriting the line"
        for part in text.split("\r")[1:]:
            assert cells(part) < self.columns, "the last column makes some terminals wrap"
            self.screen = part + self.screen[len(part) :]

    @property
    def shown(self) -> str:
        return self.screen.rstrip()


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


@pytest.fixture
def progress(terminal: Terminal) -> Progress:
    return Progress(terminal.write, lambda: terminal.columns)


def batch(start: int, end: int) -> Batch:
    """A batch as far as its place goes; nobody looks at its bytes."""
    return Batch(A, 0, start, end, b"", verified=False)


def tell(progress: Progress, *told: tuple[float, Event], ref: ObjectRef = A) -> None:
    for now, event in told:
        progress.on_event(ref, event, now)


# --- the line


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_950, "10 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (1_234_567_890, "1.2 GB"),
        (5 * 2**30, "5.4 GB"),
        (1.5e15, "1500 TB"),
        (0.4, "0 B"),
    ],
)
def test_sizes_are_short(count: float, shown: str) -> None:
    assert human_size(count) == shown


READING = Reading("oss://b/app.log", 1_200_000_000, 4_900_000_000, 812e6, "chain holds to 1.1 GB")


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (120, "oss://b/app.log  1.2 GB of 4.9 GB  24%  812 MB/s  0:05 left  chain holds to 1.1 GB"),
        (75, "oss://b/app.log  1.2 GB of 4.9 GB  24%  812 MB/s  chain holds to 1.1 GB"),
        (70, "oss:/…/app.log  1.2 GB of 4.9 GB  24%  812 MB/s  chain holds to 1.1 GB"),
        (50, "oss://b/app.log  1.2 GB of 4.9 GB  24%  812 MB/s"),
        (34, "oss://b/app.log  24%"),
        (36, "oss:…/app.log  1.2 GB of 4.9 GB  24%"),
        (20, "oss://b/app.log  24%"),
        (10, "oss…pp.log"),
        (1, "…"),
        (0, ""),
        (-1, ""),
    ],
)
def test_a_narrow_terminal_gets_fewer_facts(columns: int, line: str) -> None:
    assert READING.line(columns) == line


@pytest.mark.parametrize(
    ("done", "total", "rate", "percent", "left"),
    [
        (0, 100, 0.0, "0%", "?:??"),
        (0, 100, 1e-9, "0%", "?:??"),
        (999, 1000, 10.0, "99%", "0:01"),
        (0, 7200, 1.0, "0%", "2:00:00"),
        (50, 125, 1.0, "40%", "1:15"),
        (0, 0, 1.0, "0%", "0:00"),
    ],
)
def test_percent_and_time_left(done: int, total: int, rate: float, percent: str, left: str) -> None:
    line = Reading("x", done, total, rate, "c").line(200)
    assert f"  {percent}  " in line
    assert f"  {left} left  " in line


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("oss://bucket/a/long/way/to/app.log", 20, "oss://b…y/to/app.log"),
        ("日志日志日志", 7, "日…日志"),
        ("日志", 4, "日志"),
        ("a\x1b[2J\n\u202e\u2028\xa0b", 20, "a?[2J????b"),
        ("e\u0301" * 3, 3, "e\u0301" * 3),
        ("abc", 0, ""),
    ],
)
def test_names_are_shortened_in_the_middle_by_columns(text: str, columns: int, shown: str) -> None:
    assert shorten(text, columns) == shown


@given(st.text(max_size=60), st.integers(0, 2**62), st.integers(0, 2**62), st.floats(0, 1e12), st.integers(0, 150))
def test_no_line_is_wider_than_it_may_be(name: str, done: int, total: int, rate: float, columns: int) -> None:
    line = Reading(name, done, total, rate, "chain holds to 1.1 GB").line(columns)
    assert cells(line) <= columns
    assert line.isprintable() or line == ""


# --- when it shows


def test_a_short_catch_up_shows_nothing(progress: Progress, terminal: Terminal) -> None:
    tell(progress, (0.0, Grew(0, 0, 100)), (0.5, batch(0, 50)), (0.99, batch(50, 100)), (5.0, Verified(Position(100))))
    assert terminal.writes == 0


def test_a_long_one_shows_after_a_second_and_is_gone_at_its_end(progress: Progress, terminal: Terminal) -> None:
    tell(progress, (0.0, Grew(0, 0, 4 * GB)), (0.5, batch(0, GB)), (0.9, batch(GB, 2 * GB)))
    assert terminal.shown == ""
    tell(progress, (1.0, batch(2 * GB, 3 * GB)))
    assert terminal.shown.startswith("oss://b/app.log  3.0 GB of 4.0 GB  75%  ")
    assert terminal.shown.endswith("left  nothing proven yet")
    tell(progress, (1.5, batch(3 * GB, 4 * GB)))
    assert terminal.shown == ""


def test_it_is_drawn_at_most_ten_times_a_second(progress: Progress, terminal: Terminal) -> None:
    tell(progress, (0.0, Grew(0, 0, 10_000)))
    tell(progress, *((i / 1000, batch(i, i + 1)) for i in range(5000)))
    assert 35 <= terminal.writes <= 41


def test_clearing_makes_room_for_another_line_and_it_comes_back(progress: Progress, terminal: Terminal) -> None:
    tell(progress, (0.0, Grew(0, 0, 100)), (2.0, batch(0, 1)))
    assert terminal.shown
    progress.clear()
    assert terminal.shown == ""
    writes = terminal.writes
    progress.clear()
    assert terminal.writes == writes, "nothing to clear, nothing written"
    progress.refresh(2.2)
    assert terminal.shown


def test_a_shorter_line_leaves_nothing_of_the_longer_one(progress: Progress, terminal: Terminal) -> None:
    tell(progress, (0.0, Grew(0, 0, 100)), (2.0, batch(0, 1)))
    terminal.columns = 30
    progress.refresh(3.0)
    assert terminal.screen[:29].rstrip() == "oss://b/app.log  1%"


@pytest.mark.parametrize(
    "event", [Gone(0, 1), Sealed(1), Replaced(1, "x"), Truncated(1, 1, 0), Appeared(1, ObjectMeta(0))]
)
def test_what_ends_or_restarts_the_object_takes_the_line_away(
    progress: Progress, terminal: Terminal, event: Event
) -> None:
    tell(progress, (0.0, Grew(0, 0, 100)), (2.0, batch(0, 1)), (2.5, event))
    assert terminal.shown == ""


def test_a_failure_leaves_it(progress: Progress, terminal: Terminal) -> None:
    tell(progress, (0.0, Grew(0, 0, 100)), (2.0, batch(0, 1)), (2.5, Failed(ConnectionLost("cut"), 1.0, 1)))
    assert terminal.shown


def test_an_unfinished_line_at_the_end_is_no_catch_up(progress: Progress, terminal: Terminal) -> None:
    """A record whose end has not come is held back; that is no reason to show a line for ever after."""
    tell(
        progress, (0.0, Grew(0, 0, 100)), (0.1, batch(0, 90)), (0.1, Verified(Position(100))), (60.0, Unproven(0, 100))
    )
    assert terminal.writes == 0
    tell(progress, (61.0, Grew(0, 100, 110)), (61.0, batch(90, 105)), (90.0, Grew(0, 110, 120)))
    assert terminal.writes == 0, "unproven, an unfinished line is not told from one on its way; growth says it was read"


def test_the_next_catch_up_has_its_own_second_and_rate(progress: Progress, terminal: Terminal) -> None:
    tell(progress, (0.0, Grew(0, 0, 10)), (0.0, batch(0, 10)), (100.0, Grew(0, 10, 1010)), (100.5, batch(10, 510)))
    assert terminal.writes == 0
    tell(progress, (101.0, batch(510, 520)))
    assert "509 B/s" in terminal.shown


# --- what it says


def test_the_rate_follows_a_change_and_is_right_from_the_start(progress: Progress, terminal: Terminal) -> None:
    def rate() -> str:
        return terminal.shown.split("  ")[3]

    tell(progress, (0.0, Grew(0, 0, 100 * GB)))
    tell(progress, *((i / 100, batch((i - 1) * 1_000_000, i * 1_000_000)) for i in range(1, 201)))
    assert rate() in ("99 MB/s", "100 MB/s", "101 MB/s")
    start = 200_000_000
    tell(progress, *((2 + i / 100, batch(start + (i - 1) * 10_000, start + i * 10_000)) for i in range(1, 2001)))
    assert rate() in ("1.0 MB/s", "1.1 MB/s")


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([], "nothing proven yet"),
        ([Verified(Position(1_200_000_000))], "chain holds to 1.2 GB"),
        ([Rewound(0, 800_000_000, 2 * GB)], "rewound to 800 MB"),
        ([Rewound(0, 0, 5), Verified(Position(5000))], "chain holds to 5.0 kB"),
        ([Unproven(0, 0)], "no CRC-64: unproven"),
    ],
)
def test_the_state_of_the_chain(progress: Progress, terminal: Terminal, events: list[Event], words: str) -> None:
    tell(progress, (0.0, Grew(0, 0, 4 * GB)), *((0.5, event) for event in events))
    progress.refresh(3.0)
    assert terminal.shown.endswith(f"  {words}")


def test_without_integrity_it_says_that_nothing_is_checked(terminal: Terminal) -> None:
    progress = Progress(terminal.write, lambda: terminal.columns, checked=False)
    tell(progress, (0.0, Grew(0, 0, 100)), (2.0, batch(0, 1)))
    assert terminal.shown.endswith("  not checked")


def test_several_objects_share_one_line(progress: Progress, terminal: Terminal) -> None:
    tell(progress, (0.0, Grew(0, 0, 2 * GB)), (0.0, Verified(Position(0))))
    tell(progress, (0.0, Grew(0, 0, GB)), (1.5, Batch(B, 0, 0, GB // 2, b"", verified=False)), ref=B)
    assert terminal.shown.startswith("2 objects  500 MB of 3.0 GB  16%  ")
    progress.finish(A)
    progress.refresh(2.0)
    assert terminal.shown.startswith("oss://b/other.log  ")
    progress.finish(B)
    assert terminal.shown == ""


# --- a real terminal


def test_on_a_real_terminal_each_line_is_rewritten_and_the_last_one_erased() -> None:
    leader, follower = os.openpty()
    written: list[int] = []
    try:
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
        progress = Progress(
            lambda text: written.append(os.write(follower, text.encode())),
            lambda: os.get_terminal_size(follower).columns,
        )
        tell(progress, (0.0, Grew(0, 0, 100)), (1.5, batch(0, 10)), (2.0, batch(10, 20)), (3.0, batch(20, 100)))
        os.write(follower, b"next line\n")
        received = ""
        while not received.endswith("line\r\n"):
            received += os.read(leader, 4096).decode()
    finally:
        os.close(leader)
        os.close(follower)
    first, second, blank, rest = received.split("\r", 1)[1].split("\r", 3)
    assert first == "oss:…app.log  10 B of 100 B  10%  8 B/s  nothing proven yet"
    assert second.rstrip() == "oss://b/app.log  20 B of 100 B  20%  13 B/s"
    assert blank == " " * len(second.rstrip())
    assert rest == "next line\r\n"
