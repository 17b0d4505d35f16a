"""What a receiver of `http` sinks was sent: every byte is kept, and each that came again is accounted for."""

from __future__ import annotations

import os
import random
import threading
import time
from bisect import bisect_right
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

LIFE = "X-Life"  # the header that says which life of a service sends


class Repeat(NamedTuple):
    """Bytes that came again after a kill: the oldest of them had come `age` seconds before it."""

    what: str
    size: int
    age: float


@dataclass
class _Object:
    """What came of one object. `ends` and `senders`: which life sent each byte last, and when, in order of offsets."""

    generation: int = 0
    end: int = 0
    life: int = 0
    ends: list[int] = field(default_factory=list)
    senders: list[tuple[int, float]] = field(default_factory=list)

    def sender_of(self, offset: int) -> tuple[int, float]:
        """Which life sent the byte at `offset`, and when it came."""
        return self.senders[bisect_right(self.ends, offset)]

    def went_on(self, start: int, end: int, life: int, now: float) -> None:
        """Bytes [start, end) came."""
        kept = bisect_right(self.ends, start)
        del self.ends[kept:], self.senders[kept:]
        self.ends.append(end)
        self.senders.append((life, now))
        self.end, self.life = end, life


class Posts:
    """All that one service sent. The bytes are in files below `folder`, named as the objects.

    An object whose key begins with `lasting` is never replaced: its bytes come in order, without a gap, and again only
    after a kill of the service. Of others it is known only that a generation has no gap.
    """

    def __init__(self, folder: Path, lasting: str) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self.received = 0
        self.repeats: list[Repeat] = []
        self._lasting = lasting
        self._objects: dict[str, _Object] = {}
        self._kills: dict[int, float] = {}
        self._lock = threading.Lock()

    def killed(self, life: int, moment: float) -> None:
        """A life of the service was ended with -9; `moment` as of `time.monotonic`."""
        with self._lock:
            self._kills[life] = moment

    def ends(self) -> Mapping[str, int]:
        """How far each object came, in bytes, by key."""
        with self._lock:
            return {key: known.end for key, known in self._objects.items()}

    def take(self, key: str, generation: int, start: int, data: bytes, life: int, now: float) -> None:
        """Bytes [start, start + len(data)) of `key` came at `now`, from that life of the service.

        What one sent that was killed, and is read only behind what its successor sent, is left.
        """
        with self._lock:
            known = self._objects.setdefault(key, _Object())
            if life < known.life:
                return
            if key.startswith(self._lasting):
                self._audit(key, known, generation, start, life, now)
            elif start == 0 or generation != known.generation:
                self._objects[key] = known = _Object(generation)
            if start > known.end:
                self.problems.append(f"{key}: {known.end} to {start} is missing")
            known.went_on(start, start + len(data), life, now)
            self.received += len(data)
            self._write(key, start, data)

    def _audit(self, key: str, known: _Object, generation: int, start: int, life: int, now: float) -> None:
        if generation != 0:
            self.problems.append(f"{key}: taken for another object at {start}")
        if start >= known.end:
            return
        what = f"{key}: {start} to {known.end}"
        sender, came = known.sender_of(start)
        if life == known.life:
            self.problems.append(f"{what} came again in life {life}, {now - came:.2f} s later")
        elif sender not in self._kills:
            self.problems.append(f"{what} came again in life {life}, though life {sender} was not killed")
        else:
            # All behind `start` comes again, be it in several batches: `went_on` forgets what came of it before.
            self.repeats.append(Repeat(what, known.end - start, max(0.0, self._kills[sender] - came)))

    def _write(self, key: str, start: int, data: bytes) -> None:
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, start)
            os.pwrite(descriptor, data, start)
        finally:
            os.close(descriptor)


@contextmanager
def receiving(posts: Sequence[Posts], refused: float, seed: int) -> Iterator[int]:
    """Take POSTs: those to ``/0`` for the first of `posts`, and so on. Gives the port.

    Of all, the share `refused` is answered with 503, and not taken.
    """
    chance = random.Random(seed)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length)
            if len(body) < length:  # its sender was killed
                self.close_connection = True
                return
            status = 503 if chance.random() < refused else 204
            if status == 204:
                key = unquote(self.headers["X-OSS-Tail-Object"]).removeprefix("oss://").partition("/")[2]
                place = int(self.headers["X-OSS-Tail-Generation"]), int(self.headers["X-OSS-Tail-Start"])
                to = posts[int(self.path.removeprefix("/"))]
                to.take(key, *place, body, int(self.headers[LIFE]), time.monotonic())
            with suppress(ConnectionError):
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing of each request."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: Any) -> None:
            """Connections of one that is killed break."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
