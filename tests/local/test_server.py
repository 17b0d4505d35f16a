"""The server as a library: in an event loop, in a thread."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tailer.local import LocalServer, running

if TYPE_CHECKING:
    from pathlib import Path


def test_async_server_serves_and_stops() -> None:
    """In the caller's own loop."""

    async def use() -> tuple[bytes, dict[str, str]]:
        async with LocalServer(["demo"]) as server:
            server.store.create_bucket("demo", "public-read")
            server.store.append("demo", "log", 0, b"abc")
            url = f"{server.endpoint}/demo/log"
            return await asyncio.to_thread(lambda: urllib.request.urlopen(url).read()), server.environment()

    body, environment = asyncio.run(use())
    assert body == b"abc"
    assert environment["OSS_ENDPOINT"].startswith("http://127.0.0.1:")
    assert {name: environment[name] for name in sorted(environment) if name != "OSS_ENDPOINT"} == {
        "OSS_ACCESS_KEY_ID": "local",
        "OSS_ACCESS_KEY_SECRET": "local-secret",
        "OSS_REGION": "cn-local",
    }


def test_thread_ends_with_the_block() -> None:
    """And its port is free again."""
    before = set(threading.enumerate())
    with running(["demo"]) as server:
        port = int(server.endpoint.rsplit(":", 1)[1])
        (own,) = [thread for thread in threading.enumerate() if thread.name == "oss-local" and thread not in before]
    assert not own.is_alive()
    with running(["demo"], port=port) as again:
        assert again.endpoint == server.endpoint


def test_taken_port_is_an_error_of_the_caller() -> None:
    """Not one in a thread that nobody sees."""
    with running(["demo"]) as server:
        port = int(server.endpoint.rsplit(":", 1)[1])
        with pytest.raises(OSError, match="in use"), running(["demo"], port=port):
            pass


def test_only_loopback_unless_told() -> None:
    """In the library as on the command line."""
    for host in ("0.0.0.0", "192.0.2.1", "example.com", "::"):
        with pytest.raises(ValueError, match="not a loopback"):
            LocalServer(host=host)


def test_ipv6() -> None:
    """The endpoint has its brackets."""
    with running(["demo"], host="::1") as server:
        server.store.create_bucket("demo", "public-read")
        server.store.append("demo", "log", 0, b"abc")
        assert server.endpoint.startswith("http://[::1]:")
        assert urllib.request.urlopen(f"{server.endpoint}/demo/log").read() == b"abc"


def test_one_folder_one_server(tmp_path: Path) -> None:
    """The second is told who has it."""
    with running(["demo"], root=tmp_path), pytest.raises(OSError, match="another oss-local"):
        LocalServer(root=tmp_path)
    with running(root=tmp_path) as server:
        assert [info.name for info in server.store.buckets()] == ["demo"]


def test_importing_is_cheap() -> None:
    """aiohttp comes with the first use."""
    program = "import sys, tailer.local; print('aiohttp' in sys.modules, sorted(tailer.local.__all__))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split()[0] == "False"


def test_imports_nothing_else_of_the_project() -> None:
    """A mistake of the client cannot hide in the server."""
    program = (
        "import sys, tailer.local.server, tailer.local.folder\n"
        "print(*sorted(name for name in sys.modules if name.startswith('tailer')))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    others = [name for name in result.stdout.split() if not name.startswith("tailer.local")]
    assert others == ["tailer", "tailer.core", "tailer.core.crc64"]
