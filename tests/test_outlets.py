"""The configured sinks of the service: what each guarantees, what happens when one is out of order."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import re
import resource
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tailer.configfile import GroupConfig, Reference, SinkConfig
from tailer.core import crc64
from tailer.core.events import Batch, Replaced, Rewound, Verified
from tailer.core.options import Integrity
from tailer.core.position import Mark, ObjectRef, Position
from tailer.errors import ChainBroken, ObjectReplaced, SinkBusy, SinkError, TailerError
from tailer.outlets import SinkOutlet, VisitSink, open_outlet
from tailer.outlets import most_open_files as really_most_open_files

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

REF = ObjectRef("logs", "app.log")


def batch(start: int, data: bytes, *, ref: ObjectRef = REF, generation: int = 0, verified: bool = True) -> Batch:
    return Batch(ref, generation, start, start + len(data), data, verified, delimiter=b"\n")


def at(data: bytes, generation: int = 0) -> Mark:
    here = Position(len(data), crc64.update(data), generation)
    return Mark(here, here)


def proven(data: bytes, generation: int = 0) -> Verified:
    return Verified(at(data, generation).delivered)


@pytest.fixture(autouse=True)
def few_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailer.outlets.most_open_files", lambda: 256)


async def delivered(outlet: SinkOutlet, before: bytes, data: bytes, *, ref: ObjectRef = REF) -> Mark | None:
    """One visit that brings `data` behind `before`; where it was asked to begin."""
    visit, begin = await outlet.open(ref, at(before))
    await visit.write(batch(len(before), data, ref=ref))
    await visit.notice(proven(before + data))
    await visit.close()
    return begin


class Told:
    """An `Observer` that keeps what a sink tells it."""

    def __init__(self, on_error: Callable[[TailerError], None] = lambda error: None) -> None:
        self._heard = on_error
        self.errors: list[TailerError] = []
        self.gaps: list[tuple[str, int, int]] = []
        self.seconds: list[float] = []

    def on_sink(self, sink: str, seconds: float) -> None:
        self.seconds.append(seconds)

    def on_gap(self, group: str, gaps: int, overlaps: int) -> None:
        self.gaps.append((group, gaps, overlaps))

    def on_error(self, group: str, stage: str, error: TailerError) -> None:
        self.errors.append(error)
        self._heard(error)


def in_no_time(outlet: SinkOutlet, when: Callable[[], object] = lambda: None) -> list[float]:
    """Let its pauses take no time, and call `when` in each; their lengths."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        when()
        await asyncio.sleep(0)

    outlet.pause = pause  # type: ignore[method-assign]
    return pauses


# --- mirrors


def test_a_mirror_goes_on_where_its_file_ends_whatever_the_checkpoint_says(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "app.log").write_bytes(b"one\n")

    async def run() -> None:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path))
        visit, begin = await outlet.open(REF, at(b"one\ntwo\n", 3))
        assert begin == at(b"one\n", 3), "of the file, in the generation of the checkpoint"
        await visit.close()
        await outlet.close()

    asyncio.run(run())


def test_a_mirror_gives_the_checkpoint_back_that_says_what_the_file_says(tmp_path: Path) -> None:
    async def run() -> None:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path))
        mark = replace(at(b"one\n", 7), inside=True)
        await delivered(outlet, b"", b"one\n")
        for _ in range(2):
            visit, begin = await outlet.open(REF, mark)
            assert begin == mark
            await visit.close()
            await outlet.close()
            outlet = open_outlet(SinkConfig("m", "file", path=tmp_path))

    asyncio.run(run())


def test_what_a_mirror_was_proven_of_is_proven_though_the_checkpoint_says_less(tmp_path: Path) -> None:
    """A visit that failed behind a proof: a replacement must not take the file for one of which nothing is known."""

    async def run() -> None:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path))
        await delivered(outlet, b"", b"one\ntwo\n")
        behind = Mark(at(b"one\ntwo\n", 3).delivered, at(b"one\n", 3).delivered)
        visit, begin = await outlet.open(REF, behind)
        assert begin == at(b"one\ntwo\n", 3)
        await visit.close()
        await outlet.close()

    asyncio.run(run())


def reads_of(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes are read of mirrors, one entry for each read."""
    counts: list[int] = []
    for name in ("preadv", "pread"):
        read = getattr(os, name)

        def counted(*arguments: object, read: Callable[..., int | bytes] = read) -> int | bytes:
            got = read(*arguments)
            counts.append(got if isinstance(got, int) else len(got))
            return got

        monkeypatch.setattr(os, name, counted)
    return counts


@pytest.mark.parametrize("rotate", [None, 8], ids=["one-file", "segments"])
def test_a_file_that_is_as_it_was_left_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rotate: int | None
) -> None:
    refs = [ObjectRef("logs", f"{number}.log") for number in range(300)]

    async def run() -> None:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path, rotate_size=rotate))
        before = len(os.listdir("/proc/self/fd"))
        for ref in refs:
            await delivered(outlet, b"", b"one\ntwo\n", ref=ref)
        assert len(os.listdir("/proc/self/fd")) - before <= (256 + 8) * (1 if rotate is None else 2)
        reads = reads_of(monkeypatch)
        for ref in refs:
            assert await delivered(outlet, b"one\ntwo\n", b"three\n", ref=ref) == at(b"one\ntwo\n")
        assert sum(reads) == 0
        await outlet.close()
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(run())
    for ref in refs:
        parts = sorted((tmp_path / "logs").glob(f"{ref.key}*"))
        assert b"".join(part.read_bytes() for part in parts) == b"one\ntwo\nthree\n"
        assert len(parts) == (1 if rotate is None else 2)


@pytest.mark.parametrize("change", ["grown", "replaced", "same-length", "deleted"])
def test_a_file_that_somebody_changed_between_two_visits_is_read_again(tmp_path: Path, change: str) -> None:
    path = tmp_path / "logs" / "app.log"

    async def run() -> Mark | None:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path))
        await delivered(outlet, b"", b"one\n")
        if change == "grown":
            path.write_bytes(b"one\nmore\n")
        elif change == "replaced":
            path.rename(tmp_path / "elsewhere")
            path.write_bytes(b"new\n")
        elif change == "same-length":
            os.utime(path, ns=(1, 1))
            path.write_bytes(b"two\n")
        else:
            path.unlink()
        visit, begin = await outlet.open(REF, at(b"one\n"))
        await visit.close()
        await outlet.close()
        return begin

    wanted = {"grown": b"one\nmore\n", "replaced": b"new\n", "same-length": b"two\n", "deleted": b""}
    assert asyncio.run(run()) == at(wanted[change])


def test_as_many_files_stay_open_as_a_quarter_of_what_the_process_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, files in ((1024, 256), (16384, 2048), (256, 64), (resource.RLIM_INFINITY, 2048)):
        monkeypatch.setattr("resource.getrlimit", lambda _, limit=limit: (limit, 1 << 20))
        assert really_most_open_files() == files


def test_many_visits_at_once_do_not_need_as_many_open_files(tmp_path: Path) -> None:
    """A follower that stays in memory between two polls keeps its visit, and not its file."""
    refs = [ObjectRef("logs", f"{number}.log") for number in range(600)]
    contents = dict.fromkeys(refs, b"")

    async def run() -> int:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path))
        before = most = len(os.listdir("/proc/self/fd"))
        visits: dict[ObjectRef, VisitSink] = {ref: (await outlet.open(ref, None))[0] for ref in refs}
        for line in (b"one\n", b"two\n", b"three\n"):
            for ref, visit in visits.items():
                await visit.write(batch(len(contents[ref]), line, ref=ref))
                contents[ref] += line
                await visit.notice(proven(contents[ref]))
            most = max(most, len(os.listdir("/proc/self/fd")))
        for visit in visits.values():
            await visit.close()
        await outlet.close()
        return most - before

    assert asyncio.run(run()) < 256 + 60
    for ref, content in contents.items():
        assert (tmp_path / "logs" / ref.key).read_bytes() == content


def test_a_mirror_that_was_closed_and_changed_in_the_middle_of_a_visit_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path))
        visit, _ = await outlet.open(REF, None)
        await visit.write(batch(0, b"one\n"))
        await visit.notice(proven(b"one\n"))
        for number in range(300):
            await delivered(outlet, b"", b"other\n", ref=ObjectRef("logs", f"{number}"))
        (tmp_path / "logs" / "app.log").write_bytes(b"changed")
        with pytest.raises(SinkError, match="was changed while the object was mirrored"):
            await visit.write(batch(4, b"two\n"))
        await visit.close()
        assert (tmp_path / "logs" / "app.log").read_bytes() == b"changed"
        await outlet.close()

    asyncio.run(run())


async def replace_by(outlet: SinkOutlet, mark: Mark | None, new: bytes) -> None:
    visit, _ = await outlet.open(REF, mark)
    try:
        await visit.notice(Replaced(1, "its first byte is another"))
        await visit.write(batch(0, new, generation=1))
        await visit.notice(proven(new, 1))
    finally:
        await visit.close()


@pytest.mark.parametrize(
    ("mark", "kept"),
    [(None, None), (at(b"old old\n"), []), (at(b"", 1), ["app.log%g0"])],
    ids=["no-checkpoint", "the-checkpoint-of-this-file", "the-checkpoint-has-gone-on"],
)
def test_a_new_generation_takes_the_place_of_a_mirror_that_a_checkpoint_vouches_for(
    tmp_path: Path, mark: Mark | None, kept: list[str] | None
) -> None:
    """Without one the file may be anybody's, and is left alone; what it does not vouch for exactly is kept beside."""
    path = tmp_path / "logs" / "app.log"
    path.parent.mkdir()
    path.write_bytes(b"old old\n")

    async def run() -> None:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path))
        try:
            await replace_by(outlet, mark, b"new\n")
        finally:
            await outlet.close()

    if kept is None:
        with pytest.raises(ObjectReplaced, match="left as they are"):
            asyncio.run(run())
        assert path.read_bytes() == b"old old\n"
        return
    asyncio.run(run())
    assert path.read_bytes() == b"new\n"
    assert sorted(one.name for one in path.parent.iterdir()) == ["app.log", *kept]
    assert all(path.with_name(name).read_bytes() == b"old old\n" for name in kept)


@pytest.mark.parametrize("written", [False, True])
def test_a_replacement_whose_visit_failed_is_gone_on_with_by_the_next_one(tmp_path: Path, *, written: bool) -> None:
    """By then the checkpoint tells of the new generation alone; nothing of the old one is left beside."""
    path = tmp_path / "logs" / "app.log"

    async def run() -> None:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path))
        await delivered(outlet, b"", b"old old\n")
        visit, _ = await outlet.open(REF, at(b"old old\n"))
        await visit.notice(Replaced(1, "its first byte is another"))
        if written:
            await visit.write(batch(0, b"new", generation=1, verified=False))
        await visit.close()  # a request failed
        assert path.read_bytes() == b"old old\n"
        visit, begin = await outlet.open(REF, Mark(Position(0, 0, 1), Position(0, 0, 1)))
        assert begin is not None
        if not written:
            assert begin.delivered.offset == 8
            await visit.notice(Replaced(2, "its first byte is another"))
        start = begin.delivered.offset if written else 0
        await visit.write(batch(start, b"new\n"[start:], generation=2 - written))
        await visit.notice(proven(b"new\n", 2 - written))
        await visit.close()
        await outlet.close()

    asyncio.run(run())
    assert path.read_bytes() == b"new\n"
    assert [one.name for one in path.parent.iterdir()] == ["app.log"]


def test_what_is_not_proven_is_cut_off_when_the_chain_breaks(tmp_path: Path) -> None:
    async def run() -> None:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path))
        visit, _ = await outlet.open(REF, None)
        await visit.write(batch(0, b"one\n"))
        await visit.notice(proven(b"one\n"))
        await visit.write(batch(4, b"wrong\n", verified=False))
        error = ChainBroken("read twice")
        assert await visit.settle(error) is error
        await visit.close()
        await outlet.close()

    asyncio.run(run())
    assert (tmp_path / "logs" / "app.log").read_bytes() == b"one\n"


def test_keys_that_differ_only_in_case_or_look_escaped_have_files_of_their_own(tmp_path: Path) -> None:
    refs = [ObjectRef("logs", key) for key in ("App.log", "app.log", "app%2Elog", "dir/a", "dir%2Fa", "Dir/a")]

    async def run() -> None:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path))
        for ref in refs:
            await delivered(outlet, b"", f"{ref}\n".encode(), ref=ref)
        await outlet.close()

    asyncio.run(run())
    found = [path.read_bytes().decode().rstrip() for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(found) == sorted(map(str, refs))


def test_where_the_file_system_takes_one_name_for_the_other_the_second_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path))
        await delivered(outlet, b"", b"", ref=ObjectRef("logs", "App.log"))
        await delivered(outlet, b"", b"mine\n", ref=ObjectRef("logs", "other.log"))
        await outlet.close()
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path))
        with pytest.raises(SinkError, match="for that of another key"):
            await outlet.open(ObjectRef("logs", "app.log"), None)
        await delivered(outlet, b"", b"first\n", ref=ObjectRef("logs", "App.log"))
        await outlet.close()

    make_case_folding(monkeypatch)
    asyncio.run(run())
    assert (tmp_path / "logs" / "App.log").read_bytes() == b"first\n"


def make_case_folding(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a file system does that ignores case: a name that is not there is that of the one that is alike."""
    from tailer.sinks import file

    really = os.open
    exists = Path.exists

    def alike(name: str, folder: int | None) -> str:
        where, last = os.path.split(name)
        names = os.listdir(where or (folder if folder is not None else "."))
        return next((os.path.join(where, one) for one in names if one.lower() == last.lower()), name)

    def folding(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        return really(path if dir_fd is None else alike(path, dir_fd), flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(file.os, "open", folding)
    monkeypatch.setattr(Path, "exists", lambda path: exists(path) or alike(str(path), None) != str(path))
    monkeypatch.setattr(file, "is_at", lambda *arguments: True)


def test_two_groups_do_not_write_one_mirror_at_the_same_time(tmp_path: Path) -> None:
    async def run() -> None:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path))
        one, other = (outlet.of_group(GroupConfig(name, ("oss://logs/*",), "m")) for name in ("one", "other"))
        visit, _ = await one.open(REF, None)
        with pytest.raises(SinkError, match="another group"):
            await other.open(REF, None)
        await visit.close()
        again, _ = await other.open(REF, None)
        await again.close()
        await outlet.close()

    asyncio.run(run())


def test_without_proof_a_mirror_goes_on_by_what_the_checkpoint_says(tmp_path: Path) -> None:
    group = GroupConfig("g", ("oss://logs/*",), "m", integrity=Integrity.OFF)

    async def run() -> None:
        shared = open_outlet(SinkConfig("m", "file", path=tmp_path))
        outlet = shared.of_group(group)
        visit, _ = await outlet.open(REF, None)
        await visit.write(batch(0, b"one\n", verified=False))
        await visit.close()
        mark = Mark(Position(4, None), Position(0, None))
        visit, begin = await outlet.open(REF, mark)
        assert begin == mark
        await visit.close()
        visit, begin = await outlet.open(REF, None)
        assert begin is not None
        assert begin.delivered == at(b"one\n").delivered, "without one the file is read"
        await visit.close()
        await shared.close()

    asyncio.run(run())


def test_sync_forces_what_was_written_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    really = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)

    async def run(policy: str) -> None:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path / policy, fsync=policy))
        visit, _ = await outlet.open(REF, None)
        await visit.write(batch(0, b"one\n"))
        assert synced == []
        await outlet.sync()
        assert synced == ([] if policy == "never" else [str(tmp_path / policy / "logs" / "app.log")])
        await outlet.sync()
        assert len(synced) <= 1, "nothing new was written"
        await visit.close()
        await outlet.close()
        synced.clear()

    asyncio.run(run("never"))
    asyncio.run(run("close"))


@pytest.mark.parametrize("end", ["goes on", "cancelled"])
def test_nobody_takes_for_safe_what_is_on_its_way_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Two groups keep marks of one sink: the one that comes second, or after one that was cancelled, waits as well."""
    begun, go_on, synced = threading.Event(), threading.Event(), []
    really = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            begun.set()
            assert go_on.wait(30)
            synced.append(descriptor)
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)

    async def run() -> None:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path, fsync="close"))
        visit, _ = await outlet.open(REF, None)
        await visit.write(batch(0, b"one\n"))
        first = asyncio.create_task(outlet.sync())
        assert await asyncio.to_thread(begun.wait, 30)
        if end == "cancelled":
            first.cancel()
            await asyncio.wait([first])
        second = asyncio.create_task(outlet.sync())
        await asyncio.sleep(0.05)
        assert not second.done()
        go_on.set()
        await asyncio.gather(first, second, return_exceptions=True)
        assert synced
        await visit.close()
        await outlet.close()

    asyncio.run(run())


@pytest.mark.parametrize("visited", [False, True], ids=["at rest", "during a visit"])
def test_a_file_that_cannot_be_forced_to_the_disk_holds_up_no_other_and_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visited: bool
) -> None:
    """Whoever keeps marks is told each time of which object he may keep none, a visit that is under way goes on."""
    other = ObjectRef("logs", "other.log")
    really, broken = os.fsync, True

    def fsync(descriptor: int) -> None:
        if broken and os.readlink(f"/proc/self/fd/{descriptor}").endswith("app.log"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    reads = reads_of(monkeypatch)

    async def run() -> None:
        nonlocal broken
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path, fsync="close"))
        await delivered(outlet, b"", b"one\n")
        visit = (await outlet.open(REF, at(b"one\n")))[0] if visited else None
        await delivered(outlet, b"", b"two\n", ref=other)
        for _ in range(2):
            assert [*(unsafe := await outlet.sync())] == [REF]
            assert re.search(r"app\.log.*: Input/output error", str(unsafe[REF]))
        if visit is not None:
            await visit.write(batch(4, b"three\n"))
            await visit.notice(proven(b"one\nthree\n"))
            await visit.close()
        broken = False
        reads.clear()
        written = b"one\nthree\n" if visited else b"one\n"
        assert await delivered(outlet, written, b"four\n") == at(written)
        assert sum(reads) == len(written), "it is proven that they are there"
        assert [*await outlet.sync()] == [REF], "that they can be read does not say that they are on the disk"
        await outlet.close()

    asyncio.run(run())
    assert (tmp_path / "logs" / "app.log").read_bytes().endswith(b"four\n")


def test_a_file_that_was_closed_by_then_is_not_taken_for_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    async def run() -> None:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path, fsync="batch"))
        visit, _ = await outlet.open(REF, None)
        monkeypatch.setattr(os, "fsync", fsync)
        with pytest.raises(SinkError, match="Input/output error"):
            await visit.write(batch(0, b"one\n"))
        await visit.close()
        assert [*await outlet.sync()] == [REF]
        await outlet.close()

    asyncio.run(run())


# --- what is out of order


def test_whoever_does_not_wait_any_more_for_a_sink_says_nothing_of_it(tmp_path: Path) -> None:
    """His group was taken out of the configuration, while the sink could not be had."""
    (tmp_path / "place").write_text("a file where the folder should be")

    async def run() -> None:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path / "place"))
        waiting = asyncio.create_task(outlet.open(REF, None))
        async with asyncio.timeout(30):
            while outlet.problem() is None:  # noqa: ASYNC110 - nobody is told of it
                await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert outlet.problem() is None
        await outlet.close()

    asyncio.run(run())


def test_a_folder_that_cannot_be_written_holds_everything_up_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "place").write_text("a file where the folder should be")
    told = Told()

    async def run() -> None:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path / "place"), told)  # type: ignore[arg-type]
        problems: list[str | None] = []

        def mend() -> None:
            problems.append(outlet.problem())
            if len(problems) == 3:
                (tmp_path / "place").unlink()

        pauses = in_no_time(outlet, mend)
        await delivered(outlet, b"", b"one\n")
        assert len(pauses) == 3
        assert all(problem and problem.startswith("sink m: cannot mirror") for problem in problems)
        assert outlet.problem() is None
        assert outlet.status().errors == len(told.errors) == 3
        assert "cannot mirror" in (outlet.status().last_error or "")
        await outlet.close()

    asyncio.run(run())
    assert (tmp_path / "place" / "logs" / "app.log").read_bytes() == b"one\n"


def test_one_mirror_that_cannot_be_had_ends_its_visit_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "logs" / "app.log.d").mkdir(parents=True)
    (tmp_path / "logs" / "bad").symlink_to(tmp_path)

    async def run() -> None:
        outlet = open_outlet(SinkConfig("m", "file", path=tmp_path))
        with pytest.raises(SinkError, match="a symbolic link"):
            await outlet.open(ObjectRef("logs", "bad"), None)
        assert outlet.problem() is None
        await delivered(outlet, b"", b"one\n")
        await outlet.close()

    asyncio.run(run())


def test_a_command_that_is_not_found_is_tried_again_and_shown(tmp_path: Path) -> None:
    command = tmp_path / "command"

    async def run() -> None:
        outlet = open_outlet(SinkConfig("c", "exec", command=(str(command),)))

        def mend() -> None:
            assert "cannot run" in (outlet.problem() or "")
            command.write_text(f"#!/bin/sh\ncat >> {tmp_path}/out\n")
            command.chmod(0o755)

        pauses = in_no_time(outlet, mend)
        await delivered(outlet, b"", b"one\n")
        assert len(pauses) == 1
        await outlet.close()

    asyncio.run(run())
    assert (tmp_path / "out").read_bytes() == b"one\n"


def test_a_busy_sink_is_no_problem_but_an_error_that_is_counted(tmp_path: Path) -> None:
    script = f"test -e {tmp_path}/ready || exit 3; cat >> {tmp_path}/out"

    async def run() -> None:
        outlet = open_outlet(SinkConfig("c", "exec", command=("sh", "-c", script)))
        problems: list[str | None] = []

        def mend() -> None:
            problems.append(outlet.problem())
            (tmp_path / "ready").touch()

        in_no_time(outlet, mend)
        await delivered(outlet, b"", b"one\n")
        assert problems == [None]
        assert (outlet.status().errors, outlet.status().delivered_bytes) == (1, 4)
        await outlet.close()

    asyncio.run(run())


def test_nobody_waits_for_a_sink_after_stop() -> None:
    async def run() -> None:
        failed = asyncio.Event()
        told = Told(lambda _: failed.set())
        outlet = open_outlet(SinkConfig("c", "exec", command=("false",)), told)  # type: ignore[arg-type]
        visit, _ = await outlet.open(REF, None)
        writing = asyncio.create_task(visit.write(batch(0, b"one\n")))
        async with asyncio.timeout(30):
            await failed.wait()
        outlet.stop()
        with pytest.raises(SinkBusy):
            await writing
        assert outlet.status().waiting == 0
        await visit.close()
        await outlet.close()

    asyncio.run(run())


# --- turns, accounts, the ledger


def test_so_many_batches_at_once_and_the_others_in_turn(tmp_path: Path) -> None:
    """Each command says when it begins and when it ends."""
    script = f"echo + >> {tmp_path}/log; cat > /dev/null; sleep 0.02; echo - >> {tmp_path}/log"

    async def run() -> None:
        outlet = open_outlet(SinkConfig("c", "exec", command=("sh", "-c", script), concurrency=3))
        refs = [ObjectRef("logs", str(number)) for number in range(12)]
        writes: list[Awaitable[object]] = [delivered(outlet, b"", b"one\n", ref=ref) for ref in refs]
        await asyncio.gather(*writes)
        status = outlet.status()
        assert (status.delivered_bytes, status.delivered_records, status.waiting) == (48, 12, 0)
        assert status.busy_seconds >= 12 * 0.02
        await outlet.close()

    asyncio.run(run())
    running = most = 0
    for sign in (tmp_path / "log").read_text().split():
        running += 1 if sign == "+" else -1
        most = max(most, running)
    assert most == 3


def test_the_ledger_tells_of_a_gap_and_of_an_overlap_but_not_of_a_rewind() -> None:
    told = Told()

    async def run() -> None:
        shared = open_outlet(SinkConfig("c", "exec", command=("true",)), told)  # type: ignore[arg-type]
        outlet = shared.of_group(GroupConfig("web", ("oss://logs/*",), "c"))
        visit, _ = await outlet.open(REF, at(b"one\n"))
        await visit.write(batch(4, b"two\n"))
        await visit.notice(Rewound(0, 4, 8))
        await visit.write(batch(4, b"two\n"))
        assert told.gaps == []
        await visit.write(batch(9, b"three\n"))
        await visit.write(batch(14, b"\nfour\n"))
        assert told.gaps == [("web", 1, 0), ("web", 0, 1)]
        assert len(told.seconds) == 4
        await visit.close()
        await shared.close()

    asyncio.run(run())


# --- lines of JSON


def lines_of(path: Path) -> list[str]:
    return [json.loads(line).get("data") for line in path.read_text().splitlines() if line.startswith("{")]


def test_lines_of_all_objects_are_appended_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    refs = [ObjectRef("logs", str(number)) for number in range(20)]

    async def run(before: bytes, data: bytes) -> None:
        outlet = open_outlet(SinkConfig("j", "jsonl", path=path))
        await asyncio.gather(*(delivered(outlet, before, data, ref=ref) for ref in refs))
        await outlet.close()

    asyncio.run(run(b"", b"one\ntwo\n"))
    asyncio.run(run(b"one\ntwo\n", b"three\n"))
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for ref in refs:
        mine = [line["data"] for line in found if line["object"] == str(ref) and line["type"] == "record"]
        assert mine == ["one", "two", "three"]


def test_half_a_line_of_a_killed_run_is_ended_before_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"data":"one"}\n{"da')

    async def run() -> None:
        outlet = open_outlet(SinkConfig("j", "jsonl", path=path))
        await delivered(outlet, b"", b"two\n")
        await outlet.close()

    asyncio.run(run())
    assert path.read_text().splitlines()[:2] == ['{"data":"one"}', '{"da']
    assert json.loads(path.read_text().splitlines()[2])["data"] == "two"


def test_a_file_of_lines_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"

    async def run() -> None:
        outlet = open_outlet(SinkConfig("j", "jsonl", path=path))
        await delivered(outlet, b"", b"one\n")
        path.rename(tmp_path / "out.jsonl.1")
        await delivered(outlet, b"one\n", b"two\n")
        await outlet.close()

    asyncio.run(run())
    assert "one" in lines_of(tmp_path / "out.jsonl.1")
    assert "two" in lines_of(path)
    assert "one" not in lines_of(path)


def test_a_full_disk_tears_no_line(mounted: Callable[[str], Path]) -> None:
    path = mounted("size=64k") / "out.jsonl"
    filler = path.parent / "filler"

    async def run() -> None:
        outlet = open_outlet(SinkConfig("j", "jsonl", path=path))
        await delivered(outlet, b"", b"one\n")
        filler.write_bytes(b"x" * (56 << 10))
        in_no_time(outlet, lambda: filler.unlink(missing_ok=True))
        await delivered(outlet, b"one\n", b"2" * 9000 + b"\n")
        assert outlet.status().errors >= 1
        await outlet.close()

    asyncio.run(run())
    whole = []
    for line in path.read_text().splitlines():
        try:
            whole.append(json.loads(line).get("data"))
        except json.JSONDecodeError:
            assert line.startswith('{"type"'), "the part of a line that found room, ended by a newline"
    assert [data for data in whole if data] == ["one", "2" * 9000]


def test_two_processes_do_not_append_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"

    async def run() -> None:
        one, other = (open_outlet(SinkConfig("j", "jsonl", path=path)) for _ in range(2))
        await delivered(one, b"", b"one\n")
        other.stop()
        with pytest.raises(SinkError, match="another process writes to it"):
            await other.open(REF, None)
        await one.close()
        await other.close()

    asyncio.run(run())


def test_a_file_of_lines_that_another_process_made_meanwhile_is_not_taken_from_it(tmp_path: Path) -> None:
    """Nor is anything closed that is not its own, while it waits for that one to end."""
    path = tmp_path / "out.jsonl"

    async def run() -> None:
        outlet = open_outlet(SinkConfig("j", "jsonl", path=path))
        files: list[int] = []
        tries = in_no_time(outlet, lambda: files.append(os.open(os.devnull, os.O_RDONLY)))
        visit, _ = await outlet.open(REF, None)
        await visit.write(batch(0, b"one\n"))
        path.rename(tmp_path / "out.1")
        with path.open("w") as other:
            fcntl.flock(other, fcntl.LOCK_EX)
            writing = asyncio.create_task(visit.write(batch(4, b"two\n")))
            async with asyncio.timeout(30):
                while len(tries) < 5:  # noqa: ASYNC110 - nobody is told of it
                    await asyncio.sleep(0)
        await writing
        for file in files:
            os.close(file)  # raises for one that is closed
        await visit.close()
        await outlet.close()

    asyncio.run(run())
    assert lines_of(path) == ["two"]


# --- http


def test_a_secret_header_is_read_for_each_visit_and_never_shown(tmp_path: Path) -> None:
    token = tmp_path / "token"
    headers = {"Authorization": Reference("file", str(token)), "X-Team": "logs"}
    seen: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                fields = {name.lower(): value for name, value in fields.items()}
                await reader.readexactly(int(fields["content-length"]))
                seen.append(fields["authorization"])
                status = "204 No Content" if fields["authorization"] == "Bearer two" else "401 Unauthorized"
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        outlet = open_outlet(SinkConfig("h", "http", url=f"http://127.0.0.1:{port}/in", headers=headers))
        in_no_time(outlet, lambda: token.write_text("Bearer one\n"))
        visit, _ = await outlet.open(REF, None)  # the file is there from the second try on
        outlet.stop()
        with pytest.raises(SinkBusy, match="401"):
            await visit.write(batch(0, b"one\n"))
        assert "401" in (outlet.problem() or "")
        await visit.close()
        token.write_text("Bearer two\n")
        await delivered(outlet, b"", b"one\n")
        assert outlet.problem() is None
        assert "Bearer" not in str(outlet.status())
        await outlet.close()
        server.close()
        await server.wait_closed()

    asyncio.run(run())
    assert seen == ["Bearer one", "Bearer two"]
