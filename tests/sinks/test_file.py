"""`FileMirror`: at every moment, and after whatever ends it, the file is a prefix of the object."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import resource
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tailer.core import crc64
from tailer.core.events import Appeared, Batch, Failed, Gone, Replaced, Rewound, Sealed, Truncated, Verified
from tailer.core.options import Follow, TailOptions
from tailer.core.position import ObjectMeta, ObjectRef, Position, Window
from tailer.core.tail import Tail
from tailer.errors import (
    ChainBroken,
    ConnectionLost,
    CrcMissing,
    ObjectReplaced,
    RangeNotSatisfiable,
    SinkError,
    TailerError,
)
from tailer.follow import Follower
from tailer.sinks.file import FileMirror
from tailer.sinks.fsync import AT_CLOSE
from tailer.sinks.retry import Retrying

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tailer.core.events import Event
    from tailer.core.ranges import ByteRange

REF = ObjectRef("b", "logs/app.log")

# In a process of its own: 34 batches of 3 MiB into the file argv[1], of at most argv[2] bytes if that is not 0.
WRITING_BATCHES = """
    import asyncio, resource, sys
    from tailer.core.events import Batch
    from tailer.core.position import ObjectRef
    from tailer.errors import SinkError
    from tailer.sinks.file import FileMirror

    limit = int(sys.argv[2])
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    async def run():
        mirror = FileMirror.open(sys.argv[1])
        print(*sys.argv[3:])
        try:
            for start in range(0, 100 << 20, 3 << 20):
                data = bytes([start >> 20]) * (3 << 20)
                await mirror.write(Batch(ObjectRef("b", "k"), 0, start, start + len(data), data, verified=True))
        except SinkError as error:
            print(error)
        await mirror.close()

    asyncio.run(run())
"""


def batch(start: int, data: bytes, generation: int = 0) -> Batch:
    return Batch(REF, generation, start, start + len(data), data, verified=False)


def proof(offset: int) -> Verified:
    return Verified(Position(offset, 1))


def drive(mirror: FileMirror, *steps: Event) -> None:
    """Tell `mirror` the steps in order, and close it whatever happens."""

    async def run() -> None:
        try:
            for step in steps:
                await (mirror.write(step) if isinstance(step, Batch) else mirror.notice(step))
        finally:
            await mirror.close()

    asyncio.run(run())


def resume_and_drive(mirror: FileMirror, *steps: Event) -> Position:
    mark = asyncio.run(mirror.resume())
    drive(mirror, *steps)
    return mark.delivered


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


# --- writing


def test_batches_of_any_size_and_kind_follow_one_another(path: Path) -> None:
    pieces = [b"", b"one\n", b"x" * (1 << 20), os.urandom(8 << 20), b"end"]
    whole = b"".join(pieces)
    starts = [sum(map(len, pieces[:i])) for i in range(len(pieces))]
    views: list[Callable[[bytes], object]] = [bytes, bytearray, memoryview]
    steps = [batch(s, p) for s, p in zip(starts, pieces, strict=True)]
    steps = [
        Batch(REF, 0, step.start, step.end, views[i % 3](bytes(step.data)), verified=True)  # type: ignore[arg-type]
        for i, step in enumerate(steps)
    ]
    drive(FileMirror.open(path), *steps)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("start", [0, 4, 6, 1 << 40])
def test_a_batch_that_does_not_begin_at_the_end_is_refused_with_both_numbers(path: Path, start: int) -> None:
    path.write_bytes(b"12345")
    with pytest.raises(SinkError, match=rf"app.log' is 5 bytes long, but the next bytes belong at {start}$"):
        drive(FileMirror.open(path), batch(start, b"x"))
    assert path.read_bytes() == b"12345"


def test_a_file_shortened_by_somebody_else_is_noticed(path: Path) -> None:
    mirror = FileMirror.open(path)
    asyncio.run(mirror.write(batch(0, b"12345")))
    os.truncate(path, 2)
    with pytest.raises(SinkError, match="is 2 bytes long, but the next bytes belong at 5"):
        drive(mirror, batch(5, b"678"))
    assert path.read_bytes() == b"12"


def test_a_file_deleted_by_somebody_else_is_noticed(path: Path) -> None:
    mirror = FileMirror.open(path)
    asyncio.run(mirror.write(batch(0, b"12345")))
    path.unlink()
    with pytest.raises(SinkError, match=r"app.log' was deleted while the object was mirrored into it"):
        drive(mirror, batch(5, b"678"))


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write seems to take a second."""
    monkeypatch.setattr("tailer.sinks.file.perf_counter", itertools.count().__next__)


def test_only_a_slow_disk_gets_a_thread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    times = iter([0.0, 0.001, 1.0, 2.0, 3.0, 3.5, 4.0, 4.001, 5.0, 5.1])
    monkeypatch.setattr("tailer.sinks.file.perf_counter", times.__next__)
    monkeypatch.setattr("tailer.sinks.file.write_in_full", lambda *_: threads.append(threading.current_thread()))
    drive(FileMirror.open(path), *[batch(0, b"x")] * 5)
    here = threading.current_thread()
    assert [thread is here for thread in threads] == [True, True, False, False, True]


@pytest.mark.usefixtures("slow_disk")
def test_a_cancelled_write_is_finished_before_the_file_is_closed(path: Path) -> None:
    data = os.urandom(32 << 20)

    async def run() -> None:
        await mirror.write(batch(0, b""))
        writing = asyncio.create_task(mirror.write(batch(0, data)))
        await asyncio.sleep(0)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await mirror.close()

    mirror = FileMirror.open(path)
    asyncio.run(run())
    assert path.read_bytes() in (b"", data), "a piece of a batch"


def test_closing_twice_and_with_fsync_is_fine(path: Path) -> None:
    mirror = FileMirror.open(path, fsync=AT_CLOSE)
    drive(mirror, batch(0, b"kept"))
    asyncio.run(mirror.close())
    assert path.read_bytes() == b"kept"


def test_events_that_change_no_byte_leave_the_file_alone(path: Path) -> None:
    quiet = [proof(5), Gone(0, 5), Failed(ConnectionLost("cut"), 1.0, 1), Sealed(5)]
    drive(FileMirror.open(path), batch(0, b"12345"), *quiet)
    assert path.read_bytes() == b"12345"


def test_a_kill_at_any_moment_leaves_a_prefix(path: Path) -> None:
    for moment in (0.0, 0.003, 0.01, 0.03):
        path.unlink(missing_ok=True)
        command = [sys.executable, "-u", "-c", textwrap.dedent(WRITING_BATCHES), str(path), "0", "ready"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            with contextlib.suppress(subprocess.TimeoutExpired):
                writer.wait(moment)
            writer.kill()
        left = path.read_bytes()
        assert left == b"".join(bytes([start >> 20]) * (3 << 20) for start in range(0, 100 << 20, 3 << 20))[: len(left)]


# --- going on with what stands there


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (3 << 20) + 17])
def test_resume_says_length_and_crc_of_what_stands_there(path: Path, size: int) -> None:
    data = os.urandom(size)
    path.write_bytes(data)
    position = resume_and_drive(FileMirror.open(path))
    assert position == Position(size, crc64.update(data), 0)
    assert path.read_bytes() == data


def test_a_second_run_goes_on_where_the_first_one_ended(path: Path) -> None:
    drive(FileMirror.open(path), batch(0, b"first "))
    assert resume_and_drive(FileMirror.open(path), batch(6, b"second")).offset == 6
    assert path.read_bytes() == b"first second"


@pytest.mark.parametrize(
    "event",
    [
        Replaced(1, "its type was Appendable and is Normal"),
        Truncated(1, 5, 3),
        Truncated(1, 5, None),
        Appeared(1, ObjectMeta(10)),
        Rewound(0, 0, 8),
    ],
)
def test_a_file_that_the_object_does_not_continue_is_left_as_it_was(path: Path, event: Event) -> None:
    path.write_bytes(b"other")
    with pytest.raises(ObjectReplaced, match=r"the 5 bytes of '.*app.log' are not the beginning of the object:"):
        resume_and_drive(FileMirror.open(path), event)
    assert path.read_bytes() == b"other"


def test_bytes_written_behind_a_foreign_file_are_taken_off_again(path: Path) -> None:
    path.write_bytes(b"other")
    with pytest.raises(ObjectReplaced):
        resume_and_drive(FileMirror.open(path), batch(5, b"678"), Replaced(1, "its version changed"))
    assert path.read_bytes() == b"other"


@pytest.mark.parametrize("error", [ChainBroken("CRC"), ObjectReplaced("another one")])
def test_an_error_that_ends_the_run_names_a_file_that_is_not_the_objects(
    path: Path, error: ChainBroken | ObjectReplaced
) -> None:
    path.write_bytes(b"other")
    mirror = FileMirror.open(path)
    asyncio.run(mirror.resume())
    asyncio.run(mirror.write(batch(5, b"678")))
    told = mirror.settle(error)
    drive(mirror)
    assert isinstance(told, ObjectReplaced)
    assert told.__cause__ is error
    assert "app.log' are not the beginning of the object" in str(told)
    assert str(error) in str(told)
    assert path.read_bytes() == b"other"


def test_a_refusal_of_its_own_is_settled_already(path: Path) -> None:
    path.write_bytes(b"other")
    mirror = FileMirror.open(path)
    asyncio.run(mirror.resume())
    with pytest.raises(ObjectReplaced) as refused:
        asyncio.run(mirror.notice(Replaced(1, "its version changed")))
    assert mirror.settle(refused.value) is refused.value
    drive(mirror)


def test_once_proven_the_file_may_be_started_over(path: Path) -> None:
    path.write_bytes(b"12345")
    steps = [proof(5), Replaced(1, "its version changed"), batch(0, b"new", 1), proof(3)]
    resume_and_drive(FileMirror.open(path), *steps)
    assert path.read_bytes() == b"new"


def test_without_integrity_what_was_written_may_be_started_over(path: Path) -> None:
    path.write_bytes(b"12345")
    steps = [batch(5, b"6"), Replaced(1, "its version changed"), batch(0, b"new", 1)]
    resume_and_drive(FileMirror.open(path, expect_proof=False), *steps)
    assert path.read_bytes() == b"new"


# --- going back


def test_a_rewind_cuts_off_what_became_void(path: Path) -> None:
    drive(FileMirror.open(path), batch(0, b"true"), proof(4), batch(4, b"false"), Rewound(0, 4, 9), batch(4, b"r"))
    assert path.read_bytes() == b"truer"


def test_a_rewind_never_makes_the_file_longer(path: Path) -> None:
    with pytest.raises(SinkError, match="is 4 bytes long, and cannot be cut back to 5"):
        drive(FileMirror.open(path), batch(0, b"true"), Rewound(0, 5, 9))
    assert path.read_bytes() == b"true"


@pytest.mark.parametrize("event", [Replaced(1, "x"), Truncated(1, 4, 2), Appeared(1, ObjectMeta(2))])
def test_a_new_generation_starts_the_file_over(path: Path, event: Event) -> None:
    drive(FileMirror.open(path), batch(0, b"gone"), event, batch(0, b"ne", 1), batch(2, b"w", 1))
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (ChainBroken("CRC"), b"true"),
        (ObjectReplaced("x"), b"true"),
        (CrcMissing("x"), b"true"),
        (ConnectionLost("cut"), b"true and more"),
    ],
)
def test_an_integrity_error_leaves_what_is_proven(path: Path, error: ChainBroken, left: bytes) -> None:
    mirror = FileMirror.open(path)

    async def run() -> None:
        await mirror.write(batch(0, b"true"))
        await mirror.notice(proof(4))
        await mirror.write(batch(4, b" and more"))
        assert mirror.settle(error) is error
        await mirror.close()

    asyncio.run(run())
    assert path.read_bytes() == left


def test_settling_says_so_when_the_file_cannot_be_cut_any_more(path: Path) -> None:
    mirror = FileMirror.open(path)
    asyncio.run(mirror.write(batch(0, b"true")))
    path.unlink()
    assert isinstance(mirror.settle(ChainBroken("CRC")), SinkError)
    drive(mirror)


# --- together with the machine and its driver


class ScriptedObject:
    """An object in memory, behind the face of a client."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def meta(self) -> ObjectMeta:
        return ObjectMeta(len(self.data), crc64.update(self.data), "Appendable")

    async def head(self, ref: ObjectRef) -> ObjectMeta:
        return self.meta()

    async def fetch(self, ref: ObjectRef, range: ByteRange) -> Window:
        if range.start >= len(self.data):
            raise RangeNotSatisfiable("behind the end", status=416)
        return Window(range.start, self.data[range.start : range.stop], self.meta())


def mirror_once(path: Path, data: bytes, **options: Any) -> TailerError | None:
    """One run of a mirror at `path` of an object that holds `data`: the error that ended it."""

    async def run() -> TailerError | None:
        mirror = FileMirror.open(path)
        try:
            tail = Tail(REF, TailOptions(max_window=4096, **options), await mirror.resume())
            await Follower(ScriptedObject(data), tail, mirror).catch_up()
        except TailerError as error:
            return mirror.settle(error)
        finally:
            await mirror.close()
        return None

    return asyncio.run(run())


@pytest.mark.parametrize("follow", Follow)
def test_run_after_run_the_file_becomes_the_object(path: Path, follow: Follow) -> None:
    data = os.urandom(50_000)
    for length in (0, 1, 20_000, 20_000, 50_000):
        assert mirror_once(path, data[:length], follow=follow) is None
        assert path.read_bytes() == data[:length]


@pytest.mark.parametrize("follow", Follow)
@pytest.mark.parametrize("length", [10_000, 19_999, 20_000, 20_001, 90_000])
def test_another_object_is_found_out_and_the_file_left_alone(path: Path, follow: Follow, length: int) -> None:
    kept = os.urandom(20_000)
    path.write_bytes(kept)
    error = mirror_once(path, b"\0" + os.urandom(length), follow=follow)
    assert isinstance(error, ObjectReplaced)
    assert str(error).startswith(f"the 20000 bytes of '{path}' are not the beginning of the object: ")
    assert path.read_bytes() == kept


# --- what cannot be opened


def test_a_second_mirror_is_kept_out_until_the_first_is_closed(path: Path) -> None:
    first = FileMirror.open(path)
    with pytest.raises(SinkError, match=r"app.log': another mirror writes to it$"):
        FileMirror.open(path)
    drive(first, batch(0, b"mine"))
    drive(FileMirror.open(path), batch(4, b"!"))
    assert path.read_bytes() == b"mine!"


def test_what_cannot_be_a_mirror_is_refused_in_one_line_that_says_why(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    refusals = {
        tmp_path: "is a directory (end it with / to mirror into it)",
        tmp_path / "pipe": "not a regular file",
        "/dev/null": "not a regular file",
        tmp_path / "no" / "folder": "No such file or directory",
        tmp_path / "loop": "Too many levels of symbolic links",
        tmp_path / ("x" * 300): "File name too long",
        tmp_path / "a\nb\x1b[2J" / "c": r"a\nb\x1b[2J/c': No such file",
    }
    for target, words in refusals.items():
        with pytest.raises(SinkError) as refused:
            FileMirror.open(target)
        assert words in str(refused.value)
        assert str(refused.value).isprintable()


def test_a_refusal_leaves_no_descriptor_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    before = len(os.listdir("/proc/self/fd"))
    for target in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(SinkError):
            FileMirror.open(target)
    for name in ("ok", "link"):
        folder = tmp_path / name
        folder.mkdir()
        if name == "link":
            (folder / "b").symlink_to(tmp_path)
            with pytest.raises(SinkError):
                FileMirror.open_below(folder, REF)
        else:
            drive(FileMirror.open_below(folder, REF))
    assert len(os.listdir("/proc/self/fd")) == before


# --- folders


def test_each_object_below_a_folder_has_its_own_file(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "on the way"
    keys = ["a", "a/b", "a//b", "../a", "a/..", "日志.log"]
    for key in keys:
        data = key.encode()
        drive(FileMirror.open_below(folder, ObjectRef("b", key)), batch(0, data), proof(len(data)))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(path.read_text() for path in files) == sorted(keys)
    assert all(folder / "b" in path.parents for path in files)
    for key in keys:
        assert resume_and_drive(FileMirror.open_below(folder, ObjectRef("b", key))).offset == len(key.encode())


@pytest.mark.parametrize("link", ["b", "b/logs", "b/logs/app.log"])
def test_no_link_below_the_folder_is_followed(tmp_path: Path, link: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    folder = tmp_path / "folder"
    (folder / link).parent.mkdir(parents=True)
    (folder / link).symlink_to(outside / "target" if link.endswith("log") else outside)
    with pytest.raises(SinkError, match="symbolic link"):
        FileMirror.open_below(folder, REF)
    assert list(outside.iterdir()) == []


def test_a_link_that_comes_after_the_look_is_refused_by_the_opening_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("tailer.sinks.file.mirror_path", lambda folder, ref: folder / ref.bucket / ref.key)
    (tmp_path / "folder" / "b").symlink_to(outside)
    with pytest.raises(SinkError, match="cannot mirror to"):
        FileMirror.open_below(tmp_path / "folder", REF)
    assert list(outside.iterdir()) == []


def test_a_folder_reached_through_a_link_is_the_users_own_choice(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to("real")
    drive(FileMirror.open_below(tmp_path / "alias", REF), batch(0, b"here"))
    assert (tmp_path / "real/b/logs/app.log").read_bytes() == b"here"


def test_a_file_where_the_folder_should_be_is_one_plain_error(path: Path) -> None:
    path.touch()
    with pytest.raises(SinkError, match=r"cannot mirror to .*: (File exists|Not a directory)"):
        FileMirror.open_below(path, REF)


# --- full disks


def fill(path: Path, limit: int) -> str:
    command = [sys.executable, "-c", textwrap.dedent(WRITING_BATCHES), str(path), str(limit)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.lstrip()


def is_whole_batches(path: Path, batches: int) -> bool:
    return path.read_bytes() == b"".join(bytes([3 * i]) * (3 << 20) for i in range(batches))


def test_a_batch_cut_by_the_file_size_limit_is_taken_off_again(path: Path) -> None:
    limit = 10 << 20
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    said = fill(path, limit)
    assert said.startswith(f"cannot write '{path}': File too large (it holds the first {9 << 20} bytes")
    assert is_whole_batches(path, 3)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 10 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True, capture_output=True)


def test_a_batch_cut_by_a_full_disk_is_taken_off_again(small_disk: Path) -> None:
    said = fill(small_disk / "app.log", 0)
    assert "No space left on device (it holds the first 9437184 bytes and can be continued)" in said
    assert said.count("\n") == 1
    assert is_whole_batches(small_disk / "app.log", 3)


# --- speed


def test_what_stands_there_is_read_fast(path: Path) -> None:
    """Far below what a slow loop over small pieces would give: 64 MiB from the page cache in under 0.5 s."""
    path.write_bytes(bytes(64 << 20))
    mirror = FileMirror.open(path)
    started = time.perf_counter()
    asyncio.run(mirror.resume())
    took = time.perf_counter() - started
    drive(mirror)
    assert took < 0.5


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_waited_out_with_a_prefix_in_the_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    """Half of the batch fits, three times; then there is room."""
    write, sizes, told = os.pwrite, [], []

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        if offset < 10 + 4 and len(told) < 3:
            return write(descriptor, data[:4], offset)
        if len(told) < 3:
            raise OSError(reason, os.strerror(reason))
        return write(descriptor, data, offset)

    def sleep(_: float) -> Awaitable[None]:
        sizes.append(path.stat().st_size)
        return asyncio.sleep(0)

    async def run() -> None:
        mirror = FileMirror.open(path)
        await mirror.write(batch(0, b"0123456789"))
        monkeypatch.setattr(os, "pwrite", pwrite)
        mirror.notice = lambda event: asyncio.sleep(0, told.append(event))  # type: ignore[method-assign]
        await Retrying(mirror, sleep=sleep).write(batch(10, b"abcdefgh"))
        await mirror.close()

    asyncio.run(run())
    assert path.read_bytes() == b"0123456789abcdefgh"
    assert sizes == [10] * 3, "what was written of the batch was cut off again"
    assert [str(event.error) for event in told] == [
        f"cannot write {str(path)!r}: {os.strerror(reason)} (it holds the first 10 bytes and can be continued)"
    ] * 3


def test_a_file_that_may_not_grow_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pwrite(*_: object) -> int:
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(SinkError, match="File too large") as caught:
        drive(FileMirror.open(path), batch(0, b"x"))
    assert not caught.value.retriable
