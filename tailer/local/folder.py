"""Buckets as folders and objects as files, which may change from outside at any time.

What a file cannot say (its CRC-64, its metadata, who made it) is in a journal beside the buckets. Every look at
an object asks the file system first: inode, size and time of modification are those of the last look, or the
file was changed from outside and is read again, as far as that is needed. An append is written to the journal
(that it begins), to the file, and to the journal again; then it is acknowledged. After a kill the journal
tells which tail of which file nobody was promised.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tailer.core import crc64
from tailer.local.filenames import key_of, path_of
from tailer.local.journal import Journal, write_all
from tailer.local.names import invalid_name, is_bucket_name
from tailer.local.refusal import Refusal, no_such_key, position_mismatch
from tailer.local.store import SMALL, BucketInfo, ObjectInfo, Summary, Upload

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

STATE = ".oss-local"
_IN_MEMORY = 1 << 20
_PIECE = 1 << 20
_EDGE = 64 * 1024
_SLOW = 8 << 20
_COMPACT = 64 << 20
_OUTSIDE_HEADERS = {"Content-Type": "application/octet-stream"}


class _Signature(NamedTuple):
    """What tells that a file is still the one that was looked at."""

    inode: int
    size: int
    mtime_ns: int


@dataclass(slots=True)
class _Record:
    """What is known of one file. `edges` sums up its first and last bytes, where it was read from outside."""

    info: ObjectInfo
    signature: _Signature
    edges: int | None = None


class FileContents:
    """The first `size` bytes of an open file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self._size = size

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`."""
        return os.pread(self.file.fileno(), max(0, min(length, self._size - offset)), offset)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


class FolderUpload:
    """A body: in memory while it is small, then in a file that has no name yet among the objects."""

    def __init__(self, folder: Path) -> None:
        self.size = 0
        self.crc64 = 0
        self._folder = folder
        self._memory = bytearray()
        self._file: int | None = None
        self._path: str | None = None

    def write(self, chunk: bytes) -> None:
        """Add bytes."""
        self.crc64 = crc64.update(chunk, self.crc64)
        if self._file is None and self.size + len(chunk) <= _IN_MEMORY:
            self._memory += chunk
        else:
            write_all(self._spilled(), chunk, self.size)
        self.size += len(chunk)

    def small(self) -> bytes | None:
        """All bytes, when they are few."""
        return bytes(self._memory) if self.size <= SMALL else None

    def copy_to(self, file: int, offset: int) -> None:
        """Write all bytes into another file."""
        if self._file is None:
            write_all(file, self._memory, offset)
            return
        for start in range(0, self.size, _PIECE):
            write_all(file, os.pread(self._file, _PIECE, start), offset + start)

    def into_file(self, *, fsync: bool) -> tuple[str, os.stat_result]:
        """The path of a file with all bytes, to be renamed, and its status."""
        file = self._spilled()
        if fsync:
            os.fsync(file)
        assert self._path is not None, "a file that was made has a path"
        return self._path, os.fstat(file)

    def close(self) -> None:
        """Forget what was not renamed."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            self._path = None

    def _spilled(self) -> int:
        """The file, which now has all bytes so far."""
        if self._file is None:
            self._path = str(self._folder / os.urandom(12).hex())
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            write_all(self._file, self._memory, 0)
            self._memory.clear()
        return self._file


class FolderEngine:
    """Everything below `root`. Raises OSError when another server has it, or it cannot be used."""

    on_disk = True

    def __init__(self, root: str | Path, *, fsync: bool = False) -> None:
        self._root = Path(root).expanduser().resolve()
        self._state = self._root / STATE
        self._spool = self._state / "spool"
        self._spool.mkdir(parents=True, exist_ok=True)
        self._own = self._take_possession()
        self._fsync = fsync
        self._lock = threading.RLock()
        self._records: dict[tuple[str, str], _Record] = {}
        self._settings: dict[str, BucketInfo] = {}
        self._busy: dict[tuple[str, str], int] = {}
        self._compact_at = _COMPACT
        self._journal = Journal(self._state / "journal", fsync=fsync)
        try:
            for orphan in self._spool.iterdir():
                orphan.unlink()
            self._replay()
            self._compact()
        except BaseException:
            self.close()
            raise

    def _take_possession(self) -> int:
        own = os.open(self._state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(own)
            raise OSError(errno.EBUSY, "another oss-local serves this folder", str(self._root)) from error
        return own

    # --- buckets

    def bucket(self, name: str) -> BucketInfo | None:
        """A folder of the root is a bucket, whoever made it."""
        try:
            status = os.lstat(self._root / name)
        except FileNotFoundError:
            return None
        if not stat.S_ISDIR(status.st_mode):
            return None
        return self._settings.get(name) or BucketInfo(name, status.st_ctime)

    def buckets(self) -> list[BucketInfo]:
        """All of them."""
        found = (self.bucket(name) for name in os.listdir(self._root) if is_bucket_name(name))
        return [info for info in found if info is not None]

    def put_bucket(self, info: BucketInfo) -> None:
        """Make it, or change it."""
        (self._root / info.name).mkdir(exist_ok=True)
        self._settings[info.name] = info
        self._write(_bucket_line(info))

    def drop_bucket(self, name: str) -> None:
        """Remove an empty bucket, with the empty folders in it. Raises BucketNotEmpty for anything else there."""
        with self._lock:
            for folder, _, _ in os.walk(self._root / name, topdown=False):
                try:
                    os.rmdir(folder)
                except OSError as error:
                    message = "The bucket's folder holds files that are not objects."
                    raise Refusal(409, "BucketNotEmpty", message, fields={"BucketName": name}) from error
            self._settings.pop(name, None)
            self._write(["no-bucket", name])

    # --- objects

    def upload(self) -> FolderUpload:
        """A body that can be large."""
        return FolderUpload(self._spool)

    def find(self, bucket: str, key: str) -> ObjectInfo | None:
        """The object as its file is now."""
        known = self._look(bucket, key)
        if isinstance(known, _Record):
            return known.info
        if known is None:
            return None
        opened = self.open(bucket, key)
        if opened is None:
            return None
        opened[1].close()
        return opened[0]

    def open(self, bucket: str, key: str) -> tuple[ObjectInfo, FileContents] | None:
        """The object as its file is now, and its bytes."""
        path = self._path(bucket, key)
        while True:
            file = _open_regular(path)
            if file is None:
                self._forget(bucket, key)
                return None
            try:
                info = self._match(bucket, key, path, file.fileno())
            except BaseException:
                file.close()
                raise
            if info is not None:
                return info, FileContents(file, info.size)
            # It was replaced, or lost bytes, while it was read.
            file.close()

    def extend(self, bucket: str, key: str, before: ObjectInfo, body: Upload, after: ObjectInfo) -> None:
        """Write the body behind the object's end. Nothing of it can be seen before it is whole."""
        upload = _own(body)
        try:
            file = os.open(self._path(bucket, key), os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError as error:
            raise position_mismatch(0) from error
        try:
            with self._lock:
                if _signature(os.fstat(file)) != self._records[bucket, key].signature:
                    raise position_mismatch(os.fstat(file).st_size)
                self._write(["begin", bucket, key, before.size, upload.size])
                self._busy[bucket, key] = upload.size
                if upload.size <= _SLOW:
                    self._write_tail(bucket, key, file, upload, before, after)
                    return
            # Readers go on meanwhile: a busy object is as its record says, whatever its file looks like.
            self._write_tail(bucket, key, file, upload, before, after)
        finally:
            self._busy.pop((bucket, key), None)
            os.close(file)

    def _write_tail(
        self, bucket: str, key: str, file: int, upload: FolderUpload, before: ObjectInfo, after: ObjectInfo
    ) -> None:
        try:
            upload.copy_to(file, before.size)
            if self._fsync:
                os.fdatasync(file)
            with self._lock:
                record = _Record(after, _signature(os.fstat(file)))
                self._write(_append_line(bucket, key, record))
                self._busy.pop((bucket, key), None)
                self._remember(bucket, key, record)
        except OSError as error:
            self._undo(bucket, key, file, before)
            raise _cannot_store(error) from error

    def _undo(self, bucket: str, key: str, file: int, before: ObjectInfo) -> None:
        """Take back what was written of an append that failed."""
        os.ftruncate(file, before.size)
        with self._lock:
            self._records[bucket, key] = _Record(before, _signature(os.fstat(file)))
            with contextlib.suppress(OSError):
                # On a full disk this line fails like the others; recovery then finds nothing to cut.
                self._write(_object_line(bucket, key, self._records[bucket, key]))

    def replace(self, bucket: str, key: str, body: Upload, info: ObjectInfo) -> None:
        """Rename the body to the object's name: from one moment to the next it is this one."""
        try:
            source, status = _own(body).into_file(fsync=self._fsync)
            record = _Record(info, _signature(status))
            with self._lock:
                path = self._make_room(bucket, key)
                self._write(_object_line(bucket, key, record))
                os.rename(source, path)
                self._remember(bucket, key, record)
                if self._fsync:
                    _sync_folder(os.path.dirname(path))
        except OSError as error:
            raise _cannot_store(error) from error

    def amend(self, bucket: str, key: str, info: ObjectInfo) -> None:
        """Other attributes, same bytes."""
        with self._lock:
            known = self._records.get((bucket, key))
            if known is None:
                raise no_such_key(key)
            record = replace(known, info=info)
            self._write(_object_line(bucket, key, record))
            self._remember(bucket, key, record)

    def remove(self, bucket: str, key: str) -> None:
        """Remove the file, and the folders that become empty by that."""
        with self._lock:
            path = self._path(bucket, key)
            if not _is_file(path):
                return
            os.unlink(path)
            self._forget(bucket, key)
            folder = os.path.dirname(path)
            with contextlib.suppress(OSError):
                while folder != str(self._root / bucket):
                    os.rmdir(folder)
                    folder = os.path.dirname(folder)

    def walk(self, bucket: str, prefix: str, after: str = "") -> Iterator[tuple[str, Summary]]:
        """Objects below `prefix` and not before `after`, in the byte order of their keys."""
        begin = after.encode()
        keys = ((key.encode(), key, path) for key, path in self._files(bucket, prefix) if key.startswith(prefix))
        for _, key, path in sorted(entry for entry in keys if entry[0] >= begin):
            summary = self._summary(bucket, key, path)
            if summary is not None:
                yield key, summary

    def backlog(self, bucket: str, key: str) -> int:
        """Bytes to be read before the object can be described."""
        known = self._look(bucket, key)
        if known is None or isinstance(known, _Record):
            return 0
        record = self._records.get((bucket, key))
        if record is None or record.edges is None or known.st_ino != record.signature.inode:
            return known.st_size
        return known.st_size - record.signature.size

    def slow(self, size: int) -> bool:
        """Copying takes time, and so does waiting for the disk."""
        return self._fsync or size > _SLOW

    def close(self) -> None:
        """Let go of the folder."""
        self._journal.close()
        if self._own >= 0:
            os.close(self._own)
            self._own = -1

    # --- looking at files

    def _path(self, bucket: str, key: str) -> str:
        """The object's path. Raises AccessDenied when a link is on the way: no link is followed."""
        base = str(self._root / bucket)
        pieces = path_of(key).split("/")
        path = base
        for piece in pieces:
            path = f"{path}/{piece}"
            try:
                mode = os.lstat(path).st_mode
            except (FileNotFoundError, NotADirectoryError):
                break
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG:
                    raise invalid_name("This name is too long for a file.") from error
                raise
            if stat.S_ISLNK(mode):
                raise Refusal(403, "AccessDenied", "The name leads through a symbolic link.", fields={"Key": key})
        return "/".join([base, *pieces])

    def _look(self, bucket: str, key: str) -> _Record | os.stat_result | None:
        """The record when the file is as it says, the file's status when it is not, None without a file."""
        path = self._path(bucket, key)
        with self._lock:
            record = self._records.get((bucket, key))
            if record is not None and (bucket, key) in self._busy:
                return record
            try:
                status = os.lstat(path)
            except (FileNotFoundError, NotADirectoryError):
                status = None
            if status is None or not stat.S_ISREG(status.st_mode):
                self._forget(bucket, key)
                return None
            return record if record is not None and record.signature == _signature(status) else status

    def _match(self, bucket: str, key: str, path: str, file: int) -> ObjectInfo | None:
        """What an open file is; None when it is not the object's file any more."""
        with self._lock:
            status = os.fstat(file)
            record = self._records.get((bucket, key))
            if record is not None and record.signature.inode == status.st_ino:
                busy = (bucket, key) in self._busy
                if busy or record.signature == _signature(status):
                    return record.info
        read = _read_anew(file, record)
        with self._lock:
            current = os.lstat(path) if os.path.lexists(path) else None
            changed = self._records.get((bucket, key)) is not record or (bucket, key) in self._busy
            if read is None or current is None or current.st_ino != status.st_ino or changed:
                return None
            self._write(_object_line(bucket, key, read))
            self._remember(bucket, key, read)
            return read.info

    def _forget(self, bucket: str, key: str) -> None:
        """The file is gone."""
        with self._lock:
            if self._records.pop((bucket, key), None) is not None:
                self._write(["gone", bucket, key])

    def _files(self, bucket: str, prefix: str) -> Iterator[tuple[str, str]]:
        """Keys and paths of all files that can be below `prefix`, in no order."""
        base = str(self._root / bucket)
        folder = prefix.rpartition("/")[0]
        pending = [f"{base}/{path_of(folder)}" if folder else base]
        while pending:
            try:
                entries = os.scandir(pending.pop())
            except (FileNotFoundError, NotADirectoryError):
                continue
            with entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        key = key_of(entry.path[len(base) + 1 :])
                        if key is not None:
                            yield key, entry.path

    def _summary(self, bucket: str, key: str, path: str) -> Summary | None:
        """What a list says: of a file that changed from outside without reading it."""
        with self._lock:
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                return None
            record = self._records.get((bucket, key))
            busy = (bucket, key) in self._busy
            if record is not None and (busy or record.signature == _signature(status)):
                return Summary.of(record.info)
            etag = _outside_etag(_signature(status))
            return Summary(status.st_size, etag, status.st_mtime, "Appendable", "Standard")

    def _make_room(self, bucket: str, key: str) -> str:
        """The object's path, with the folders that it needs. Raises InvalidObjectName where that cannot be."""
        path = self._path(bucket, key)
        folder = os.path.dirname(path)
        try:
            os.makedirs(folder, exist_ok=True)
            if os.path.isdir(path):
                os.rmdir(path)
        except (FileExistsError, NotADirectoryError) as error:
            raise invalid_name(
                "A part of this name is an object, and with --root it cannot be a folder too."
            ) from error
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise invalid_name("This name is a folder, and no object with --root.") from error
            raise
        return path

    # --- the journal

    def _write(self, *lines: list[Any]) -> None:
        with self._lock:
            self._journal.write(*lines)

    def _remember(self, bucket: str, key: str, record: _Record) -> None:
        """Know from now on what the journal was told. Only here it may be compacted: both agree."""
        self._records[bucket, key] = record
        if self._journal.size > self._compact_at:
            self._compact()

    def _compact(self) -> None:
        """Write down what is known now and forget how it came about."""
        with self._lock:
            lines = [_bucket_line(info) for info in self._settings.values()]
            lines += [_object_line(*name, record) for name, record in self._records.items()]
            # An append under way is known by its first line alone.
            busy = [["begin", *name, self._records[name].info.size, size] for name, size in self._busy.items()]
            self._journal.rewrite([*lines, *busy])
            self._compact_at = max(_COMPACT, 4 * self._journal.size)

    def _replay(self) -> None:
        """Know again what the journal says, and cut the tails that nobody was promised."""
        begun: dict[tuple[str, str], tuple[int, int]] = {}
        before: dict[tuple[str, str], _Record] = {}
        for kind, bucket, *rest in self._journal.lines():
            if kind == "bucket":
                self._settings[bucket] = BucketInfo(bucket, *rest)
            elif kind == "no-bucket":
                self._settings.pop(bucket, None)
            elif kind == "begin":
                begun[bucket, rest[0]] = rest[1], rest[2]
            else:
                begun.pop((bucket, rest[0]), None)
                self._replay_object(kind, (bucket, rest[0]), rest[1:], before)
        for name, (size, added) in begun.items():
            self._cut_tail(name, size, added)
        for name, record in before.items():
            self._take_back(name, record)

    def _replay_object(
        self, kind: str, name: tuple[str, str], facts: list[Any], before: dict[tuple[str, str], _Record]
    ) -> None:
        known = self._records.pop(name, None)
        before.pop(name, None)
        if kind == "object":
            if known is not None:
                before[name] = known
            self._records[name] = _Record(_info(facts[0]), _Signature(*facts[1]))
        elif kind == "append" and known is not None:
            size, crc, etag, modified, acl, signature = facts
            info = replace(known.info, size=size, crc64=crc, etag=etag, modified=modified, acl=acl)
            self._records[name] = _Record(info, _Signature(*signature))

    def _cut_tail(self, name: tuple[str, str], size: int, added: int) -> None:
        """Take back an append of `added` bytes that began at `size` and was not acknowledged.

        A file that is longer than the append would have made it was written to by others since.
        """
        record = self._records.get(name)
        path = self._path(*name)
        if record is None or not _is_file(path):
            return
        status = os.lstat(path)
        if status.st_ino == record.signature.inode and size < status.st_size <= size + added:
            os.truncate(path, size)
            self._records[name] = replace(record, signature=_signature(os.lstat(path)))

    def _take_back(self, name: tuple[str, str], record: _Record) -> None:
        """An object whose replacement was written down but not carried out is the one before."""
        path = self._path(*name)
        if _is_file(path):
            found = _signature(os.lstat(path))
            if found == record.signature and found != self._records[name].signature:
                self._records[name] = record


def _open_regular(path: str) -> BinaryIO | None:
    """The file, open for reading; None when there is none. Raises AccessDenied for one that cannot be read."""
    try:
        # Never waits on a pipe that somebody put there.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise Refusal(403, "AccessDenied", "The server may not read this file.") from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        return None
    return os.fdopen(file, "rb", buffering=0)


def _read_anew(file: int, known: _Record | None) -> _Record | None:
    """Sum up a file that changed from outside; None when it lost bytes meanwhile.

    Where the file is the known one and longer, only what was added is read, if the known part is large and
    both of its ends are unchanged; otherwise all is, which also tells whether the known part is still there.
    """
    signature = _signature(os.fstat(file))
    if known is not None and (known.signature.inode != signature.inode or known.info.size > signature.size):
        known = None
    start = known.info.size if known else 0
    trusted = known is not None and start > _IN_MEMORY and known.edges == _edges(file, start)
    prefix = known.info.crc64 if known is not None and trusted else _sum(file, 0, start, 0)
    total = None if prefix is None else _sum(file, start, signature.size, prefix)
    if total is None:
        return None
    found = ObjectInfo(
        size=signature.size,
        crc64=total,
        etag=_outside_etag(signature),
        modified=signature.mtime_ns / 1e9,
        headers=_OUTSIDE_HEADERS,
    )
    if known is not None and prefix == known.info.crc64:
        found = _continued(known.info, found)
    return _Record(found, signature, _edges(file, signature.size))


def _continued(known: ObjectInfo, found: ObjectInfo) -> ObjectInfo:
    """The same object, longer or only touched: it keeps what was said of it."""
    if found.size == known.size:
        return replace(known, modified=found.modified)
    return replace(found, headers=known.headers, acl=known.acl, tags=known.tags, storage_class=known.storage_class)


def _sum(file: int, start: int, stop: int, crc: int) -> int | None:
    """The CRC-64 carried on over bytes [start, stop); None when they are not all there."""
    while start < stop:
        data = os.pread(file, min(_PIECE, stop - start), start)
        if not data:
            return None
        crc = crc64.update(data, crc)
        start += len(data)
    return crc


def _edges(file: int, size: int) -> int:
    length = min(size, _EDGE)
    return crc64.update(os.pread(file, length, size - length), crc64.update(os.pread(file, length, 0)))


def _signature(status: os.stat_result) -> _Signature:
    return _Signature(status.st_ino, status.st_size, status.st_mtime_ns)


def _outside_etag(signature: _Signature) -> str:
    digest = hashlib.blake2b(repr(tuple(signature)).encode(), digest_size=12)
    return digest.hexdigest().upper() + "00000000"


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _own(body: Upload) -> FolderUpload:
    assert isinstance(body, FolderUpload), "a body goes to the engine that it was made by"
    return body


def _cannot_store(error: OSError) -> Refusal:
    return Refusal(500, "InternalError", f"The server cannot store this: {os.strerror(error.errno or 0)}.")


def _sync_folder(path: str) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _bucket_line(info: BucketInfo) -> list[Any]:
    return ["bucket", info.name, info.created, info.acl]


def _object_line(bucket: str, key: str, record: _Record) -> list[Any]:
    return ["object", bucket, key, asdict(record.info), record.signature]


def _append_line(bucket: str, key: str, record: _Record) -> list[Any]:
    info = record.info
    facts = [info.size, info.crc64, info.etag, info.modified, info.acl]
    return ["append", bucket, key, *facts, record.signature]


def _info(facts: dict[str, Any]) -> ObjectInfo:
    tags = tuple((name, value) for name, value in facts.pop("tags"))
    return ObjectInfo(**facts, tags=tags)
