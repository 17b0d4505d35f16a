"""Bytes to a file descriptor (standard output), in full, as they are delivered, without a buffer between.

A write that may have to wait for a reader (a pipe, a terminal) is made in a thread, so that a reader that
stands still stops neither signals nor the clock; a small one that fits at once is made directly, which
saves 0.1 ms of latency.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import stat
import sys
from typing import TYPE_CHECKING

from tailer.errors import OutputClosed, SinkError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor

    from typing_extensions import Buffer

_DIRECT_TO_FILE = 1 << 20
_PIPE_SIZE = 1 << 20


class OutputStream:
    """One file descriptor, written by one task at a time. It is not closed: it was not opened here."""

    def __init__(self, descriptor: int = 1) -> None:
        """Raises SinkError when nothing is open there."""
        self._descriptor = descriptor
        try:
            mode = os.fstat(descriptor).st_mode
        except OSError as error:
            raise _write_error(error) from error
        self._is_file = stat.S_ISREG(mode)
        self._is_null = _is_null_device(descriptor)
        if stat.S_ISFIFO(mode):
            _enlarge_pipe(descriptor)
        self._executor: ThreadPoolExecutor | None = None
        self._writing: asyncio.Future[None] | None = None

    async def write(self, data: Buffer) -> None:
        """Write all of `data`. Raises OutputClosed when the reader has gone, SinkError when it cannot be done."""
        if self._writing is not None and not self._writing.done():  # whoever asked for it was cancelled
            await asyncio.wait([self._writing])
        view = memoryview(data).cast("B")
        if self._fits_at_once(len(view)):
            _write_in_full(self._descriptor, view)
        else:
            await self._write_in_thread(view)

    async def drain(self, seconds: float) -> None:
        """Wait, at most so long, for a write that is under way though the task that asked for it was cancelled."""
        if self._writing is not None:
            await asyncio.wait([self._writing], timeout=seconds)

    def on_hangup(self, call: Callable[[], None]) -> Callable[[], None]:
        """`call` from the event loop as soon as the reader goes away, even when there is nothing to write.

        Returns a function that ends the watch. Linux only; elsewhere the next write notices.
        """
        if sys.platform != "linux":
            return lambda: None
        # epoll(7): an error or a hang-up is always reported, also for a descriptor watched for no event.
        watch = select.epoll()
        try:
            watch.register(self._descriptor, 0)
        except PermissionError:  # epoll_ctl(2): a regular file, which has no reader that could go
            watch.close()
            return lambda: None
        loop = asyncio.get_running_loop()
        loop.add_reader(watch.fileno(), call)

        def end() -> None:
            loop.remove_reader(watch.fileno())
            watch.close()

        return end

    def _fits_at_once(self, size: int) -> bool:
        """A pipe that is writable at all takes PIPE_BUF bytes without waiting (pipe(7))."""
        if self._is_null:
            return True
        if self._is_file:
            return size <= _DIRECT_TO_FILE
        if size > select.PIPE_BUF:
            return False
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        return bool(poll.poll(0))

    async def _write_in_thread(self, view: memoryview) -> None:
        if self._executor is None:
            from concurrent.futures import ThreadPoolExecutor

            self._executor = ThreadPoolExecutor(1, "stdout")
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(self._executor, _write_in_full, self._descriptor, view)
        self._writing.add_done_callback(_look_at_outcome)
        await asyncio.shield(self._writing)


def _is_null_device(descriptor: int) -> bool:
    """It takes everything at once."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(os.devnull))
    except OSError:
        return False


def _enlarge_pipe(descriptor: int) -> None:
    """From 64 KiB, so that we and the reader take turns less often (Linux; fcntl(2), F_SETPIPE_SZ)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # the limit of this user is reached: it works as it is
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)


def _look_at_outcome(writing: asyncio.Future[None]) -> None:
    """Whoever asked for the write may be cancelled, and asyncio complains of an error that nobody looks at."""
    if not writing.cancelled():
        writing.exception()


def _write_in_full(descriptor: int, view: memoryview) -> None:
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            _wait_until_writable(descriptor)
        except OSError as error:
            raise _write_error(error) from error


def _wait_until_writable(descriptor: int) -> None:
    """Whoever opened the descriptor made it non-blocking."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll()


def _write_error(error: OSError) -> SinkError:
    if isinstance(error, BrokenPipeError | ConnectionResetError):
        return OutputClosed("the reader of the output has gone")
    return SinkError(f"write error: {error.strerror or error}")
