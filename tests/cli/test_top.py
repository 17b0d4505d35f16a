"""`oss-tailer top`: what it draws, from what it takes, and on a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailer.cli.progress import cells
from tailer.cli.service import main
from tailer.cli.top import Asked, fetch, frame, report, status_from, status_url
from tailer.errors import ProtocolError, TailerError, UsageError
from tailer.status import ServiceStatus, SinkStatus
from tailer.web.server import status_json
from tests.made_up import NOW, MadeUp, group_status, object_status, open_port, service_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMED = re.compile(r"/(\w+)\.log\r?$", re.MULTILINE)
HOSTILE = "a\x1b[2Jb\u202ec\nd"
TROUBLE = service_status(
    healthy=False,
    problems=("group web: stuck",),
    objects=(
        object_status("slow.log", lag=9_000_000, rates=(1.0,) * 30),
        object_status("fast.log", lag=1_000, rates=(5e6,) * 30),
        object_status("broken.log", lag=0, state="failed", chain="broken", last_error="bytes 0 to 9 differ"),
    ),
    sinks=(SinkStatus("hook", "http", 48_211_000, 51_000, 321.0, 3, 7, "503", NOW - 12.0),),
)


def texts(status: ServiceStatus, columns: int = 200, order: str = "trouble") -> list[str]:
    return [line.text for line in report(status, columns, order)]


# --- what it draws


def test_a_report_has_the_verdict_the_sums_and_three_tables() -> None:
    lines = texts(TROUBLE)
    assert lines[:2] == ["Not well", "  group web: stuck"]
    numbers = "1.5 MB behind, the oldest for 2.5 s; 2.4 MB/s; 3.2 requests/s; 51,234 requests today (5 % of 1,000,000)"
    assert f"{numbers}; 0.0512 CNY; up 3.0 d" in lines
    assert "  1,240       0  1.5 MB   2.5 s  2.4 MB/s       0 B  4.0 s ago  0.6 s ago  web > mirror" in lines
    assert "    48 MB   51,000        3       7  hook (http)" in lines
    assert "    503" in lines
    row = "active  proven  9.0 MB  2.5 s     1 B/s  ████████████  123,456,789  0.4 s ago  oss://logs/slow.log"
    assert row in lines
    assert lines[-1] == "3 of 1,240: the most behind, and the last that grew"


@pytest.mark.parametrize(
    ("order", "names"),
    [
        ("trouble", ["broken", "slow", "fast"]),
        ("lag", ["slow", "fast", "broken"]),
        ("rate", ["fast", "broken", "slow"]),
        ("name", ["broken", "fast", "slow"]),
    ],
)
def test_objects_come_in_the_order_asked_for(order: str, names: list[str]) -> None:
    assert NAMED.findall("\n".join(texts(TROUBLE, order=order))) == names


@pytest.mark.parametrize(("rates", "rate"), [((), "0 B/s"), ((5e6, 9e6, 1e6), "9.0 MB/s"), ((0.0, 2e6), "2.0 MB/s")])
def test_a_step_that_is_not_over_makes_an_object_no_slower(rates: tuple[float, ...], rate: str) -> None:
    line = texts(service_status(objects=(object_status(rates=rates),)))[-2]
    assert line.split("2.5 s")[1].split()[:2] == rate.split()


def test_an_error_stands_below_its_object() -> None:
    lines = texts(TROUBLE)
    place = next(index for index, line in enumerate(lines) if line.endswith("broken.log"))
    assert lines[place + 1] == "    bytes 0 to 9 differ"


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 100, 132])
def test_nothing_is_wider_than_the_screen_and_the_name_is_never_left_out(columns: int) -> None:
    lines = texts(TROUBLE, columns)
    assert max(map(cells, lines)) <= columns
    assert sum(".log" in line and "…" not in line.rstrip(".log")[-4:] for line in lines) >= 3 or columns < 40


def test_a_screen_is_filled_and_not_overfilled() -> None:
    for rows in (1, 2, 5, 24, 200):
        lines = frame(Asked(TROUBLE), 80, rows, "lag")
        assert len(lines) == rows
        assert lines[-1].text == "q quit; sort: t trouble, l lag, r rate, n name (now lag)"


def test_a_lost_service_is_said_over_what_was_known() -> None:
    lines = frame(Asked(TROUBLE, TailerError("no answer from http://127.0.0.1:1")), 80, 24, "lag")
    assert (lines[0].text, lines[0].style) == ("no answer from http://127.0.0.1:1; trying again", "bad")
    assert (lines[1].text, lines[1].style) == ("Not well", "old")
    assert frame(Asked(), 80, 24, "lag")[0].text == "waiting for the first status"


def test_without_the_characters_for_it_there_are_no_blocks() -> None:
    assert all(line.text.isascii() for line in report(TROUBLE, 200, "lag", blocks=False))


# --- what it takes


def test_a_status_comes_through_as_it_was() -> None:
    assert status_from(status_json(TROUBLE).encode()) == TROUBLE


def test_nothing_in_a_status_does_anything_to_a_terminal() -> None:
    status = replace(
        TROUBLE,
        problems=(HOSTILE,),
        config_error=HOSTILE,
        groups=(group_status(name=HOSTILE, sink=HOSTILE, listing_error=HOSTILE, objects={HOSTILE: 1}),),
        objects=(object_status(HOSTILE, group=HOSTILE, state=HOSTILE, chain=HOSTILE, last_error=HOSTILE),),
        sinks=(SinkStatus(HOSTILE, HOSTILE, 0, 0, 0.0, 0, 1, HOSTILE, NOW),),
    )
    lines = texts(status_from(status_json(status).encode()), 500)
    assert all(line.isprintable() for line in lines)
    assert any(r"'oss://logs/a'$'\033''[2Jb'$'\342\200\256''c'$'\n''d'" in line for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>",
        b"[]",
        b"3",
        b"{}",
        b"[" * 100_000,
        status_json(TROUBLE).replace("9000000", "1" * 4000).encode(),
        status_json(TROUBLE).replace("9000000", "1e999").encode(),
        status_json(TROUBLE).replace("9000000", "[]").encode(),
        status_json(TROUBLE).replace('"broken"', "7").encode(),
        status_json(TROUBLE).replace('"objects":{', '"objects":7,"x":{').encode(),
    ],
    ids=[
        "empty",
        "html",
        "list",
        "number",
        "object",
        "brackets",
        "large",
        "infinite",
        "list for a number",
        "state",
        "x",
    ],
)
def test_what_is_no_status_is_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError, match="no oss-tailer of this version"):
        status_from(text)


VALUES: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@given(st.data())
def test_whatever_the_numbers_are_a_status_is_drawn_or_refused(data: st.DataObject) -> None:
    value = json.loads(status_json(TROUBLE))
    place = value
    for name in data.draw(st.sampled_from([(), ("groups", 0), ("objects", 0), ("sinks", 0), ("requests",)])):
        place = place[name]
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(VALUES)
    try:
        status = status_from(json.dumps(value).encode())
    except ProtocolError:
        return
    assert all(line.text.isprintable() and cells(line.text) <= 80 for line in report(status, 80, "trouble"))


def test_what_a_later_version_adds_is_left_out() -> None:
    value = json.loads(status_json(TROUBLE))
    value["objects"][0]["colour"] = "blue"
    assert status_from(json.dumps(value).encode()) == TROUBLE


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("9465", "http://127.0.0.1:9465/status.json"),
        ("tail:9465", "http://tail:9465/status.json"),
        ("[::1]:9465", "http://[::1]:9465/status.json"),
        ("http://127.0.0.1:9465", "http://127.0.0.1:9465/status.json"),
        ("https://example.com/tail/", "https://example.com/tail/status.json"),
    ],
)
def test_a_service_is_named_by_its_port_or_its_url(text: str, url: str) -> None:
    assert status_url(text) == url


@pytest.mark.parametrize(
    "text", ["", "x", "ftp://a", "http://", "http://a:99999", "http://a b", "http://[", "file:///x"]
)
def test_what_is_no_address_is_a_mistake_of_usage(text: str) -> None:
    with pytest.raises(UsageError, match="not the address of a service"):
        status_url(text)


# --- the command


def test_once_it_prints_one_plain_report(capfd: pytest.CaptureFixture[str]) -> None:
    with open_port(MadeUp(TROUBLE)) as url:
        assert main(["top", url, "--once"]) == 0
    out = capfd.readouterr().out
    assert out.startswith("Not well\n  group web: stuck\n")
    assert "\x1b" not in out
    assert "oss://logs/broken.log\n    bytes 0 to 9 differ\n" in out


def test_without_a_terminal_it_does_as_with_once(capfd: pytest.CaptureFixture[str]) -> None:
    with open_port(MadeUp(TROUBLE)) as url:
        assert main(["top", url, "--sort", "name"]) == 0
    assert NAMED.findall(capfd.readouterr().out) == ["broken", "fast", "slow"]


def test_no_service_is_one_line_and_status_1(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["top", "http://127.0.0.1:1", "--once"]) == 1
    line = "no answer from http://127.0.0.1:1/status.json: Connection refused (is `oss-tailer run` running?)"
    assert capfd.readouterr().err == f"oss-tailer: {line}\n"


def test_another_server_is_said_to_be_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    with open_port(MadeUp()) as url, pytest.raises(ProtocolError, match="answers 404: there is nothing here"):
        fetch(f"{url}/elsewhere")
    with open_port(MadeUp()) as url, pytest.raises(ProtocolError, match="no oss-tailer of this version"):
        fetch(f"{url}/metrics")


class Terminal:
    """The real command on a pseudo-terminal of 80 columns and 24 rows."""

    def __init__(self, *arguments: str, keys: bool = True) -> None:
        self._leader, follower = pty.openpty()
        self.resize(24, 80)
        self.before = termios.tcgetattr(follower)
        command = "" if keys else "import os; os.close(0); "
        command += "import sys; from tailer.cli.service import main; sys.exit(main())"
        self.process = subprocess.Popen(
            [sys.executable, "-c", command, "top", *arguments],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm", "PYTHONIOENCODING": "utf-8", "COLUMNS": "70", "LINES": "20"},
        )
        self._follower = follower
        self._seen = ""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self._leader, keys.encode())

    def screen(self) -> str:
        """The last screen that was drawn whole, without what is for the terminal alone."""
        if select.select([self._leader], [], [], 0.05)[0]:
            self._seen = (self._seen + os.read(self._leader, 1 << 20).decode("utf-8", "replace"))[-400_000:]
        whole = self._seen.rpartition("\x1b[J")[0].rpartition("\x1b[H")[2]
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", whole)

    def wait_for(self, is_so: Callable[[str], object]) -> str:
        deadline = time.monotonic() + 30
        while not is_so(screen := self.screen()):
            assert time.monotonic() < deadline, screen
        return screen

    def end(self) -> tuple[int, str, list[Any]]:
        """Its exit status, all that it wrote, and how it left the terminal."""
        status = self.process.wait(30)
        while select.select([self._leader], [], [], 0)[0]:
            self._seen += os.read(self._leader, 65536).decode("utf-8", "replace")
        return status, self._seen, termios.tcgetattr(self._follower)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._leader)
        os.close(self._follower)


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    shown = Terminal(*arguments)
    try:
        yield shown
    finally:
        shown.close()


def first_object(screen: str) -> str:
    return next(iter(NAMED.findall(screen)), "")


def test_it_is_live_obeys_keys_and_leaves_the_terminal_as_it_was() -> None:
    served = MadeUp(TROUBLE)
    with open_port(served) as url, terminal(url) as shown:
        screen = shown.wait_for(lambda screen: "Not well" in screen)
        assert first_object(screen) == "broken"
        for key, name in (("l", "slow"), ("r", "fast"), ("n", "broken"), ("?", "broken")):
            shown.press(key)
            shown.wait_for(lambda screen, name=name: first_object(screen) == name)
        served.shown = service_status()
        shown.wait_for(lambda screen: screen.startswith("All is well"))
        shown.press("q")
        status, seen, after = shown.end()
    assert status == 0
    assert seen.startswith("\x1b[?1049h\x1b[?25l")
    assert seen.endswith("\x1b[?25h\x1b[?1049l")
    assert after == shown.before


def test_a_new_size_of_the_window_is_taken_at_once() -> None:
    with open_port(MadeUp(TROUBLE)) as url, terminal(url) as shown:
        shown.wait_for(lambda screen: screen.count("\n") == 23)
        shown.resize(10, 40)
        screen = shown.wait_for(lambda screen: screen.count("\n") == 9)
        assert max(map(cells, screen.splitlines())) <= 40


def test_it_is_live_where_no_keys_can_be_pressed() -> None:
    served = MadeUp(TROUBLE)
    with open_port(served) as url:
        shown = Terminal(url, keys=False)
        try:
            shown.wait_for(lambda screen: "Not well" in screen)
            served.shown = service_status()
            shown.wait_for(lambda screen: screen.startswith("All is well"))
        finally:
            shown.close()


def test_a_service_that_went_is_waited_for() -> None:
    served = MadeUp(TROUBLE)
    with open_port(served) as url:
        shown = Terminal(url)
        shown.wait_for(lambda screen: "Not well" in screen)
    try:
        screen = shown.wait_for(lambda screen: "no answer from" in screen)
        assert "slow.log" in screen
        with open_port(served, int(url.rpartition(":")[2])):
            shown.wait_for(lambda screen: screen.startswith("Not well"))
        shown.press("q")
        assert shown.end()[0] == 0
    finally:
        shown.close()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)])
def test_a_signal_ends_it_in_order(number: signal.Signals, status: int) -> None:
    with open_port(MadeUp(TROUBLE)) as url, terminal(url) as shown:
        shown.wait_for(lambda screen: "Not well" in screen)
        shown.process.send_signal(number)
        ended, seen, after = shown.end()
    assert ended == status
    assert seen.endswith("\x1b[?25h\x1b[?1049l")
    assert after == shown.before
