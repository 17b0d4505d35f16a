"""Failures that users of other tailers suffered while reading, each under its name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

import tailer.local
from tailer.checkpoints import read_all
from tailer.core.events import Failed
from tailer.core.options import Follow, Poll, TailOptions
from tailer.core.schedule import Pace
from tailer.local import Fault
from tests.core.playing import Player, Service, refused
from tests.faults.conftest import BUCKET, TEXT, Faulty

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tailer.oss.transport import Kind
    from tests.faults.conftest import Form


def _records(output: bytes) -> list[str]:
    lines = map(json.loads, output.splitlines())
    return [line["data"] for line in lines if line["type"] == "record"]


@pytest.mark.parametrize("then", ["SIGTERM", "SIGKILL"])
def test_partial_line_at_sigterm(tail: Faulty, tmp_path: Path, then: str) -> None:
    """A line that has begun is neither handed out in two parts nor lost: it comes whole from the next run."""
    state = tmp_path / "state.db"
    options = ("-F", "--json", "--checkpoint", str(state))
    tail.holds(b"one\ntwo, which is not fin")
    with tail.follows(*options) as running:
        running.wait_for(lambda: _records(running.stdout) == ["one"])
        running.wait_for(lambda: state.exists() and [kept.mark.delivered.offset for kept in read_all(state)] == [4])
        running.process.send_signal(signal.Signals[then])
        assert _records(running.end().stdout) == ["one"]
    tail.grows(b"ished\nthree\n")
    with tail.follows(*options) as running:
        running.wait_for(lambda: _records(running.stdout) == ["two, which is not finished", "three"])


@pytest.fixture
def shrinking(form: Form, transport: Kind, tmp_path: Path) -> Iterator[tuple[Faulty, Path]]:
    """A reader of an object that is a file, which can be cut."""
    with tailer.local.running([BUCKET], root=tmp_path / "root") as server:
        yield Faulty(server, tmp_path, transport, "log").of_form(form), tmp_path / "root" / BUCKET / "log"


@pytest.mark.parametrize("size", [4, 0])
def test_416_after_a_shrink(shrinking: tuple[Faulty, Path], size: int) -> None:
    """Polled by GET alone, the first sign is a 416. It is no reason to stall, nor to wait for the old length."""
    tail, file = shrinking
    tail.holds(TEXT)
    with tail.follows("-F", "--poll", "get") as running:
        running.wait_for_output(TEXT)
        os.truncate(file, size)
        running.wait_for_words("file truncated")
        tail.grows(b"and on\n")
        running.wait_for_output(TEXT + TEXT[:size] + b"and on\n")


@pytest.mark.parametrize("data", [b"a longer one than that, and another\n", b"short\n"], ids=["longer", "shorter"])
def test_size_and_identity_from_different_answers(tail: Faulty, data: bytes) -> None:
    """HEAD still tells of the object before, with its length and its CRC-64; GET brings the new one.

    Nothing is made of the two together: a reading that is no follow says that it met two objects, without a byte
    of output, a follow reads the one that GET tells of, whole.
    """
    tail.server.store.put(BUCKET, tail.key, data)
    stale = Fault("stale-head", operation="HeadObject", count=1)
    tail.suffers(stale)
    done = tail.reads()
    assert (done[:2], tail.suffered) == ((3, b""), 1)
    assert "its type was Appendable and is Normal" in done.stderr
    tail.suffers(stale)
    with tail.follows() as running:
        running.wait_for_output(data)
        assert tail.suffered == 1


def test_read_error_is_not_data_read(tail: Faulty, tmp_path: Path) -> None:
    """Bodies that break off move no position: what did not come whole is read by the next run."""
    state = tmp_path / "state.db"
    tail.suffers(Fault("cut", operation="GetObject", at=5))
    done = tail.reads("-c", "+1", "--checkpoint", str(state))
    assert done[:2] == (1, b"")
    assert [kept.mark.delivered.offset for kept in read_all(state)] in ([], [0])
    tail.suffers()
    assert tail.reads("-c", "+1", "--checkpoint", str(state)) == (0, TEXT, "")
    tail.grows(b"four\n")
    tail.suffers(Fault("cut", operation="GetObject", at=2))
    assert tail.reads("-c", "+1", "--checkpoint", str(state))[:2] == (1, b"")
    tail.suffers()
    assert tail.reads("-c", "+1", "--checkpoint", str(state)) == (0, b"four\n", "")


def test_stopped_and_continued(tail: Faulty) -> None:
    """SIGSTOP while the object grows and its connections die of age: SIGCONT goes on where it was."""
    with tail.follows() as running:
        running.wait_for_output(TEXT)
        os.kill(running.process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, running.process.pid, os.WSTOPPED)
        tail.grows(b"meanwhile\n")
        with pytest.raises(subprocess.TimeoutExpired):
            running.process.wait(0.2)
        assert running.stdout == TEXT
        os.kill(running.process.pid, signal.SIGCONT)
        running.wait_for_output(TEXT + b"meanwhile\n")


class _Throttled(Service):
    """Refuses everything for an hour, and says how long to stay away."""

    def __init__(self, data: bytes, stay_away: float | None) -> None:
        super().__init__(data)
        self.stay_away = stay_away
        self.requests = 0
        self.now = 0.0

    def answers(self) -> None:
        self.requests += 1
        if self.now < 3600:
            raise refused(self.stay_away)


@pytest.mark.parametrize("poll", Poll)
@pytest.mark.parametrize("stay_away", [None, 1.0, 60.0])
def test_an_hour_of_throttling(poll: Poll, stay_away: float | None) -> None:
    """It goes on asking, ever more rarely and never before it may, and reads everything when the hour is over."""
    service = _Throttled(b"one\ntwo\n", stay_away)
    player = Player(service, TailOptions(follow=Follow.NAME, retry=True, poll=poll, pace=Pace(1.0, 5.0)))
    head, get = service.head, service.get
    service.head = lambda: (service.answers(), head())[1]  # type: ignore[method-assign]
    service.get = lambda asked: (service.answers(), get(asked))[1]  # type: ignore[method-assign]
    while not player.tail.idle:
        player.step()
        service.now = player.now
    failed = player.of(Failed)
    assert player.held() == b"one\ntwo\n"
    assert 3600 <= player.now <= 3600 + max(20.0, stay_away or 0.0)
    assert min(one.delay for one in failed) >= (stay_away or 0.0)
    assert all(one.delay >= 10 for one in failed[10:])
    assert service.requests < 3600 / max(10.0, stay_away or 0.0) + 20
