"""The other sides of the benchmarks: for reading and for appending an OSS that is never the bottleneck; a slow line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
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


_REQUEST = re.compile(rb"(\w+) (\S+) .*?\r\ncontent-length: *(\d+)", re.DOTALL | re.IGNORECASE)


@contextlib.contextmanager
def appendable_objects() -> Iterator[int]:
    """AppendObject and nothing else, on a socket without an event loop and without a look at signatures: it keeps the
    length and the CRC-64 of each object, which is what a writer wants to know. Gives the port."""
    lengths: dict[bytes, tuple[int, int]] = {}
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                threading.Thread(target=_serve_appends, args=(listener.accept()[0], lengths), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.close()


def _serve_appends(sock: socket.socket, lengths: dict[bytes, tuple[int, int]]) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    got = b""
    while data := sock.recv(1 << 20):
        got += data
        head, end, body = got.partition(b"\r\n\r\n")
        if not end:
            continue
        request = _REQUEST.match(head)
        if request is None:  # HEAD has no body
            sock.sendall(_answered("404 Not Found", **{"x-oss-ec": "0026-00000001"}))
            got = b""
        elif len(body) == int(request[3]):
            sock.sendall(_appended(request[2], body, lengths))
            got = b""


def _appended(path: bytes, body: bytes, lengths: dict[bytes, tuple[int, int]]) -> bytes:
    key, _, query = path.partition(b"?")
    length, crc = lengths.get(key, (0, 0))
    wrong = b"position=%d" % length not in query.split(b"&")
    if not wrong:
        length, crc = lengths[key] = length + len(body), crc64.update(body, crc)
    status = "409 Conflict" if wrong else "200 OK"
    return _answered(status, **{"x-oss-next-append-position": str(length), "x-oss-hash-crc64ecma": str(crc)})


def _answered(status: str, **headers: str) -> bytes:
    always = {
        "Date": formatdate(usegmt=True),
        "Content-Length": "0",
        "x-oss-request-id": "6" * 24,
        "Server": "AliyunOSS",
    }
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in (always | headers).items()), "", ""]
    return "\r\n".join(lines).encode()


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
