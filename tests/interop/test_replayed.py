"""The requests of the SDKs that are not run here, byte by byte as their public source writes them.

docs/interop.md names the source of each. The signature is this module's own: version 1 as in the OSS documentation,
"Include signatures in headers".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import socket
from dataclasses import dataclass
from email.utils import formatdate
from http.client import HTTPResponse
from typing import TYPE_CHECKING
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest

from tests.interop.conftest import BUCKET, TEMPORARY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailer.local import LocalServer

HOST = f"{BUCKET}.oss.example"
_SIGNED = frozenset({"append", "position"})
"""The query parameters of these requests that version 1 signs."""


@dataclass(frozen=True)
class Habit:
    """How one SDK writes: each query, and its headers in their order, with `{…}` for what differs from time to time."""

    name: str
    append: str
    list: str
    headers: str
    upload: str = "Content-Type Content-Length"
    read: str = ""
    range: str = "Range"
    unranged: str = ""

    def names(self, method: str, *, ranged: bool, token: bool) -> Iterator[str]:
        """Of the headers of a request, in the order in which they are sent."""
        yield from self.headers.split()
        yield from {"POST": self.upload, "GET": self.read}.get(method, "").split()
        yield from (self.range if ranged else self.unranged).split()
        if token:
            yield "X-Oss-Security-Token" if self.name == "Ruby" else "x-oss-security-token"
        yield "Authorization"


_BY_NAME = "delimiter=%2F&encoding-type=url&max-keys=10&prefix={prefix}"
HABITS = (
    Habit(
        "C",
        append="append&position={position}",
        list="prefix={prefix}&delimiter&marker&max-keys=10",
        headers="Host User-Agent Accept Date",
    ),
    Habit(
        "C++",
        append="append&position={position}",
        list=_BY_NAME,
        headers="Host Accept Date User-Agent",
        upload="Content-Length Content-Type",
        read="Content-Length",
    ),
    Habit(
        "PHP",
        append="append&position={position}",
        list="delimiter=%2F&encoding-type=url&marker&max-keys=10&prefix={prefix}",
        headers="Host User-Agent Accept Accept-Encoding Referer Content-Type Date",
        upload="Content-Length Content-Md5",
        range="range",
    ),
    Habit(
        "Ruby",
        append="append&position={position}",
        list="prefix={prefix}&delimiter=%2F&max-keys=10&encoding-type=url",
        headers="Accept User-Agent Date Content-Type Accept-Encoding Host",
        upload="Transfer-Encoding",
    ),
    Habit(
        ".NET",
        append="append&position={position}",
        list="prefix={prefix}&delimiter=%2F&max-keys=10&encoding-type=url",
        headers="User-Agent Date Host Connection",
        upload="Content-Type Content-Length Expect",
    ),
    Habit(
        "Android",
        append="append&position={position}",
        list="prefix={prefix}&delimiter=%2F&max-keys=10&encoding-type=url",
        headers="Date User-Agent Host Connection",
        unranged="Accept-Encoding",
    ),
    Habit(
        "iOS",
        append="position={position}&append",
        list="max-keys=10&prefix={prefix}&delimiter=%2F",
        headers="Host Date User-Agent Accept Accept-Encoding Connection",
    ),
)


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        """That of a refusal."""
        code: str | None = ElementTree.fromstring(self.body).findtext("Code")
        return code


@dataclass(frozen=True)
class Client:
    """Writes to the server as one SDK does."""

    habit: Habit
    server: LocalServer
    token: bool = False

    def append(self, key: str, position: int, data: bytes, path: str | None = None, **other: str) -> Reply:
        """POST; the body waits for 100 Continue where the SDK asks for that."""
        query = self.habit.append.format(position=position)
        return self.ask("POST", key, query, data, path=path, **other)

    def ask(
        self,
        method: str,
        key: str,
        query: str = "",
        data: bytes = b"",
        *,
        byte_range: str | None = None,
        path: str | None = None,
        **other: str,
    ) -> Reply:
        """One request on a connection of its own. `other` are values of headers in the place of the right ones."""
        values = self._values(query, data, byte_range) | {name.replace("_", "-"): text for name, text in other.items()}
        names = list(self.habit.names(method, ranged=byte_range is not None, token=self.token))
        headers = {name: values[name.lower()] for name in names if name != "Authorization"}
        headers["Authorization"] = self._authorization(method, key, query, headers)
        target = f"{path or '/' + key}{'?' if query else ''}{query}"
        head = "".join(f"{name}: {headers[name]}\r\n" for name in names)
        host, _, port = self.server.endpoint.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode())
            if "Expect" not in headers or _is_told_to_go_on(connection):
                connection.sendall(_chunked(data) if "Transfer-Encoding" in headers else data)
            return _reply(connection, method)

    def _values(self, query: str, data: bytes, byte_range: str | None) -> dict[str, str]:
        return {
            "host": HOST,
            "user-agent": f"aliyun-sdk ({self.habit.name})",
            "accept": "*/*",
            "accept-encoding": {"Ruby": "identity", "Android": "gzip"}.get(self.habit.name, "gzip, deflate"),
            "connection": "Keep-Alive",
            "content-type": "application/octet-stream",
            "content-length": str(len(data)),
            "content-md5": base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode(),
            "date": formatdate(usegmt=True),
            "expect": "100-continue",
            "range": byte_range or "",
            "referer": f"http://{HOST}/?{query}",
            "transfer-encoding": "chunked",
            "x-oss-security-token": TEMPORARY.token or "",
        }

    def _authorization(self, method: str, key: str, query: str, headers: dict[str, str]) -> str:
        low = {name.lower(): text for name, text in headers.items()}
        lines = [method, *(low.get(name, "") for name in ("content-md5", "content-type", "date"))]
        lines += [f"{name}:{low[name]}" for name in sorted(low) if name.startswith("x-oss-")]
        signed = sorted(part for part in query.split("&") if part.partition("=")[0] in _SIGNED)
        lines.append(f"/{BUCKET}/{key}{'?' if signed else ''}{'&'.join(signed)}")
        key_id, secret = (TEMPORARY.id, TEMPORARY.secret) if self.token else ("local", "local-secret")
        digest = hmac.digest(secret.encode(), "\n".join(lines).encode(), "sha1")
        return f"OSS {key_id}:{base64.b64encode(digest).decode()}"


def _is_told_to_go_on(connection: socket.socket) -> bool:
    told = b"HTTP/1.1 100 Continue\r\n\r\n"
    if connection.recv(len(told), socket.MSG_PEEK | socket.MSG_WAITALL) != told:
        return False
    return connection.recv(len(told)) == told


def _chunked(data: bytes) -> bytes:
    """In pieces of three bytes (RFC 9112, section 7.1)."""
    pieces = (data[start : start + 3] for start in range(0, len(data), 3))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def _reply(connection: socket.socket, method: str) -> Reply:
    with HTTPResponse(connection, method=method) as answer:
        answer.begin()
        headers = {name.lower(): text for name, text in answer.getheaders()}
        return Reply(answer.status, headers, answer.read())


@pytest.fixture(params=HABITS, ids=[habit.name.replace("+", "p") for habit in HABITS])
def client(request: pytest.FixtureRequest, server: LocalServer) -> Client:
    """Each of the SDKs."""
    return Client(request.param, server)


def _like(name: str, server: LocalServer) -> Client:
    (habit,) = (habit for habit in HABITS if habit.name == name)
    return Client(habit, server)


def test_replayed_append_goes_on(client: Client, key: str, server: LocalServer) -> None:
    """With and without an equals sign, `position` first and last, chunked and with a length, with Content-MD5."""
    first = client.append(key, 0, b"one\n")
    second = client.append(key, 4, b"two, longer\n")
    assert (first.status, first.headers["x-oss-next-append-position"]) == (200, "4")
    assert (second.status, second.headers["x-oss-next-append-position"]) == (200, "16")
    assert int(second.headers["x-oss-hash-crc64ecma"]) > 0
    assert server.store.read(BUCKET, key) == b"one\ntwo, longer\n"


def test_replayed_append_is_refused(client: Client, key: str, server: LocalServer) -> None:
    """At a wrong position the right one is told; a Normal object takes none."""
    client.append(key, 0, b"four")
    wrong = client.append(key, 3, b"five")
    assert (wrong.status, wrong.code, wrong.headers["x-oss-next-append-position"]) == (
        409,
        "PositionNotEqualToLength",
        "4",
    )
    server.store.put(BUCKET, key, b"normal")
    assert client.append(key, 6, b"more").code == "ObjectNotAppendable"


def test_replayed_head(client: Client, key: str) -> None:
    """Length, type and next position; NoSuchKey is a bare 404."""
    client.append(key, 0, b"four")
    head = client.ask("HEAD", key)
    assert (head.status, head.headers["content-length"], head.headers["x-oss-object-type"]) == (200, "4", "Appendable")
    assert head.headers["x-oss-next-append-position"] == "4"
    assert client.ask("HEAD", f"{key}-not").status == 404


def test_replayed_range(client: Client, key: str) -> None:
    """Raw bytes, also for those that would take them compressed, and a header whose name is in lower case."""
    client.append(key, 0, b"0123456789" * 500)
    got = client.ask("GET", key, byte_range="bytes=4002-4005")
    assert (got.status, got.body, got.headers["content-range"]) == (206, b"2345", "bytes 4002-4005/5000")
    assert "content-encoding" not in got.headers


def test_replayed_list(client: Client, key: str) -> None:
    """In any order of the query, with empty parameters bare."""
    client.append(f"{key}1", 0, b"four")
    client.append(f"{key}2", 0, b"")
    listed = client.ask("GET", "", client.habit.list.format(prefix=key))
    rows = ElementTree.fromstring(listed.body).iterfind("Contents")
    assert [(unquote(row.findtext("Key") or ""), row.findtext("Size")) for row in rows] == [
        (f"{key}1", "4"),
        (f"{key}2", "0"),
    ]


def test_replayed_security_token(client: Client, key: str) -> None:
    """With version 1 all of them send it as a signed x-oss-security-token."""
    temporary = Client(client.habit, client.server, token=True)
    assert temporary.append(key, 0, b"four").status == 200
    assert temporary.ask("GET", key).body == b"four"
    other = temporary.ask("GET", key, x_oss_security_token="another")
    assert (other.status, other.code) == (403, "InvalidSecurityToken")


def test_net_sends_its_body_when_100_continue_has_come(server: LocalServer, key: str) -> None:
    """A refusal comes instead of it, before a byte of the body was sent."""
    client = _like(".NET", server)
    assert client.append(key, 0, b"four").headers["x-oss-next-append-position"] == "4"
    refused = client.append(key, 0, b"four")
    assert (refused.status, refused.code) == (409, "PositionNotEqualToLength")
    assert server.store.read(BUCKET, key) == b"four"


def test_php_sends_content_md5_and_it_is_checked(server: LocalServer, key: str) -> None:
    """As Content-Md5, with a small d; of other bytes it is InvalidDigest, and nothing is appended."""
    client = _like("PHP", server)
    client.append(key, 0, b"four")
    wrong = client.append(key, 4, b"five", content_md5=base64.b64encode(bytes(16)).decode())
    assert (wrong.status, wrong.code) == (400, "InvalidDigest")
    assert client.append(key, 4, b"five").status == 200


def test_ruby_escapes_the_slashes_of_a_key(server: LocalServer, key: str) -> None:
    """In the path; what it signs is the key as it is."""
    client = _like("Ruby", server)
    assert client.append(f"{key}/a.log", 0, b"four", path=f"/{key}%2Fa.log").status == 200
    assert server.store.read(BUCKET, f"{key}/a.log") == b"four"
