"""`FileMirror` when another object comes to stand under the name: the good old file goes only for a proven new one."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tailer.core import crc64
from tailer.core.events import Appeared, Batch, Event, Replaced, Rewound, Stop, Truncated, Verified
from tailer.core.options import Follow, TailOptions
from tailer.core.position import ObjectMeta, ObjectRef, Position
from tailer.errors import ChainBroken, ObjectReplaced, SinkError, TailerError
from tailer.sinks.file import FileMirror
from tailer.sinks.fsync import AT_CLOSE
from tests.core.playing import FORMER, LATTER, replaced_between_proofs

REF = ObjectRef("b", "logs/app.log")
ANOTHER = Replaced(1, "its version changed")


def batch(start: int, data: bytes, generation: int = 0) -> Batch:
    return Batch(REF, generation, start, start + len(data), data, verified=False)


def proof(offset: int) -> Verified:
    return Verified(Position(offset, 1))


async def tell(mirror: FileMirror, *steps: Event) -> None:
    for step in steps:
        await (mirror.write(step) if isinstance(step, Batch) else mirror.notice(step))


def drive(mirror: FileMirror, *steps: Event, error: TailerError | None = None) -> Position:
    """Resume, tell the steps, settle with `error` if there is one, and close whatever happens."""

    async def run() -> Position:
        try:
            mark = await mirror.resume()
            await tell(mirror, *steps)
            if error is not None:
                mirror.settle(error)
        finally:
            await mirror.close()
        return mark.delivered

    return asyncio.run(run())


def leave_unproven(path: Path, old: bytes = b"old", new: bytes = b"new") -> None:
    """As a kill leaves it: a proven file, and beside it another generation that was not proven yet."""
    drive(FileMirror.open(path), batch(0, old), proof(len(old)), ANOTHER, batch(0, new, 1))
    assert files(path.parent) == {path.name: old, f"{path.name}%new": new}


def files(folder: Path) -> dict[str, bytes]:
    """All but the note of what is proven, which tests/sinks/test_proven.py is about."""
    found = [path for path in folder.iterdir() if path.is_file() and not path.name.endswith("%ok")]
    return {path.name: path.read_bytes() for path in found}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


@pytest.mark.parametrize("event", [ANOTHER, Truncated(1, 3, 2), Appeared(1, ObjectMeta(2))])
def test_the_old_file_stays_until_the_new_bytes_are_proven(path: Path, event: Event) -> None:
    async def run() -> None:
        mirror = FileMirror.open(path)
        await tell(mirror, batch(0, b"old"), proof(3), event, batch(0, b"ne", 1))
        assert files(path.parent) == {"app.log": b"old", "app.log%new": b"ne"}
        assert mirror.path.name == "app.log%new"
        await tell(mirror, proof(2))
        assert files(path.parent) == {"app.log": b"ne"}
        await tell(mirror, batch(2, b"w", 1), proof(3))
        assert mirror.path == path
        await mirror.close()

    asyncio.run(run())
    assert files(path.parent) == {"app.log": b"new"}


def test_a_corruption_that_lasts_does_not_destroy_a_good_mirror(path: Path) -> None:
    steps = [batch(0, b"good"), proof(4), ANOTHER, batch(0, b"bad!", 1), Rewound(1, 0, 4), batch(0, b"bad!", 1)]
    drive(FileMirror.open(path), *steps, error=ChainBroken("read twice alike"))
    assert files(path.parent) == {"app.log": b"good"}
    assert drive(FileMirror.open(path)) == Position(4, crc64.update(b"good"))


def test_a_rewind_behind_the_last_proof_leaves_a_proven_file_to_be_kept(path: Path) -> None:
    player = replaced_between_proofs(TailOptions(follow=Follow.NAME))
    drive(FileMirror.open(path, keep_generations=True), *player.events)
    assert files(path.parent) == {"app.log%g0": FORMER[:10], "app.log": LATTER}


def test_a_rewind_behind_the_last_proof_leaves_a_proven_file_to_a_follow_that_ends(path: Path) -> None:
    player = replaced_between_proofs(TailOptions(follow=Follow.DESCRIPTOR))
    stop = player.actions[-1]
    assert isinstance(stop, Stop)
    assert isinstance(stop.error, ObjectReplaced)
    drive(FileMirror.open(path), *player.events, error=stop.error)
    assert files(path.parent) == {"app.log": FORMER[:10]}
    assert drive(FileMirror.open(path)) == Position(10, crc64.update(FORMER[:10]))


def test_what_was_never_proven_of_the_old_file_is_not_kept(path: Path) -> None:
    drive(FileMirror.open(path), batch(0, b"true"), proof(4), batch(4, b"?"), ANOTHER, batch(0, b"n", 1))
    assert files(path.parent) == {"app.log": b"true", "app.log%new": b"n"}


def test_a_third_object_before_the_second_is_proven_starts_its_file_over(path: Path) -> None:
    steps = [batch(0, b"old"), proof(3), ANOTHER, batch(0, b"second", 1), Replaced(2, "x"), batch(0, b"3rd", 2)]
    drive(FileMirror.open(path), *steps, proof(3))
    assert files(path.parent) == {"app.log": b"3rd"}


def test_a_new_object_without_bytes_takes_nothing_away(path: Path) -> None:
    drive(FileMirror.open(path), batch(0, b"old"), proof(3), ANOTHER)
    assert files(path.parent) == {"app.log": b"old"}


def test_after_a_kill_the_new_generation_is_gone_on_with(path: Path) -> None:
    leave_unproven(path)
    assert drive(FileMirror.open(path), batch(3, b"er", 0), proof(5)) == Position(3, crc64.update(b"new"))
    assert files(path.parent) == {"app.log": b"newer"}


def test_after_a_kill_a_new_generation_that_is_over_as_well_is_started_over(path: Path) -> None:
    leave_unproven(path)
    drive(FileMirror.open(path), ANOTHER, batch(0, b"third", 1), proof(5))
    assert files(path.parent) == {"app.log": b"third"}


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("call", ["rename", "replace"])
def test_a_kill_at_each_step_of_the_change_loses_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str, *, keep: bool
) -> None:
    """The step, and everything after it, does not happen; the next run ends as if it had."""
    if call == "rename" and not keep:
        pytest.skip("nothing is renamed")
    leave_unproven(path)

    def killed(*_: object, **__: object) -> None:
        raise OSError(5, "killed")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, killed)
        with pytest.raises(SinkError, match=r"cannot put a new generation in the place of '.*app.log': killed"):
            drive(FileMirror.open(path, keep_generations=keep), proof(3))
    drive(FileMirror.open(path, keep_generations=keep), proof(3))
    assert files(path.parent) == {"app.log": b"new"} | ({"app.log%g0": b"old"} if keep else {})


def test_generations_are_kept_under_names_that_are_free(path: Path) -> None:
    (path.parent / "app.log%g1").write_bytes(b"mine")
    steps: list[Event] = [batch(0, b"0"), proof(1)]
    for number in range(1, 4):
        steps += [Replaced(number, "x"), batch(0, b"%d" % number, number), proof(1)]
    drive(FileMirror.open(path, keep_generations=True), *steps)
    kept = {"app.log%g0": b"0", "app.log%g1": b"mine", "app.log%g2": b"1", "app.log%g3": b"2"}
    assert files(path.parent) == {"app.log": b"3", **kept}


def test_without_proofs_the_first_bytes_of_the_new_object_do(path: Path) -> None:
    mirror = FileMirror.open(path, expect_proof=False, keep_generations=True, fsync=AT_CLOSE)
    drive(mirror, batch(0, b"old"), ANOTHER, batch(0, b"ne", 1), batch(2, b"w", 1))
    assert files(path.parent) == {"app.log": b"new", "app.log%g0": b"old"}


def test_the_new_file_has_the_mode_of_the_old_one(path: Path) -> None:
    drive(FileMirror.open(path), batch(0, b"old"), proof(3))
    path.chmod(0o640)
    drive(FileMirror.open(path), proof(3), ANOTHER, batch(0, b"new", 1), proof(3))
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o640)


def test_the_umask_decides_who_may_read_a_mirror(path: Path) -> None:
    before = os.umask(0o027)
    try:
        drive(FileMirror.open(path), batch(0, b"old"), proof(3), ANOTHER, batch(0, b"n", 1))
    finally:
        os.umask(before)
    assert {name: (path.parent / name).stat().st_mode & 0o777 for name in files(path.parent)} == {
        "app.log": 0o640,
        "app.log%new": 0o640,
    }


def test_a_link_to_the_file_stays_a_link(path: Path) -> None:
    link = path.parent / "link"
    link.symlink_to(path.name)
    drive(FileMirror.open(link), batch(0, b"old"), proof(3), ANOTHER, batch(0, b"new", 1), proof(3))
    assert link.is_symlink()
    assert path.read_bytes() == b"new"


def test_a_link_planted_for_the_new_generation_is_not_followed(path: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (tmp_path / "app.log%new").symlink_to(outside)
    with pytest.raises(SinkError, match="cannot go on with the new generation beside"):
        drive(FileMirror.open(path))
    (tmp_path / "app.log%new").unlink()
    mirror = FileMirror.open(path)
    asyncio.run(tell(mirror, batch(0, b"old"), proof(3)))
    (tmp_path / "app.log%new").symlink_to(outside)
    with pytest.raises(SinkError, match="cannot begin a new generation beside"):
        asyncio.run(tell(mirror, ANOTHER))
    asyncio.run(mirror.close())
    assert (outside.read_bytes(), path.read_bytes()) == (b"mine", b"old")


def test_a_file_that_somebody_else_put_there_is_not_overwritten(path: Path) -> None:
    path.with_name("theirs").write_bytes(b"somebody else's")

    async def run() -> None:
        mirror = FileMirror.open(path)
        await tell(mirror, batch(0, b"old"), proof(3), ANOTHER, batch(0, b"new", 1))
        os.replace(path.with_name("theirs"), path)
        with pytest.raises(SinkError, match=r"app.log' was deleted or replaced while"):
            await tell(mirror, proof(3))
        await mirror.close()

    asyncio.run(run())
    assert path.read_bytes() == b"somebody else's"


def test_a_second_mirror_is_kept_out_before_and_after_the_change(path: Path) -> None:
    async def run() -> None:
        mirror = FileMirror.open(path)
        for steps in ([batch(0, b"old"), proof(3)], [ANOTHER, batch(0, b"new", 1)], [proof(3)]):
            await tell(mirror, *steps)
            with pytest.raises(SinkError, match="another mirror writes to it"):
                FileMirror.open(path)
        await mirror.close()

    asyncio.run(run())


def test_a_mirror_that_waited_at_the_door_gets_the_new_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It opened the old file just before that was replaced: a lock on what has no name any more is worth nothing."""
    from tailer.sinks import file

    path.write_bytes(b"old")
    lock, seen = file._lock, []

    def replaced_before_the_lock(descriptor: int, path: Path) -> None:
        if not seen:
            (path.parent / "other").write_bytes(b"newer")
            os.replace(path.parent / "other", path)
        seen.append(descriptor)
        lock(descriptor, path)

    monkeypatch.setattr(file, "_lock", replaced_before_the_lock)
    assert drive(FileMirror.open(path)).offset == 5
    assert len(seen) == 2


def test_below_a_folder_no_key_can_name_the_new_or_a_kept_file(tmp_path: Path) -> None:
    keys = ["a", "a%new", "a%g0"]
    for key in keys:
        ref = ObjectRef("b", key)
        mirror = FileMirror.open_below(tmp_path, ref, keep_generations=True)
        drive(mirror, batch(0, b"old"), proof(3), ANOTHER, batch(0, key.encode(), 1), proof(len(key)))
    assert files(tmp_path / "b") == {
        "a": b"a",
        "a%g0": b"old",
        "a%25new": b"a%new",
        "a%25new%g0": b"old",
        "a%25g0": b"a%g0",
        "a%25g0%g0": b"old",
    }


@pytest.mark.parametrize("key", ["k" * 250, "日" * 83 + "k", "k" * 251, "k" * 250 + "/x"])
def test_the_longest_names_have_room_for_their_neighbours(tmp_path: Path, key: str) -> None:
    ref = ObjectRef("b", key)
    steps = [batch(0, b"old"), proof(3), ANOTHER, batch(0, b"new", 1), proof(3)]
    drive(FileMirror.open_below(tmp_path, ref, keep_generations=True), *steps)
    found = {path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {b"old", b"new"}


def test_no_descriptor_is_left_open(path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    drive(FileMirror.open(path, fsync=AT_CLOSE), batch(0, b"old"), proof(3), ANOTHER, batch(0, b"new", 1), proof(3))
    drive(FileMirror.open(path), proof(3), ANOTHER, batch(0, b"x", 1))
    drive(FileMirror.open(path), batch(1, b"?"), error=ChainBroken("x"))
    assert len(os.listdir("/proc/self/fd")) == before


HOSTILE = [
    *("../../etc/passwd", "/etc/passwd", "a/../../b", "..", ".", "./a", "//", "/", "a/", "a//b", "a/./b"),
    *("nul\0key", "con", "dots...", " space ", "new\nline", "esc\x1b[2J", "back\\slash", "~", "-o", "%2e%2e"),
    *("a", "a/b", "a/b/c", "a%", "a%/b", "a%new", "a%ok", "a%g0", "k" * 255, "k" * 1023, "k" * 300 + "/k"),
]


def test_whatever_a_key_is_its_file_lies_in_the_folder_and_is_its_own(tmp_path: Path) -> None:
    """Each with a second generation that is not proven, so that every neighbour stands there as well."""
    folder = tmp_path / "in" / "mirrors"
    for key in HOSTILE:
        old = f"old {key}".encode()
        steps = [batch(0, old), proof(len(old)), ANOTHER, batch(0, key.encode(), 1)]
        drive(FileMirror.open_below(folder, ObjectRef("b", key)), *steps)
    for key in HOSTILE:
        drive(FileMirror.open_below(folder, ObjectRef("b", key)), proof(len(key.encode())))
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(path.read_bytes() for path in found) == sorted(key.encode() for key in HOSTILE)
    assert all(path.is_relative_to(folder / "b") for path in found)
