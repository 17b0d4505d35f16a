"""The other sides of the benchmarks: nginx as an OSS that is never the bottleneck, and a slow line before it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tailer.core import crc64

NGINX = """
worker_processes 1;
error_log stderr crit;
pid {folder}/nginx.pid;
daemon off;
events {{ worker_connections 512; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  default_type application/octet-stream;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port};
    root {folder}/root;
    location / {{
      add_header x-oss-hash-crc64ecma {crc} always;
      add_header x-oss-object-type Appendable always;
    }}
  }}
}}
"""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def make_data(path: Path, size: int) -> int:
    """Random bytes that look like lines of about a hundred bytes; their CRC-64."""
    crc = 0
    block = b"".join(os.urandom(50).hex()[:99].encode() + b"\n" for _ in range(10_486))[: 1 << 20]
    with path.open("wb") as file:
        for number in range(size >> 20):
            piece = number.to_bytes(8, "big").hex().encode() + block[16:]
            file.write(piece)
            crc = crc64.update(piece, crc)
    return crc


@contextlib.contextmanager
def static_object(size: int) -> Iterator[int]:
    """An object ``bench/object`` of `size` bytes behind nginx, with its recorded CRC; gives the port."""
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    with tempfile.TemporaryDirectory(prefix="oss-tail-bench-") as name:
        folder = Path(name)
        (folder / "root" / "bench").mkdir(parents=True)
        os.chmod(folder, 0o755)
        crc = make_data(folder / "root" / "bench" / "object", size)
        port = free_port()
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, crc=crc))
        server = subprocess.Popen([nginx, "-c", str(folder / "nginx.conf"), "-e", "stderr"])
        try:
            wait_for(port)
            yield port
        finally:
            server.terminate()
            server.wait()


class _Half(asyncio.Protocol):
    """One direction of a slow line: every chunk leaves `delay` seconds after it came, at most `rate` bytes a second."""

    def __init__(self, delay: float, rate: float) -> None:
        self.delay, self.rate = delay, rate
        self.other: _Half | None = None
        self.transport: asyncio.Transport | None = None
        self.free_at = 0.0
        self.held = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self.free_at = max(self.free_at, now) + len(data) / self.rate
        self.held += len(data)
        # What lies on the line at once: bandwidth times delay, and what a socket buffers.
        if self.held > self.rate * self.delay + 512 * 1024 and self.transport is not None:
            self.transport.pause_reading()
        loop.call_at(self.free_at + self.delay, self.forward, data)

    def forward(self, data: bytes) -> None:
        self.held -= len(data)
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()
        if self.other is not None and self.other.transport is not None and not self.other.transport.is_closing():
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        loop = asyncio.get_running_loop()
        if self.other is not None and self.other.transport is not None:
            loop.call_at(max(self.free_at, loop.time()) + self.delay, self.other.transport.close)


async def _accept(port: int, delay: float, rate: float, stop: asyncio.Event, ready: list[int]) -> None:
    loop = asyncio.get_running_loop()

    class Near(_Half):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            assert self.transport is not None
            self.transport.pause_reading()
            self.far = loop.create_task(self.connect())

        async def connect(self) -> None:
            far = _Half(delay, rate)
            await loop.create_connection(lambda: far, "127.0.0.1", port)
            self.other, far.other = far, self
            assert self.transport is not None
            self.transport.resume_reading()

    server = await loop.create_server(lambda: Near(delay, rate), "127.0.0.1", 0)
    ready.append(server.sockets[0].getsockname()[1])
    await stop.wait()
    server.close()


@contextlib.contextmanager
def slow_line(port: int, round_trip: float, rate: float) -> Iterator[int]:
    """A proxy on loopback to `port`: `round_trip` seconds there and back, `rate` bytes a second per connection."""
    loop = asyncio.new_event_loop()
    stop, ready = asyncio.Event(), list[int]()
    thread = threading.Thread(target=loop.run_until_complete, args=(_accept(port, round_trip / 2, rate, stop, ready),))
    thread.start()
    while not ready:
        time.sleep(0.01)
    try:
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
