"""Host and target to bucket and key."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Any

import alibabacloud_oss_v2 as oss
import pytest

from tailer.local.addressing import locate

if TYPE_CHECKING:
    from conftest import Requester

    from tailer.local.server import LocalServer


@pytest.mark.parametrize(
    ("host", "target", "bucket", "key"),
    [
        ("127.0.0.1:80", "/", None, None),
        ("127.0.0.1:80", "/demo", "demo", None),
        ("127.0.0.1:80", "/demo/", "demo", None),
        ("127.0.0.1", "/demo/a/b.log", "demo", "a/b.log"),
        ("[::1]:80", "/demo/a", "demo", "a"),
        ("localhost:80", "/demo/a", "demo", "a"),
        ("", "/demo/a", "demo", "a"),
        ("oss", "/demo/a", "demo", "a"),
        ("demo.localhost:80", "/a/b", "demo", "a/b"),
        ("DEMO.localhost", "/", "demo", None),
        ("demo.oss-cn-local.example.com", "/a", "demo", "a"),
        ("files.example.org", "/a", "named", "a"),
        ("oss.corp.example", "/demo/a", "demo", "a"),
        ("demo.oss.corp.example:80", "/a", "demo", "a"),
        ("x_y.example.com", "/demo/a", "demo", "a"),
        ("127.0.0.1", "http://demo.localhost:80/a?x=1", "demo", "a"),
        ("127.0.0.1", "http://127.0.0.1:80/demo/a", "demo", "a"),
        ("127.0.0.1", "/demo//a", "demo", "/a"),
        ("127.0.0.1", "/demo/a//b", "demo", "a//b"),
        ("127.0.0.1", "/demo/../a", "demo", "../a"),
        ("127.0.0.1", "/demo/a/./b/..", "demo", "a/./b/.."),
        ("127.0.0.1", "/demo/a%2Fb%2F..", "demo", "a/b/.."),
        ("127.0.0.1", "/demo/a+b%20c%2B%25", "demo", "a+b c+%"),
        ("127.0.0.1", "/demo/a%0Ab", "demo", "a\nb"),
        ("127.0.0.1", "/demo/a%3Fb%23c", "demo", "a?b#c"),
        ("127.0.0.1", "/demo/%zz", "demo", "%zz"),
        ("127.0.0.1", "//a", "", "a"),
        ("127.0.0.1", "/demo/%FF", "demo", "\udcff"),
    ],
)
def test_all_styles(host: str, target: str, bucket: str | None, key: str | None) -> None:
    """Path style, virtual-hosted, CNAME, own domain; keys are taken as they stand."""
    found = locate(host, target, {"files.example.org": "named"}, ["oss.corp.example"])
    assert (found.bucket, found.key) == (bucket, key)


def test_query() -> None:
    """Decoded, in order, with empty values where there is none."""
    query = locate("", "/demo?append&position=0&prefix=a%2Bb+c&x=1=2&&=", {}, ()).query
    assert query == (("append", ""), ("position", "0"), ("prefix", "a+b c"), ("x", "1=2"), ("", ""))


# --- over the socket


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names below localhost are loopback (RFC 6761 section 6.3); not every resolver knows it."""
    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        below = isinstance(host, str) and host.endswith(".localhost")
        return look_up("127.0.0.1" if below else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("signature", ["v4", "v1"])
@pytest.mark.parametrize("path_style", [False, True], ids=["virtual-host", "path"])
def test_the_official_sdk_on_names_below_localhost(
    server: LocalServer, caplog: pytest.LogCaptureFixture, signature: str, path_style: bool
) -> None:
    """The bucket in the host and in the path, both with signatures over ``/bucket/key``, reach the same objects."""
    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider("local", "local-secret")
    config.endpoint = server.endpoint.replace("127.0.0.1", "localhost")
    config.region, config.signature_version, config.use_path_style = server.region, signature, path_style
    client = oss.Client(config)
    with caplog.at_level(logging.INFO, "oss-local"):
        added = client.append_object(oss.AppendObjectRequest("demo", "a b/log", position=0, body=b"abc"))
        assert client.head_object(oss.HeadObjectRequest("demo", "a b/log")).content_length == added.next_position == 3
    assert [row.key for row in client.list_objects_v2(oss.ListObjectsV2Request("demo")).contents] == ["a b/log"]
    assert server.store.read("demo", "a b/log") == b"abc"
    path = "/demo/a%20b/log" if path_style else "/a%20b/log"
    assert [line.split()[2] for line in caplog.messages] == [path, path]
    with pytest.raises(oss.exceptions.OperationError, match="NoSuchBucket"):
        client.head_object(oss.HeadObjectRequest("nothere", "log"))


def test_the_host_decides_and_the_port_does_not(ask: Requester) -> None:
    """By Host alone, whatever it was that the name led to."""
    ask.append("log", 0, b"abc")
    assert ask("GET", "log", path="/log", Host="demo.localhost").body == b"abc"
    assert ask("GET", "log", path="/log", Host="DEMO.localhost:1").body == b"abc"
    assert ask("GET", "log", path="/log", Host="demo.oss-cn-local.localhost").body == b"abc"
    assert ask("GET", "log", path="/demo/log", Host="localhost").body == b"abc"
    assert ask("GET", "log", path="/log", Host="other.localhost").code == "SignatureDoesNotMatch"
