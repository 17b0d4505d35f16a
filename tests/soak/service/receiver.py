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
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_LATE = 1.0  # seconds after a kill until which a receiver that is busy may accept a connection from before it


@dataclass
class _Object:
    """What came of one object. `ends` and `moments`: when each byte came last, in order of offsets."""

    generation: int = 0
    end: int = 0
    ends: list[int] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)

    def moment_of(self, offset: int) -> float:
        """When the byte at `offset` came."""
        return self.moments[bisect_right(self.ends, offset)]

    def went_on(self, start: int, end: int, now: float) -> None:
        """Bytes [start, end) came."""
        kept = bisect_right(self.ends, start)
        del self.ends[kept:], self.moments[kept:]
        self.ends.append(end)
        self.moments.append(now)
        self.end = end


class Posts:
    """All that one service sent. The bytes are in files below `folder`, named as the objects.

    An object whose key begins with `lasting` is never replaced: its bytes come in order, without a gap, and again only
    after a kill of the service. Of others it is known only that a generation has no gap.
    """

    def __init__(self, folder: Path, lasting: str) -> None:
        self.folder = folder
        self.problems: list[str] = []
        self.received = 0
        self.repeats: list[tuple[int, float]] = []
        self._lasting = lasting
        self._objects: dict[str, _Object] = {}
        self._kills: list[float] = []
        self._lock = threading.Lock()

    def killed(self, moment: float) -> None:
        """The service was killed; `moment` as of `time.monotonic`."""
        with self._lock:
            self._kills.append(moment)

    def sent(self, opened: float, now: float) -> float:
        """When at the latest that was sent which is read `now` from a connection that was `opened` then.

        The kill of its sender ends a connection, though a busy receiver may read for long what it had sent before.
        """
        with self._lock:
            return min([now, *(moment for moment in self._kills if moment >= opened)])

    def ends(self) -> Mapping[str, int]:
        """How far each object came, in bytes, by key."""
        with self._lock:
            return {key: known.end for key, known in self._objects.items()}

    def take(self, key: str, generation: int, start: int, data: bytes, now: float) -> None:
        """Bytes [start, start + len(data)) of `key` came at `now`.

        What was `sent` by a service that was killed, and is read only when its successor has sent the same, is left.
        """
        with self._lock:
            known = self._objects.setdefault(key, _Object())
            if generation == known.generation and start < known.end and now < known.moment_of(start):
                return
            if key.startswith(self._lasting):
                self._audit(key, known, generation, start)
            elif start == 0 or generation != known.generation:
                self._objects[key] = known = _Object(generation)
            if start > known.end:
                self.problems.append(f"{key}: {known.end} to {start} is missing")
            known.went_on(start, start + len(data), now)
            self.received += len(data)
            self._write(key, start, data)

    def _audit(self, key: str, known: _Object, generation: int, start: int) -> None:
        if generation != 0:
            self.problems.append(f"{key}: taken for another object at {start}")
        if start >= known.end:
            return
        came = known.moment_of(start)
        # The first one: what it tore off need not come in the very next life.
        kill = next((moment for moment in self._kills if came < moment + _LATE), None)
        if kill is None:
            self.problems.append(f"{key}: {start} to {known.end} came again though nobody was killed")
        else:
            # All behind `start` comes again, be it in several batches: `went_on` forgets what came of it before.
            self.repeats.append((known.end - start, max(0.0, kill - came)))

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

        def setup(self) -> None:
            self._opened = time.monotonic()
            super().setup()

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
                to.take(key, *place, body, to.sent(self._opened, time.monotonic()))
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
