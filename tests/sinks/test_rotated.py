"""`RotatedMirror`: segments that are, one after the other, a prefix of the object at every moment."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailer.core import crc64
from tailer.core.events import Batch, Event, Replaced, Rewound, Verified
from tailer.core.options import Follow, TailOptions
from tailer.core.position import Mark, ObjectRef, Position
from tailer.errors import ChainBroken, ObjectReplaced, SinkError, TailerError
from tailer.sinks.fsync import AT_CLOSE, EACH_BATCH, NEVER, Fsync
from tailer.sinks.rotated import RotatedMirror
from tests.core.playing import FORMER, LATTER, replaced_between_proofs

if TYPE_CHECKING:
    from collections.abc import Callable

REF = ObjectRef("b", "logs/app.log")
ANOTHER = Replaced(1, "its version changed")


def batch(start: int, data: bytes, delimiter: bytes | None = None) -> Batch:
    return Batch(REF, 0, start, start + len(data), data, verified=False, delimiter=delimiter)


def proof(data: bytes) -> Verified:
    return Verified(Position(len(data), crc64.update(data, 0)))


def drive(path: Path, *steps: Event, size: int = 4, fsync: Fsync = NEVER, error: TailerError | None = None) -> Mark:
    """Resume, tell the steps, settle with `error` if there is one, and close whatever happens."""

    async def run() -> Mark:
        mirror = RotatedMirror.open(path, rotate_size=size, fsync=fsync)
        try:
            mark = await mirror.resume()
            for step in steps:
                await (mirror.write(step) if isinstance(step, Batch) else mirror.notice(step))
            if error is not None:
                mirror.settle(error)
        finally:
            await mirror.close()
        return mark

    return asyncio.run(run())


def segments(path: Path, generation: str = "") -> dict[int, bytes]:
    found = sorted(path.parent.glob(f"{path.name}{generation}.*"))
    return {int(one.suffix[1:]): one.read_bytes() for one in found}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app"


@pytest.mark.parametrize("fsync", [NEVER, AT_CLOSE, EACH_BATCH])
def test_raw_bytes_are_cut_exactly_at_the_size(path: Path, fsync: Fsync) -> None:
    drive(path, batch(0, b"abcdef"), batch(6, b"ghi"), fsync=fsync)
    assert segments(path) == {0: b"abcd", 4: b"efgh", 8: b"i"}


def test_records_stay_whole_and_a_long_one_has_a_segment_of_its_own(path: Path) -> None:
    drive(path, batch(0, b"a\nb\nlonger\nc\n", b"\n"), batch(13, b"dd\n", b"\n"))
    assert segments(path) == {0: b"a\nb\n", 4: b"longer\n", 11: b"c\n", 13: b"dd\n"}


def test_the_next_run_goes_on_with_another_size(path: Path) -> None:
    drive(path, batch(0, b"abcdef"), proof(b"abcdef"))
    mark = drive(path, batch(6, b"ghijkl"), size=100)
    whole = Position(6, crc64.update(b"abcdef", 0))
    assert mark == Mark(whole, whole)
    assert segments(path) == {0: b"abcd", 4: b"efghijkl"}


def test_a_rewind_takes_segments_away_and_cuts_one_back(path: Path) -> None:
    drive(path, batch(0, b"abcdefghij"), Rewound(0, 6, 10), batch(6, b"xy"))
    assert segments(path) == {0: b"abcd", 4: b"efxy"}


def test_what_was_not_proven_before_a_kill_is_known(path: Path) -> None:
    drive(path, batch(0, b"abcde"), proof(b"abcde"), batch(5, b"fghi"))
    mark = drive(path, Rewound(0, 5, 9))
    assert (mark.delivered.offset, mark.verified) == (9, proof(b"abcde").position)
    assert segments(path) == {0: b"abcd", 4: b"e"}


def test_a_broken_chain_cuts_back_to_what_is_proven(path: Path) -> None:
    drive(path, batch(0, b"abcde"), proof(b"abcde"), batch(5, b"fghi"), error=ChainBroken("another CRC-64"))
    assert segments(path) == {0: b"abcd", 4: b"e"}


def test_a_new_generation_has_segments_of_its_own(path: Path) -> None:
    drive(path, batch(0, b"abcde"), proof(b"abcde"), ANOTHER, batch(0, b"vwxyz"), proof(b"vwxyz"))
    assert segments(path) == {0: b"abcd", 4: b"e"}
    assert segments(path, "%g1") == {0: b"vwxy", 4: b"z"}
    assert drive(path).delivered == proof(b"vwxyz").position


def test_a_rewind_behind_the_last_proof_leaves_the_old_segments(path: Path) -> None:
    player = replaced_between_proofs(TailOptions(follow=Follow.NAME))
    drive(path, *player.events, size=8)
    assert segments(path) == {0: FORMER[:8], 8: FORMER[8:10]}
    assert b"".join(segments(path, "%g1").values()) == LATTER


def test_a_new_generation_that_is_never_proven_goes_again(path: Path) -> None:
    drive(path, batch(0, b"abcde"), proof(b"abcde"), ANOTHER, batch(0, b"vwxyz"), error=ChainBroken("another CRC-64"))
    assert [one.name for one in sorted(path.parent.iterdir())] == [f"app.{0:020}", f"app.{4:020}"]


def test_segments_of_something_else_are_left_alone(path: Path) -> None:
    drive(path, batch(0, b"abcdef"))
    for later in path.parent.glob("*%ok"):
        later.unlink()
    with pytest.raises(ObjectReplaced, match="are not the beginning of the object"):
        drive(path, Rewound(0, 0, 6))
    assert segments(path) == {0: b"abcd", 4: b"ef"}


@pytest.mark.parametrize("gone", [0, 4])
def test_a_gap_is_one_error_and_nothing_changes(path: Path, gone: int) -> None:
    drive(path, batch(0, b"abcdefghij"), proof(b"abcdefghij"))
    Path(f"{path}.{gone:020}").unlink()
    before = segments(path)
    with pytest.raises(SinkError, match=f"do not join: byte {gone} is wanted"):
        drive(path)
    assert segments(path) == before


def test_two_mirrors_never_write_the_same_segments(path: Path) -> None:
    async def run() -> None:
        mirror = RotatedMirror.open(path, rotate_size=4)
        try:
            await mirror.write(batch(0, b"abcdef"))
            with pytest.raises(SinkError, match="another mirror writes to it"):
                RotatedMirror.open(path)
        finally:
            await mirror.close()

    asyncio.run(run())
    assert segments(path) == {0: b"abcd", 4: b"ef"}


def open_below(folder: Path) -> None:
    asyncio.run(RotatedMirror.open_below(folder, REF).close())


def test_below_a_folder_no_link_is_followed(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "logs").symlink_to(outside)
    with pytest.raises(SinkError, match="a symbolic link, which could lead out of the folder"):
        open_below(folder)
    (folder / "b" / "logs").unlink()
    (folder / "b" / "logs").mkdir()
    (folder / "b" / "logs" / f"app.log.{0:020}").symlink_to(outside / "file")
    with pytest.raises(SinkError, match=r"cannot mirror to '.*app.log.0{20}': Too many levels of symbolic links"):
        open_below(folder)
    assert list(outside.iterdir()) == []


def test_below_a_folder_the_segments_of_others_are_not_taken_for_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / "b" / "logs"
    folder.mkdir(parents=True)
    (folder / f"app.log.{4:020}").write_bytes(b"ours")
    (folder / f"app.log.1.{0:020}").write_bytes(b"another's")
    with pytest.raises(SinkError, match="do not join: byte 0 is wanted"):
        open_below(tmp_path)
    (folder / f"app.log.{4:020}").unlink()
    open_below(tmp_path)
    assert sorted(one.name for one in folder.iterdir()) == [f"app.log.{0:020}", f"app.log.1.{0:020}"]


class Killed(BaseException):
    """Nobody may handle it."""


def test_a_kill_between_any_two_steps_leaves_segments_that_join(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of writes over several segments, a rewind over several, and another object: at every call of the system."""
    old, new = b"abcdefghijklm", b"ABCDEFGHIJ"
    steps: list[Event | Batch] = [
        batch(0, old[:6]), proof(old[:6]), batch(6, old[6:]), Rewound(0, 6, 13), batch(6, old[6:]), proof(old),
        ANOTHER, batch(0, new), Rewound(0, 0, 10), batch(0, new[:7]), proof(new[:7]), batch(7, new[7:]),
    ]  # fmt: skip

    async def run(path: Path, survives: int) -> bool:
        """Was it over before the kill?"""
        mirror, left = RotatedMirror.open(path, rotate_size=4), [survives]
        await mirror.resume()

        def mortal(function: Callable[..., int]) -> Callable[..., int]:
            def call(*arguments: object, **named: object) -> int:
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return function(*arguments, **named)

            return call

        with monkeypatch.context() as patch:
            for name in ("open", "pwrite", "unlink", "ftruncate"):
                patch.setattr(os, name, mortal(getattr(os, name)))
            try:
                for step in steps:
                    await (mirror.write(step) if isinstance(step, Batch) else mirror.notice(step))
            except Killed:
                os.close(mirror._descriptor)
                os.close(mirror._locked_first)
                return False
        await mirror.close()
        return True

    for survives in itertools.count():
        path = tmp_path / f"after{survives}"
        over = asyncio.run(run(path, survives))
        first, second = (b"".join(segments(path, generation).values()) for generation in ("", "%g1"))
        assert old.startswith(first)
        assert new.startswith(second)
        begun = Path(f"{path}%g1.{0:020}").exists()
        assert drive(path).delivered == proof(second if begun else first).position
        if over:
            break
    assert survives > 30


@given(
    data=st.binary(min_size=1, max_size=60),
    runs=st.lists(
        st.tuples(st.integers(1, 9), st.lists(st.tuples(st.sampled_from("wwwvr"), st.integers(1, 20)), max_size=6))
    ),
)
@settings(max_examples=60, deadline=None)
def test_any_sequence_leaves_a_prefix_and_resumes_there(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, runs: list[tuple[int, list[tuple[str, int]]]]
) -> None:
    """Writes, proofs and rewinds, over runs of different sizes."""
    path = tmp_path_factory.mktemp("any") / "app"
    offset = proven = 0
    for size, steps in runs:
        told: list[Event | Batch] = []
        for what, count in steps:
            if what == "w" and (end := min(len(data), offset + count)) > offset:
                told.append(batch(offset, data[offset:end]))
                offset = end
            elif what == "v":
                told.append(proof(data[:offset]))
                proven = offset
            elif what == "r":
                told.append(Rewound(0, proven, offset))
                offset = proven
        drive(path, *told, size=size)
        assert b"".join(segments(path).values()) == data[:offset]
        mark = drive(path)
        assert mark.delivered == proof(data[:offset]).position
        assert mark.verified.offset == proven or mark.verified == mark.delivered
