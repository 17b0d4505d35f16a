"""What systemd is told, on a socket as it makes one."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from tailer.systemd import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@oss-tailer-{os.getpid()}-{tmp_path.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0"))
        listening.settimeout(10)
        yield name, listening


def test_the_manager_hears_of_each_state(manager: tuple[str, socket.socket]) -> None:
    name, listening = manager
    notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "30000000"})
    assert notifier.listens
    notifier.ready()
    notifier.alive()
    notifier.status("two\ngroups")
    notifier.reloading()
    notifier.stopping()
    heard = [listening.recv(1000).decode() for _ in range(5)]
    assert heard[:3] == ["READY=1", "WATCHDOG=1", "STATUS=two groups"]
    first, _, second = heard[3].partition("\n")
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0
    assert heard[4] == "STOPPING=1"


def test_nobody_is_told_where_nobody_asked_and_a_manager_that_went_is_no_error(tmp_path: Path) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        notifier = Notifier(environ)
        notifier.ready()
        notifier.alive()
        assert notifier.watchdog is None
    assert not Notifier({}).listens


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("30000000", "", 30.0),
        ("500000", "ours", 0.5),
        ("500000", "1", None),
        ("0", "", None),
        ("garbage", "", None),
    ],
)
def test_the_watchdog_is_meant_for_one_process(usec: str, pid: str, seconds: float | None) -> None:
    pid = str(os.getpid()) if pid == "ours" else pid
    environ = {"NOTIFY_SOCKET": "/run/notify", "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}
    assert Notifier(environ).watchdog == seconds
