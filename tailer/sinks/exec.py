"""Bytes to the standard input of a command: of one that runs once per batch, or of one that goes on running."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING

from tailer.errors import SinkBusy, SinkError

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Coroutine, Mapping, Sequence

    from typing_extensions import Buffer

    from tailer.core.events import Batch, Event

    Command = str | Sequence[str]

_GRACE = 5.0  # seconds between asking a command to end and ending it
_LEAVING = 1.0  # seconds that a command which reads no more has for its own exit status
_NOT_FOUND = 127  # POSIX, sh: the command was not found
_NOT_EXECUTABLE = 126
# Of OSS and of the official credentials package. A command that is there for lines does not need them, and one
# that prints or reports its environment, as many do when they crash, would give them away.
_KEYS = frozenset(
    f"{owner}_{name}"
    for owner, token in (("OSS", "SESSION_TOKEN"), ("ALIBABA_CLOUD", "SECURITY_TOKEN"))
    for name in ("ACCESS_KEY_ID", "ACCESS_KEY_SECRET", token)
)


class CommandPerBatch:
    """A sink that runs a command for each batch, its bytes on standard input; exit status 0 is "delivered".

    A string is run by ``sh -c``, a sequence as it is. The command's own output goes where ours goes, and its
    environment says what it gets: ``OSS_TAIL_OBJECT`` (the address), ``OSS_TAIL_GENERATION``,
    ``OSS_TAIL_START`` and ``OSS_TAIL_END`` (bytes, the end exclusive). The rest of it is ours, without access keys.

    At least once: a batch whose command failed, or did not live to its end, is due again. When this process
    is killed, the command sees the end of its input early: it has the whole batch when it has read
    ``END - START`` bytes. A command that exits with 0 without having read all took the batch all the same.
    """

    def __init__(self, command: Command, *, slots: asyncio.Semaphore | None = None, keys: bool = False) -> None:
        """`slots`: shared with other sinks, bounds how many commands run at a time. `keys`: the access keys of our
        environment (``OSS_ACCESS_KEY_ID`` and its like) are in the command's, too."""
        self._command = command
        self._keys = keys
        self._slots: contextlib.AbstractAsyncContextManager[object] = slots or contextlib.nullcontext()

    async def write(self, batch: Batch) -> None:
        """Run the command and wait for its end.

        Raises SinkBusy when its exit status is not 0, SinkError when it cannot be run at all.
        """
        async with self._slots:
            process = await _start(self._command, _environment(batch), keys=self._keys)
            try:
                await _send(process, batch.data)
                status = await process.wait()
            except BaseException:
                await _stop(process)
                raise
        _check(self._command, status)

    async def notice(self, event: Event) -> None:
        """Nothing: bytes that come again have the same offsets, a new object has another generation."""

    async def close(self) -> None:
        """No command runs between two batches."""


class CommandStream:
    """A sink that writes batch after batch into one command's standard input, whole ones in order.

    "Delivered" means: written into the pipe. What the command does with it nobody can know, and up to 64 KiB wait
    in the pipe. So what it had not read when it ended is lost, and the batch that was being written then comes
    again, whole, to its successor: neither at least nor at most once. Where that matters, use `CommandPerBatch`.

    A command that ends, or closes its input, is started anew with the next batch. `close` lets it read to the
    end and waits for it. Its environment is ours, without access keys, and ``OSS_TAIL_OBJECT``.
    """

    def __init__(self, command: Command, *, keys: bool = False) -> None:
        """`keys`: as for `CommandPerBatch`."""
        self._command = command
        self._keys = keys
        self._process: Process | None = None

    async def write(self, batch: Batch) -> None:
        """Write the batch; start the command first where none runs.

        Raises SinkBusy when the command ended before it took all of the batch, SinkError when it cannot be run.
        """
        if self._process is None:
            environment = {"OSS_TAIL_OBJECT": str(batch.object)}
            self._process = await _start(self._command, environment, keys=self._keys)
        try:
            taken = self._process.returncode is None and await _feed(self._process, batch.data)
        except BaseException:
            # Cut off in the middle of a batch: what comes next would not fit behind it.
            process, self._process = self._process, None
            await _stop(process)
            raise
        if not taken:
            process, self._process = self._process, None
            raise SinkBusy(f"{_shown(self._command)} {await _left(process)}, and took no more input")

    async def notice(self, event: Event) -> None:
        """Nothing: what the command has read cannot be taken back."""

    async def close(self) -> None:
        """Close the command's input and wait until it ends. Raises SinkError when its exit status is not 0."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            _end_input(process)
            status = await process.wait()
        except BaseException:
            await _stop(process)
            raise
        if status != 0:
            raise SinkError(f"{_shown(self._command)} {_said(status)}")


def _environment(batch: Batch) -> Mapping[str, str]:
    return {
        "OSS_TAIL_OBJECT": str(batch.object),
        "OSS_TAIL_GENERATION": str(batch.generation),
        "OSS_TAIL_START": str(batch.start),
        "OSS_TAIL_END": str(batch.end),
    }


async def _start(command: Command, environment: Mapping[str, str], *, keys: bool) -> Process:
    """Start it in a process group of its own, so that what it starts can be ended with it."""
    ours = {name: value for name, value in os.environ.items() if keys or name not in _KEYS}
    argv = ["/bin/sh", "-c", command] if isinstance(command, str) else [*command]
    try:
        return await _whole(
            asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.PIPE, env={**ours, **environment}, process_group=0
            )
        )
    except OSError as error:
        raise SinkError(f"cannot run {_shown(command)}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the object's name, for one
        raise SinkError(f"cannot run {_shown(command)}: {error}") from error


async def _whole(starting: Coroutine[None, None, Process]) -> Process:
    """The process; cancelled, it is ended once it has started: half started, asyncio would end it alone, and
    what it has started in the meantime would stay."""
    task = asyncio.ensure_future(starting)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError, ValueError):
            await _stop(await task)
        raise


async def _send(process: Process, data: Buffer) -> None:
    """Write all and close; a command may end, or stop reading, before it has read all."""
    if await _feed(process, data):
        _end_input(process)


async def _feed(process: Process, data: Buffer) -> bool:
    """Write `data` into the pipe to its last byte; False when nobody reads there any more."""
    pipe = process.stdin
    if pipe is None:
        return False
    pipe.transport.set_write_buffer_limits(high=0)  # else what is still in our memory would count as written
    try:
        pipe.write(memoryview(data))
        await pipe.drain()
    except (BrokenPipeError, ConnectionResetError):
        return False
    return not pipe.is_closing()


def _end_input(process: Process) -> None:
    if process.stdin is not None:
        process.stdin.close()


async def _left(process: Process) -> str:
    """In words, what became of a command that reads no more; one that goes on without reading is ended."""
    _end_input(process)
    if await _ended(process, _LEAVING):
        return _said(process.returncode)
    await _stop(process)
    return "closed its standard input"


async def _stop(process: Process) -> None:
    """Ask the command and what it started to end; then end them."""
    _end_input(process)
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        if await _ended(process, _GRACE):
            return


async def _ended(process: Process, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await process.wait()
    return process.returncode is not None


def _check(command: Command, status: int) -> None:
    if status == 0:
        return
    if isinstance(command, str) and status in (_NOT_FOUND, _NOT_EXECUTABLE):
        why = "not found" if status == _NOT_FOUND else "not executable"
        raise SinkError(f"{_shown(command)} exited with status {status}: {why}")
    raise SinkBusy(f"{_shown(command)} {_said(status)}")


def _said(status: int | None) -> str:
    if status is None or status >= 0:
        return f"exited with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _shown(command: Command) -> str:
    """The command's own words, not its arguments: those may hold a secret."""
    words = command.split() if isinstance(command, str) else command
    return repr(words[0][:60]) if words else "''"
