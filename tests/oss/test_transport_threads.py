"""Clients are built in threads that come and go, which the fast transport's library does not stand by itself."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import threading
from tailer.oss.transport import open_transport

for _ in range(20):
    thread = threading.Thread(target=lambda: kinds.add(open_transport("fast").kind))
    kinds = set()
    thread.start()
    thread.join()
    assert kinds, "no transport"
print("all built")
"""


def test_clients_can_be_built_in_threads_that_end() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "all built\n", "")
