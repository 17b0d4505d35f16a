"""A service in this process, over a real server, and what it takes to look at it."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import tailer.web
from tailer.service import Service
from tailer.systemd import Notifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tailer.configfile import ServerConfig
    from tailer.local import LocalServer
    from tailer.web.server import Port

GROUP = """
[groups.{name}]
objects = ["{objects}"]
sink = "{sink}"
list_interval = 0.1
poll_min = 0.05
{more}
"""


def group(name: str, objects: str, sink: str = "mirror", more: str = "") -> str:
    """A table of the file."""
    return GROUP.format(name=name, objects=objects, sink=sink, more=more)


class Bench:
    """The file of a service, its server, and the service while it runs."""

    def __init__(self, server: LocalServer, folder: Path) -> None:
        self.server = server
        self.path = folder / "service.toml"
        self.mirror = folder / "mirror"
        self.port = 0
        self._folder = folder

    def write(self, *parts: str, listen: str = '"127.0.0.1:0"', head: str = "") -> None:
        """The configuration, with a sink called ``mirror``."""
        self.path.write_text(
            f'checkpoint = "state.db"\ndrain = 10\n{head}\n[server]\nlisten = {listen}\n'
            f'[sinks.mirror]\ntype = "file"\npath = "{self.mirror}"\n' + "".join(parts)
        )

    def append(self, key: str, data: bytes) -> None:
        """Let an object of the bucket ``logs`` grow."""
        found = self.server.store.find("logs", key)
        self.server.store.append("logs", key, found.size if found else 0, data)

    def mirrored(self, key: str, folder: str = "mirror") -> bytes:
        """What is there of an object."""
        path = self._folder / folder / "logs" / key
        return path.read_bytes() if path.exists() else b""

    async def open_port(self, service: Service, server: ServerConfig) -> Port:
        assert server.listen is not None
        opened = await tailer.web.serve(service, *server.listen, hints=server.hints)
        self.port = opened.port
        return opened

    @asynccontextmanager
    async def running(self, notifier: Notifier | None = None) -> AsyncIterator[Service]:
        """The service, which has begun; it is told to end afterwards, and does so with 0."""
        notifier = notifier or Notifier({})
        begun, ready = asyncio.Event(), notifier.ready
        notifier.ready = lambda: (begun.set(), ready())[-1]  # type: ignore[method-assign]
        service = Service(self.path, open_port=self.open_port, notifier=notifier)
        task = asyncio.create_task(service.run())
        try:
            await until(lambda: begun.is_set() or task.done())
            if task.done():
                task.result()
            yield service
            if not task.done():
                service.stop()
            assert await asyncio.wait_for(task, 30) == 0
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(is_so: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for it; an AssertionError where it does not come to be."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to be"
        await asyncio.sleep(0.01)
