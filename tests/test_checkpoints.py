"""The checkpoint file: what is kept is kept, one owner at a time, and a file that is not right is left as it is."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from tailer import checkpoints
from tailer.checkpoints import Checkpoint, Checkpoints, CommitQueue, decode, encode, owner_of, read_all
from tailer.core.position import Mark, ObjectRef, Position
from tailer.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

A, B = ObjectRef("bucket", "a.log"), ObjectRef("bucket", "dir/b\n'\"é.log")
MARK = Mark(Position(50, 2**64 - 1, 3), Position(40, None, 2), inside=True)


def own(path: Path, group: str = "default") -> Checkpoints:
    return Checkpoints.open(path, group, owner="a test")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def made(path: Path) -> bytes:
    """A file with something in it, closed; its bytes."""
    with own(path) as mine:
        mine.commit({A: MARK, B: Mark.at(Position(7, 8))}, 1.5)
    return path.read_bytes()


def test_what_was_committed_is_there_for_the_next_owner(path: Path) -> None:
    made(path)
    with own(path) as mine:
        assert mine.load(A) == MARK
        assert mine.load(B) == Mark.at(Position(7, 8))
        assert mine.load(ObjectRef("bucket", "a.log", "https")) is None
        mine.commit({A: Mark.at(Position(0, 0, 4))}, 2.5)
        assert [(one.ref, one.committed_at) for one in mine.all()] == [(A, 2.5), (B, 1.5)]


def test_every_file_that_holds_state_is_for_its_owner_alone(path: Path) -> None:
    with own(path) as mine:
        mine.commit({A: MARK})
        names = [entry.name for entry in path.parent.iterdir()]
        assert set(names) == {"state.db", "state.db-wal", "state.db-shm", "state.db.default.lock"}
        assert {stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()} == {0o600}


def test_a_commit_goes_to_the_disk_itself(path: Path) -> None:
    """``synchronous=FULL`` (2): a commit that returned survives the loss of power."""
    with own(path) as mine:
        assert mine._database.execute("PRAGMA synchronous").fetchone() == (2,)
        assert mine._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


# --- groups


def test_one_group_s_reset_does_not_touch_another_s_state(path: Path) -> None:
    with own(path, "one") as one, own(path, "two") as two:
        one.commit({A: MARK, B: MARK})
        two.commit({A: MARK})
        assert one.reset(A) == 1
        assert one.reset(A) == 0
        assert [row.ref for row in one.all()] == [B]
        assert one.reset() == 1
        assert (one.all(), two.load(A)) == ([], MARK)


def test_a_second_owner_is_refused_at_once_and_hears_who_is_the_first(path: Path) -> None:
    with own(path, "billing"):
        with pytest.raises(CheckpointError) as caught:
            own(path, "billing")
        for part in ("'billing'", "a test", f"process {os.getpid()}", "since 20", "--group"):
            assert part in str(caught.value)
        own(path, "other").close()
    own(path, "billing").close()


def test_who_owns_a_group_can_be_asked_without_owning_it(path: Path) -> None:
    """And without making anything."""
    assert owner_of(path, "billing") is None
    assert list(path.parent.iterdir()) == []
    with own(path, "billing"):
        owner = owner_of(path, "billing")
        assert owner is not None
        assert owner.startswith(f"a test, process {os.getpid()} on ")
        assert owner_of(path, "other") is None
    assert owner_of(path, "billing") is None
    own(path, "billing").close()


def test_who_looks_at_that_very_moment_does_not_keep_a_group_from_its_owner(path: Path) -> None:
    """To ask who has a lock is to have it for an instant."""
    own(path, "billing").close()
    looking = os.open(checkpoints._lock_path(path, "billing"), os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    later = threading.Timer(0.05, os.close, [looking])
    later.start()
    own(path, "billing").close()
    later.join()


def test_the_owner_of_what_cannot_be_looked_at_is_an_error(path: Path) -> None:
    path.write_text("")
    with pytest.raises(ConfigError, match="cannot look at the lock"):
        owner_of(path / "inside", "billing")


def test_another_name_of_the_same_file_is_the_same_file(path: Path) -> None:
    (path.parent / "link.db").symlink_to(path)
    with own(path), pytest.raises(CheckpointError, match="in use"):
        own(path.parent / "link.db")


def test_kill_9_frees_the_group(path: Path) -> None:
    code = f"""if True:
        import time
        from tailer.checkpoints import Checkpoints
        mine = Checkpoints.open({str(path)!r}, "g", owner="the child")
        print("ready", flush=True)
        time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        with pytest.raises(CheckpointError, match=f"the child, process {child.pid}"):
            own(path, "g")
        child.send_signal(signal.SIGKILL)
        child.wait()
        own(path, "g").close()


@pytest.mark.parametrize("group", ["a/b", "../../etc", ".", " ", "é\n'\"", "x" * 200, "%2F", "-rf", "日本" * 30])
def test_odd_group_names_are_safe_as_file_names(path: Path, group: str) -> None:
    with own(path, group) as mine:
        mine.commit({A: MARK})
        assert mine.load(A) == MARK
        locks = [entry for entry in path.parent.iterdir() if entry.suffix == ".lock"]
        assert len(locks) == 1
        assert not set(locks[0].name) & set("/ \n'\"")
    assert sorted(entry.name for entry in path.parent.iterdir() if entry.suffix != ".lock") == ["state.db"]


def test_groups_that_look_alike_do_not_share_a_lock(path: Path) -> None:
    names = ["a/b", "a%2Fb", "a_b", "y" * 199 + "/", "y" * 199 + "."]
    assert len({checkpoints._lock_path(path, name) for name in names}) == len(names)


@pytest.mark.parametrize("group", ["", "x" * 201, "a\0b", "\udcff"])
def test_a_group_name_that_cannot_be_kept_is_refused(path: Path, group: str) -> None:
    with pytest.raises(ConfigError, match="group"):
        own(path, group)
    assert list(path.parent.iterdir()) == []


# --- files that are not right


def newer(path: Path) -> None:
    made(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA user_version = 99")


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE precious (x)")


def spoiled(path: Path) -> None:
    data = bytearray(made(path))
    data[4096:6000] = b"\xff" * (6000 - 4096)
    path.write_bytes(data)


def absurd(path: Path) -> None:
    """A whole file of ours with a CRC-64 in it that is none."""
    made(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("UPDATE checkpoint SET delivered_crc64 = 'x'")


WRONG = {
    "full of NULs": (lambda path: path.write_bytes(b"\0" * 8192), "full of zeros"),
    "empty": (lambda path: path.touch(), "empty"),
    "truncated within the header": (lambda path: path.write_bytes(made(path)[:60]), "cut short"),
    "truncated after the first page": (lambda path: path.write_bytes(made(path)[:4096]), "damaged"),
    "half a page": (lambda path: path.write_bytes(made(path)[:6000]), "damaged"),
    "spoiled": (spoiled, "damaged"),
    "absurd": (absurd, "damaged"),
    "newer": (newer, "version 99"),
    "foreign": (foreign, "not a checkpoint file"),
    "text": (lambda path: path.write_text("[default]\nregion=x\n" * 99), "not a checkpoint file"),
    "a folder": (lambda path: path.mkdir(), "Is a directory"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_not_right_is_refused_in_one_line_and_left_as_it_is(path: Path, name: str) -> None:
    spoil, words = WRONG[name]
    spoil(path)
    before = path.read_bytes() if path.is_file() else b""
    for attempt in (own, read_all):
        with pytest.raises(ConfigError) as caught:
            attempt(path)
        assert words in str(caught.value)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert before == (path.read_bytes() if path.is_file() else b"")


def test_a_folder_that_is_not_there(path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        own(path.parent / "nowhere" / "state.db")
    with pytest.raises(ConfigError, match="no such file"):
        read_all(path)


def test_a_file_that_may_only_be_read(path: Path) -> None:
    """It can be listed and not owned. Asked of SQLite itself, since root may write anything."""
    before = made(path)
    with closing(checkpoints._connect(path, writable=False)) as database, pytest.raises(sqlite3.OperationalError):
        checkpoints._prepare(database)
    assert [one.ref for one in read_all(path)] == [A, B]
    assert path.read_bytes() == before


def test_an_older_file_is_brought_up_to_date_whole_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(path)
    steps = (*checkpoints._MIGRATIONS, ("ALTER TABLE checkpoint ADD COLUMN note TEXT",))
    monkeypatch.setattr(checkpoints, "_MIGRATIONS", (*steps, ("no SQL",)))
    with pytest.raises(ConfigError, match="syntax"):
        own(path)
    monkeypatch.setattr(checkpoints, "_MIGRATIONS", steps)
    with own(path) as mine:
        assert mine.load(A) == MARK
        assert mine._database.execute("PRAGMA user_version").fetchone() == (len(steps),)
        assert mine._database.execute("SELECT note FROM checkpoint").fetchall() == [(None,), (None,)]
    monkeypatch.undo()
    with pytest.raises(ConfigError, match=f"version {len(steps)}"):
        own(path)


# --- commits


@contextmanager
def no_room(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_disk_full_then_free_again(path: Path) -> None:
    """A commit that failed left the one before; when there is room, the same call goes through."""
    with own(path) as mine:
        mine.commit({A: MARK})
        later = Mark.at(Position(99, 1))
        with no_room(os.path.getsize(f"{path}-wal")):
            for _ in range(3):
                with pytest.raises(CheckpointError, match="cannot write the checkpoint file"):
                    mine.commit({A: later, B: later})
            assert (mine.load(A), mine.load(B)) == (MARK, None)
        mine.commit({A: later, B: later})
    with own(path) as mine:
        assert (mine.load(A), mine.load(B)) == (later, later)


def test_a_file_is_never_half_made(path: Path) -> None:
    """Where no file may grow there is none, rather than a part of one that would be refused ever after."""
    with no_room(2000), pytest.raises(ConfigError, match="cannot make"):
        own(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["state.db.default.lock"]
    own(path).close()


@contextmanager
def telling(said: list[str]) -> Iterator[None]:
    """Notes what a CheckpointError says."""
    try:
        yield
    except CheckpointError as error:
        said.append(str(error))
        raise


@pytest.mark.parametrize("there", [False, True])
def test_however_little_room_is_left_on_the_disk(mounted: Callable[[str], Path], there: bool) -> None:
    """One line that names the file and why, nothing left behind, nothing lost; with room it goes on."""
    disk = mounted("size=128k")
    said = []
    for pages in range(24):
        path = disk / f"{pages}.db"
        if there:
            made(path)
        before = set(disk.iterdir())
        with (disk / "other").open("wb", buffering=0) as other:
            with contextlib.suppress(OSError):
                while True:
                    other.write(bytes(4096))
            other.truncate(max(0, other.tell() - 4096 * pages))
        with contextlib.suppress(CheckpointError), telling(said), own(path) as mine:
            mine.commit({A: Mark.at(Position(99, 1))})
        (disk / "other").unlink()
        assert all(one.name.startswith(path.name) for one in set(disk.iterdir()) - before)
        with own(path) as mine:
            known = mine.load(A)
            assert known in ((MARK if there else None), Mark.at(Position(99, 1)))
            mine.commit({A: Mark.at(Position(100, 1))})
        for one in disk.iterdir():
            one.unlink()
    assert 5 < len(said) < 24
    line = re.compile(
        rf"cannot (make|use|lock|write) the checkpoint file '{disk}/\d+.db': no space left on the disk( \(.*)?"
    )
    assert [one for one in said if not line.fullmatch(one)] == []


def test_kill_9_in_the_middle_of_commits_leaves_the_last_one_that_returned(path: Path) -> None:
    code = f"""if True:
        from tailer.checkpoints import Checkpoints
        from tailer.core.position import Mark, ObjectRef, Position
        mine = Checkpoints.open({str(path)!r}, "g", owner="the child")
        refs = [ObjectRef("bucket", name) for name in "ab"]
        for number in range(10**9):
            mine.commit({{ref: Mark.at(Position(number, 0)) for ref in refs}})
            print(number, flush=True)
    """
    for said in (1, 20, 50):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline() for _ in range(said)]
            child.kill()
            lines += child.stdout.read().splitlines()
        returned = int(lines[-1])
        offsets = {one.mark.delivered.offset for one in read_all(path)}
        assert offsets in ({returned}, {returned + 1}), "both objects, and the last that returned or the one under way"


def test_commits_of_many_threads_and_groups_all_arrive(path: Path) -> None:
    def work(mine: Checkpoints, name: str) -> None:
        for number in range(1, 51):
            mine.commit({ObjectRef("bucket", name): Mark.at(Position(number, 0))})

    with own(path, "one") as one, own(path, "two") as two:
        threads = [threading.Thread(target=work, args=(mine, f"{n}")) for mine in (one, two) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [row.mark.delivered.offset for mine in (one, two) for row in mine.all()] == [50] * 6


class Counting:
    """Stands for `Checkpoints`: notes each transaction, and refuses as often as it is told."""

    def __init__(self, refuse: int = 0) -> None:
        self.transactions: list[dict[ObjectRef, Mark]] = []
        self.refuse = refuse
        self.gate = threading.Event()

    def commit(self, marks: dict[ObjectRef, Mark]) -> None:
        assert self.gate.wait(10)
        if self.refuse:
            self.refuse -= 1
            raise CheckpointError("full")
        self.transactions.append(marks)


REFS = [ObjectRef("bucket", f"{number}") for number in range(50)]


def test_marks_that_come_while_the_disk_is_busy_share_a_transaction() -> None:
    async def scene() -> None:
        store = Counting()
        queue = CommitQueue(store)  # type: ignore[arg-type]
        tasks = [asyncio.create_task(queue.commit(ref, MARK)) for ref in REFS]
        await asyncio.sleep(0)
        store.gate.set()
        await asyncio.gather(*tasks)
        assert sum(map(len, store.transactions)) == 50
        assert len(store.transactions) <= 2

    asyncio.run(scene())


def test_a_shared_transaction_that_fails_is_nobody_s_success() -> None:
    async def scene() -> None:
        store = Counting(refuse=2)
        store.gate.set()
        queue = CommitQueue(store)  # type: ignore[arg-type]
        results = await asyncio.gather(*(queue.commit(ref, MARK) for ref in REFS), return_exceptions=True)
        assert sum(isinstance(result, CheckpointError) for result in results) == 2
        assert set().union(*store.transactions) == set(REFS)

    asyncio.run(scene())


def test_a_cancelled_commit_is_not_overtaken_by_a_later_one() -> None:
    async def scene() -> None:
        store = Counting()
        queue = CommitQueue(store)  # type: ignore[arg-type]
        first = asyncio.create_task(queue.commit(A, MARK))
        await asyncio.sleep(0)
        first.cancel()
        later = Mark.at(Position(1, 1))
        second = asyncio.create_task(queue.commit(A, later))
        await asyncio.sleep(0.01)
        assert not first.done()
        store.gate.set()
        await asyncio.gather(first, second, return_exceptions=True)
        assert first.cancelled()
        assert [one[A] for one in store.transactions] == [MARK, later]

    asyncio.run(scene())


# --- as text


def test_what_is_exported_is_what_is_imported() -> None:
    one = Checkpoint("g", B, MARK, 1.5)
    assert decode(encode(one)) == one
    assert encode(one).isascii()


@pytest.mark.parametrize(
    "change",
    [
        ('"g"', "1"), ('"g"', '""'), ("50", "-1"), ("50", "5.0"), ("50", "true"), ("50", str(1 << 63)), ("true", "1"),
        ("1.5", '"now"'), (str(2**64 - 1), str(2**64)), (f'"{2**64 - 1}"', "5"), ('"bucket"', '"pail"'), ("{", "["),
    ],
)  # fmt: skip
def test_a_line_that_is_not_right_is_refused(change: tuple[str, str]) -> None:
    line = encode(Checkpoint("g", A, MARK, 1.5)).replace(*change, 1)
    with pytest.raises(ConfigError):
        decode(line)


def test_several_are_found_at_once(path: Path) -> None:
    made(path)
    with own(path) as mine:
        found = mine.find([B, ObjectRef("bucket", "nobody"), A])
        assert {ref: one.mark for ref, one in found.items()} == {A: mine.load(A), B: mine.load(B)}


def test_since_when_an_object_is_not_followed_is_kept_until_it_is_again(path: Path) -> None:
    c = ObjectRef("bucket", "a.log", "https")
    with own(path) as mine, own(path, "other") as other:
        mine.commit({A: MARK, B: MARK, c: MARK})
        other.commit({A: MARK})
        mine.note_gone([A, B, c], 100.0)
        assert mine.gone_since(None, 2) == [(c, 100.0), (A, 100.0)]
        assert mine.gone_since(A, 2) == [(B, 100.0)]
        assert mine.gone_since(B, 2) == []
        mine.note_gone([A], None)
        mine.commit({B: MARK})
        assert mine.gone_since(None, 9) == [(c, 100.0), (A, None), (B, None)]
        assert other.gone_since(None, 9) == [(A, None)]


def test_what_a_group_has_not_listed_yet_is_known_to_the_next_process(path: Path) -> None:
    """Whatever checkpoints there are by then; and of one that has checkpoints before it first begins, nothing is."""
    with own(path) as mine:
        assert mine.begin(["x", "y", "y"]) == {"x", "y"}
        mine.commit({A: MARK})
        mine.listed(["x"])
    with own(path) as mine:
        assert mine.begin(["x", "y", "z"]) == {"y"}
        mine.listed(["y", "nobody"])
        assert mine.begin(["x", "y"]) == set()
        mine.reset(A)
        assert mine.begin(["x"]) == set()
        assert mine.reset() == 0
        assert mine.begin(["x"]) == {"x"}
        mine.reset()
        assert mine.begin(["y"]) == {"y"}
    with own(path, "other") as other:
        other.commit({A: MARK})
        assert other.begin(["x"]) == set()


def test_marks_are_committed_together(path: Path) -> None:
    """One transaction for all of them, and those of a commit that fails go with the next."""
    with own(path) as mine:
        queue = CommitQueue(mine)
        asyncio.run(queue.commit_all({A: MARK, B: MARK}))
        assert {one.ref for one in mine.all()} == {A, B}


def test_since_when_partitions_were_not_read_is_kept_for_each_group_and_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with Checkpoints.open(path, "one", owner="a test") as mine, Checkpoints.open(path, "two", owner="a test") as other:
        assert mine.unread() == {}
        mine.note_unread({"oss://b/%Y/*": 1_800_000_000.0, "oss://b/%m/*": 0.1})
        other.note_unread({"oss://b/%Y/*": 5.0})
        assert mine.unread() == {"oss://b/%Y/*": 1_800_000_000.0, "oss://b/%m/*": 0.1}
        mine.note_unread({"oss://b/%d/*": 2.0})
        assert mine.unread() == {"oss://b/%d/*": 2.0}
        mine.reset()
        assert (mine.unread(), other.unread()) == ({}, {"oss://b/%Y/*": 5.0})
