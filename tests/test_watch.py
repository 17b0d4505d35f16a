"""A followed local file is one stream: nothing lost, doubled or reordered, whatever is done to the file."""

from __future__ import annotations

import gzip
import os
import random
import shutil
from pathlib import Path

import pytest

from tailer.core import crc64
from tailer.core.position import Position
from tailer.errors import CheckpointError, PositionConflict, SourceLost
from tailer.watch import FileFollower, Mark, load_mark, save_mark


class Reader:
    """Reads what there is, like the command, and can die and come back with what the object and the mark say."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.object = b""
        self.mark: Mark | None = None
        self.notes: list[str] = []
        self.now = 0.0
        self.start()

    def start(self, *, skip_lost: bool = False) -> None:
        self.follower = FileFollower(self.path, on_note=self.notes.append, skip_lost=skip_lost, clock=lambda: self.now)
        self.follower.resume(self.mark, Position(len(self.object), crc64.update(self.object)))

    def restart(self, *, lost: int = 0, skip_lost: bool = False) -> None:
        """As after a crash, in which the last `lost` bytes did not reach the object."""
        self.follower.close()
        self.object = self.object[: len(self.object) - lost]
        self.start(skip_lost=skip_lost)

    def read(self) -> bytes:
        """All that comes until there is nothing, long after the last change."""
        quiet = 0
        while quiet < 3:
            news = self.follower.poll()
            if isinstance(news, Mark):
                assert news.start == Position(len(self.object), crc64.update(self.object))
                self.mark = news
            elif news is not None:
                self.object += news
            else:
                self.now += 1
                quiet += 1
        return self.object


def add(path: Path, data: bytes) -> None:
    # Times of files have the resolution of the kernel's clock tick: rotation is slower than that.
    with path.open("ab") as file:
        file.write(data)
    tick(path)


_clock = [1_000_000_000]


def tick(path: Path) -> None:
    _clock[0] += 1
    os.utime(path, ns=(_clock[0] * 10**9, _clock[0] * 10**9))


def make_room(log: Path) -> None:
    """As logrotate does: app.log.1 becomes app.log.2, so that app.log can become app.log.1."""
    for number in range(99, 0, -1):
        if (old := log.with_name(f"{log.name}.{number}")).exists():
            old.rename(log.with_name(f"{log.name}.{number + 1}"))


def rename(log: Path) -> None:
    make_room(log)
    log.rename(log.with_name(f"{log.name}.1"))


def copy_and_truncate(log: Path) -> None:
    make_room(log)
    copy = log.with_name(f"{log.name}.1")
    shutil.copyfile(log, copy)
    tick(copy)
    os.truncate(log, 0)
    tick(log)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


@pytest.fixture
def reader(log: Path) -> Reader:
    """Has read two lines."""
    add(log, b"one\ntwo\n")
    reader = Reader(log)
    assert reader.read() == b"one\ntwo\n"
    return reader


@pytest.mark.parametrize("rotate", [rename, copy_and_truncate])
@pytest.mark.parametrize("is_down", [False, True])
def test_what_came_before_a_rotation_comes_before_what_came_behind(reader: Reader, log: Path, rotate, is_down) -> None:  # type: ignore[no-untyped-def]
    add(log, b"three\n")
    rotate(log)
    add(log, b"four\n")
    if is_down:
        reader.restart(lost=2)
    assert reader.read() == b"one\ntwo\nthree\nfour\n"


@pytest.mark.parametrize("rotate", [rename, copy_and_truncate])
@pytest.mark.parametrize("lost", [0, 1, 8])
def test_several_rotations_while_down_are_made_good_in_order(reader: Reader, log: Path, rotate, lost) -> None:  # type: ignore[no-untyped-def]
    expected = b"one\ntwo\n"
    for number in range(5):
        add(log, line := b"line %d\n" % number)
        expected += line
        rotate(log)
        add(log, line := b"then %d\n" % number)
        expected += line
    reader.restart(lost=lost)
    assert reader.read() == expected
    reader.restart(lost=3)
    assert reader.read() == expected


def test_a_renamed_file_is_read_on_until_its_successor_has_bytes(reader: Reader, log: Path) -> None:
    rename(log)
    log.touch()
    reader.read()
    add(log.with_name("app.log.1"), b"late\n")
    assert reader.read() == b"one\ntwo\nlate\n"
    add(log, b"new\n")
    assert reader.read() == b"one\ntwo\nlate\nnew\n"


def test_a_deleted_file_is_waited_for_and_begun_anew(reader: Reader, log: Path) -> None:
    add(log, b"three\n")
    log.unlink()
    assert reader.read() == b"one\ntwo\nthree\n"
    assert any("waiting for it" in note for note in reader.notes)
    add(log, b"four\n")
    assert reader.read() == b"one\ntwo\nthree\nfour\n"


def test_a_file_that_is_not_there_yet_is_waited_for(log: Path) -> None:
    reader = Reader(log)
    assert reader.read() == b""
    assert len(reader.notes) == 1
    add(log, b"one\n")
    assert reader.read() == b"one\n"


def test_truncated_without_a_copy_it_begins_anew_and_says_what_may_be_lost(reader: Reader, log: Path) -> None:
    os.truncate(log, 0)
    add(log, b"longer than it was before\n")
    assert reader.read() == b"one\ntwo\nlonger than it was before\n"
    assert [note for note in reader.notes if "behind byte 8" in note]


def test_what_is_not_to_be_found_is_an_error_and_by_option_left_out(reader: Reader, log: Path) -> None:
    log.unlink()
    add(log, b"new\n")
    with pytest.raises(SourceLost, match="8 bytes"):
        reader.restart()
    reader.restart(skip_lost=True)
    assert reader.read() == b"one\ntwo\nnew\n"
    assert any("going on" in note for note in reader.notes)


def test_what_was_compressed_before_it_was_sent_is_an_error(reader: Reader, log: Path) -> None:
    rename(log)
    add(log, b"three\n")
    packed = log.with_name("app.log.1.gz")
    log.rename(log.with_name("app.log.0"))
    packed.write_bytes(gzip.compress(log.with_name("app.log.0").read_bytes()))
    tick(packed)
    add(log, b"four\n")
    with pytest.raises(SourceLost, match="compressed"):
        reader.restart()


def test_a_copy_that_somebody_made_is_not_sent_again(reader: Reader, log: Path) -> None:
    copy = log.with_name("app.log.2026-01-02")
    shutil.copyfile(log, copy)
    tick(copy)
    add(log, b"three\n")
    rename(log)
    add(log, b"four\n")
    assert reader.read() == b"one\ntwo\nthree\nfour\n"
    assert any("taken for a copy" in note for note in reader.notes)


class World:
    """A log that is written to and rotated in steps between which its reader looks, dies and comes back."""

    def __init__(self, log: Path, chance: random.Random) -> None:
        self.log, self.chance = log, chance
        self.written, self.lines = b"", 0
        self.copying = -1  # bytes copied, while it is
        self.write()
        self.reader = Reader(log)
        while not self.reader.object:  # before that it knows nothing of this file
            self.look()

    def write(self) -> None:
        if self.copying < 0:
            self.lines += 1
            line = b"%d " % self.lines * self.chance.randrange(1, 400) + b"\n"
            add(self.log, line)
            self.written += line

    def look(self) -> None:
        news = self.reader.follower.poll()
        if isinstance(news, Mark):
            if self.chance.random() < 0.1:
                self.die()  # and the mark is not kept
            else:
                self.reader.mark = news
        elif news is not None:
            self.reader.object += news

    def die(self) -> None:
        mark = self.reader.mark
        lost = self.chance.randrange(len(self.reader.object) - mark.start.offset + 1) if mark is not None else 0
        self.reader.restart(lost=self.chance.choice([0, lost]))

    def rename(self) -> None:
        if self.copying < 0 and self.log.exists():
            rename(self.log)

    def copy(self) -> None:
        """Some of it, all of it, and then truncate."""
        if self.copying < 0 and self.log.exists():
            make_room(self.log)
            self.copying = 0
        if self.copying >= 0:
            self.copy_more(self.log.read_bytes())

    def copy_more(self, data: bytes) -> None:
        if self.copying < len(data):
            end = self.chance.choice([self.copying, (self.copying + len(data)) // 2, len(data)])
            add(self.log.with_name("app.log.1"), data[self.copying : end])
            self.copying = end
        else:
            os.truncate(self.log, 0)
            tick(self.log)
            self.copying = -1

    def act(self) -> None:
        actions = [self.write, self.look, self.copy, self.rename, self.die]
        self.chance.choices(actions, [30, 50, 12, 3, 5])[0]()


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_and_however_often_it_dies_it_is_one_stream(log: Path, seed: int) -> None:
    world = World(log, random.Random(seed))
    for _ in range(300):
        world.act()
        assert world.written.startswith(world.reader.object)
    while world.copying >= 0:
        world.copy()
    world.write()
    assert world.reader.read() == world.written


def test_files_of_others_are_left_alone(reader: Reader, log: Path) -> None:
    for name in ("app.logs", "app.log.conf", "other.log.1", "app-x.log"):
        add(log.with_name(name), b"other\n")
    rename(log)
    add(log, b"three\n")
    assert reader.read() == b"one\ntwo\nthree\n"


def test_without_a_mark_the_object_must_be_the_beginning_of_the_file(log: Path) -> None:
    add(log, b"one\ntwo\n")
    reader = Reader(log)
    reader.object = b"one\n"
    reader.restart()
    assert reader.read() == b"one\ntwo\n"
    reader.object, reader.mark = b"two\n", None
    with pytest.raises(PositionConflict, match="not the beginning"):
        reader.restart()


def test_an_object_that_became_shorter_than_the_mark_is_another(reader: Reader, log: Path) -> None:
    rename(log)
    add(log, b"three\n")
    reader.read()
    with pytest.raises(PositionConflict, match="replaced"):
        reader.restart(lost=10)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        Reader(tmp_path)


def test_a_mark_is_kept_for_the_owner_alone_and_read_back(reader: Reader, log: Path, tmp_path: Path) -> None:
    rename(log)
    add(log, b"three\n")
    reader.read()
    assert reader.mark is not None
    kept = tmp_path / "kept"
    assert load_mark(kept, target="oss://b/k", source=log) is None
    save_mark(kept, reader.mark, target="oss://b/k", source=log)
    assert kept.stat().st_mode & 0o777 == 0o600
    assert load_mark(kept, target="oss://b/k", source=log) == reader.mark
    with pytest.raises(CheckpointError, match="is of"):
        load_mark(kept, target="oss://b/other", source=log)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "object": "o", "file": "/f"}'])
def test_a_file_that_is_no_mark_is_refused_and_left(tmp_path: Path, text: str) -> None:
    kept = tmp_path / "kept"
    kept.write_text(text)
    with pytest.raises(CheckpointError):
        load_mark(kept, target="o", source=Path("/f"))
    assert kept.read_text() == text


def test_a_mark_that_cannot_be_kept_is_an_error(reader: Reader, tmp_path: Path) -> None:
    assert reader.mark is not None
    with pytest.raises(CheckpointError):
        save_mark(tmp_path / "missing" / "kept", reader.mark, target="o", source=tmp_path)
