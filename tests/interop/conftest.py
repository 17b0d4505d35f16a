"""The official SDKs, each in a process of its own that is told what to do line by line, and what they sent."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import tailer.local
from tests.cli.conftest import OssTail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
BUCKET = "bucket"
TEMPORARY = tailer.local.AccessKey("temporary", "temporary-secret", "a-security-token")
_NO_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


class Sdk(NamedTuple):
    """How to run the driver of one SDK, what must be there for it, and what makes it be there."""

    name: str
    command: list[str]
    needs: Path
    remedy: str

    def missing(self) -> str | None:
        """Why it cannot be run; None when it can."""
        if shutil.which(self.command[0]) is None or not self.needs.exists():
            return f"{self.name} is not here: {self.remedy}"
        return None


def _in_go(name: str, program: str) -> Sdk:
    built = HERE / "drivers/go/bin" / program
    return Sdk(name, [str(built)], built, "it needs go and 'make go'")


_JAVA_BUILT = HERE / "java" / "target" / ".ready"


def _in_java(program: str) -> list[str]:
    """No name leads anywhere but those of a file, all of them to this machine."""
    paths = f"{_JAVA_BUILT.parent}/classes:{_JAVA_BUILT.parent}/lib/*"
    starts_fast = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    return ["java", *starts_fast, f"-Djdk.net.hosts.file={HERE}/java/hosts", "-cp", paths, program]


_OSS2_PYTHON = HERE.parents[1] / ".venv-oss2" / "bin" / "python"
_NODE_MODULE = HERE / "node" / "node_modules" / "ali-oss"
OSS2 = Sdk("oss2", [str(_OSS2_PYTHON), str(HERE / "drivers/oss2_driver.py")], _OSS2_PYTHON, "run 'make .venv-oss2'")
_OSSFS_PYTHON = HERE.parents[1] / ".venv-ossfs" / "bin" / "python"
OSSFS = Sdk(
    "ossfs", [str(_OSSFS_PYTHON), str(HERE / "drivers/ossfs_driver.py")], _OSSFS_PYTHON, "run 'make .venv-ossfs'"
)
OSS_V2 = Sdk("alibabacloud-oss-v2", [sys.executable, str(HERE / "drivers/oss_v2_driver.py")], HERE, "")
OSS_V2_ASYNC = Sdk("alibabacloud-oss-v2-async", [*OSS_V2.command, "--async"], HERE, "")
ALI_OSS = Sdk(
    "ali-oss", ["node", str(HERE / "drivers/ali_oss.mjs")], _NODE_MODULE, "it needs node, npm and 'make node'"
)
GO_1 = _in_go("aliyun-oss-go-sdk", "sdk1")
GO_2 = _in_go("alibabacloud-oss-go-sdk-v2", "sdk2")
OSSUTIL = _in_go("ossutil", "ossutil")
_JAVA_REMEDY = "it needs java, javac, mvn and 'make java'"
JAVA_1 = Sdk("aliyun-sdk-oss", _in_java("Sdk1"), _JAVA_BUILT, _JAVA_REMEDY)
JAVA_2 = Sdk("alibabacloud-oss-v2-java", _in_java("Sdk2"), _JAVA_BUILT, _JAVA_REMEDY)
SDKS = (OSS2, OSS_V2, OSS_V2_ASYNC, ALI_OSS, GO_1, GO_2, JAVA_1, JAVA_2)


class Driver:
    """One SDK in its process. Called with a verb, it returns the facts that the SDK saw."""

    def __init__(self, sdk: Sdk) -> None:
        self.sdk = sdk
        environment = {name: value for name, value in os.environ.items() if name not in _NO_PROXIES}
        self._process = subprocess.Popen(
            sdk.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True, bufsize=1
        )

    def __call__(self, verb: str, **arguments: Any) -> dict[str, Any]:
        """Bytes go in and come back as they are, the CRC-64 as a number. What the SDK does not tell is left out."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"do": verb, **_packed(arguments)}), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline()
        if not line:
            pytest.fail(f"the driver of {self.sdk.name} ended with status {self._process.wait(10)}")
        facts: dict[str, Any] = json.loads(line)
        if "data" in facts:
            facts["data"] = base64.b64decode(facts["data"])
        if isinstance(facts.get("crc64"), str):
            facts["crc64"] = int(facts["crc64"])
        return facts

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def assert_refused(facts: dict[str, Any], status: int, code: str) -> None:
    """That the SDK was refused with that code; and with that status, where it tells of one."""
    assert (facts.get("status", status), facts.get("error")) == (status, code)


def _packed(arguments: Any) -> Any:
    if isinstance(arguments, bytes):
        return base64.b64encode(arguments).decode()
    if isinstance(arguments, dict):
        return {name: _packed(value) for name, value in arguments.items()}
    if isinstance(arguments, list):
        return [_packed(value) for value in arguments]
    return arguments


@dataclass
class Drivers:
    """Every SDK that was asked for, started once."""

    started: dict[str, Driver] = field(default_factory=dict)

    def get(self, sdk: Sdk) -> Driver:
        """Its driver. Skips the test where the SDK is missing, unless it is required."""
        demand(sdk)
        if sdk.name not in self.started:
            self.started[sdk.name] = Driver(sdk)
        return self.started[sdk.name]

    def every(self) -> list[Driver]:
        """Those that are here; all of them where they are required."""
        required = os.environ.get("OSS_TAIL_INTEROP") == "required"
        return [self.get(sdk) for sdk in SDKS if required or not sdk.missing()]


@pytest.fixture(scope="session")
def drivers() -> Iterator[Drivers]:
    """The SDKs, started when they are first asked for."""
    drivers = Drivers()
    yield drivers
    for driver in drivers.started.values():
        driver.close()


@pytest.fixture(scope="session")
def server() -> Iterator[tailer.local.LocalServer]:
    """A server that can be addressed in all three ways."""
    keys = [tailer.local.AccessKey("local", "local-secret"), TEMPORARY]
    cnames = {"data.example": BUCKET}
    with tailer.local.running([BUCKET], access_keys=keys, cnames=cnames, domains=["oss.example"]) as server:
        yield server


@pytest.fixture
def oss_tail(server: tailer.local.LocalServer, tmp_path: Path) -> OssTail:
    """The command, against the same server."""
    return OssTail(server, tmp_path)


@dataclass(frozen=True)
class Place:
    """Where a driver's requests go, and how they are signed."""

    server: tailer.local.LocalServer
    signature: str = "v4"
    addressing: str = "path"
    secret: str | None = None
    temporary: bool = False
    endpoint: str | None = None

    @property
    def at(self) -> dict[str, str | None]:
        """As drivers are told it."""
        key = TEMPORARY if self.temporary else tailer.local.AccessKey("local", "local-secret")
        host, _, port = self.server.endpoint.removeprefix("http://").partition(":")
        hosts = {"path": host, "path by name": "oss.example", "virtual": "oss.example", "cname": "data.example"}
        return {
            "endpoint": self.endpoint or f"http://{hosts[self.addressing]}:{port}",
            "addressing": self.addressing.partition(" ")[0],
            "signature": self.signature,
            "region": self.server.region,
            "bucket": BUCKET,
            "id": key.id,
            "secret": self.secret or key.secret,
            "token": key.token,
        }


def place(sdk: Sdk, server: tailer.local.LocalServer, signature: str = "v4", **options: Any) -> Place:
    """The bucket in the path; for ali-oss below a name, as it puts the bucket into Host when it sees an address."""
    return Place(server, signature, "path by name" if sdk is ALI_OSS else "path", **options)


Ask = partial[dict[str, Any]]
"""A driver with its place: ``ask("append", key=…, position=0, data=b"…")``."""


def demand(sdk: Sdk) -> None:
    """Skip the test where the SDK is missing; fail it where it is required."""
    if reason := sdk.missing():
        if os.environ.get("OSS_TAIL_INTEROP") == "required":
            pytest.fail(reason)
        pytest.skip(reason)


def only(*sdks: Sdk) -> pytest.MarkDecorator:
    """Runs a test with these alone."""
    return pytest.mark.parametrize("sdk", sdks, ids=[sdk.name for sdk in sdks], indirect=True)


@pytest.fixture(params=SDKS, ids=[sdk.name for sdk in SDKS])
def sdk(request: pytest.FixtureRequest) -> Sdk:
    """Each of the SDKs."""
    chosen: Sdk = request.param
    return chosen


@pytest.fixture(params=["v1", "v4"])
def signature(request: pytest.FixtureRequest) -> str:
    """Each of the signature versions."""
    version: str = request.param
    return version


@pytest.fixture
def ask(drivers: Drivers, sdk: Sdk, signature: str, server: tailer.local.LocalServer) -> Iterator[Ask]:
    """Each SDK with each signature, the bucket in the path."""
    yield partial(drivers.get(sdk), at=place(sdk, server, signature).at)
    server.faults.clear()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A name of its own for each test."""
    return re.sub(r"[^\w.]+", "-", request.node.name)


class Recorder:
    """A relay to the server that notes the head of every request as it stood on the wire, before it goes on.

    `notice` may be another function: it is called with each head.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.removeprefix("http://").partition(":")
        self._target = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.heads: list[bytes] = []
        self.notice: Callable[[bytes], None] = self.heads.append
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    @property
    def request_line(self) -> str:
        """The first line of the only request."""
        (head,) = self.heads
        return head.partition(b"\r\n")[0].decode()

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the only request, their names as they were written."""
        (head,) = self.heads
        pairs = (line.decode().partition(": ") for line in head.split(b"\r\n")[1:] if line)
        return {name: value for name, _, value in pairs}

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # it was closed
                return
            server = socket.create_connection(self._target)
            threading.Thread(target=self._pump, args=(client, server, self._note), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, lambda _: None), daemon=True).start()

    def _note(self, data: bytes) -> None:
        if data.partition(b" ")[0] in (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE"):
            self.notice(data.partition(b"\r\n\r\n")[0])

    def _pump(self, source: socket.socket, sink: socket.socket, note: Callable[[bytes], None]) -> None:
        with source:
            while data := _received(source):
                note(data)
                sink.sendall(data)
            with sink:
                pass


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(1 << 16)
    except OSError:  # the other pump closed it
        return b""


@pytest.fixture
def recorder(server: tailer.local.LocalServer) -> Iterator[Recorder]:
    """A relay to the server."""
    relay = Recorder(server.endpoint)
    yield relay
    relay.close()
