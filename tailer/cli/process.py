"""What every command does with its process before anything else."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # <malloc.h> of the GNU C library
_LARGE = 512 * 1024  # with 64 KiB, windows of 100 KB at 50 MB/s cost a third more CPU (docs/scale.md)


def occupy_standard_descriptors() -> None:
    """If 0, 1 or 2 is closed, the next file or socket opened would get its number, and our output."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The other direction than is used, so that using it is an error still.
            os.open(os.devnull, os.O_WRONLY if descriptor == 0 else os.O_RDONLY)


def allow_many_files() -> None:
    """Many objects take many files and connections: as many as the system lets us, not the usual 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # some systems have a lower limit still; then it stays as it is
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def keep_memory_together() -> None:
    """Have the GNU C library give large buffers back when they are freed, and share one heap among all threads.

    By itself it takes them, after a while, from among what is small and lives long, and each thread has a heap
    of its own: in a process that runs for months what is free comes to lie between what is in use, and is held
    (mallopt(3): M_MMAP_THRESHOLD, M_ARENA_MAX). To be called before there are threads. Other C libraries are
    left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_ARENA_MAX, 1)


async def give_memory_back(seconds: float = 60.0) -> None:
    """For ever, each so many seconds: let the system have what was freed.

    By itself the GNU C library keeps what lies between what is in use (malloc_trim(3)): of a service, after 26
    minutes of busy moments, that was 49 of 77 MB (docs/soak.md). Other C libraries are left alone.
    """
    import asyncio  # late: who only asks for help does without

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:
        await asyncio.sleep(seconds)
        await asyncio.to_thread(trim, 0)
