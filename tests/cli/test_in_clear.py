"""Signed requests that go out unencrypted to another machine: each command says so, in one line, before the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tailer.cli import append, service, tail
from tailer.oss.address import Endpoint, parse_address
from tailer.oss.client import ServiceSettings
from tailer.oss.credentials import Anonymous, Credentials, StaticCredentials

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEYS = StaticCredentials(Credentials("key", "secret"))
FAR = "http://no-such-host.invalid"
SIGNED = "?x-oss-signature=5&x-oss-credential=key"


@pytest.mark.parametrize(
    ("endpoint", "credentials", "address", "place"),
    [
        (FAR, KEYS, "oss://bucket/key", FAR),
        ("http://192.168.1.7:9000", KEYS, "oss://bucket/logs/", "http://192.168.1.7:9000"),
        ("http://oss-cn-hangzhou-internal.aliyuncs.com", KEYS, "oss://bucket/key",
         "http://oss-cn-hangzhou-internal.aliyuncs.com"),
        (FAR, Anonymous(), "oss://bucket/key", None),
        ("https://no-such-host.invalid", KEYS, "oss://bucket/key", None),
        ("http://127.0.0.1:9000", KEYS, "oss://bucket/key", None),
        ("http://[::1]:9000", KEYS, "oss://bucket/key", None),
        ("http://localhost:9000", KEYS, "oss://bucket/key", None),
        (FAR, KEYS, "oss://other/key", None),
        (FAR, KEYS, "https://public.invalid/key", None),
        (FAR, KEYS, "http://public.invalid/key", None),
        (FAR, Anonymous(), f"http://h.invalid:8/key{SIGNED}", "http://h.invalid:8"),
        (FAR, Anonymous(), f"https://h.invalid/key{SIGNED}", None),
        (FAR, Anonymous(), f"http://127.0.0.1:8/key{SIGNED}", None),
    ],
)  # fmt: skip
def test_where_it_goes_in_clear(
    endpoint: str, credentials: Anonymous | StaticCredentials, address: str, place: str | None
) -> None:
    own = {"other": Endpoint.parse("https://own.invalid")}
    settings = ServiceSettings(credentials, Endpoint.parse(endpoint), "cn-hangzhou", own)
    assert settings.in_clear(parse_address(address)) == place


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("oss-tail", lambda path: tail.run(["oss://bucket/key", "oss://bucket/other"])),
        ("oss-append", lambda path: append.run(["oss://bucket/key", str(path)])),
        ("oss-tailer", lambda path: service.main(["verify", str(path), "oss://bucket/key"])),
    ],
)
@pytest.mark.parametrize("endpoint", [FAR, "http://127.0.0.1:1", "https://127.0.0.1:1"])
def test_each_command_says_it_once(
    name: str,
    run: Callable[[Path], int],
    endpoint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for variable, value in {
        "OSS_ENDPOINT": endpoint,
        "OSS_REGION": "cn-hangzhou",
        "OSS_ACCESS_KEY_ID": "key",
        "OSS_ACCESS_KEY_SECRET": "SecretThatNobodyMaySee",
        "OSS_TAIL_TRANSPORT": "none",  # nothing is sent
        "HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(variable, value)
    (tmp_path / "file").write_bytes(b"content")
    assert run(tmp_path / "file") == 2
    first, *_ = capfd.readouterr().err.splitlines()
    danger = "who is on the way can read the data, and use the signatures for a while (write https://)"
    if endpoint == FAR:
        assert first == f"{name}: warning: requests to {FAR} are signed but not encrypted: {danger}"
    else:
        assert "OSS_TAIL_TRANSPORT" in first
