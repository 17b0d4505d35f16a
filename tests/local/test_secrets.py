"""The server tells who signed what, as the service does, and never the secret: in answers, in its log, in its files."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from http.client import HTTPException
from typing import TYPE_CHECKING

import pytest

from tailer.local import Fault, running
from tailer.local.faults import KINDS
from tailer.local.keys import AccessKey
from tests.leaks import SECRET, TOKEN, files_below
from tests.local.conftest import BUCKET, Requester

if TYPE_CHECKING:
    from pathlib import Path

NASTY = "a\x1b]0;x\x07\x9b\n\u202ekey"


def is_in(secret: str, left: list[str | bytes]) -> bool:
    return any(secret.encode() in (one.encode() if isinstance(one, str) else one) for one in left)


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_neither_answers_nor_log_nor_files(kind: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of requests signed well, signed with another secret, with another token, too late, by URL, and not at all."""
    caplog.set_level(logging.DEBUG)
    answers: list[str | bytes] = []
    with running([BUCKET], root=tmp_path / "root", access_keys=[AccessKey("id", SECRET, TOKEN)]) as server:
        if kind is not None:
            server.faults.add(Fault(kind, at=1, rate=1e6, probability=0.5))
        signers = [
            Requester(server, "id", SECRET, TOKEN),
            Requester(server, "id", "another", TOKEN),
            Requester(server, "id", SECRET, "another"),
            Requester(server, "id", SECRET, TOKEN, offset=-3600),
            Requester(server, "nobody", SECRET, TOKEN),
        ]
        for signer in signers:
            for method, key, query, body in (
                ("POST", NASTY, "append&position=0", b"data"),
                ("GET", NASTY, "", None),
                ("HEAD", NASTY, "", None),
                ("GET", None, "list-type=2", None),
                ("GET", NASTY, "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-signature=5", None),
                ("PATCH", NASTY, "", None),
            ):
                try:
                    reply = signer(method, key, query, body)
                except (OSError, HTTPException):  # what some faults do
                    continue
                answers += [reply.body, str(reply.headers)]
        kept = [repr(server), *files_below(tmp_path)]
    assert answers
    assert caplog.text
    assert not is_in(SECRET, [*answers, *kept, caplog.text])
    # A refusal repeats the canonical request to whoever sent it, and his token with it, as the service does.
    assert not is_in(TOKEN, [*kept, caplog.text])
    assert caplog.text.replace("\n", "").isprintable()


def test_the_command_shows_no_key_but_where_it_hands_it_over() -> None:
    """Around a command it says nothing of it; alone it prints the variables to use, and that is what it is for."""
    words = [sys.executable, "-c", "import sys; from tailer.cli.local import main; sys.exit(main())"]
    program = [*words, "-v", "--access-key", f"id:{SECRET}", "--", sys.executable, "-c", "print('done')"]
    done = subprocess.run(program, capture_output=True, env=dict(os.environ), timeout=60, check=True)
    assert done.stdout == b"done\n"
    assert SECRET.encode() not in done.stdout + done.stderr
    refused = subprocess.run(
        [*words, "--access-key", SECRET, "--port", "x"],
        capture_output=True,
        env=dict(os.environ),
        timeout=60,
        check=False,
    )
    assert refused.returncode == 2
    assert SECRET.encode() not in refused.stdout + refused.stderr
