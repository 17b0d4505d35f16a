"""The client against the local server, which shares no code with it, over both transports and both signatures."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from tailer import errors
from tailer.config import resolve_service
from tailer.core import crc64
from tailer.core.position import ObjectRef
from tailer.core.ranges import ByteRange
from tailer.local import running
from tailer.oss.client import connect
from tailer.oss.credentials import Credentials, StaticCredentials

DAY = 86400


@pytest.fixture(scope="module")
def server():
    with running(["bucket"]) as server:
        yield server


def against(server, kind, act, *, credentials=None, clock_offset=0.0, **arguments):
    async def main():
        settings = resolve_service(environ=server.environment(), transport=kind, **arguments)
        if credentials is not None:
            settings = dataclasses.replace(settings, credentials=StaticCredentials(credentials))
        async with connect(settings) as client:
            client._clock_offset = clock_offset
            return await act(client)

    return asyncio.run(main())


@pytest.mark.parametrize("version", ["v4", "v1"])
@pytest.mark.parametrize("key", ["app.log", "a//b +%25/日志\n?#&='", "x" * 1023])
def test_append_and_read_back(server, kind, version, key):
    """What is appended is what is read, with the CRC-64 of the whole in every answer."""
    ref = ObjectRef("bucket", key[: 1023 - 3] + kind[0] + version)

    async def act(client):
        first = await client.append(ref, 0, b"hello ")
        second = await client.append(ref, first.next_position, b"world")
        return second, await client.head(ref), await client.fetch(ref, ByteRange(4, 1000))

    appended, meta, window = against(server, kind, act, sign_version=version)
    whole = crc64.update(b"hello world")
    assert (appended.next_position, appended.crc64) == (11, whole)
    assert (meta.size, meta.crc64, meta.type) == (11, whole, "Appendable")
    assert (bytes(window.data), window.meta.crc64) == (b"o world", whole)


def test_delete(server, kind):
    """An object is gone, and that it is gone already is no error."""
    ref = ObjectRef("bucket", f"deleted {kind}")

    async def act(client):
        await client.append(ref, 0, b"x")
        await client.delete(ref)
        await client.delete(ref)
        with pytest.raises(errors.ObjectNotFound):
            await client.head(ref)

    against(server, kind, act)


def test_list_every_page(server, kind):
    """Keys that XML cannot hold come through, pages join without a gap."""
    keys = sorted((f"list-{kind}/{name}" for name in ("a", "b\x01", "c+ %", "d/1", "d/2", "日")), key=str.encode)

    async def act(client):
        for key in keys:
            await client.append(ObjectRef("bucket", key), 0, b"x")
        found, prefixes, token = [], [], None
        while True:
            page = await client.list_objects(
                "bucket", f"list-{kind}/", delimiter="/", continuation_token=token, max_keys=2
            )
            found += [row.key for row in page.objects]
            prefixes += page.prefixes
            token = page.next_token
            if token is None:
                return found, prefixes

    found, prefixes = against(server, kind, act)
    assert found == [key for key in keys if "/d/" not in key]
    assert prefixes == [f"list-{kind}/d/"]


@pytest.mark.parametrize("version", ["v4", "v1"])
@pytest.mark.parametrize("offset", [DAY, -DAY])
def test_a_clock_that_is_off_by_a_day(server, kind, version, offset):
    """Learnt from the refusal; the second request is not refused."""
    ref = ObjectRef("bucket", f"skew-{kind}-{version}-{offset}")

    async def act(client):
        await client.append(ref, 0, b"x")
        return client._clock_offset

    learnt = against(server, kind, act, clock_offset=offset, sign_version=version)
    assert abs(learnt) < 5


@pytest.mark.parametrize(
    ("ref", "credentials", "kind_of_error"),
    [
        (ObjectRef("bucket", "missing"), None, errors.ObjectNotFound),
        (ObjectRef("no-such-bucket", "key"), None, errors.BucketNotFound),
        (ObjectRef("bucket", "key"), Credentials("local", "wrong"), errors.CredentialsRefused),
        (ObjectRef("bucket", "key"), Credentials("nobody", "x"), errors.CredentialsRefused),
    ],
)
def test_refusals(server, kind, ref, credentials, kind_of_error):
    """HEAD and GET agree, and each is one line with a request id."""
    for ask in (lambda client: client.head(ref), lambda client: client.fetch(ref, ByteRange(0, 1))):
        with pytest.raises(kind_of_error) as caught:
            against(server, kind, ask, credentials=credentials)
        assert caught.value.request_id
        assert "\n" not in str(caught.value)


def test_a_wrong_signing_region(server, kind):
    """The hint names the region as the fault."""
    with pytest.raises(errors.WrongEndpoint, match="region"):
        against(server, kind, lambda client: client.fetch(ObjectRef("bucket", "k"), ByteRange(0, 1)), region="cn-other")


def test_no_signature_at_all(server, kind):
    """A private object, read anonymously."""
    ref = ObjectRef("bucket", f"private-{kind}")
    against(server, kind, lambda client: client.append(ref, 0, b"x"))
    with pytest.raises(errors.AccessDenied, match="an access key is needed"):
        against(server, kind, lambda client: client.fetch(ref, ByteRange(0, 1)), no_sign_request=True)


def test_positions_are_compared_and_set(server, kind):
    """The position of the refusal is where the next append goes."""
    ref = ObjectRef("bucket", f"position-{kind}")

    async def act(client):
        await client.append(ref, 0, b"abc")
        with pytest.raises(errors.PositionMismatch) as caught:
            await client.append(ref, 1, b"x")
        with pytest.raises(errors.RangeNotSatisfiable):
            await client.fetch(ref, ByteRange(3, 4))
        return caught.value.next_position

    assert against(server, kind, act) == 3


def test_this_very_machine_is_asked_directly(server, kind, monkeypatch):
    """A proxy of the environment cannot know a server on loopback."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    ref = ObjectRef("bucket", f"direct-{kind}")
    assert against(server, kind, lambda client: client.append(ref, 0, b"x")).next_position == 1
