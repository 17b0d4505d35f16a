"""The library gives no secret away: in errors with their frames, in logs, in what objects show, in its files."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from typing import TYPE_CHECKING

import pytest

import tailer
import tailer.local
from tailer.errors import TailerError
from tailer.local import Fault
from tailer.local.faults import KINDS
from tailer.oss.address import parse_address
from tailer.oss.client import connect
from tailer.oss.credentials import Credentials, EnvironmentCredentials, StaticCredentials
from tailer.oss.profile import read_profile
from tailer.sinks.http import HttpPost
from tests.leaks import NOBODY, PRESIGNED, SECRET, TOKEN, TRANSPORTS, WRONG, check, files_below, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tailer.local import LocalServer

ADDRESS = "oss://bucket/key"
DATA = b"line\n" * 100


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    with tailer.local.running(["bucket"]) as server:
        yield server


@pytest.fixture(autouse=True)
def _environment(server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """That of the server, an object as it was, and nothing that goes wrong."""
    for name in [name for name in os.environ if name.startswith(("OSS", "ALIBABA", "HTTP", "http", "SSL"))]:
        monkeypatch.delenv(name)
    for name, value in {**server.environment(), "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    server.store.delete("bucket", "key")
    server.store.append("bucket", "key", 0, DATA)
    yield
    server.faults.clear()


@pytest.fixture(params=TRANSPORTS)
def _transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSS_TAIL_TRANSPORT", request.param)


async def read(address: str, checkpoint: Path) -> list[str | bytes]:
    """Read to the end with a checkpoint; what is in its files meanwhile, and what the consumer shows of itself."""
    async with tailer.Consumer(address, follow=False, checkpoint=checkpoint) as consumer:
        async for batch in consumer:
            await consumer.commit(batch)
        return [*files_below(checkpoint.parent), repr(consumer), repr(vars(consumer))]


async def write(address: str) -> list[str | bytes]:
    """Append something; what the appender shows of itself."""
    async with tailer.Appender(address, patience=0.0) as out:
        await out.append(b"more\n")
        return [repr(out), repr(vars(out))]


def left_by_both(address: str, folder: Path) -> tuple[list[str | bytes], list[TailerError]]:
    """What reading and writing leave, and the errors that ended them."""
    left: list[str | bytes] = []
    errors: list[TailerError] = []
    for work in (read(address, folder / "marks.db"), write(address)):
        try:
            left += asyncio.run(work)
        except TailerError as error:
            errors.append(error)
            left += shown(error)
    return [*left, *files_below(folder)], errors


@pytest.mark.usefixtures("_transport")
@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_with_a_fault(
    server: LocalServer, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailer.core.tail.back_off", lambda *_: 0.0)
    caplog.set_level(logging.DEBUG)
    server.faults.add(Fault(kind, at=100, rate=1e6))
    left, _ = left_by_both(ADDRESS, tmp_path)
    check([*left, caplog.text], server.environment()["OSS_ACCESS_KEY_SECRET"])


@pytest.mark.usefixtures("_transport")
@pytest.mark.parametrize("endpoint", [None, *NOBODY, "http://127.0.0.1:1/with/a/path", "https://127.0.0.1:port"])
def test_no_secret_in_a_refusal(
    endpoint: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailer.core.tail.back_off", lambda *_: 0.0)
    caplog.set_level(logging.DEBUG)
    for name, value in {**WRONG, **({"OSS_ENDPOINT": endpoint} if endpoint else {})}.items():
        monkeypatch.setenv(name, value)
    left, errors = left_by_both(ADDRESS, tmp_path)
    assert len(errors) == 2
    check([*left, caplog.text])


@pytest.mark.usefixtures("_transport")
def test_no_secret_of_a_presigned_address(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a host that nobody answers at, and of one that refuses it."""
    monkeypatch.setattr("tailer.core.tail.back_off", lambda *_: 0.0)
    caplog.set_level(logging.DEBUG)
    for endpoint in ("http://127.0.0.1:1", server.endpoint):
        work = read(f"{endpoint}/bucket/key?{PRESIGNED}", tmp_path / "marks.db")
        with pytest.raises(TailerError) as caught:
            asyncio.run(work)
        check([*shown(caught.value), *files_below(tmp_path), caplog.text], "5" * 20)


@pytest.mark.usefixtures("_transport")
@pytest.mark.parametrize("secret", [f"{SECRET}\n", f"{SECRET}\x00é"])
def test_no_secret_when_a_key_was_copied_with_something_behind_it(
    secret: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token goes into a header, where a newline cannot stand."""
    monkeypatch.setattr("tailer.core.tail.back_off", lambda *_: 0.0)
    options = tailer.resolve_service(environ={**os.environ, "OSS_ACCESS_KEY_SECRET": secret})
    provider = StaticCredentials(Credentials("key", secret, f"{TOKEN}\n"))
    monkeypatch.setattr("tailer.consumer.resolve_service", lambda **_: type(options)(provider, options.endpoint, "r"))
    with pytest.raises(TailerError) as caught:
        asyncio.run(read(ADDRESS, tmp_path / "marks.db"))
    check(shown(caught.value))


@pytest.mark.parametrize(
    "half",
    [
        {"OSS_ACCESS_KEY_SECRET": SECRET},
        {"OSS_ACCESS_KEY_ID": "key", "OSS_SESSION_TOKEN": TOKEN},
        {**WRONG, "OSS_ACCESS_KEY_ID": "key", "OSS_ENDPOINT": "http://a b"},
        {**WRONG, "OSS_ACCESS_KEY_ID": "key", "OSS_ENDPOINT": "http://h"},
        {**WRONG, "OSS_ACCESS_KEY_ID": "key", "OSS_REGION": "a b"},
        {**WRONG, "OSS_ACCESS_KEY_ID": "key", "OSSUTIL_CONFIG_FILE": "/nonexistent"},
    ],
    ids=lambda half: "-".join(sorted(half)),
)
def test_no_secret_in_what_is_said_to_a_wrong_environment(half: dict[str, str]) -> None:
    with pytest.raises(TailerError) as caught:
        tailer.resolve_service(environ=half, profile="none" if "OSSUTIL_CONFIG_FILE" in half else None)
    check(shown(caught.value))


@pytest.mark.parametrize(
    "text",
    [
        f"[Credentials]\naccessKeySecret={SECRET}\nstsToken={TOKEN}\n",
        f"[Credentials]\nmode=RamRoleArn\naccessKeySecret={SECRET}\naccessKeyID={TOKEN}\n",
        f"[Credentials]\nmode=of its own\naccessKeySecret={SECRET}\n",
        f"[profile other]\naccessKeySecret={SECRET}\n[default]\nsource-profile=none\naccessKeyID={TOKEN}\n",
        f"accessKeySecret={SECRET}\n",
        f"[Credentials]\n{SECRET}\n  {TOKEN}\n[",
    ],
    ids=["half", "a role", "a mode", "a source", "no section", "no file of ossutil"],
)
def test_no_secret_in_what_is_said_to_a_wrong_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    environ = {"OSSUTIL_CONFIG_FILE": str(path), "OSS_ENDPOINT": "http://127.0.0.1"}
    with pytest.raises(TailerError) as caught:
        tailer.resolve_service(environ=environ)
    check(shown(caught.value))


def profile(folder: Path, *lines: str) -> dict[str, str]:
    """An environment that leads to a file of ossutil with such credentials."""
    path = folder / "config"
    path.write_text("\n".join(["[Credentials]", *lines]))
    return {"OSSUTIL_CONFIG_FILE": str(path), "OSS_ENDPOINT": "http://127.0.0.1", "OSS_REGION": "r"}


def test_no_secret_when_the_package_for_a_role_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = f"accessKeyID=key\naccessKeySecret={SECRET}\nstsToken={TOKEN}"
    environ = profile(tmp_path, "mode=RamRoleArn", keys, "roleArn=acs:ram::1:role/x")
    monkeypatch.setitem(sys.modules, "alibabacloud_credentials", None)
    with pytest.raises(TailerError, match="pip install") as caught:
        tailer.resolve_service(environ=environ)
    check(shown(caught.value))


@pytest.mark.filterwarnings("default")  # the package's own are not ours to fix
def test_no_secret_when_the_source_of_keys_cannot_be_reached(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its address holds one."""
    environ = profile(tmp_path, f"credentialUri=http://127.0.0.1:1/keys?token={TOKEN}")
    provider = tailer.resolve_service(environ=environ).credentials
    with pytest.raises(TailerError, match="Connection refused") as caught:
        asyncio.run(provider.get())
    check([*shown(caught.value), caplog.text, repr(vars(provider))])


@pytest.mark.filterwarnings("default")  # the package's own are not ours to fix
def test_no_secret_when_the_answer_of_a_source_of_keys_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It lacks something, and is not told for that."""
    keys = json.dumps({"AccessKeyId": "key", "AccessKeySecret": SECRET, "SecurityToken": TOKEN}).encode()

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + keys)
        writer.close()

    async def ask() -> None:
        async with await asyncio.start_server(reply, "127.0.0.1", 0) as source:
            address = f"http://127.0.0.1:{source.sockets[0].getsockname()[1]}/keys"
            environ = profile(tmp_path, f"credentialUri={address}")
            await tailer.resolve_service(environ=environ).credentials.get()

    with pytest.raises(TailerError, match='"AccessKeyId": "key"') as caught:
        asyncio.run(ask())
    check([*shown(caught.value), caplog.text])


def test_no_secret_in_what_an_object_shows(tmp_path: Path) -> None:
    credentials = Credentials("key", SECRET, TOKEN)
    environ = {**WRONG, "OSS_ACCESS_KEY_ID": "key", "OSS_ENDPOINT": "http://127.0.0.1"}
    path = tmp_path / "config"
    path.write_text(f"[default]\naccessKeyID=key\naccessKeySecret={SECRET}\nstsToken={TOKEN}\n")
    settings = tailer.resolve_service(environ=environ)
    address = parse_address(f"https://127.0.0.1/bucket/key?{PRESIGNED}")
    objects = [
        credentials,
        StaticCredentials(credentials),
        EnvironmentCredentials(environ),
        settings,
        read_profile(path),
        address,
        tailer.Consumer(f"https://127.0.0.1/bucket/key?{PRESIGNED}"),
        tailer.Appender(ADDRESS, service=settings),
        connect(settings, [address]),
    ]
    check([text for one in objects for text in (repr(one), str(one), f"{one}")], "5" * 20)


def test_no_secret_of_a_sink_by_http(tmp_path: Path) -> None:
    """Its query and its headers are for the receiver alone."""

    async def post() -> None:
        sink = HttpPost(f"http://127.0.0.1:1/in?token={TOKEN}", headers={"Authorization": SECRET})
        assert SECRET not in repr(sink)
        try:
            async with tailer.Consumer(ADDRESS, follow=False) as consumer:
                async for batch in consumer:
                    await sink.write(batch)
        finally:
            await sink.close()

    with pytest.raises(TailerError) as caught:
        asyncio.run(post())
    check(shown(caught.value))


@pytest.mark.parametrize("text", [f"x{SECRET}", TOKEN, "5" * 64, "OSS4-HMAC-SHA256 …", "Signature=x"])
def test_such_a_leak_would_be_found(text: str) -> None:
    """By itself, and in a local variable of a frame that is not a test's."""
    for left in (text, text.encode()):
        with pytest.raises(AssertionError):
            check(["fine", left])
    with pytest.raises(ValueError, match="Expecting") as caught:
        json.loads(f"[ {text}")
    with pytest.raises(AssertionError):
        check(shown(caught.value))
