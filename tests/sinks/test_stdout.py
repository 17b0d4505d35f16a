"""Writing in full to files, pipes and what is none."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING

import pytest

from tailer.errors import OutputClosed, SinkError
from tailer.sinks.stdout import OutputStream

if TYPE_CHECKING:
    from pathlib import Path

MUCH = bytes(range(256)) * 20_000


def _write(descriptor: int, *pieces: bytes | memoryview) -> None:
    async def play() -> None:
        stream = OutputStream(descriptor)
        for piece in pieces:
            await stream.write(piece)

    asyncio.run(play())


def _read_all(descriptor: int) -> tuple[threading.Thread, list[bytes]]:
    read: list[bytes] = []

    def collect() -> None:
        while piece := os.read(descriptor, 1 << 16):
            read.append(piece)

    thread = threading.Thread(target=collect)
    thread.start()
    return thread, read


@pytest.mark.parametrize("blocking", [True, False])
def test_pipe_gets_all(blocking: bool) -> None:
    """Small and large, also through a descriptor that somebody made non-blocking."""
    reader, writer = os.pipe()
    os.set_blocking(writer, blocking)
    thread, read = _read_all(reader)
    _write(writer, b"a", MUCH, memoryview(MUCH)[5:], b"", b"z")
    os.close(writer)
    thread.join()
    os.close(reader)
    assert b"".join(read) == b"a" + MUCH + MUCH[5:] + b"z"


def test_file_gets_all(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        _write(file.fileno(), b"a", MUCH)
    assert (tmp_path / "out").read_bytes() == b"a" + MUCH


@pytest.mark.parametrize("data", [b"a", MUCH], ids=["small", "large"])
def test_reader_has_gone(data: bytes) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(OutputClosed):
        _write(writer, data)
    os.close(writer)


@pytest.mark.parametrize("data", [b"a", MUCH], ids=["small", "large"])
def test_full_disk(data: bytes) -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(SinkError, match="No space left on device"):
        _write(full.fileno(), data)


def test_nothing_open() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(SinkError, match="Bad file descriptor"):
        OutputStream(writer)


def test_the_loop_goes_on_while_a_reader_stands_still() -> None:
    """A write that waits stops nothing else; cancelled, it is still finished, and `drain` waits for that."""

    async def play() -> bytes:
        reader, writer = os.pipe()
        stream = OutputStream(writer)
        writing = asyncio.create_task(stream.write(MUCH))
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert writing.cancelled()
        thread, read = _read_all(reader)
        await stream.drain(30)
        os.close(writer)
        await asyncio.to_thread(thread.join)
        os.close(reader)
        return b"".join(read)

    assert asyncio.run(play()) == MUCH


def test_hangup_is_noticed_without_a_write() -> None:
    async def play() -> bool:
        reader, writer = os.pipe()
        gone = asyncio.Event()
        end = OutputStream(writer).on_hangup(gone.set)
        os.close(reader)
        await asyncio.wait_for(gone.wait(), 10)
        end()
        os.close(writer)
        return gone.is_set()

    assert asyncio.run(play())


def test_no_hangup_while_the_reader_reads(tmp_path: Path) -> None:
    """Neither a live pipe nor a file says that it has gone."""

    async def play() -> list[str]:
        gone: list[str] = []
        reader, writer = os.pipe()
        with (tmp_path / "out").open("wb") as file:
            pipe = OutputStream(writer)
            ends = [
                pipe.on_hangup(lambda: gone.append("pipe")),
                OutputStream(file.fileno()).on_hangup(lambda: gone.append("file")),
            ]
            await pipe.write(b"x")
            os.read(reader, 1)
            for _ in range(5):
                await asyncio.sleep(0)
            for end in ends:
                end()
        os.close(reader)
        os.close(writer)
        return gone

    assert asyncio.run(play()) == []
