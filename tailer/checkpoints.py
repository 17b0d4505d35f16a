"""Where reading goes on after a stop: one SQLite file, many groups, one owner of a group at a time.

What survives: a commit that returned survives kill -9 and the loss of power. The file is in WAL mode with
``synchronous=FULL``, so a commit costs one fsync of the log; readers and other groups are not held up by it.
A file that is not one of ours, is damaged, or was made by a newer version is refused and left as it is. It is
made under another name and linked into place, so that a crash never leaves half of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import socket
import sqlite3
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailer.core.position import Claim, Mark, ObjectRef, Position
from tailer.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Self

DEFAULT_GROUP = "default"

_APPLICATION_ID = 0x4F535354  # "OSST"; SQLite keeps it at byte 68 of the file (SQLite, "Database File Format")
_MAGIC = b"SQLite format 3\0"
_HEADER = 100
_BUSY = 5.0  # seconds to wait for a commit of another group
_HELD_TO_LOOK = 0.2  # seconds: `owner_of` has the lock for an instant, since flock(2) cannot be asked without taking it
_LONGEST_NAME = 200
_NO_ROOM = "no space left on the disk"
_UINT64 = 1 << 64

# Step n takes a file from version n to n + 1. A step that was released is never changed.
_MIGRATIONS = (
    (
        """
    CREATE TABLE checkpoint (
        consumer_group TEXT NOT NULL,
        scheme TEXT NOT NULL,
        bucket TEXT NOT NULL,
        key TEXT NOT NULL,
        delivered INTEGER NOT NULL CHECK (delivered >= 0),
        delivered_crc64 TEXT,
        generation INTEGER NOT NULL CHECK (generation >= 0),
        verified INTEGER NOT NULL CHECK (verified >= 0),
        verified_crc64 TEXT,
        verified_generation INTEGER NOT NULL CHECK (verified_generation >= 0),
        inside INTEGER NOT NULL CHECK (inside IN (0, 1)),
        committed_at REAL NOT NULL,
        PRIMARY KEY (consumer_group, scheme, bucket, key)
    ) WITHOUT ROWID
    """,
    ),
    # What a process of version 1 wrote before, and what one writes that still has the file open, is unknown.
    (
        "ALTER TABLE checkpoint ADD COLUMN delivered_claim TEXT DEFAULT 'unknown'",
        "ALTER TABLE checkpoint ADD COLUMN verified_claim TEXT DEFAULT 'unknown'",
    ),
    # Groups that have seen all of their objects once: what comes later is new to them.
    ("CREATE TABLE consumer_group (name TEXT NOT NULL PRIMARY KEY, begun_at REAL NOT NULL) WITHOUT ROWID",),
    # Since when an object is not followed, NULL where it is; what a group that has begun did not see all of yet.
    (
        "ALTER TABLE checkpoint ADD COLUMN gone_since REAL",
        """
    CREATE TABLE unlisted (
        consumer_group TEXT NOT NULL,
        address TEXT NOT NULL,
        PRIMARY KEY (consumer_group, address)
    ) WITHOUT ROWID
    """,
    ),
    # Since when the partitions by time of an address were not all seen whole and read to their end.
    (
        """
    CREATE TABLE unread (
        consumer_group TEXT NOT NULL,
        address TEXT NOT NULL,
        since REAL NOT NULL,
        PRIMARY KEY (consumer_group, address)
    ) WITHOUT ROWID
    """,
    ),
)
_UNKNOWN = "unknown"

_COLUMNS = (
    "consumer_group, scheme, bucket, key, delivered, delivered_crc64, generation, "
    "verified, verified_crc64, verified_generation, inside, committed_at, delivered_claim, verified_claim"
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is kept of one object for one group. `committed_at` is in seconds since 1970."""

    group: str
    ref: ObjectRef
    mark: Mark
    committed_at: float


class Checkpoints:
    """The checkpoints of one group, which nobody else owns meanwhile. Made by `open`; a context manager.

    Its methods may be called from any thread, one call at a time goes through.
    """

    def __init__(self, path: Path, group: str, database: sqlite3.Connection, lock: int) -> None:
        """Take over an open `database` and the descriptor of the group's lock file. Use `open`."""
        self.path = path
        self.group = group
        self._database = database
        self._lock = lock
        self._turn = threading.Lock()

    @classmethod
    def open(cls, path: str | os.PathLike[str], group: str = DEFAULT_GROUP, *, owner: str) -> Checkpoints:
        """Own `group` in the file at `path`, which is made (mode 0600) if it is missing.

        `owner` names the command to whoever is refused meanwhile; it must hold no secret. Raises CheckpointError
        at once when another process owns the group or the disk is full, ConfigError for a group's name or a file that
        cannot be used.
        """
        _check_group(group)
        real = Path(os.path.realpath(path))
        lock = _own(real, group, owner)
        try:
            return cls(real, group, _open_or_create(real), lock)
        except BaseException:
            os.close(lock)
            raise

    def load(self, ref: ObjectRef) -> Mark | None:
        """Where to go on with `ref`; None when nothing is known of it. Raises CheckpointError."""
        found = self._rows("AND scheme = ? AND bucket = ? AND key = ?", ref.scheme, ref.bucket, ref.key)
        return found[0].mark if found else None

    def find(self, refs: Iterable[ObjectRef]) -> dict[ObjectRef, Checkpoint]:
        """Those of `refs` of which something is known. Raises CheckpointError."""
        found: dict[ObjectRef, Checkpoint] = {}
        for ref in refs:
            for one in self._rows("AND scheme = ? AND bucket = ? AND key = ?", ref.scheme, ref.bucket, ref.key):
                found[ref] = one
        return found

    def all(self) -> list[Checkpoint]:
        """All of the group, by name. Raises CheckpointError."""
        return self._rows("")

    def gone_since(self, after: ObjectRef | None, most: int) -> list[tuple[ObjectRef, float | None]]:
        """The next `most` objects behind `after`, by name, and since when each is not followed (`note_gone`).

        Raises CheckpointError.
        """
        query = (
            "SELECT bucket, key, scheme, gone_since FROM checkpoint WHERE consumer_group = ? "
            "AND (scheme, bucket, key) > (?, ?, ?) ORDER BY scheme, bucket, key LIMIT ?"
        )
        name = ("", "", "") if after is None else (after.scheme, after.bucket, after.key)
        with self._turn, _told(self.path, "read"):
            rows = self._database.execute(query, (self.group, *name, most))
            return [(ObjectRef(bucket, key, scheme), since) for bucket, key, scheme, since in rows]

    def note_gone(self, refs: Iterable[ObjectRef], since: float | None) -> None:
        """Remember that `refs` are not followed `since` then (seconds since 1970), or (None) that they are.

        A commit says that an object is followed. Raises CheckpointError.
        """
        each = (
            "UPDATE checkpoint SET gone_since = ? WHERE consumer_group = ? AND scheme = ? AND bucket = ? AND key = ? "
            "AND gone_since IS NOT ?1"
        )
        with self._transaction():
            self._database.executemany(each, [(since, self.group, ref.scheme, ref.bucket, ref.key) for ref in refs])

    def begin(self, addresses: Iterable[str], now: float | None = None) -> set[str]:
        """The addresses of the group of which a first complete listing is still to come (`listed`).

        The first call of all for a group says which these are: `addresses`. A group with a checkpoint has begun
        before, and none are. Raises CheckpointError.
        """
        when = time.time() if now is None else now
        new = "SELECT NOT EXISTS (SELECT 1 FROM checkpoint WHERE consumer_group = ?)"
        with self._transaction():
            query = self._database.execute
            begun = query("INSERT OR IGNORE INTO consumer_group VALUES (?, ?)", (self.group, when))
            if begun.rowcount and query(new, (self.group,)).fetchone()[0]:
                names = [(self.group, address) for address in addresses]
                self._database.executemany("INSERT OR IGNORE INTO unlisted VALUES (?, ?)", names)
            return {row[0] for row in query("SELECT address FROM unlisted WHERE consumer_group = ?", (self.group,))}

    def listed(self, addresses: Iterable[str]) -> None:
        """All that `addresses` name was seen once: what they show from now on is new. Raises CheckpointError."""
        each = "DELETE FROM unlisted WHERE consumer_group = ? AND address = ?"
        with self._transaction():
            self._database.executemany(each, [(self.group, address) for address in addresses])

    def unread(self) -> dict[str, float]:
        """What `note_unread` was told last. Raises CheckpointError."""
        query = "SELECT address, since FROM unread WHERE consumer_group = ?"
        with self._turn, _told(self.path, "read"):
            return dict(self._database.execute(query, (self.group,)).fetchall())

    def note_unread(self, since: Mapping[str, float]) -> None:
        """By address, since when (seconds since 1970) its partitions were not all read. Raises CheckpointError."""
        with self._transaction():
            self._database.execute("DELETE FROM unread WHERE consumer_group = ?", (self.group,))
            rows = [(self.group, address, moment) for address, moment in since.items()]
            self._database.executemany("INSERT INTO unread VALUES (?, ?, ?)", rows)

    def _rows(self, condition: str, *values: str) -> list[Checkpoint]:
        with self._turn, _told(self.path, "read"):
            return _select(self._database, f"WHERE consumer_group = ? {condition}", self.group, *values)

    def commit(self, marks: Mapping[ObjectRef, Mark], now: float | None = None) -> None:
        """Keep all `marks` or none, durably when it returns. `now`: seconds since 1970, by default the clock's.

        Raises CheckpointError (a full disk, say): what was committed before then still stands.
        """
        when = time.time() if now is None else now
        self.restore([Checkpoint(self.group, ref, mark, when) for ref, mark in marks.items()])

    def restore(self, kept: Iterable[Checkpoint]) -> None:
        """Keep what was exported, each with its own time, for this group: all or none. Raises CheckpointError."""
        values = [_row(self.group, one) for one in kept]
        holes = ", ".join("?" * 14)
        with self._transaction():
            self._database.executemany(f"REPLACE INTO checkpoint ({_COLUMNS}) VALUES ({holes})", values)

    def reset(self, *refs: ObjectRef) -> int:
        """Forget `refs`, or all of the group when none is named; how many there were. Raises CheckpointError."""
        each = "DELETE FROM checkpoint WHERE consumer_group = ? AND scheme = ? AND bucket = ? AND key = ?"
        with self._transaction():
            if not refs:
                self._database.execute("DELETE FROM consumer_group WHERE name = ?", (self.group,))
                self._database.execute("DELETE FROM unlisted WHERE consumer_group = ?", (self.group,))
                self._database.execute("DELETE FROM unread WHERE consumer_group = ?", (self.group,))
                return self._database.execute("DELETE FROM checkpoint WHERE consumer_group = ?", (self.group,)).rowcount
            names = [(self.group, ref.scheme, ref.bucket, ref.key) for ref in refs]
            return self._database.executemany(each, names).rowcount

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._turn, _told(self.path, "write"), _transaction(self._database):
            yield

    def close(self) -> None:
        """Let go of the file and of the group."""
        with self._turn:
            self._database.close()
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CommitQueue:
    """A `CheckpointStore` over `Checkpoints`: marks that come while the disk is busy share the next transaction."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        self._checkpoints = checkpoints
        self._waiting: dict[ObjectRef, Mark] = {}
        self._turn = asyncio.Lock()

    async def commit(self, ref: ObjectRef, mark: Mark) -> None:
        """Keep `mark`; returning means that it, or a later one of `ref`, is safe. Raises CheckpointError."""
        await self.commit_all({ref: mark})

    async def commit_all(self, marks: Mapping[ObjectRef, Mark]) -> None:
        """Keep all of `marks`, as `commit` does one."""
        self._waiting.update(marks)
        async with self._turn:
            if self._waiting.keys().isdisjoint(marks):  # they went with the transaction of another
                return
            taken, self._waiting = self._waiting, {}
            try:
                await _to_its_end(self._checkpoints.commit, taken)
            except BaseException:
                self._waiting = {**taken, **self._waiting}  # its owner finds it there, and tries himself
                raise


async def _to_its_end(commit: Any, marks: Mapping[ObjectRef, Mark]) -> None:
    """In a thread, and even when cancelled not left alone: a later commit must not overtake it."""
    running = asyncio.ensure_future(asyncio.to_thread(commit, marks))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
    finally:
        del running  # which holds what is raised, and that this frame


def read_all(path: str | os.PathLike[str], group: str | None = None) -> list[Checkpoint]:
    """The checkpoints of `group`, or of all groups, whoever owns them. Nothing in the file is changed.

    Raises ConfigError when there is no such file, or it cannot be used.
    """
    real = Path(os.path.realpath(path))
    if not real.exists():
        raise ConfigError(f"{str(path)!r}: no such file")
    with contextlib.closing(_open_existing(real)) as database, _told(real, "read"):
        if group is None:
            return _select(database, "")
        return _select(database, "WHERE consumer_group = ?", group)


def owner_of(path: str | os.PathLike[str], group: str) -> str | None:
    """Which process owns `group` now, None when none does. Nothing is made or changed. Raises ConfigError.

    Whoever wants to own the group at this very moment waits for that moment (`_HELD_TO_LOOK`): not for a loop.
    """
    _check_group(group)
    lock_path = _lock_path(Path(os.path.realpath(path)), group)
    try:
        descriptor = os.open(lock_path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot look at the lock {str(lock_path)!r}: {_reason(error)}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _who(descriptor)
    finally:
        os.close(descriptor)
    return None


# --- as text


def encode(checkpoint: Checkpoint) -> str:
    """One line of JSON. A CRC-64 is text in decimal, since many readers round large numbers."""
    mark = checkpoint.mark
    line = {
        "group": checkpoint.group,
        "object": asdict(checkpoint.ref),
        "delivered": _position_to_json(mark.delivered),
        "verified": _position_to_json(mark.verified),
        "inside": mark.inside,
        "committed_at": checkpoint.committed_at,
    }
    return json.dumps(line)


def decode(line: str) -> Checkpoint:
    """What `encode` made, of this version or an older one. Raises ConfigError for anything else."""
    try:
        data = json.loads(line)
        ref = ObjectRef(**{name: _typed(data["object"], name, str) for name in ("bucket", "key", "scheme")})
        mark = Mark(
            _position_from_json(data["delivered"]),
            _position_from_json(data["verified"]),
            bool(_typed(data, "inside", bool)),
        )
        if "claim" not in data["delivered"]:
            mark = _unrecorded(mark)
        when = float(_typed(data, "committed_at", int, float))
        checkpoint = Checkpoint(_typed(data, "group", str), ref, mark, when)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"not an exported checkpoint: {line.strip()[:60]!r}") from error
    _check_group(checkpoint.group)
    return checkpoint


def _position_to_json(position: Position) -> dict[str, object]:
    return {
        "offset": position.offset,
        "crc64": _text(position.crc64),
        "generation": position.generation,
        "claim": _claim_to_json(position.claim),
    }


def _claim_to_json(claim: Claim | None) -> dict[str, object] | None:
    if claim is None:
        return None
    return {"start": claim.start, "size": claim.size, "crc64": _text(claim.crc64), "stated": _text(claim.stated)}


def _position_from_json(data: Any) -> Position:
    offset, generation = (_typed(data, name, int) for name in ("offset", "generation"))
    if not (0 <= offset < 1 << 63 and 0 <= generation < 1 << 63):
        raise ValueError(f"no offset or no generation: {offset}, {generation}")
    return Position(offset, _crc(data["crc64"]), generation, _claim_from_json(data.get("claim"), offset))


def _claim_from_json(data: Any, offset: int) -> Claim | None:
    """What is not proven of the bytes below `offset`. Raises ValueError, KeyError or TypeError."""
    if data is None:
        return None
    start, size = (_typed(data, name, int) for name in ("start", "size"))
    crc64 = _crc(data["crc64"])
    if not 0 < start <= size <= offset or crc64 is None:
        raise ValueError(f"no claim about {offset} bytes: {data}")
    return Claim(start, size, crc64, _crc(data["stated"]))


def _unrecorded(mark: Mark) -> Mark:
    """A mark of a version that kept no claims: where its reading began is not known, and so nothing vouches for it."""
    delivered, verified = mark.delivered, mark.verified
    proven = Position.unread(verified.offset, verified.crc64, verified.generation)
    if None in (delivered.crc64, verified.crc64) or delivered.generation != verified.generation:
        behind = Position.unread(delivered.offset, delivered.crc64, delivered.generation)
    else:
        behind = replace(delivered, claim=proven.claim)
    return Mark(behind, proven, mark.inside)


def _typed(data: Any, name: str, *types: type) -> Any:
    value = data[name]
    if type(value) not in types:
        raise TypeError(f"{name} is {value!r}")
    return value


def _text(crc: int | None) -> str | None:
    return None if crc is None else str(crc)


def _crc(text: object) -> int | None:
    if text is None:
        return None
    if not (isinstance(text, str) and text.isascii() and text.isdigit() and int(text) < _UINT64):
        raise ValueError(f"no CRC-64: {text!r}")
    return int(text)


# --- rows


def _row(group: str, checkpoint: Checkpoint) -> tuple[object, ...]:
    ref, mark = checkpoint.ref, checkpoint.mark
    places = mark.delivered, mark.verified
    return (
        *(group, ref.scheme, ref.bucket, ref.key),
        *(value for place in places for value in (place.offset, _text(place.crc64), place.generation)),
        *(mark.inside, checkpoint.committed_at),
        *(None if place.claim is None else json.dumps(_claim_to_json(place.claim)) for place in places),
    )


def _select(database: sqlite3.Connection, condition: str, *values: str) -> list[Checkpoint]:
    query = f"SELECT {_COLUMNS} FROM checkpoint {condition} ORDER BY consumer_group, scheme, bucket, key"
    return [_checkpoint(*row) for row in database.execute(query, values)]


def _checkpoint(
    group: str, scheme: str, bucket: str, key: str,
    delivered: int, delivered_crc: str | None, generation: int,
    verified: int, verified_crc: str | None, verified_generation: int,
    inside: int, committed_at: float,
    delivered_claim: str | None, verified_claim: str | None,
) -> Checkpoint:  # fmt: skip
    mark = Mark(
        Position(delivered, _crc(delivered_crc), generation, _claim(delivered_claim, delivered)),
        Position(verified, _crc(verified_crc), verified_generation, _claim(verified_claim, verified)),
        bool(inside),
    )
    if _UNKNOWN in (delivered_claim, verified_claim):
        mark = _unrecorded(mark)
    return Checkpoint(group, ObjectRef(bucket, key, scheme), mark, committed_at)


def _claim(text: str | None, offset: int) -> Claim | None:
    try:
        return None if text in (None, _UNKNOWN) else _claim_from_json(json.loads(text), offset)
    except (KeyError, TypeError) as error:
        raise ValueError(f"no claim: {text!r}") from error


# --- the file


def _open_or_create(path: Path) -> sqlite3.Connection:
    if not path.exists():
        try:
            _create(path)
        except (OSError, sqlite3.Error) as error:
            if _is_no_room(error):
                raise _no_room("make", path) from error
            raise ConfigError(f"cannot make the checkpoint file {str(path)!r}: {_reason(error)}") from error
    return _open_existing(path, writable=True)


def _create(path: Path) -> None:
    """Make an empty one of the first version under another name, then give it its own, unless somebody was faster."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".new", dir=path.parent)  # mode 0600
    try:
        with contextlib.closing(sqlite3.connect(name, isolation_level=None)) as database:
            database.execute("PRAGMA synchronous = OFF")  # nobody knows the file before it is whole, and on the disk
            database.execute("PRAGMA journal_mode = WAL")
            database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            _migrate(database, 0)
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # by closing alone a full disk would go unnoticed
        os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.close(descriptor)
        for left in (name, f"{name}-wal", f"{name}-shm"):  # SQLite leaves its own behind when the disk is full
            with contextlib.suppress(FileNotFoundError):
                os.unlink(left)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """A new name survives the loss of power only once its folder was written."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_existing(path: Path, *, writable: bool = False) -> sqlite3.Connection:
    """Raises ConfigError unless it is a whole file of ours of a version that we know."""
    _check_header(path)
    try:
        database = _connect(path, writable=writable)
    except sqlite3.Error as error:
        raise _unusable(path, error) from error
    try:
        _check_content(path, database)
        if writable:
            _prepare(database)
        elif (version := _version(database)) < len(_MIGRATIONS):
            database = _migrated_copy(database, version)
    except BaseException as error:
        database.close()
        if isinstance(error, sqlite3.Error):
            raise _unusable(path, error) from error
        raise
    return database


def _check_header(path: Path) -> None:
    """By reading alone, so that a file which is not ours is not even touched by SQLite's own bookkeeping."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER)
    except OSError as error:
        raise ConfigError(f"cannot read the checkpoint file {str(path)!r}: {_reason(error)}") from error
    if not header:
        raise _damaged(path, "it is empty")
    if not header.strip(b"\0"):
        raise _damaged(path, "it is full of zeros")
    if len(header) < _HEADER and _MAGIC.startswith(header[: len(_MAGIC)]):
        raise _damaged(path, "it was cut short")
    if not header.startswith(_MAGIC) or int.from_bytes(header[68:72]) != _APPLICATION_ID:
        raise ConfigError(f"{str(path)!r} is not a checkpoint file of oss-tail: it was left as it is")
    _check_version(path, int.from_bytes(header[60:64]))


def _check_version(path: Path, version: int) -> None:
    if version > len(_MIGRATIONS):
        raise ConfigError(
            f"the checkpoint file {str(path)!r} is of version {version}, this oss-tail knows up to {len(_MIGRATIONS)}",
            hint="use the newer oss-tail that made it",
        )


def _connect(path: Path, *, writable: bool) -> sqlite3.Connection:
    mode = "rw" if writable else "ro"
    return sqlite3.connect(
        f"{path.as_uri()}?mode={mode}", uri=True, timeout=_BUSY, isolation_level=None, check_same_thread=False
    )


def _check_content(path: Path, database: sqlite3.Connection) -> None:
    try:
        found = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        version = _version(database)
        _check_version(path, version)
        if found == "ok" and version == len(_MIGRATIONS):
            _select(database, "")
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    if found != "ok":
        raise _damaged(path, found)


def _prepare(database: sqlite3.Connection) -> None:
    """Bring it up to date and ready for commits; a file that cannot be written is found out here."""
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    if (version := _version(database)) < len(_MIGRATIONS):
        _migrate(database, version)
    database.execute("BEGIN IMMEDIATE")
    database.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")  # BEGIN alone is not refused by a read-only file
    database.execute("ROLLBACK")


def _migrate(database: sqlite3.Connection, version: int) -> None:
    """Every step that the file lacks, all of them or none."""
    with _transaction(database):
        for statement in chain.from_iterable(_MIGRATIONS[version:]):
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {len(_MIGRATIONS)}")


def _migrated_copy(database: sqlite3.Connection, version: int) -> sqlite3.Connection:
    """In memory, and up to date, of a file that nobody may change. Takes `database` over."""
    copy = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    with contextlib.closing(database):
        copy.executescript("\n".join(database.iterdump()))
    _migrate(copy, version)
    return copy


def _version(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # SQLite itself takes back what a full disk did not hold
            database.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def _told(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, ValueError) as error:
        raise CheckpointError(f"cannot {what} the checkpoint file {str(path)!r}: {_reason(error)}") from error


def _damaged(path: Path, how: str) -> ConfigError:
    return ConfigError(
        f"the checkpoint file {str(path)!r} is damaged: {how}",
        hint="it was left as it is: put a copy back, or move it away and begin anew",
    )


def _unusable(path: Path, error: sqlite3.Error) -> ConfigError | CheckpointError:
    if _is_no_room(error):
        return _no_room("use", path)
    if isinstance(error, sqlite3.OperationalError):
        return ConfigError(f"cannot use the checkpoint file {str(path)!r}: {_reason(error)}")
    return _damaged(path, _reason(error))


def _no_room(what: str, path: Path) -> CheckpointError:
    return CheckpointError(
        f"cannot {what} the checkpoint file {str(path)!r}: {_NO_ROOM}",
        hint="make room and run it again: nothing is lost",
    )


def _is_no_room(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # The second: the file by which readers and writers share the log could not grow (SQLite, "Result and Error Codes").
    return getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)


def _reason(error: Exception) -> str:
    if _is_no_room(error):
        return _NO_ROOM
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


# --- the group


def _check_group(group: str) -> None:
    """Anything that is text and not endless; what is odd in it is escaped where it becomes a file's name."""
    try:
        length = len(group.encode())
    except UnicodeEncodeError as error:
        raise ConfigError(f"the group's name {group!r} is not UTF-8") from error
    if not 0 < length <= _LONGEST_NAME or "\0" in group:
        raise ConfigError(f"a group's name has 1 to {_LONGEST_NAME} bytes and no NUL: {group[:60]!r} has {length}")


def _lock_path(path: Path, group: str) -> Path:
    """Beside the file, one for each group: letters, digits, ``-`` and ``_`` as they are, the rest escaped."""
    safe = re.sub(rb"[^A-Za-z0-9_-]", lambda match: b"%%%02X" % match[0][0], group.encode()).decode()
    name = f"{path.name}.{safe}.lock"
    if len(os.fsencode(name)) > 255:
        name = f"{path.name[:100]}.{hashlib.sha256(f'{path.name}.{safe}'.encode()).hexdigest()}.lock"
    return path.with_name(name)


def _own(path: Path, group: str, owner: str) -> int:
    """The descriptor of the group's lock file, locked. The kernel lets go of it however the process ends."""
    lock_path = _lock_path(path, group)
    try:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        if _is_no_room(error):
            raise _no_room("lock", path) from error
        raise ConfigError(f"cannot lock the checkpoint file {str(path)!r}: {_reason(error)}") from error
    try:
        _lock(descriptor)
    except BlockingIOError as error:
        message = f"group {group!r} of the checkpoint file {str(path)!r} is in use by {_who(descriptor)}"
        os.close(descriptor)
        raise CheckpointError(message, hint="end that one, or name another group: --group of oss-tail") from error
    except OSError as error:
        os.close(descriptor)
        raise ConfigError(f"cannot lock the checkpoint file {str(path)!r}: {_reason(error)}") from error
    _sign(descriptor, owner)
    return descriptor


def _lock(descriptor: int) -> None:
    """Raises BlockingIOError when another process has it for longer than it takes to look who has it."""
    deadline = time.monotonic() + _HELD_TO_LOOK
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_HELD_TO_LOOK / 20)


def _sign(descriptor: int, owner: str) -> None:
    """Say who has it. The lock holds without it, so that a full disk does not matter here."""
    card = {
        "command": owner,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(card).encode(), 0)


def _who(descriptor: int) -> str:
    try:
        card = json.loads(os.pread(descriptor, 4096, 0))
        return f"{card['command']}, process {card['pid']} on {card['host']}, since {card['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
