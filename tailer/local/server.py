"""An OSS-compatible server on a real socket, to be embedded, tested against, or run by ``oss-local``."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

from aiohttp import web

from tailer.local.auth import Authenticator
from tailer.local.faults import Faults, History
from tailer.local.keys import AccessKey
from tailer.local.memory import MemoryEngine
from tailer.local.service import Service
from tailer.local.store import APPEND_LIMIT, Store
from tailer.local.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path
    from typing import Any

    from tailer.local.store import Engine

REGION = "cn-local"
DEFAULT_KEY = AccessKey("local", "local-secret")
_LINE = 64 * 1024
_READ = 1 << 20


class LocalServer:
    """``async with LocalServer(buckets=["b"]) as server:`` and then ``server.endpoint``.

    `root` is a folder whose sub-folders are the buckets; None keeps everything in memory. `port` 0 takes a
    free one. `clock` is what the server takes for the time, in seconds since 1970. `cnames` are hosts that
    stand for a bucket, `domains` names of this server, `elsewhere` buckets that another endpoint serves.
    The first of `access_keys` is the one of `environment`. `append_limit` is in bytes. Binds nothing but
    loopback unless `allow_remote`. Raises ValueError, and OSError for a `root` that cannot be used.
    """

    def __init__(
        self,
        buckets: Iterable[str] = (),
        *,
        root: str | Path | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        access_keys: Iterable[AccessKey] = (DEFAULT_KEY,),
        region: str = REGION,
        clock: Callable[[], float] = time.time,
        cnames: Mapping[str, str] | None = None,
        domains: Iterable[str] = (),
        elsewhere: Mapping[str, str] | None = None,
        append_limit: int = APPEND_LIMIT,
        fsync: bool = False,
        seed: int = 0,
        allow_remote: bool = False,
    ) -> None:
        if not (allow_remote or is_loopback(host)):
            raise ValueError(f"{host} is not a loopback address")
        keys = list(access_keys)
        if not keys or len({key.id for key in keys}) < len(keys):
            raise ValueError("there must be an access key, and each id only once")
        self.access_key_id = keys[0].id
        self.access_key_secret = keys[0].secret
        self.security_token = keys[0].token
        self.region = region
        self.store = Store(_engine(root, fsync=fsync), clock=clock, append_limit=append_limit)
        self.faults = Faults(seed)
        self.authenticator = Authenticator(keys, region=region, clock=clock)
        self.endpoint = ""
        history = History(self.faults)
        self.store.on_change = lambda bucket, key, info: history.note(clock(), bucket, key, info)
        self.service = Service(self.store, history, region=region, clock=clock, elsewhere=dict(elsewhere or {}))
        self._wire = Wire(
            self.service,
            self.authenticator,
            self.faults,
            clock=clock,
            cnames=dict(cnames or {}),
            domains=tuple(domains),
        )
        self._address = host, port
        self._web: web.Server | None = None
        self._listener: asyncio.Server | None = None
        for bucket in buckets:
            self.store.create_bucket(bucket)

    async def __aenter__(self) -> LocalServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Accept connections. Raises OSError when the port is taken."""
        host, port = self._address
        # A body must reach the store as it was sent, so aiohttp may not unpack it.
        self._web = web.Server(
            self._wire.handle,
            access_log=None,
            auto_decompress=False,
            read_bufsize=_READ,
            max_line_size=_LINE,
            max_field_size=_LINE,
        )
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._web, host, port, backlog=1024)
        bound = self._listener.sockets[0].getsockname()[1]
        reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        self.endpoint = f"http://{f'[{reachable}]' if ':' in reachable else reachable}:{bound}"
        self.service.endpoint = self.endpoint

    async def stop(self) -> None:
        """Close every connection and let go of the store."""
        if self._listener is not None:
            self._listener.close()
        if self._web is not None:
            # Connections that wait for a next request go at once; the others have a moment to end.
            self._web.pre_shutdown()
            await self._web.shutdown(timeout=0.1)
        if self._listener is not None:
            await self._listener.wait_closed()
        self.service.uploads.close()
        self.store.close()

    def environment(self, key: AccessKey | None = None) -> dict[str, str]:
        """The variables that make every official tool talk to this server, as `key` or as the first one."""
        if key is None:
            key = AccessKey(self.access_key_id, self.access_key_secret, self.security_token)
        variables = {
            "OSS_ENDPOINT": self.endpoint,
            "OSS_REGION": self.region,
            "OSS_ACCESS_KEY_ID": key.id,
            "OSS_ACCESS_KEY_SECRET": key.secret,
        }
        if key.token is not None:
            variables["OSS_SESSION_TOKEN"] = key.token
        return variables


@contextlib.contextmanager
def running(buckets: Iterable[str] = (), **options: Any) -> Iterator[LocalServer]:
    """A server in a thread of its own, for programs without an event loop. Options as for `LocalServer`."""
    server = LocalServer(buckets, **options)
    host = _ThreadHost(server)
    host.start()
    try:
        yield server
    finally:
        host.stop()


class _ThreadHost:
    """An event loop in a thread, with one server on it."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="oss-local", daemon=True)

    def start(self) -> None:
        """Returns when connections are accepted; raises what kept the server from it."""
        self._thread.start()
        self._started.result()

    def stop(self) -> None:
        """Returns when everything is closed."""
        loop, ended = self._started.result()
        loop.call_soon_threadsafe(ended.set)
        self._thread.join()

    async def _serve(self) -> None:
        ended = asyncio.Event()
        try:
            await self._server.start()
        except Exception as error:
            self._server.store.close()
            self._started.set_exception(error)
            return
        self._started.set_result((asyncio.get_running_loop(), ended))
        await ended.wait()
        await self._server.stop()


def is_loopback(host: str) -> bool:
    """Whether a host can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _engine(root: str | Path | None, *, fsync: bool) -> Engine:
    if root is None:
        return MemoryEngine()
    from tailer.local.folder import FolderEngine

    return FolderEngine(root, fsync=fsync)
