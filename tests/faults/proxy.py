"""A relay that misbehaves below HTTP, where a server that speaks HTTP cannot."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self


class Conduct(Enum):
    """What the relay does with the answers of one connection."""

    PASS = "hands everything on"
    SILENT = "takes the request and never answers, as a peer that has gone without a word"
    HANG_UP = "closes the connection instead of the first answer"
    HALF_A_HEAD = "closes the connection in the middle of the first answer's head"
    NONSENSE = "answers what is not HTTP"
    SINGLE_BYTES = "hands answers on byte by byte"
    SPEAKS_ON = "sends more bytes behind each answer than belong to it"
    FLIPS_A_BIT = "turns over one bit of each answer's head, another one each time"
    FORGES = "sends another answer behind each, which nobody asked for"


_FORGED = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/4\r\nContent-Length: 4\r\n\r\nevil"


_bits = itertools.count(0, 37)
"""Which bit is turned over next; a step that meets every bit of a head in the end."""


class Proxy:
    """``with Proxy(endpoint) as proxy:`` and then ``proxy.endpoint``. Misbehaves when told to, else passes all on."""

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("http://").rpartition(":")
        self._target = host, int(port)
        self._conducts: deque[Conduct] = deque()
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._port = 0
        self.open()
        self.endpoint = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def misbehave(self, conduct: Conduct, times: int = 1) -> None:
        """The next `times` connections are treated so, those under way are closed."""
        self._conducts.extend([conduct] * times)
        self.cut()

    @property
    def behaves(self) -> bool:
        """Whether everything that it was told to do has been done."""
        return not self._conducts

    def open(self) -> None:
        """Accept connections, on the same port as ever."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections, and close those under way."""
        with contextlib.suppress(OSError):  # wakes the thread that accepts; it may have ended
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Close all connections under way."""
        with self._lock:
            cut, self._sockets = self._sockets, set()
        for connection in cut:
            _close(connection)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # it was closed
                return
            conduct = self._conducts.popleft() if self._conducts else Conduct.PASS
            threading.Thread(target=self._relay, args=(client, conduct), daemon=True).start()

    def _relay(self, client: socket.socket, conduct: Conduct) -> None:
        try:
            server = socket.create_connection(self._target)
        except OSError:
            _close(client)
            return
        with self._lock:
            self._sockets |= {client, server}
        threading.Thread(target=self._pump, args=(client, server, Conduct.PASS), daemon=True).start()
        self._pump(server, client, conduct)

    def _pump(self, source: socket.socket, sink: socket.socket, conduct: Conduct) -> None:
        try:
            while data := source.recv(1 << 16):
                if not _hand_on(data, sink, conduct):
                    break
        except OSError:
            pass  # one of the two was closed: what follows closes the other
        finally:
            _close(source)
            _close(sink)


def _hand_on(data: bytes, sink: socket.socket, conduct: Conduct) -> bool:
    """Whether the connection goes on."""
    match conduct:
        case Conduct.SILENT:
            return True
        case Conduct.HANG_UP:
            return False
        case Conduct.HALF_A_HEAD:
            sink.sendall(data[:30])
            return False
        case Conduct.NONSENSE:
            sink.sendall(b"\0\xff\x16\x03\x01 this is not HTTP\r\n\r\n")
            return False
        case Conduct.SINGLE_BYTES:
            sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in data:
                sink.sendall(bytes([byte]))
        case Conduct.SPEAKS_ON:
            sink.sendall(data + b"<html>and another thing</html>")
        case Conduct.FLIPS_A_BIT:
            sink.sendall(_flipped(data))
        case Conduct.FORGES:
            sink.sendall(data + _FORGED)
        case Conduct.PASS:
            sink.sendall(data)
    return True


def _flipped(data: bytes) -> bytes:
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return data
    byte, bit = divmod(next(_bits) % (8 * head), 8)
    return data[:byte] + bytes([data[byte] ^ 1 << bit]) + data[byte + 1 :]


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the peer closed it first
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
