"""Objects as files: after a restart, after a kill, and when others change the files."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import crcmod
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tailer.local import Attributes, files, folder, journal, running
from tailer.local.folder import FolderEngine
from tailer.local.refusal import Refusal
from tailer.local.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

oracle = crcmod.mkCrcFun(0x142F0E1EBA9EA3693, initCrc=0, rev=True, xorOut=(1 << 64) - 1)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The server's folder."""
    return tmp_path / "root"


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    """A store with one bucket."""
    made = Store(FolderEngine(root))
    made.create_bucket("demo")
    yield made
    made.close()


def reopened(store: Store, root: Path) -> Store:
    """As after a restart."""
    store.close()
    return Store(FolderEngine(root))


def touch(path: Path, seconds: float = 5) -> None:
    """Make sure that the time of modification is another one, however fast the test is."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + int(seconds * 1e9)))


def tail_of(root: Path) -> bytes:
    """The file of the object that most tests use."""
    return (root / "demo" / "log").read_bytes()


def state(store: Store, key: str = "log") -> tuple[int, int, bytes]:
    """Length, CRC and bytes as the service tells them."""
    info = store.head("demo", key)
    return info.size, info.crc64, store.read("demo", key)


# --- restart


def test_everything_survives_a_restart(store: Store, root: Path) -> None:
    """Bytes, CRC, ETag, times, metadata, ACL, tags, seal, types, buckets with their ACL."""
    store.create_bucket("open", "public-read")
    attributes = Attributes({"Content-Type": "text/plain", "x-oss-meta-a": "é"}, "IA", "public-read", (("k", "v"),))
    store.append("demo", "log", 0, b"abc", attributes)
    store.append("demo", "log", 3, b"def")
    store.append("demo", "sealed", 0, b"x")
    store.seal("demo", "sealed", 1)
    store.put("demo", "a/put", b"normal")
    store.append("demo", "gone", 0, b"x")
    store.delete("demo", "gone")
    store.set_acl("demo", "sealed", "private")
    store.set_tags("demo", "a/put", (("t", "1"),))
    keys = ("log", "sealed", "a/put")
    before = [store.head("demo", key) for key in keys]
    again = reopened(store, root)
    assert [again.head("demo", key) for key in keys] == before
    assert [row.name for row in again.list("demo").rows] == ["a/put", "log", "sealed"]
    assert [(info.name, info.acl) for info in again.buckets()] == [("demo", "private"), ("open", "public-read")]
    assert again.append("demo", "log", 6, b"!").crc64 == oracle(b"abcdef!")
    again.close()


def test_objects_are_plain_files(store: Store, root: Path) -> None:
    """That any tool can read."""
    store.append("demo", "logs/a.log", 0, b"abc")
    assert (root / "demo" / "logs" / "a.log").read_bytes() == b"abc"
    store.delete("demo", "logs/a.log")
    assert list((root / "demo").iterdir()) == []


def test_large_bodies(store: Store, root: Path) -> None:
    """Above all limits of what is kept in memory or done at once."""
    body = random.Random(1).randbytes(9 << 20)
    store.append("demo", "log", 0, b"abc")
    store.append("demo", "log", 3, body)
    store.append("demo", "log", 3 + len(body), b"end")
    assert store.head("demo", "log").crc64 == oracle(b"abc" + body + b"end")
    assert tail_of(root) == b"abc" + body + b"end"
    assert list((root / ".oss-local" / "spool").iterdir()) == []


def unacknowledged(root: Path, before: int, written: bytes, announced: int) -> None:
    """What a kill in the middle of an append leaves behind."""
    with (root / ".oss-local" / "journal").open("a") as file:
        file.write(json.dumps(["begin", "demo", "log", before, announced]) + "\n")
    with (root / "demo" / "log").open("ab") as file:
        file.write(written)


@pytest.mark.parametrize("written", [b"", b"x", b"xyz"])
def test_an_append_that_was_not_acknowledged_is_cut_off(store: Store, root: Path, written: bytes) -> None:
    """The object is as it was, metadata and all, and takes the same append again."""
    before = store.append("demo", "log", 0, b"abc", Attributes({"x-oss-meta-a": "1"}))
    store.close()
    unacknowledged(root, 3, written, 3)
    again = Store(FolderEngine(root))
    assert again.head("demo", "log") == before
    assert tail_of(root) == b"abc"
    assert again.append("demo", "log", 3, b"xyz").size == 6
    again.close()


def test_what_others_wrote_after_the_kill_is_kept(store: Store, root: Path) -> None:
    """More bytes than the append had are not ours to cut."""
    store.append("demo", "log", 0, b"abc")
    store.close()
    unacknowledged(root, 3, b"four", 3)
    again = Store(FolderEngine(root))
    assert state(again) == (7, oracle(b"abcfour"), b"abcfour")
    again.close()


def test_a_put_that_was_not_carried_out_leaves_the_old_object(
    store: Store, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the journal and the rename."""
    before = store.append("demo", "log", 0, b"abc", Attributes({"x-oss-meta-a": "1"}))

    def killed(source: str, target: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folder.os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        store.put("demo", "log", b"new")
    monkeypatch.undo()
    again = reopened(store, root)
    assert again.head("demo", "log") == before
    assert list((root / ".oss-local" / "spool").iterdir()) == []
    again.close()


def test_a_failed_write_takes_the_append_back(store: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full in mid-append: one refusal, and the object as it was, also after a restart."""
    store.append("demo", "log", 0, b"abc")
    real = files.write_all

    def full(file: int, data: bytes, offset: int) -> None:
        real(file, data[:2], offset)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_all", full)
    with pytest.raises(Refusal, match="No space left on device"):
        store.append("demo", "log", 3, b"defgh")
    monkeypatch.undo()
    assert state(store) == (3, oracle(b"abc"), b"abc")
    again = reopened(store, root)
    assert again.append("demo", "log", 3, b"d").crc64 == oracle(b"abcd")
    again.close()


def test_a_full_disk_at_the_second_journal_line(store: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bytes are in the file but the promise cannot be kept: taken back as well."""
    store.append("demo", "log", 0, b"abc")
    real = journal.write_all

    def full(file: int, data: bytes, offset: int) -> None:
        if data.startswith(b'["append"'):
            raise OSError(28, "No space left on device")
        real(file, data, offset)

    monkeypatch.setattr(journal, "write_all", full)
    with pytest.raises(Refusal, match="No space left on device"):
        store.append("demo", "log", 3, b"def")
    monkeypatch.undo()
    assert tail_of(root) == b"abc"
    again = reopened(store, root)
    assert state(again) == (3, oracle(b"abc"), b"abc")
    again.close()


def test_the_journal_is_compacted_while_it_is_used(store: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not grow without end, and loses nothing on the way."""
    monkeypatch.setattr(folder, "_COMPACT", 4096)
    store = reopened(store, root)
    for position in range(500):
        store.append("demo", "log", position, b"x")
        if position % 50 == 0:
            store.put("demo", f"put{position}", b"x", Attributes({"x-oss-meta-n": str(position)}))
    assert (root / ".oss-local" / "journal").stat().st_size < 20_000
    again = reopened(store, root)
    assert state(again) == (500, oracle(b"x" * 500), b"x" * 500)
    assert again.head("demo", "put450").headers["x-oss-meta-n"] == "450"
    again.close()


def test_reading_goes_on_when_the_disk_is_full(store: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that came, grew and went are seen, although nothing can be written down."""
    store.append("demo", "log", 0, b"abc")

    def full(file: int, data: bytes, offset: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal, "write_all", full)
    with (root / "demo" / "log").open("ab") as file:
        file.write(b"def")
    assert state(store) == (6, oracle(b"abcdef"), b"abcdef")
    with pytest.raises(Refusal, match="No space"):
        store.append("demo", "log", 6, b"x")
    with pytest.raises(Refusal, match="No space"):
        store.put("demo", "log", b"x")
    assert state(store) == (6, oracle(b"abcdef"), b"abcdef")
    (root / "demo" / "log").unlink()
    with pytest.raises(Refusal, match="NoSuchKey"):
        store.head("demo", "log")


def test_a_rename_that_fails_leaves_the_old_object(store: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own history going on, also after a restart."""
    store.append("demo", "log", 0, b"abc", Attributes({"x-oss-meta-a": "1"}))

    def failing(source: str, target: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(folder.os, "rename", failing)
    with pytest.raises(Refusal, match="Input/output error"):
        store.put("demo", "log", b"new")
    monkeypatch.undo()
    after = store.append("demo", "log", 3, b"def")
    again = reopened(store, root)
    assert again.head("demo", "log") == after
    assert state(again) == (6, oracle(b"abcdef"), b"abcdef")
    again.close()


class Served:
    """``oss-local --root`` in a process of its own, that can be killed."""

    def __init__(self, root: Path, *options: str) -> None:
        program = "import sys; from tailer.cli.local import main; sys.exit(main())"
        words = [sys.executable, "-c", program, "--root", str(root), *options]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.match(r"export OSS_ENDPOINT=http://127.0.0.1:(\d+)", line)
        assert found, (line, self.process.stderr and self.process.stderr.read())
        self.port = int(found[1])

    def kill(self) -> None:
        """No warning given."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.mark.parametrize("seed", range(4))
def test_kill_9(store: Store, root: Path, seed: int) -> None:
    """Every acknowledged append is there, with CRC and metadata; at most one more is, and it is whole."""
    store.create_bucket("demo", "public-read-write")
    store.append("demo", "log", 0, b"", Attributes({"x-oss-meta-a": "1"}))
    store.close()
    chance = random.Random(seed)
    content = b""
    for _ in range(3):
        content, pending = append_until_killed(Served(root), content, chance)
        survivor = Store(FolderEngine(root))
        size, crc, found = state(survivor)
        assert found in (content, content + pending)
        assert (size, crc) == (len(found), oracle(found))
        assert survivor.head("demo", "log").headers["x-oss-meta-a"] == "1"
        survivor.close()
        content = found


def append_until_killed(served: Served, content: bytes, chance: random.Random) -> tuple[bytes, bytes]:
    """What was acknowledged in all, and the body whose answer did not come."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    timer = threading.Timer(chance.uniform(0.05, 0.3), served.kill)
    timer.start()
    while True:
        body = chance.randbytes(chance.choice([1, 100, 5000, 300_000, 9 << 20]))
        try:
            connection.request("POST", f"/demo/log?append&position={len(content)}", body)
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            timer.join()
            return content, body
        assert response.status == 200
        content += body


# --- files that others change


def test_a_file_that_came(store: Store, root: Path) -> None:
    """Is an appendable object, and takes appends."""
    (root / "demo" / "sub").mkdir()
    (root / "demo" / "sub" / "new.log").write_bytes(b"from outside")
    assert state(store, "sub/new.log") == (12, oracle(b"from outside"), b"from outside")
    info = store.head("demo", "sub/new.log")
    assert (info.type, info.headers["Content-Type"]) == ("Appendable", "application/octet-stream")
    (row,) = store.list("demo").rows
    assert row.info is not None
    assert (row.name, row.info.size, row.info.etag, row.info.type) == ("sub/new.log", 12, info.etag, "Appendable")
    assert store.append("demo", "sub/new.log", 12, b"!").crc64 == oracle(b"from outside!")


@pytest.mark.parametrize("size", [0, 1, 1000, 3 << 20])
def test_a_file_that_grew(store: Store, root: Path, size: int) -> None:
    """Keeps its metadata and has the CRC of all; its ETag and position are others. Twice, for the second is read
    in part only."""
    content = random.Random(2).randbytes(size)
    before = store.append("demo", "log", 0, content, Attributes({"x-oss-meta-a": "1"}))
    for more in (b"more", b"and more" * 100):
        with (root / "demo" / "log").open("ab") as file:
            file.write(more)
        content += more
        assert state(store) == (len(content), oracle(content), content)
    after = store.head("demo", "log")
    assert after.headers == before.headers
    assert after.etag != before.etag
    with pytest.raises(Refusal, match="PositionNotEqualToLength"):
        store.append("demo", "log", size, b"x")
    assert store.append("demo", "log", len(content), b"x").crc64 == oracle(content + b"x")


def test_only_the_new_part_of_a_large_file_is_read(store: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it was read from outside: then both of its ends vouch for the part between."""
    content = random.Random(3).randbytes(4 << 20)
    (root / "demo" / "log").write_bytes(content)
    assert store.head("demo", "log").crc64 == oracle(content)
    read: list[int] = []
    real = os.pread
    monkeypatch.setattr(folder.os, "pread", lambda file, size, at: read.append(size) or real(file, size, at))
    with (root / "demo" / "log").open("ab") as file:
        file.write(b"more")
    assert store.engine.backlog("demo", "log") == 4
    assert store.head("demo", "log").crc64 == oracle(content + b"more")
    assert sum(read) <= 4 + 4 * 65536


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_file_that_was_rewritten_longer_is_another_object(store: Store, root: Path, size: int) -> None:
    """Same inode, more bytes, others: its CRC is the right one and its metadata is gone."""
    path = root / "demo" / "log"
    store.append("demo", "log", 0, b"a" * size, Attributes({"x-oss-meta-a": "1"}))
    for letter in (b"b", b"c"):
        path.write_bytes(letter * (size + 5))
        touch(path)
        assert state(store) == (size + 5, oracle(letter * (size + 5)), letter * (size + 5))
        assert "x-oss-meta-a" not in store.head("demo", "log").headers
        size += 5


def test_a_file_that_shrank(store: Store, root: Path) -> None:
    """Is another object from its first byte."""
    store.append("demo", "log", 0, b"abcdef", Attributes({"x-oss-meta-a": "1"}))
    (root / "demo" / "log").write_bytes(b"abc")
    assert state(store) == (3, oracle(b"abc"), b"abc")
    assert "x-oss-meta-a" not in store.head("demo", "log").headers


def test_a_file_that_was_replaced(store: Store, root: Path) -> None:
    """By rename, with the same length and even the same time."""
    before = store.append("demo", "log", 0, b"abc")
    path = root / "demo" / "log"
    status = path.stat()
    (root / "new").write_bytes(b"xyz")
    os.utime(root / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    (root / "new").rename(path)
    assert state(store) == (3, oracle(b"xyz"), b"xyz")
    assert store.head("demo", "log").etag != before.etag


def test_a_file_that_was_only_touched(store: Store, root: Path) -> None:
    """Is the same object with another Last-Modified."""
    before = store.put("demo", "log", b"abc", Attributes({"x-oss-meta-a": "1"}))
    touch(root / "demo" / "log", 60)
    after = store.head("demo", "log")
    assert after.modified > before.modified
    assert (after.etag, after.type, after.headers) == (before.etag, "Normal", before.headers)


def test_a_file_that_went(store: Store, root: Path) -> None:
    """Is a missing key, and so is everything in a folder that went."""
    store.append("demo", "log", 0, b"abc", Attributes({"x-oss-meta-a": "1"}))
    (root / "demo" / "log").unlink()
    with pytest.raises(Refusal, match="NoSuchKey"):
        store.head("demo", "log")
    assert store.list("demo").rows == []
    with pytest.raises(Refusal, match="PositionNotEqualToLength"):
        store.append("demo", "log", 3, b"x")
    assert store.append("demo", "log", 0, b"x").headers == {}
    (root / "demo" / "log").unlink()
    (root / "demo").rmdir()
    with pytest.raises(Refusal, match="NoSuchBucket"):
        store.head("demo", "log")


def test_changes_during_a_stop_are_seen(store: Store, root: Path) -> None:
    """Grown, shrunk, gone and come while nobody served them."""
    for key in ("grown", "shrunk", "gone"):
        store.append("demo", key, 0, b"abcdef")
    store.close()
    with (root / "demo" / "grown").open("ab") as file:
        file.write(b"ghi")
    os.truncate(root / "demo" / "shrunk", 2)
    (root / "demo" / "gone").unlink()
    (root / "demo" / "come").write_bytes(b"new")
    again = Store(FolderEngine(root))
    assert [row.name for row in again.list("demo").rows] == ["come", "grown", "shrunk"]
    assert state(again, "grown") == (9, oracle(b"abcdefghi"), b"abcdefghi")
    assert state(again, "shrunk") == (2, oracle(b"ab"), b"ab")
    again.close()


def test_a_folder_that_came_is_a_bucket(store: Store, root: Path) -> None:
    """If a bucket may be called so."""
    for name in ("other", "No_Bucket", ".hidden"):
        (root / name).mkdir()
    (root / "file").write_bytes(b"")
    assert [info.name for info in store.buckets()] == ["demo", "other"]
    assert store.append("other", "log", 0, b"x").size == 1


def test_a_reader_keeps_what_it_opened(store: Store, root: Path) -> None:
    """Through appends, a put and a delete."""
    store.append("demo", "log", 0, b"abc")
    info, contents = store.open("demo", "log")
    store.append("demo", "log", 3, b"def")
    store.put("demo", "log", b"XXXXXX")
    store.delete("demo", "log")
    assert (info.size, contents.read(0, 100)) == (3, b"abc")
    contents.close()


def test_readers_see_nothing_of_an_append_under_way(store: Store, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a large body is copied the object is the one before, whatever its file looks like."""
    store.append("demo", "log", 0, b"abc")
    real, seen = files.write_all, []

    def watched(file: int, data: bytes, offset: int) -> None:
        real(file, data, offset)
        if offset >= 3 and len(data) == files.PIECE and len(seen) < 2 and tail_size() > 3:
            reader = threading.Thread(target=lambda: seen.append((state(store), store.list("demo").rows[0].info.size)))
            reader.start()
            reader.join()

    def tail_size() -> int:
        return (root / "demo" / "log").stat().st_size

    monkeypatch.setattr(files, "write_all", watched)
    body = b"x" * (9 << 20)
    store.append("demo", "log", 3, body)
    monkeypatch.undo()
    assert seen == [((3, oracle(b"abc"), b"abc"), 3)] * 2
    assert state(store) == (3 + len(body), oracle(b"abc" + body), b"abc" + body)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(["append", "outside", "cut", "replace", "put", "restart"]), st.binary(max_size=40)),
        max_size=12,
    )
)
def test_any_sequence_of_changes(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bytes]]) -> None:
    """Whoever changes the file: length, CRC and bytes are those of the file, at every moment."""
    root = tmp_path_factory.mktemp("any")
    store = Store(FolderEngine(root))
    store.create_bucket("demo")
    path = root / "demo" / "log"
    content = b""
    store.append("demo", "log", 0, content)
    for number, (step, data) in enumerate(steps):
        if step == "append" and store.head("demo", "log").appendable:
            store.append("demo", "log", len(content), data)
            content += data
        elif step == "outside":
            with path.open("ab") as file:
                file.write(data)
            content += data
        elif step == "cut":
            content = content[: len(content) // 2]
            os.truncate(path, len(content))
        elif step == "replace":
            content = data
            path.write_bytes(data)
        elif step == "put":
            content = data
            store.put("demo", "log", data)
        else:
            store.close()
            store = Store(FolderEngine(root))
        if step in ("cut", "replace"):
            touch(path, number + 1)
        assert state(store) == (len(content), oracle(content), content)
    store.close()


# --- names


@pytest.mark.parametrize(
    "key", ["..", "../../etc/passwd", "a/../b", "a//b", "a/", ".", "a\x00b", "a\nb", "x" * 1000, "日" * 341, "%2E%2E"]
)
def test_names_that_no_file_has(store: Store, root: Path, key: str) -> None:
    """Work, stay below the bucket's folder, and survive a restart under their own name."""
    store.append("demo", key, 0, key.encode())
    assert state(store, key) == (len(key.encode()), oracle(key.encode()), key.encode())
    assert [row.name for row in store.list("demo").rows] == [key]
    assert sorted(path.name for path in root.iterdir()) == [".oss-local", "demo"]
    again = reopened(store, root)
    assert again.read("demo", key) == key.encode()
    again.delete("demo", key)
    assert list((root / "demo").iterdir()) == []
    again.close()


def test_a_name_that_is_file_and_folder_is_refused(store: Store, root: Path) -> None:
    """Plainly, whichever came first; an empty folder is in nobody's way."""
    store.append("demo", "a", 0, b"x")
    with pytest.raises(Refusal, match="InvalidObjectName"):
        store.append("demo", "a/b", 0, b"y")
    store.append("demo", "c/d", 0, b"y")
    with pytest.raises(Refusal, match="InvalidObjectName"):
        store.put("demo", "c", b"z")
    (root / "demo" / "empty").mkdir()
    assert store.put("demo", "empty", b"z").size == 1
    with pytest.raises(Refusal, match="NoSuchKey"):
        store.head("demo", "c")
    with pytest.raises(Refusal, match="NoSuchKey"):
        store.head("demo", "a/b")
    assert [row.name for row in store.list("demo").rows] == ["a", "c/d", "empty"]


def test_no_link_is_followed(store: Store, root: Path, tmp_path: Path) -> None:
    """Neither a file's nor a folder's, neither for reading nor for writing; a list leaves them out."""
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "outside").mkdir()
    (root / "demo" / "file").symlink_to(tmp_path / "secret")
    (root / "demo" / "folder").symlink_to(tmp_path / "outside")
    (root / "other").symlink_to(tmp_path / "outside")
    for key in ("file", "folder/x"):
        for action in (store.head, store.read, store.delete):
            with pytest.raises(Refusal, match="symbolic link"):
                action("demo", key)
        with pytest.raises(Refusal, match="symbolic link"):
            store.put("demo", key, b"overwritten")
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert list((tmp_path / "outside").iterdir()) == []
    (tmp_path / "outside" / "x").write_bytes(b"not to be listed")
    assert store.list("demo").rows == store.list("demo", "folder/").rows == []
    assert [info.name for info in store.buckets()] == ["demo"]


def test_what_is_no_file_is_no_object(store: Store, root: Path) -> None:
    """A pipe does not stop the server."""
    os.mkfifo(root / "demo" / "pipe")
    with pytest.raises(Refusal, match="NoSuchKey"):
        store.read("demo", "pipe")
    assert store.list("demo").rows == []
    with pytest.raises(Refusal, match="BucketNotEmpty"):
        store.delete_bucket("demo")
    (root / "demo" / "pipe").unlink()
    (root / "demo" / "empty" / "empty").mkdir(parents=True)
    store.delete_bucket("demo")
    assert not (root / "demo").exists()


def test_over_the_socket(root: Path) -> None:
    """A file grows while it is served: the answer's length, CRC and bytes agree, large bodies sent by the kernel."""
    content = random.Random(4).randbytes(6 << 20)
    with running(["demo"], root=root, fsync=True) as server:
        server.store.create_bucket("demo", "public-read-write")
        port = int(server.endpoint.rsplit(":", 1)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        for piece in (content, b"more"):
            with (root / "demo" / "log").open("ab") as file:
                file.write(piece)
            connection.request("GET", "/demo/log", headers={"Range": "bytes=5-"})
            response = connection.getresponse()
            body, total = response.read(), len(content) + (4 if piece == b"more" else 0)
            assert response.headers["Content-Range"] == f"bytes 5-{total - 1}/{total}"
            assert body == (content + b"more")[5:total]
            assert int(response.headers["x-oss-hash-crc64ecma"]) == oracle((content + b"more")[:total])
        connection.request("POST", f"/demo/log?append&position={len(content) + 4}", b"end")
        assert connection.getresponse().read() == b""
        connection.close()
    assert tail_of(root) == content + b"moreend"


def test_a_file_that_loses_bytes_while_it_is_sent_is_cut(root: Path) -> None:
    """The announced length is not reached, and the connection ends."""
    with running(["demo"], root=root) as server:
        server.store.create_bucket("demo", "public-read")
        with (root / "demo" / "log").open("wb") as file:
            file.truncate(64 << 20)
        connection = http.client.HTTPConnection("127.0.0.1", int(server.endpoint.rsplit(":", 1)[1]), timeout=20)
        connection.request("GET", "/demo/log")
        response = connection.getresponse()
        os.truncate(root / "demo" / "log", 100)
        with pytest.raises(http.client.IncompleteRead):
            response.read()
        connection.close()
        assert server.store.head("demo", "log").size == 100
