"""Nothing that opens a door is in what a run leaves behind: output, errors, tracebacks, events, checkpoints."""

from __future__ import annotations

import socket
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tailer.local import Fault
from tailer.local.faults import KINDS
from tests.leaks import NOBODY, PRESIGNED, TRANSPORTS, WRONG, check, files_below

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import OssTail

DATA = b"".join(b"%09d\n" % number for number in range(1000))
TALKATIVE = ["--debug", "-v", "--json", "-c", "+1"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_no_secret_in_a_run_with_a_fault(oss_tail: OssTail, tmp_path: Path, kind: str, transport: str) -> None:
    address = oss_tail.renew(f"secrets/{kind}", DATA)
    oss_tail.server.faults.add(Fault(kind, operation="GetObject", at=100, rate=1e6, probability=0.7))
    try:
        done = oss_tail.here(
            [*TALKATIVE, "--checkpoint", str(tmp_path / "marks.db"), address], {"OSS_TAIL_TRANSPORT": transport}
        )
    finally:
        oss_tail.server.faults.clear()
    assert done.stdout or done.stderr
    left = [done.stdout, done.stderr, *files_below(tmp_path)]
    check(left, oss_tail.environment["OSS_ACCESS_KEY_SECRET"])


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("endpoint", [None, *NOBODY])
def test_no_secret_in_a_refusal(oss_tail: OssTail, tmp_path: Path, endpoint: str | None, transport: str) -> None:
    """The service tells in its answer what it would have signed, and with a wrong secret that is shown to nobody."""
    address = oss_tail.renew("secrets/refused", DATA)
    environment = {**WRONG, "OSS_TAIL_TRANSPORT": transport}
    if endpoint is not None:
        environment["OSS_ENDPOINT"] = endpoint
    done = oss_tail.here([*TALKATIVE, "--checkpoint", str(tmp_path / "marks.db"), address], environment)
    assert done.status == 1
    assert "Traceback" in done.stderr, "--debug shows where"
    check([done.stdout, done.stderr, *files_below(tmp_path)])


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid"])
def test_no_signature_of_a_presigned_address(oss_tail: OssTail, host: str, transport: str) -> None:
    done = oss_tail.here([*TALKATIVE, f"http://{host}/bucket/key?{PRESIGNED}"], {"OSS_TAIL_TRANSPORT": transport})
    assert done.status == 1
    check([done.stdout, done.stderr], "5" * 20)


@pytest.mark.parametrize("kind", ["cut", "flip-bit", "status", "wrong-length"])
def test_no_secret_beside_a_mirror(oss_tail: OssTail, tmp_path: Path, kind: str) -> None:
    """In the file, in its notes, in what is said, when it ends in the middle."""
    address = oss_tail.renew(f"secrets/mirror-{kind}", DATA)
    oss_tail.server.faults.add(Fault(kind, operation="GetObject", at=100, after=1))
    try:
        done = oss_tail.here(["--debug", "--fsync", "batch", "-o", f"{tmp_path}/", address])
    finally:
        oss_tail.server.faults.clear()
    left = [done.stdout, done.stderr, *files_below(tmp_path), *map(str, tmp_path.rglob("*"))]
    assert done.stderr or DATA in left
    check(left, oss_tail.environment["OSS_ACCESS_KEY_SECRET"])


def test_no_secret_in_the_figures(oss_tail: OssTail, tmp_path: Path) -> None:
    """Of two objects, one known by a presigned address that nobody answers."""
    address = oss_tail.renew("secrets/figures", DATA)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["-F", "-s", "0.05", "--debug", "--metrics", str(port), "--checkpoint", str(tmp_path / "marks.db")]
    presigned = f"http://127.0.0.1:1/bucket/key?{PRESIGNED}"
    with oss_tail.following(*options, address, presigned) as tail:
        tail.wait_for_words("trying again")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            figures = answer.read()
        assert b"oss_tail_requests_total" in figures
        left = [figures, tail.stdout, tail.stderr, *files_below(tmp_path)]
    check(left, oss_tail.environment["OSS_ACCESS_KEY_SECRET"], "5" * 20)
