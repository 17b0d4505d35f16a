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
            quiet = 0 if self.look() else quiet + 1
            self.now += 1
        return self.object

    def look(self) -> bool:
        """Whether there is something."""
        news = self.follower.poll()
        if isinstance(news, Mark):
            assert news.start == Position(len(self.object), crc64.update(self.object))
            self.mark = news
        elif news is not None:
            self.object += news
        return news is not None


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


BANNER = b"# the same at the beginning of each file\n" * 50


def test_a_renamed_file_is_read_on_for_a_while_though_its_successor_waits(log: Path) -> None:
    add(log, b"one\n")
    reader = Reader(log)
    assert reader.read() == b"one\n"
    rename(log)
    add(log, b"two\n")
    rename(log)
    add(log, b"four\n")
    reader.restart()
    while reader.object != b"one\ntwo\n":
        reader.look()
        reader.now += 0.1
    assert not reader.look()
    add(log.with_name("app.log.1"), b"three\n")  # by one that has it open
    assert reader.read() == b"one\ntwo\nthree\nfour\n"


def test_half_a_second_begins_when_the_successor_has_bytes(reader: Reader, log: Path) -> None:
    reader.now += 100  # nobody looked
    rename(log)
    add(log, b"four\n")
    reader.look()
    add(log.with_name("app.log.1"), b"three\n")
    assert reader.read() == b"one\ntwo\nthree\nfour\n"


@pytest.mark.parametrize("naming", ["app.log.{}", "app.log-2026010{}", "app-2026010{}.log"])
def test_files_of_the_same_time_are_all_sent_in_order(reader: Reader, log: Path, naming: str) -> None:
    assert reader.mark is not None
    for number in range(1, 6):
        if "-" not in naming:
            make_room(log)
        log.rename(log.with_name(naming.format(number if "-" in naming else 1)))
        log.write_bytes(b"line %d\n" % number)
    for path in log.parent.iterdir():
        os.utime(path, ns=(reader.mark.began, reader.mark.began))
    reader.restart()
    assert reader.read() == b"one\ntwo\n" + b"".join(b"line %d\n" % number for number in range(1, 6))


@pytest.mark.parametrize("rotate", [rename, copy_and_truncate])
@pytest.mark.parametrize("lost", [0, 100, 1500, 3000])
def test_files_that_begin_alike_are_told_apart(log: Path, rotate, lost: int) -> None:  # type: ignore[no-untyped-def]
    expected = BANNER + b"a long line of the first file, longer than all that come behind it\n"
    add(log, expected)
    reader = Reader(log)
    assert reader.read() == expected
    for number in range(4):
        rotate(log)
        add(log, data := BANNER + b"%d\n" % number)
        expected += data
    reader.restart(lost=lost % len(reader.object))
    assert reader.read() == expected
    assert not any("copy" in note for note in reader.notes)


def test_one_that_has_no_more_than_the_others_begin_with_is_told(log: Path) -> None:
    add(log, BANNER + b"one\n")
    reader = Reader(log)
    reader.read()
    rename(log)
    add(log, BANNER)
    rename(log)
    add(log, BANNER + b"two\n")
    assert reader.read() == BANNER + b"one\n" + BANNER + b"two\n"
    assert [note for note in reader.notes if "app.log.1 has 2050 bytes" in note and "taken for a copy" in note]


def test_copies_that_somebody_made_of_what_waits_are_not_sent(reader: Reader, log: Path) -> None:
    for number in range(3):
        rename(log)
        add(log, b"line %d\n" % number)
        shutil.copyfile(log, copy := log.with_name(f"app.log-{number}"))
        tick(copy)
        add(log, b"then %d\n" % number)
    reader.restart()
    assert reader.read() == b"one\ntwo\n" + b"".join(b"line %d\nthen %d\n" % (number, number) for number in range(3))
    assert len([note for note in reader.notes if "taken for a copy" in note]) == 3


def test_what_was_rotated_away_before_the_first_start_is_never_sent(log: Path) -> None:
    add(log, b"")
    add(old := log.with_name("app.log.1"), b"old\n")
    reader = Reader(log)
    reader.read()
    add(old, b"late\n")
    add(log, b"one\n")
    assert reader.read() == b"one\n"
    rename(log)
    add(log.with_name("app.log.2"), b"later\n")
    add(log, b"two\n")
    reader.restart()
    assert reader.read() == b"one\ntwo\n"


@pytest.mark.parametrize("is_removed", [True, False])
def test_one_that_went_away_before_its_first_byte_was_read_is_read(reader: Reader, log: Path, is_removed: bool) -> None:
    rename(log)
    add(log, b"three\n")
    while reader.mark is None or reader.mark.start.offset == 0:
        reader.look()
        reader.now += 1
    log.unlink() if is_removed else log.rename(log.with_name("elsewhere"))
    add(log, b"four\n")
    assert reader.read() == b"one\ntwo\nthree\nfour\n"


def test_a_link_to_the_present_file_is_followed_from_file_to_file(tmp_path: Path) -> None:
    link = tmp_path / "app.log"
    for day in range(1, 4):
        add(tmp_path / f"app-2026010{day}.log", b"day %d\n" % day)
        link.unlink(missing_ok=True)
        link.symlink_to(f"app-2026010{day}.log")
        if day == 1:
            reader = Reader(link)
        reader.read()
    assert reader.object == b"day 1\nday 2\nday 3\n"
    assert not any("taken for a copy" in note for note in reader.notes)


@pytest.mark.parametrize("name", ["app.log-20260102.gz", "app-20260102.log.gz", "app.2026-01-02.log.zst"])
def test_one_in_between_that_was_compressed_is_an_error_under_each_name(reader: Reader, log: Path, name: str) -> None:
    rename(log)
    add(packed := log.with_name(name), b"in between, compressed")
    add(log, b"four\n")
    with pytest.raises(SourceLost, match="compressed"):
        reader.restart()
    assert packed.exists()


def test_another_file_that_begins_with_what_was_sent_is_gone_on_with_and_it_is_said(log: Path) -> None:
    add(log, BANNER)
    reader = Reader(log)
    reader.read()
    add(log, b"never seen\n")
    log.rename(log.with_name("elsewhere"))
    add(log, BANNER + b"two\n")
    reader.restart()
    assert reader.read() == BANNER + b"two\n"
    assert any("not there any more: going on in" in note for note in reader.notes)


def test_one_that_was_empty_when_it_was_begun_and_is_not_there_any_more_is_said(log: Path) -> None:
    log.touch()
    reader = Reader(log)
    reader.look()
    add(log, b"never seen\n")
    log.rename(log.with_name("elsewhere"))
    add(log, b"two\n")
    reader.restart()
    assert reader.read() == b"two\n"
    assert any("is not there" in note for note in reader.notes)


class World:
    """A log that is written to and rotated in steps between which its reader looks, dies and comes back.

    `files` is what each file in its turn has had. A file can begin with a banner, which all have; times have the
    resolution of the kernel's clock tick, and copies can keep them; a renamed file gets bytes for a while when its
    successor does already. `may_lose`: a file was removed, so that an error is as good as its bytes.
    """

    def __init__(self, log: Path, chance: random.Random) -> None:
        self.log, self.chance = log, chance
        self.banner = chance.choice([b"", b"", b"# banner\n" * 160, b"# long banner\n" * 300])
        self.naming = chance.choice(["app.log.{}", "app.log-202601{:02}", "app-202601{:02}.log"])
        self.keeps_times, self.with_lines = chance.random() < 0.3, chance.random() < 0.4
        self.step = chance.choice([0.004, 0.05, 0.3])
        self.now, self.lines, self.rotations = 0.0, 0, 0
        self.renamed_at = self.wrote_at = self.wrote_late_at = -9.0
        self.late: Path | None = None
        self.copying = -1  # bytes copied, while it is
        self.may_lose = False
        self.files: list[bytes] = []
        self.held = b""  # a line without its end
        self.begin()
        self.write()
        self.reader = Reader(log)
        while not self.reader.object:  # before that it knows nothing of this file
            self.look()
            self.write()

    @property
    def written(self) -> bytes:
        return b"".join(self.files)

    # --- who writes

    def begin(self) -> None:
        self.log.touch()
        self.stamp(self.log)
        self.files.append(b"")

    def stamp(self, path: Path) -> None:
        time = 10**18 + int(self.now * 250) * 4_000_000
        os.utime(path, ns=(time, time))

    def line(self) -> bytes:
        self.lines += 1
        end = b"\n" if self.chance.random() < 0.9 else b" half"
        return b"%d " % self.lines * self.chance.randrange(1, 400) + end

    def write(self) -> None:
        if self.copying >= 0:
            return
        if not self.log.exists():
            self.begin()
        data = (b"" if self.files[-1] else self.banner) + self.line()
        with self.log.open("ab") as file:
            file.write(data)
        self.stamp(self.log)
        self.files[-1] += data
        self.wrote_at = self.now

    def write_late(self) -> None:
        if self.late is None or self.copying >= 0 or self.now > self.renamed_at + 0.4:
            self.late = None
            return
        with self.late.open("ab") as file:
            file.write(data := self.line())
        self.stamp(self.late)
        place = -2 if self.log.exists() else -1
        self.files[place] += data
        self.wrote_late_at = self.now

    # --- who rotates

    def is_out_of_order(self) -> bool:
        """Of two files that get bytes by turns, times do not tell which was begun first."""
        return self.wrote_at < self.wrote_late_at + 0.004

    def next_name(self) -> Path:
        self.rotations += 1
        if "-" not in self.naming:
            make_room(self.log)
        return self.log.with_name(self.naming.format(self.rotations if "-" in self.naming else 1))

    def rename(self) -> None:
        if self.copying >= 0 or self.late is not None or self.is_out_of_order() or not self.log.exists():
            return
        self.log.rename(to := self.next_name())
        self.renamed_at = self.now
        if self.files[-1] and self.chance.random() < 0.5:
            self.late = to
        elif self.chance.random() < 0.5:
            self.begin()

    def copy(self) -> None:
        """Some of it, all of it, and then truncate."""
        if self.copying < 0:
            if self.is_out_of_order() or not self.log.exists():
                return
            self.copying, self.late, self.target = 0, None, self.next_name()
        if not self.target.exists() or self.copying < len(self.files[-1]):
            self.copy_more(self.files[-1])
        elif self.reader.follower._file is None or not 0 < self.reader.follower._file.at <= len(self.banner):
            # else it could get the same banner again, and nobody sees that it was truncated
            os.truncate(self.log, 0)
            self.stamp(self.log)
            self.files.append(b"")
            self.copying = -1

    def copy_more(self, data: bytes) -> None:
        end = self.chance.choice([self.copying, (self.copying + len(data)) // 2, len(data)])
        with self.target.open("ab") as file:
            file.write(data[self.copying : end])
        self.stamp(self.target)
        if end == len(data) and self.keeps_times:
            shutil.copystat(self.log, self.target)
        self.copying = end

    def remove(self) -> None:
        file = self.reader.follower._file
        is_being_read = file is not None and self.log.exists() and file.is_at(self.log) and file.is_intact()
        if self.copying < 0 and is_being_read and self.chance.random() < 0.2:
            self.log.unlink()
            self.late, self.may_lose = None, True

    # --- who reads

    def look(self) -> bool:
        news = self.reader.follower.poll()
        if isinstance(news, Mark):
            self.reader.object += self.held
            self.held = b""
            assert news.start == Position(len(self.reader.object), crc64.update(self.reader.object))
            if self.chance.random() < 0.1:
                self.die()  # and the mark is not kept
            else:
                self.reader.mark = news
        elif news is not None:
            news = self.held + news
            end = news.rfind(b"\n") + 1 if self.with_lines else len(news)
            self.reader.object += news[:end]
            self.held = news[end:]
        return news is not None

    def die(self) -> None:
        mark = self.reader.mark
        lost = self.chance.randrange(len(self.reader.object) - mark.start.offset + 1) if mark is not None else 0
        self.held = b""
        self.reader.restart(lost=self.chance.choice([0, lost]))

    def lose_the_mark(self) -> None:
        other = FileFollower(self.log, on_note=print)
        if len(self.files) > 1 and len(self.reader.object) > len(self.banner) + 100 and not self.may_lose:
            end = Position(len(self.reader.object), crc64.update(self.reader.object))
            with pytest.raises(PositionConflict):
                other.resume(None, end)

    def act(self) -> None:
        self.now += self.chance.random() * self.step
        self.reader.now = self.now
        actions = [self.write, self.write_late, self.look, self.copy, self.rename, self.die, self.remove,
                   self.lose_the_mark]  # fmt: skip
        self.chance.choices(actions, [30, 10, 60, 12, 3, 5, 1, 1])[0]()

    def read(self) -> None:
        """All that comes until there is nothing, long after the last change."""
        quiet = 0
        while quiet < 3:
            quiet = 0 if self.look() else quiet + 1
            self.now += 1
            self.reader.now = self.now


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_and_however_often_it_dies_it_is_one_stream(log: Path, seed: int) -> None:
    world = World(log, random.Random(seed))
    try:
        for _ in range(300):
            world.act()
            assert world.written.startswith(world.reader.object) or is_told(world)
        while world.copying >= 0:
            world.look()
            world.copy()
        world.now += 1
        world.write()
        world.read()
        assert world.reader.object + world.held == world.written or is_told(world)
    except SourceLost:
        assert world.may_lose


def is_told(world: World) -> bool:
    """That a file was removed, where another one, with the same banner, could pass for it."""
    words = ("not there", "taken for a copy")
    return world.may_lose and any(word in note for note in world.reader.notes for word in words)


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
