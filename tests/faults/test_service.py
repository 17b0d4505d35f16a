"""What happens when the service refuses, or something in front of it answers in its place."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest

import tailer.local
from tailer.config import resolve_service
from tailer.core.position import ObjectRef
from tailer.errors import ServiceUnavailable
from tailer.local import AccessKey, Attributes, Fault
from tailer.oss.client import connect
from tests.faults.conftest import BUCKET, TEXT, Faulty

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tailer.oss.transport import Kind
    from tests.faults.conftest import Form


@pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (503, "DownloadTrafficRateLimitExceeded")])
def test_refusal_that_passes(tail: Faulty, status: int, code: str) -> None:
    """One line with the service's code and request id; then it goes on."""
    tail.suffers(Fault("status", status=status, code=code, message="Not now.", count=1))
    done = tail.reads()
    assert done[:2] == (0, TEXT)
    line = (
        rf"oss-tail: '{tail.address}': {code}: Not now. \[status {status}, request id [0-9A-F]{{24}}\]; trying again\n"
    )
    assert re.fullmatch(line, done.stderr)


def test_refusal_that_lasts(tail: Faulty) -> None:
    """A reading that is no follow gives up after four tries, exit 1."""
    tail.suffers(Fault("status", status=503))
    done = tail.reads()
    assert done[:2] == (1, b"")
    assert tail.suffered == 4
    assert done.stderr.splitlines()[-1].startswith(f"oss-tail: error reading '{tail.address}': ServiceUnavailable: ")


def test_refusals_while_following(tail: Faulty) -> None:
    """A follow goes on for as long as it takes; the same trouble is said once."""
    with tail.follows() as running:
        running.wait_for_output(TEXT)
        tail.suffers(Fault("status", status=503, count=3))
        tail.grows(b"four\n")
        running.wait_for_output(TEXT + b"four\n")
        assert tail.suffered == 3
        assert len(running.stderr.splitlines()) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_throttled(tail: Faulty, status: int) -> None:
    """The service is not asked again before the time that it names (x-oss-qos-delay-time)."""
    with tail.follows() as running:
        running.wait_for_output(TEXT)
        tail.grows(b"four\n")
        running.wait_for_output(TEXT + b"four\n")
        tail.suffers(Fault("status", status=status, code="QpsLimitExceeded", delay_ms=800, count=1))
        running.wait_for(lambda: tail.suffered == 1)
        refused = time.monotonic()
        tail.grows(b"five\n")
        running.wait_for_output(TEXT + b"four\nfive\n")
        assert time.monotonic() - refused > 0.7
        assert "QpsLimitExceeded" in running.stderr


@pytest.mark.parametrize("by", [86_400, -86_400])
def test_clock_off_by_a_day(tail: Faulty, by: int) -> None:
    """The service refuses a date that is more than 15 minutes off; its own is learnt from the refusal."""
    tail.suffers(Fault("skew", by=by))
    assert tail.reads() == (0, TEXT, "")


# --- credentials that run out


class _Tokens(BaseHTTPRequestHandler):
    """A credentials URI that hands out another key each time it is asked (package alibabacloud-credentials)."""

    keys = (AccessKey("first", "first-secret", "first-token"), AccessKey("second", "second-secret", "second-token"))
    handed_out = 0

    def do_GET(self) -> None:
        key = self.keys[min(type(self).handed_out, 1)]
        type(self).handed_out += 1
        answer = {
            "Code": "Success",
            "AccessKeyId": key.id,
            "AccessKeySecret": key.secret,
            "SecurityToken": key.token,
            "Expiration": "2099-01-01T00:00:00Z",
        }
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _credentials_uri() -> Iterator[str]:
    _Tokens.handed_out = 0
    with HTTPServer(("127.0.0.1", 0), _Tokens) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_expired_token_is_fetched_again(form: Form, transport: Kind, tmp_path: Path) -> None:
    """In the middle of a follow, from the source that it came from, without a word."""
    with (
        _credentials_uri() as uri,
        tailer.local.running([BUCKET], access_keys=_Tokens.keys) as server,
    ):
        tail = Faulty(server, tmp_path, transport, "expires").of_form(form)
        tail.holds(TEXT)
        for name in ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "OSS_SESSION_TOKEN"):
            del tail.environment[name]
        tail.environment |= {"ALIBABA_CLOUD_CREDENTIALS_URI": uri, "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true"}
        with tail.follows() as running:
            running.wait_for_output(TEXT)
            assert _Tokens.handed_out == 1
            tail.suffers(Fault("status", status=403, code="SecurityTokenExpired", count=1))
            tail.grows(b"four\n")
            running.wait_for_output(TEXT + b"four\n")
            assert (_Tokens.handed_out, running.stderr) == (2, "")


def test_expired_token_that_cannot_be_renewed(tail: Faulty) -> None:
    """From the environment: one line that says what to do, exit 1."""
    with tail.follows() as running:
        running.wait_for_output(TEXT)
        tail.suffers(Fault("status", status=403, code="SecurityTokenExpired", message="Expired."))
        done = running.end()
    assert done[:2] == (1, TEXT)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"oss-tail: error reading '{tail.address}': SecurityTokenExpired: Expired. [status 403, ")
    assert line.endswith("(get a new security token)")


# --- something between


@pytest.mark.parametrize("status", [200, 403, 502])
def test_page_of_a_proxy_that_passes(tail: Faulty, status: int) -> None:
    """A page of HTML is no answer of OSS, whatever its status; no byte of it is output."""
    tail.suffers(Fault("html", status=status, count=1))
    done = tail.reads()
    assert done[:2] == (0, TEXT)
    assert tail.suffered == 1
    assert done.stderr.endswith("(is something between you and the service?); trying again\n")


def test_page_of_a_proxy_that_stays(tail: Faulty) -> None:
    """A reading gives up after four tries, exit 1."""
    tail.suffers(Fault("html", status=200))
    done = tail.reads()
    assert done[:2] == (1, b"")
    assert tail.suffered == 4
    assert done.stderr.endswith("(is something between you and the service?)\n")


def test_page_of_a_proxy_while_following(tail: Faulty) -> None:
    """A follow that has seen the object goes on, and says it once."""
    with tail.follows() as running:
        running.wait_for_output(TEXT)
        tail.suffers(Fault("html", status=200, count=3))
        tail.grows(b"four\n")
        running.wait_for_output(TEXT + b"four\n")
        assert len(running.stderr.splitlines()) == 1


def test_error_that_is_not_xml(tail: Faulty) -> None:
    """The status is believed: a 403 ends, a 500 is tried again."""
    tail.suffers(Fault("malformed-xml", status=500, count=1))
    assert tail.reads()[:2] == (0, TEXT)
    tail.suffers(Fault("malformed-xml", operation="GetObject", status=403, code="AccessDenied"))
    done = tail.reads()
    assert done[:2] == (1, b"")
    (line,) = done.stderr.splitlines()
    assert re.search(r"HTTP error \[status 403, request id [0-9A-F]{24}\]$", line)


def test_compression_on_the_fly(tail: Faulty) -> None:
    """The service compresses text for whoever accepts it, and then states no length: `oss-tail` never accepts it."""
    text = b"compressible\n" * 1000
    attributes = Attributes(headers={"Content-Type": "text/plain"}, acl="public-read")
    tail.server.store.delete(BUCKET, tail.key)
    tail.server.store.append(BUCKET, tail.key, 0, text, attributes)
    tail.suffers(Fault("gzip"))
    url = f"{tail.server.endpoint}/{BUCKET}/{tail.key}"
    asked = urllib.request.Request(url, method="HEAD", headers={"Accept-Encoding": "gzip"})
    with urllib.request.urlopen(asked) as answer:
        assert (answer.headers["Content-Encoding"], answer.headers["Content-Length"]) == ("gzip", None)
    assert tail.reads() == (0, text, "")
    if tail.form == "command":
        assert tail.reads("-n", "2") == (0, b"compressible\n" * 2, "")


# --- a server that comes and goes


@contextmanager
def _oss_local(root: Path, port: int = 0) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The command over a folder, and its port."""
    arguments = ["--root", str(root), "--bucket", BUCKET, "--port", str(port)]
    main = "import sys; from tailer.cli.local import main; sys.exit(main())"
    process = subprocess.Popen([sys.executable, "-c", main, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        endpoint = next(line for line in process.stdout if "OSS_ENDPOINT" in line)
        yield process, int(endpoint.strip().strip("'\"").rpartition(":")[2])
    finally:
        process.kill()
        process.communicate()


def test_server_killed_and_started_again(tail: Faulty, tmp_path: Path) -> None:
    """It serves its folder again, where the object grew meanwhile, and the follow goes on where it was."""
    root = tmp_path / "root"
    (root / BUCKET).mkdir(parents=True)
    log = root / BUCKET / tail.key
    log.write_bytes(TEXT)
    with _oss_local(root) as (process, port):
        tail.environment["OSS_ENDPOINT"] = f"http://127.0.0.1:{port}"
        with tail.follows() as running:
            running.wait_for_output(TEXT)
            process.kill()
            process.wait()
            running.wait_for_words("; trying again")
            with log.open("ab") as file:
                file.write(b"four\n")
            with _oss_local(root, port):
                running.wait_for_output(TEXT + b"four\n")


def _append(port: int, tail: Faulty, position: int, data: bytes) -> None:
    """As a producer does it, over the wire."""
    settings = resolve_service(environ={**tail.environment, "OSS_ENDPOINT": f"http://127.0.0.1:{port}"})

    async def append() -> None:
        async with connect(settings) as client:
            await client.append(ObjectRef(BUCKET, tail.key), position, data)

    asyncio.run(append())


def test_disk_of_the_server_full_then_free_again(tail: Faulty, tmp_path: Path) -> None:
    """An append that the server cannot store is taken back whole: no reader ever sees a part of it."""
    root = tmp_path / "root"
    (root / BUCKET).mkdir(parents=True)
    (root / BUCKET / tail.key).write_bytes(TEXT)
    data = b"a line that needs room\n" * 10_000
    with _oss_local(root) as (process, port):
        tail.environment["OSS_ENDPOINT"] = f"http://127.0.0.1:{port}"
        with tail.follows() as running:
            running.wait_for_output(TEXT)
            # No file may grow beyond this: to the server that is a disk that is full.
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
            with pytest.raises(ServiceUnavailable, match="cannot store this"):
                _append(port, tail, len(TEXT), data)
            _append(port, tail, len(TEXT), b"four\n")
            running.wait_for_output(TEXT + b"four\n")
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            _append(port, tail, len(TEXT) + 5, data)
            running.wait_for(lambda: running.stdout == TEXT + b"four\n" + data)
            assert running.stderr == ""
