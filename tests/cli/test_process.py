"""What a command does with its process: seen in a process of its own, since it cannot be undone."""

import asyncio
import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tailer.cli.process import give_memory_back

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


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_what_lies_between_what_is_in_use_is_given_back():
    async def main():
        pieces = [b"x" * 60_000 for _ in range(2000)]
        in_use, pieces[:] = pieces[::20], []
        most = resident()
        giving_back = asyncio.create_task(give_memory_back(0.05))
        async with asyncio.timeout(30):
            while resident() > most - 80_000_000:  # noqa: ASYNC110 - the system tells nobody
                await asyncio.sleep(0.01)
        giving_back.cancel()
        assert len(in_use) == 100

    asyncio.run(main())
