"""`oss-tailer` gives no secret away: neither what it says nor what it keeps."""

from __future__ import annotations

import io
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tailer.cli.service import main
from tailer.local import Fault
from tailer.local.faults import KINDS
from tailer.oss.credentials import Credentials
from tailer.oss.signing import Request, encode_query, presign_v4
from tests.leaks import NOBODY, PRESIGNED, TRANSPORTS, WRONG, check, files_below

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import OssTail

DATA = b"line\n" * 1000


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, oss_tail: OssTail) -> None:
    """The server's environment, and no pause before another try."""
    for name, value in oss_tail.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("tailer.core.schedule.back_off", lambda *_: 0.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_no_secret_in_a_proof_with_a_fault(
    oss_tail: OssTail,
    tmp_path: Path,
    kind: str,
    transport: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OSS_TAIL_TRANSPORT", transport)
    address = oss_tail.renew(f"service/{kind}", DATA)
    (tmp_path / "file").write_bytes(DATA)
    oss_tail.server.faults.add(Fault(kind, at=100, rate=1e6, probability=0.7))
    try:
        status = main(["verify", str(tmp_path / "file"), address])
    finally:
        oss_tail.server.faults.clear()
    said = capfd.readouterr()
    assert said.out if status == 0 else said.out + said.err
    check([*said], oss_tail.environment["OSS_ACCESS_KEY_SECRET"])


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("endpoint", [None, *NOBODY])
@pytest.mark.parametrize("address", ["oss://bucket/key", f"http://127.0.0.1:1/bucket/key?{PRESIGNED}"])
def test_no_secret_in_a_refusal(
    tmp_path: Path,
    endpoint: str | None,
    transport: str,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_bytes(DATA)
    environment = {**WRONG, "OSS_TAIL_TRANSPORT": transport, **({"OSS_ENDPOINT": endpoint} if endpoint else {})}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["verify", str(tmp_path / "file"), address]) == 1
    check([*capfd.readouterr()], "5" * 20)


def test_no_secret_in_checkpoints(
    oss_tail: OssTail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of an object that is known by a presigned address: it is kept by its name, and found again by it."""
    marks, key = str(tmp_path / "marks.db"), "service/presigned"
    oss_tail.renew(key, DATA)
    credentials = Credentials("local", oss_tail.environment["OSS_ACCESS_KEY_SECRET"])
    query = presign_v4(Request("GET", "bucket", key), credentials, region="cn-local", now=time.time(), expires=60)
    url = f"{oss_tail.server.endpoint}/bucket/{key}?{encode_query(query)}"
    done = oss_tail.here(["-c", "+1", "--debug", "--checkpoint", marks, url])
    assert (done.status, done.stdout) == (0, DATA)
    left: list[str | bytes] = [done.stderr]
    for words in (["list", marks], ["show", marks, url], ["export", marks]):
        assert main(["checkpoints", *words]) == 0
        said = capfd.readouterr()
        assert key in said.out
        left += said
    monkeypatch.setattr(sys, "stdin", io.StringIO(url))
    assert main(["checkpoints", "import", marks]) == 2
    assert main(["checkpoints", "reset", marks, url]) == 0
    check([*left, *capfd.readouterr(), *files_below(tmp_path)], dict(query)["x-oss-signature"])
