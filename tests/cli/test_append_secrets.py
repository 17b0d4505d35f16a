"""`oss-append` gives no secret away, whatever goes wrong: in what it says, in its notes, with --debug."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import pytest

from tailer.cli.append import run
from tailer.local import Fault
from tailer.local.faults import KINDS
from tests.cli.conftest import Finished
from tests.leaks import NOBODY, PRESIGNED, TRANSPORTS, WRONG, check, files_below

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import OssTail


@pytest.fixture
def environment(oss_tail: OssTail, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """That of the server, and nothing else."""
    for name in os.environ.keys() - oss_tail.environment.keys():
        monkeypatch.delenv(name)
    for name, value in oss_tail.environment.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def here(*arguments: str) -> Finished:
    """In this process, with a line on standard input."""
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        stdin.write(b"a line\n")
        stdin.seek(0)
        status = run(["--debug", *arguments], stdin=stdin.fileno(), stdout=stdout.fileno(), stderr=stderr.fileno())
        stdout.seek(0)
        stderr.seek(0)
        return Finished(status, stdout.read(), stderr.read().decode())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_no_secret_in_a_run_with_a_fault(
    oss_tail: OssTail, environment: pytest.MonkeyPatch, kind: str, transport: str
) -> None:
    environment.setenv("OSS_TAIL_TRANSPORT", transport)
    address = oss_tail.append(f"append/{kind}-{transport}", b"before\n")
    oss_tail.server.faults.add(Fault(kind, at=1, rate=1e6, count=2))
    try:
        done = here("--tee", address)
    finally:
        oss_tail.server.faults.clear()
    assert done.stdout or done.stderr
    check([done.stderr], oss_tail.environment["OSS_ACCESS_KEY_SECRET"])


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_no_secret_in_a_refusal(
    environment: pytest.MonkeyPatch, tmp_path: Path, transport: str, oss_tail: OssTail
) -> None:
    address = oss_tail.append("append/refused", b"")
    (tmp_path / "log").write_bytes(b"a line\n")
    for name, value in {**WRONG, "OSS_TAIL_TRANSPORT": transport}.items():
        environment.setenv(name, value)
    for options in ([], ["--checkpoint", str(tmp_path / "sent"), "-f", str(tmp_path / "log")]):
        done = here(*options, address)
        assert done.status == 1
        assert "Traceback" in done.stderr, "--debug shows where"
        check([done.stderr, *files_below(tmp_path)])


@pytest.mark.parametrize("endpoint", NOBODY)
def test_no_secret_where_nobody_answers(environment: pytest.MonkeyPatch, endpoint: str) -> None:
    """A service that cannot be connected to is tried for a while, so it is refused before the first try."""
    for name, value in {**WRONG, "OSS_ENDPOINT": endpoint, "OSS_TAIL_TRANSPORT": "none"}.items():
        environment.setenv(name, value)
    done = here("oss://bucket/key")
    assert done.status == 2
    check([done.stderr])


def test_no_signature_of_a_presigned_address(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("OSS_ENDPOINT")
    done = here(f"https://127.0.0.1:1/bucket/key?{PRESIGNED}")
    assert done.status == 2
    assert "can only be read" in done.stderr
    check([done.stderr], "5" * 20)
