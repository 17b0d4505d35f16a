"""A server that says exactly what a test tells it to, on a real socket, and a client of each transport."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass, field

import pytest

from tailer.oss.address import Endpoint
from tailer.oss.client import Client, ServiceSettings
from tailer.oss.credentials import Credentials, StaticCredentials
from tailer.oss.transport import Timeouts, open_transport

ENVIRONMENT = (
    "HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy SSL_CERT_FILE SSL_CERT_DIR "
    "OSS_TAIL_TRANSPORT OSS_ENDPOINT OSS_REGION OSS_ACCESS_KEY_ID OSS_ACCESS_KEY_SECRET OSS_SESSION_TOKEN "
    "OSSUTIL_CONFIG_FILE OSSUTIL_PROFILE"
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in ENVIRONMENT.split():
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["direct", "fast", "httpx"])
def kind(request):
    """Every test that asks for it runs over every transport."""
    return request.param


@dataclass
class Received:
    """A request as it came over the socket."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Reply:
    """What the server writes; then it may wait, and it may close or reset the connection."""

    data: bytes
    close: bool = False
    reset: bool = False
    hold: bool = False
    """Keep the connection open and say no more."""


def answer(status=200, headers=None, body=b"", *, length=None, oss=True):
    """The bytes of an answer; Content-Length is right unless `length` says otherwise."""
    lines = [f"HTTP/1.1 {status} Reason"]
    if length is not False:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    if oss:
        lines.append("x-oss-request-id: 5C3D9175B6FC201293AD4890")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + body


def xml_error(code, message="said the service", **more):
    """The body of an error."""
    fields = {"Code": code, "Message": message, "RequestId": "5C3D9175B6FC201293AD4890", "EC": "0000-00000001", **more}
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>\n{inner}</Error>\n'.encode()


@dataclass
class RawServer:
    """Answers the n-th request with the n-th reply, the last one for ever; records what came."""

    replies: list[Reply]
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    url: str = ""

    async def serve(self, reader, writer):
        self.connections += 1
        while await self._one(reader, writer):
            pass

    async def _one(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append(Received(method, target, headers, body))
        reply = self.replies[min(len(self.requests), len(self.replies)) - 1]
        if reply.reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return False
        writer.write(reply.data)
        await writer.drain()
        if reply.hold:
            await reader.read()
        return not (reply.close or reply.hold)


@contextlib.asynccontextmanager
async def _listening(handle, *, ssl=None):
    """Serve connections with `handle(reader, writer)`; gives the port, and leaves nothing open."""
    connections = []

    async def serve(reader, writer):
        connections.append((writer, asyncio.current_task()))
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await handle(reader, writer)
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=ssl, limit=1 << 20)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        for writer, _ in connections:
            writer.transport.abort()
        await asyncio.gather(*(task for _, task in connections), return_exceptions=True)
        await asyncio.sleep(0)  # the transports close in the loop's next round
        await listener.wait_closed()


@contextlib.asynccontextmanager
async def _serving(*replies, ssl=None):
    """A `RawServer` that answers with `replies`, each bytes or a `Reply`."""
    server = RawServer([reply if isinstance(reply, Reply) else Reply(reply) for reply in replies])
    async with _listening(server.serve, ssl=ssl) as port:
        server.url = f"{'https' if ssl else 'http'}://127.0.0.1:{port}"
        yield server


@contextlib.asynccontextmanager
async def _connected(server, kind, *, credentials=None, clock=None, on_request=None, timeouts=None, **settings):
    if credentials is None:
        credentials = StaticCredentials(Credentials("ak", "sk"))
    service = ServiceSettings(credentials, Endpoint.parse(server.url), "cn-hangzhou", **settings)
    transport = open_transport(kind, timeouts=timeouts or Timeouts(2, 2))
    more = {} if clock is None else {"clock": clock}
    async with Client(service, transport, on_request=on_request, **more) as client:
        yield client


@pytest.fixture
def wire():
    """What a test scripts a server and a client with."""

    class Wire:
        reply = Reply
        listening = staticmethod(_listening)
        serving = staticmethod(_serving)
        connected = staticmethod(_connected)
        answer = staticmethod(answer)
        xml_error = staticmethod(xml_error)

    return Wire
