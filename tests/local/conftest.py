"""A server on a real socket, and a requester that shares no code with anything that is tested."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tailer.local import running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tailer.local.server import LocalServer

BUCKET = "demo"


@dataclass
class Reply:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        """The error's Code, from the body or from x-oss-err."""
        return self.error.get("Code")

    @property
    def error(self) -> dict[str, str]:
        """The fields of the error document."""
        encoded = self.headers.get("x-oss-err")
        document = base64.b64decode(encoded) if encoded else self.body
        if not document.startswith(b"<?xml"):
            return {}
        return {node.tag: node.text or "" for node in ET.fromstring(document)}

    @property
    def crc(self) -> int:
        """The CRC-64 that was stated."""
        return int(self.headers["x-oss-hash-crc64ecma"])

    @property
    def position(self) -> int:
        """The next append position that was stated."""
        return int(self.headers["x-oss-next-append-position"])


@dataclass
class Requester:
    """Signs with version 4 by hand (OSS documentation, "Signature version 4") and sends exactly what it is told."""

    server: LocalServer
    id: str = "local"
    secret: str = "local-secret"
    token: str | None = None
    region: str = "cn-local"
    offset: float = 0.0
    base: str = ""
    sent: list[str] = field(default_factory=list)

    def __call__(
        self,
        method: str,
        key: str | None = None,
        query: str = "",
        body: object = None,
        *,
        bucket: str | None = BUCKET,
        sign: bool = True,
        path: str | None = None,
        extra: Callable[[dict[str, str]], None] | None = None,
        **headers: str,
    ) -> Reply:
        """Send one request. Header names are given with _ for -; `path` is the raw path on the wire."""
        resource = "/" if bucket is None else f"/{bucket}/{key or ''}"
        if path is None:
            path = quote(resource, safe="/~")
        sending = {name.replace("_", "-"): value for name, value in headers.items()}
        if sign:
            self._sign(sending, method, resource, query)
        if extra is not None:
            extra(sending)
        host, port = self.server.endpoint.removeprefix("http://").rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        try:
            connection.request(method, path + (f"?{query}" if query else ""), body, sending)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def _sign(self, headers: dict[str, str], method: str, resource: str, query: str) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() + self.offset))
        headers["x-oss-date"] = stamp
        headers["x-oss-content-sha256"] = "UNSIGNED-PAYLOAD"
        if self.token is not None:
            headers["x-oss-security-token"] = self.token
        signed = {
            name.lower(): value
            for name, value in headers.items()
            if name.lower() in ("content-type", "content-md5") or name.lower().startswith("x-oss-")
        }
        pairs = sorted(part.removesuffix("=") for part in query.split("&") if part)
        canonical = "\n".join(
            [
                method,
                quote(resource, safe="/~"),
                "&".join(pairs),
                *(f"{name}:{signed[name].strip()}" for name in sorted(signed)),
                "",
                "",
                "UNSIGNED-PAYLOAD",
            ]
        )
        scope = f"{stamp[:8]}/{self.region}/oss/aliyun_v4_request"
        text = "\n".join(["OSS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = ("aliyun_v4" + self.secret).encode()
        for part in (stamp[:8], self.region, "oss", "aliyun_v4_request", text):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"OSS4-HMAC-SHA256 Credential={self.id}/{scope},Signature={key.hex()}"

    def append(self, key: str, position: int, body: bytes, **headers: str) -> Reply:
        """AppendObject."""
        return self("POST", key, f"append&position={position}", body, **headers)


@pytest.fixture(scope="module")
def shared() -> Iterator[LocalServer]:
    """One server in memory for a whole file."""
    with running([BUCKET]) as server:
        yield server


@pytest.fixture
def server(shared: LocalServer) -> Iterator[LocalServer]:
    """The shared server with an empty bucket and no faults."""
    shared.faults.clear()
    shared.store.create_bucket(BUCKET, "private")
    for row in shared.store.list(BUCKET, limit=10_000).rows:
        shared.store.delete(BUCKET, row.name)
    return shared


@pytest.fixture
def ask(server: LocalServer) -> Requester:
    """Requests to it, signed with its key."""
    return Requester(server)
