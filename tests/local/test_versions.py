"""Buckets that keep versions (OSS documentation, "Versioning"), with the official SDK, in memory and over a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import alibabacloud_oss_v2 as oss
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailer.local import running
from tailer.local.folder import FolderEngine
from tailer.local.memory import MemoryEngine
from tailer.local.refusal import Refusal
from tailer.local.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tailer.local.server import LocalServer
    from tailer.local.store import ObjectInfo

BUCKET, KEY = "demo", "a/log"


@pytest.fixture(params=["memory", "folder"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalServer]:
    with running([BUCKET], root=tmp_path / "root" if request.param == "folder" else None) as server:
        yield server


@pytest.fixture
def client(server: LocalServer) -> oss.Client:
    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider("local", "local-secret")
    config.region, config.endpoint = server.region, server.endpoint
    return oss.Client(config)


def switch(client: oss.Client, status: str) -> None:
    client.put_bucket_versioning(
        oss.PutBucketVersioningRequest(
            bucket=BUCKET, versioning_configuration=oss.VersioningConfiguration(status=status)
        )
    )


def put(client: oss.Client, data: bytes) -> str | None:
    version: str | None = client.put_object(oss.PutObjectRequest(bucket=BUCKET, key=KEY, body=data)).version_id
    return version


def append(client: oss.Client, position: int, data: bytes) -> str | None:
    done = client.append_object(oss.AppendObjectRequest(bucket=BUCKET, key=KEY, position=position, body=data))
    version: str | None = done.version_id
    return version


def get(client: oss.Client, version: str | None = None) -> bytes:
    done = client.get_object(oss.GetObjectRequest(bucket=BUCKET, key=KEY, version_id=version))
    assert version is None or done.version_id == version
    content: bytes = done.body.content
    return content


def delete(client: oss.Client, version: str | None = None) -> oss.DeleteObjectResult:
    return client.delete_object(oss.DeleteObjectRequest(bucket=BUCKET, key=KEY, version_id=version))


def refused(call: object, *arguments: object) -> oss.exceptions.ServiceError:
    with pytest.raises(oss.exceptions.OperationError) as caught:
        call(*arguments)  # type: ignore[operator]
    error = caught.value.unwrap()
    assert isinstance(error, oss.exceptions.ServiceError)
    return error


def listed(client: oss.Client, **options: object) -> list[tuple[str, str, bool, bool]]:
    """Key, version, whether it is the latest, whether it is a marker: in pages, markers behind the versions."""
    found = []
    for page in client.list_object_versions_paginator().iter_page(
        oss.ListObjectVersionsRequest(bucket=BUCKET, **options)
    ):
        for rows, is_marker in ((page.version, False), (page.delete_marker, True)):
            found += [(row.key, row.version_id, row.is_latest, is_marker) for row in rows or ()]
    return found


def test_a_bucket_without_versions_speaks_of_none(client: oss.Client) -> None:
    assert put(client, b"one") is None
    assert client.get_bucket_versioning(oss.GetBucketVersioningRequest(bucket=BUCKET)).version_status is None
    assert delete(client).version_id is None


def test_put_keeps_what_was(client: oss.Client) -> None:
    put(client, b"before")
    switch(client, "Enabled")
    first, second = put(client, b"first"), put(client, b"second")
    assert len({first, second, "null", None}) == 4
    assert get(client) == b"second"
    assert [get(client, version) for version in ("null", first, second)] == [b"before", b"first", b"second"]
    assert listed(client) == [
        (KEY, second, True, False), (KEY, first, False, False), (KEY, "null", False, False)
    ]  # fmt: skip
    head = client.head_object(oss.HeadObjectRequest(bucket=BUCKET, key=KEY, version_id=first))
    assert (head.content_length, head.version_id) == (5, first)


def test_append_goes_to_the_present_version_and_makes_none(client: oss.Client) -> None:
    """OSS documentation, AppendObject: no history of appends; what a put took the place of takes no more."""
    switch(client, "Enabled")
    version = append(client, 0, b"one")
    assert append(client, 3, b"two") == version
    assert listed(client) == [(KEY, version, True, False)]
    other = put(client, b"put")
    assert refused(append, client, 3, b"x").code == "ObjectNotAppendable"
    assert get(client, version) == b"onetwo"
    delete(client, other)
    assert append(client, 6, b"three") == version
    assert get(client) == b"onetwothree"


def test_a_delete_marker_hides_and_its_deletion_shows_again(client: oss.Client) -> None:
    switch(client, "Enabled")
    version = append(client, 0, b"one")
    marker = delete(client)
    assert marker.delete_marker
    missing = refused(get, client)
    assert (missing.status_code, missing.code) == (404, "NoSuchKey")
    assert missing.headers["x-oss-delete-marker"] == "true"
    forbidden = refused(get, client, marker.version_id)
    assert (forbidden.status_code, forbidden.code) == (405, "MethodNotAllowed")
    assert listed(client) == [(KEY, version, False, False), (KEY, marker.version_id, True, True)]
    assert client.list_objects_v2(oss.ListObjectsV2Request(bucket=BUCKET)).contents is None
    again = delete(client, marker.version_id)
    assert (again.delete_marker, again.version_id) == (True, marker.version_id)
    assert get(client) == b"one"
    assert append(client, 3, b"two") == version


def test_append_on_a_delete_marker_makes_a_new_version(client: oss.Client) -> None:
    switch(client, "Enabled")
    version = append(client, 0, b"one")
    delete(client)
    assert refused(append, client, 3, b"x").code == "PositionNotEqualToLength"
    other = append(client, 0, b"another")
    assert other not in (version, None)
    assert (get(client), get(client, version)) == (b"another", b"one")


def test_suspended_there_is_one_null_version_and_the_others_stay(client: oss.Client) -> None:
    switch(client, "Enabled")
    kept = put(client, b"kept")
    switch(client, "Suspended")
    assert (put(client, b"null 1"), put(client, b"null 2")) == ("null", "null")
    assert [version for _, version, _, _ in listed(client)] == ["null", kept]
    assert delete(client).version_id == "null"
    assert listed(client) == [(KEY, kept, False, False), (KEY, "null", True, True)]
    assert get(client, kept) == b"kept"
    assert put(client, b"null 3") == "null"
    assert listed(client) == [(KEY, "null", True, False), (KEY, kept, False, False)]


def test_a_version_that_is_not_there(client: oss.Client) -> None:
    switch(client, "Enabled")
    put(client, b"one")
    error = refused(get, client, "nothing")
    assert (error.status_code, error.code) == (404, "NoSuchVersion")
    delete(client, "nothing")
    assert get(client) == b"one"


def test_a_list_goes_on_inside_a_key_and_behind_a_prefix(client: oss.Client) -> None:
    switch(client, "Enabled")
    versions = [put(client, b"%d" % number) for number in range(5)]
    client.put_object(oss.PutObjectRequest(bucket=BUCKET, key="b", body=b""))
    for size in (1, 2, 3, 100):
        found = listed(client, max_keys=size)
        assert [version for key, version, _, _ in found if key == KEY] == versions[::-1]
        assert [key for key, *_ in found if key != KEY] == ["b"]
    page = client.list_object_versions(oss.ListObjectVersionsRequest(bucket=BUCKET, delimiter="/"))
    assert [row.prefix for row in page.common_prefixes] == ["a/"]
    assert [row.key for row in page.version] == ["b"]


def test_many_are_deleted_by_version(client: oss.Client) -> None:
    switch(client, "Enabled")
    versions = [put(client, b"%d" % number) for number in range(3)]
    done = client.delete_multiple_objects(
        oss.DeleteMultipleObjectsRequest(
            bucket=BUCKET, objects=[oss.DeleteObject(key=KEY, version_id=version) for version in versions[1:]]
        )
    )
    assert [row.version_id for row in done.deleted_objects] == versions[1:]
    assert get(client) == b"0"
    done = client.delete_multiple_objects(
        oss.DeleteMultipleObjectsRequest(bucket=BUCKET, objects=[oss.DeleteObject(key=KEY)])
    )
    assert done.deleted_objects[0].delete_marker
    assert len(listed(client)) == 2


def test_a_bucket_with_versions_alone_is_not_empty(client: oss.Client) -> None:
    switch(client, "Enabled")
    version = put(client, b"one")
    marker = delete(client).version_id
    request = oss.DeleteBucketRequest(bucket=BUCKET)
    assert refused(client.delete_bucket, request).code == "BucketNotEmpty"
    delete(client, version)
    delete(client, marker)
    assert client.delete_bucket(request).status_code == 204


@pytest.mark.parametrize("status", ["", "Disabled", "enabled"])
def test_a_status_that_is_none(client: oss.Client, status: str) -> None:
    assert refused(switch, client, status).code == "MalformedXML"


def test_versions_survive_a_restart(tmp_path: Path) -> None:
    store = Store(FolderEngine(tmp_path))
    store.create_bucket(BUCKET)
    store.append(BUCKET, KEY, 0, b"null")
    store.set_versioning(BUCKET, "Enabled")
    store.put(BUCKET, KEY, b"first")
    store.append(BUCKET, "other", 0, b"x")
    store.delete(BUCKET, KEY)
    before = store.versions(BUCKET, KEY)
    assert [info.is_marker for info in before] == [True, False, False]
    for _ in range(2):
        store.close()
        store = Store(FolderEngine(tmp_path))
        assert store.bucket(BUCKET).versioning == "Enabled"
        assert store.versions(BUCKET, KEY) == before
    store.delete_version(BUCKET, KEY, before[0].version or "")
    assert store.read(BUCKET, KEY) == b"first"
    assert (tmp_path / BUCKET / KEY).read_bytes() == b"first"
    store.close()
    store = Store(FolderEngine(tmp_path))
    assert [info.version for info in store.versions(BUCKET, KEY)] == [info.version for info in before[1:]]
    store.close()


def test_a_kill_between_keeping_and_replacing_leaves_the_object_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was kept already is still the present one: it is no version of its own."""

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    store = Store(FolderEngine(tmp_path))
    store.create_bucket(BUCKET)
    store.put(BUCKET, "null", b"one")
    store.set_versioning(BUCKET, "Enabled")
    store.put(BUCKET, KEY, b"one")
    with monkeypatch.context() as patched:
        patched.setattr(FolderEngine, "replace", die)
        for key in ("null", KEY):
            with pytest.raises(Killed):
                store.put(BUCKET, key, b"two")
    store.close()
    store = Store(FolderEngine(tmp_path))
    for key in ("null", KEY):
        assert len(store.versions(BUCKET, key)) == 1
        assert store.read(BUCKET, key) == b"one"
    assert list((tmp_path / ".oss-local" / "versions").iterdir()) == []
    store.close()


class Version(NamedTuple):
    """`content` None: a delete marker."""

    is_null: bool
    content: bytes | None
    appendable: bool


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["put", "append", "delete", "drop", "enable", "suspend", "restart"]), st.integers(0, 5)),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(actions=ACTIONS)
def test_memory_and_folder_agree_with_a_model(actions: list[tuple[str, int]], tmp_path_factory) -> None:  # type: ignore[no-untyped-def]
    """The model: the versions, the youngest last."""
    root = tmp_path_factory.mktemp("root")
    stores = [Store(MemoryEngine()), Store(FolderEngine(root))]
    for store in stores:
        store.create_bucket(BUCKET)
    model: list[Version] = []
    status = None
    for step, (action, number) in enumerate(actions):
        data = b"%d " % step
        outcome = []
        for store in stores:
            try:
                outcome.append(_act(store, action, number, data))
            except Refusal as refusal:
                outcome.append(refusal.code)
        assert outcome[0] == outcome[1]
        model, status = _expect(model, status, action, number, data)
        if action == "restart":
            stores[1].close()
            stores[1] = Store(FolderEngine(root))
        for store in stores:
            found = [
                Version(info.version in (None, "null"), _content(store, info), info.appendable)
                for info in store.versions(BUCKET, KEY)
            ]
            assert found == model[::-1]
            present = store.find(BUCKET, KEY)
            assert (present is None) == (not model or model[-1].content is None)
    for store in stores:
        store.close()


def _act(store: Store, action: str, number: int, data: bytes) -> object:
    if action == "put":
        store.put(BUCKET, KEY, data)
    elif action == "append":
        info = store.find(BUCKET, KEY)
        return store.append(BUCKET, KEY, info.size if info else 0, data).size
    elif action == "delete":
        store.delete(BUCKET, KEY)
    elif action == "drop":
        versions = store.versions(BUCKET, KEY)
        if number < len(versions) and store.bucket(BUCKET).versioning:
            store.delete_version(BUCKET, KEY, versions[number].version or "")
    elif action != "restart":
        store.set_versioning(BUCKET, {"enable": "Enabled", "suspend": "Suspended"}[action])
    return None


def _content(store: Store, info: ObjectInfo) -> bytes | None:
    if info.is_marker:
        return None
    found, contents = store.open(BUCKET, KEY, info.version)
    try:
        return bytes(contents.read(0, found.size))
    finally:
        contents.close()


def _expect(
    model: list[Version], status: str | None, action: str, number: int, data: bytes
) -> tuple[list[Version], str | None]:
    if action in ("enable", "suspend"):
        return model, action
    if action == "drop" and status is not None and number < len(model):
        return [one for index, one in enumerate(reversed(model)) if index != number][::-1], status
    if action == "append" and model and (present := model[-1]).content is not None:
        grown = present._replace(content=present.content + data)
        return ([*model[:-1], grown] if present.appendable else model), status
    if action in ("put", "append", "delete"):
        made = Version(status != "enable", None if action == "delete" else data, action == "append")
        if status is None:
            return ([] if made.content is None else [made]), status
        return [*(one for one in model if not (made.is_null and one.is_null)), made], status
    return model, status
