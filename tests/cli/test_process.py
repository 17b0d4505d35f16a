"""What a command does with its process: seen in a process of its own, since it cannot be undone."""

import ctypes
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="only the GNU C library keeps what is freed"
)

FREED = """
import os
from pathlib import Path
from tailer.cli.process import keep_memory_together

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

keep_memory_together()
bytes(8 << 20)  # behind the first large one that is freed, the library takes the next from among the small
held, large = [], []
for _ in range(170):
    large.append(b"x" * 600_000)
    held.append(b"y" * 20_000)
most = resident()
large.clear()
print(most - resident())
"""

HEAPS = """
import ctypes, threading
from tailer.cli.process import keep_memory_together

keep_memory_together()
met = threading.Barrier(9)

def use():
    held = b"x" * 5000
    met.wait()
    met.wait()

threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads:
    thread.start()
met.wait()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
met.wait()
"""


def printed(code):
    return subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, text=True).stdout


def test_large_buffers_go_back_when_they_are_freed_whatever_lies_between_them():
    assert int(printed(FREED)) > 90_000_000


def test_all_threads_share_one_heap():
    assert printed(HEAPS).count("<heap nr=") == 1
