"""Nothing that opens a door is in what a run leaves behind: output, errors, tracebacks, events, checkpoints."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tailer.local import Fault
from tailer.local.faults import KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Finished, OssTail

DATA = b"".join(b"%09d\n" % number for number in range(1000))
WRONG = {"OSS_ACCESS_KEY_SECRET": "SecretThatNobodyMaySee", "OSS_SESSION_TOKEN": "TokenThatNobodyMaySee"}
TALKATIVE = ["--debug", "-v", "--json", "-c", "+1"]

# A V4 signature is 64 hexadecimal digits, a V1 signature the base64 of 20 bytes; neither is anything else's form here.
SIGNED = re.compile(rb"OSS4-HMAC|Signature=|\b[0-9a-f]{64}\b|StringToSign")


def check(done: Finished, folder: Path, *secrets: str) -> None:
    """The secrets are nowhere, and no request is told so that it could be sent again."""
    left = [done.stdout, done.stderr.encode(), *(path.read_bytes() for path in folder.rglob("*") if path.is_file())]
    for text in left:
        assert not SIGNED.search(text)
        assert not [secret for secret in secrets if secret.encode() in text]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transport", ["direct", "fast", "httpx"])
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
    check(done, tmp_path, oss_tail.environment["OSS_ACCESS_KEY_SECRET"])


@pytest.mark.parametrize("transport", ["direct", "fast", "httpx"])
@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:1", "https://127.0.0.1:1", "http://no-such-host.invalid"])
def test_no_secret_in_a_refusal(oss_tail: OssTail, tmp_path: Path, endpoint: str | None, transport: str) -> None:
    """The service tells in its answer what it would have signed, and with a wrong secret that is shown to nobody."""
    address = oss_tail.renew("secrets/refused", DATA)
    environment = {**WRONG, "OSS_TAIL_TRANSPORT": transport}
    if endpoint is not None:
        environment["OSS_ENDPOINT"] = endpoint
    done = oss_tail.here([*TALKATIVE, "--checkpoint", str(tmp_path / "marks.db"), address], environment)
    assert done.status == 1
    assert "Traceback" in done.stderr, "--debug shows where"
    check(done, tmp_path, *WRONG.values())


@pytest.mark.parametrize("transport", ["direct", "fast", "httpx"])
@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid"])
def test_no_signature_of_a_presigned_address(oss_tail: OssTail, tmp_path: Path, host: str, transport: str) -> None:
    address = f"http://{host}/bucket/key?x-oss-signature={'5' * 64}&x-oss-credential=key&security-token=TokenToHide"
    done = oss_tail.here([*TALKATIVE, address], {"OSS_TAIL_TRANSPORT": transport})
    assert done.status == 1
    check(done, tmp_path, "5" * 64, "TokenToHide")
