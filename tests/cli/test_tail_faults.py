"""A service that fails at random: what is output without a word, and with status 0, is right to the last byte."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tailer.local import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import OssTail

DATA = random.Random(4711).randbytes(2_000_000)

TROUBLE = {
    "refusals": [Fault("status", probability=0.2), Fault("status", status=429, code="Throttling", probability=0.1)],
    "cut bodies": [Fault("cut", operation="GetObject", at=70_000, probability=0.2)],
    "resets": [Fault("reset", probability=0.15), Fault("reset", operation="GetObject", at=9999, probability=0.15)],
    "flipped bits": [
        Fault("flip-bit", operation="GetObject", at=at, probability=0.2) for at in (0, 700_000, 1_999_999)
    ],
    "wrong ranges": [
        Fault("ignore-range", operation="GetObject", probability=0.2),
        Fault("shift-range", operation="GetObject", by=7, probability=0.1),
    ],
    "stale HEAD": [Fault("stale-head", probability=0.5)],
    "gzip": [Fault("gzip")],
    "lying lengths": [Fault("wrong-length", operation="GetObject", by=-5, probability=0.2)],
    "doubtful CRC": [Fault("flip-crc", probability=0.2)],
    "pages of HTML": [Fault("html", status=502, probability=0.3)],
}

COMMANDS = {
    "whole": ["-c", "+1"],
    "strict": ["-c", "+1", "--integrity", "strict"],
    "end": ["-n", "5"],
    "followed": ["-f", "-c", "+1", "--exit-idle", "0.3", "-s", "0.05"],
    "polled by GET": ["-f", "-c", "+1", "--poll", "get", "--exit-idle", "0.3", "-s", "0.05"],
}


@pytest.fixture
def trouble(oss_tail: OssTail, request: pytest.FixtureRequest) -> Iterator[str]:
    """The faults are on during the test."""
    oss_tail.renew("trouble", DATA[:1_000_000])
    oss_tail.append("trouble", DATA[1_000_000:])
    oss_tail.server.faults.replace(TROUBLE[request.param], seed=len(request.node.name))
    yield request.param
    oss_tail.server.faults.clear()


BOTH = [(command, "direct") for command in COMMANDS] + [("whole", "httpx"), ("end", "httpx")]


@pytest.mark.parametrize(("command", "transport"), BOTH)
@pytest.mark.parametrize("trouble", TROUBLE, indirect=True)
def test_right_or_said(oss_tail: OssTail, trouble: str, command: str, transport: str) -> None:
    ended = oss_tail.here([*COMMANDS[command], "oss://bucket/trouble"], {"OSS_TAIL_TRANSPORT": transport})
    if ended.status == 0:
        assert _is_right(command, ended.stdout), ended.stderr
    else:
        assert ended.status in (1, 3)
        assert ended.stderr.startswith("oss-tail: ")
    if command == "strict":
        assert DATA.startswith(ended.stdout)
    assert "Traceback" not in ended.stderr
    assert "internal error" not in ended.stderr


def _is_right(command: str, output: bytes) -> bool:
    """All of it; of the last lines, which no CRC-64 proves, as many bytes: a flipped bit goes unseen there,
    because this server turns it over before TCP and TLS could notice."""
    if command != "end":
        return output == DATA
    return len(output) == len(DATA.split(b"\n", DATA.count(b"\n") - 4)[-1])
