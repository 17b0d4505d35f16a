"""Neither an upload nor a download holds an object in memory."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tailer.local.folder import FolderEngine
from tailer.local.store import Store

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 300 << 20
PIECE = b"\x5a" * (1 << 20)

PROGRAM = """
import sys
from tailer.cli.local import main
try:
    main()
finally:
    print(open("/proc/self/status").read(), file=sys.stderr)
"""


def pieces() -> object:
    """The body, a piece at a time."""
    return (PIECE for _ in range(SIZE // len(PIECE)))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_peak_memory_of_300_megabytes(tmp_path: Path) -> None:
    """Put, append (with a length and chunked) and GET: 80 MiB at most for the whole process."""
    store = Store(FolderEngine(tmp_path))
    store.create_bucket("demo", "public-read-write")
    store.close()
    words = [sys.executable, "-c", PROGRAM, "--root", str(tmp_path)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    found = re.match(r"export OSS_ENDPOINT=http://127.0.0.1:(\d+)", process.stdout.readline())
    assert found
    connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
    length = {"Content-Length": str(SIZE)}
    crcs = set()
    for method, target, headers in (
        ("PUT", "/demo/put", length),
        ("POST", "/demo/log?append&position=0", length),
        ("POST", "/demo/chunked?append&position=0", {}),
    ):
        connection.request(method, target, pieces(), headers, encode_chunked=not headers)
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"")
        crcs.add(response.headers["x-oss-hash-crc64ecma"])
    assert len(crcs) == 1
    connection.request("GET", "/demo/log")
    response, received = connection.getresponse(), 0
    while data := response.read(1 << 20):
        assert data == PIECE[: len(data)]
        received += len(data)
    assert received == SIZE
    connection.close()
    process.terminate()
    stderr = process.communicate(timeout=20)[1]
    # Not ru_maxrss, which a process inherits from the one that started it.
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", stderr)[1]) << 10
    assert peak < 80 << 20, f"{peak >> 20} MiB"
