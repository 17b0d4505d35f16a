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
import logging
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailer.local.filenames import key_of, path_of
from tailer.local.files import FileContents, FolderUpload, is_file, open_regular, status_of, sync_folder
from tailer.local.journal import Journal
from tailer.local.names import invalid_name, is_bucket_name
from tailer.local.records import (
    Record,
    Signature,
    append_line,
    bucket_line,
    former_line,
    info_of,
    object_line,
    outside_etag,
    read_anew,
    signature_of,
)
from tailer.local.refusal import Refusal, no_such_key, position_mismatch
from tailer.local.store import NULL_VERSION, BucketInfo, ObjectInfo, Summary, Upload

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("oss-local")

STATE = ".oss-local"
_SLOW = 8 << 20
_COMPACT = 64 << 20


class FolderEngine:
    """Everything below `root`. Raises OSError when another server has it, or it cannot be used."""

    on_disk = True

    def __init__(self, root: str | Path, *, fsync: bool = False) -> None:
        folder = Path(root).expanduser().resolve()
        # Joined as text: every look at an object does so, and pathlib takes its time.
        self._root = str(folder)
        self._state = folder / STATE
        self._spool = self._state / "spool"
        self._spool.mkdir(parents=True, exist_ok=True)
        self._versions = self._state / "versions"
        self._versions.mkdir(exist_ok=True)
        self._own = self._take_possession()
        self._fsync = fsync
        self._lock = threading.RLock()
        self._records: dict[tuple[str, str], Record] = {}
        self._settings: dict[str, BucketInfo] = {}
        self._former: dict[str, dict[str, list[ObjectInfo]]] = {}
        self._busy: dict[tuple[str, str], int] = {}
        self._compact_at = _COMPACT
        self._journal = Journal(self._state / "journal", fsync=fsync)
        try:
            for orphan in self._spool.iterdir():
                orphan.unlink()
            self._replay()
            self._forget_lost_versions()
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
            raise OSError(errno.EBUSY, "another oss-local serves this folder", self._root) from error
        return own

    # --- buckets

    def bucket(self, name: str) -> BucketInfo | None:
        """A folder of the root is a bucket, whoever made it."""
        status = status_of(f"{self._root}/{name}")
        if status is None or not stat.S_ISDIR(status.st_mode):
            return None
        return self._settings.get(name) or BucketInfo(name, status.st_ctime)

    def buckets(self) -> list[BucketInfo]:
        """All of them."""
        found = (self.bucket(name) for name in os.listdir(self._root) if is_bucket_name(name))
        return [info for info in found if info is not None]

    def put_bucket(self, info: BucketInfo) -> None:
        """Make it, or change it."""
        os.makedirs(f"{self._root}/{info.name}", exist_ok=True)
        self._settings[info.name] = info
        self._write(bucket_line(info))

    def drop_bucket(self, name: str) -> None:
        """Remove an empty bucket, with the empty folders in it. Raises BucketNotEmpty for anything else there."""
        with self._lock:
            for folder, _, _ in os.walk(f"{self._root}/{name}", topdown=False):
                try:
                    os.rmdir(folder)
                except OSError as error:
                    message = "The bucket's folder holds files that are not objects."
                    raise Refusal(409, "BucketNotEmpty", message, fields={"BucketName": name}) from error
            self._settings.pop(name, None)
            self._former.pop(name, None)
            self._write(["no-bucket", name])

    # --- objects

    def upload(self) -> FolderUpload:
        """A body that can be large."""
        return FolderUpload(self._spool)

    def find(self, bucket: str, key: str) -> ObjectInfo | None:
        """The object as its file is now."""
        known = self._look(bucket, key)
        if isinstance(known, Record):
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
            file = open_regular(path)
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
                record, status = self._records.get((bucket, key)), os.fstat(file)
                if record is None or signature_of(status) != record.signature:
                    raise position_mismatch(status.st_size)
                self._write(["begin", bucket, key, before.size, upload.size])
                self._busy[bucket, key] = upload.size
                if upload.size <= _SLOW:
                    self._write_tail(bucket, key, file, upload, before, after)
                    return
            # Readers go on meanwhile: a busy object is as its record says, whatever its file looks like.
            self._write_tail(bucket, key, file, upload, before, after)
        except OSError as error:
            raise _cannot_store(error) from error
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
                record = Record(after, signature_of(os.fstat(file)))
                self._write(append_line(bucket, key, record))
                self._busy.pop((bucket, key), None)
                self._remember(bucket, key, record)
        except BaseException:
            self._undo(bucket, key, file, before)
            raise

    def _undo(self, bucket: str, key: str, file: int, before: ObjectInfo) -> None:
        """Take back what was written of an append that failed."""
        os.ftruncate(file, before.size)
        with self._lock:
            self._records[bucket, key] = Record(before, signature_of(os.fstat(file)))
            self._note(object_line(bucket, key, self._records[bucket, key]))

    def replace(self, bucket: str, key: str, body: Upload, info: ObjectInfo) -> None:
        """Rename the body to the object's name: from one moment to the next it is this one."""
        try:
            source, status = _own(body).into_file(fsync=self._fsync)
            record = Record(info, signature_of(status))
            with self._lock:
                path = self._make_room(bucket, key)
                self._write(object_line(bucket, key, record))
                self._rename(bucket, key, source, path)
                self._remember(bucket, key, record)
        except OSError as error:
            raise _cannot_store(error) from error

    def _rename(self, bucket: str, key: str, source: str, path: str) -> None:
        try:
            os.rename(source, path)
        except OSError:
            known = self._records.get((bucket, key))
            self._note(["gone", bucket, key] if known is None else object_line(bucket, key, known))
            raise
        while self._fsync and path != self._root:
            path = os.path.dirname(path)
            sync_folder(path)

    def amend(self, bucket: str, key: str, info: ObjectInfo) -> None:
        """Other attributes, same bytes."""
        with self._lock:
            known = self._records.get((bucket, key))
            if known is None:
                raise no_such_key(key)
            record = replace(known, info=info)
            self._write(object_line(bucket, key, record))
            self._remember(bucket, key, record)

    def remove(self, bucket: str, key: str) -> None:
        """Remove the file, and the folders that become empty by that."""
        with self._lock:
            path = self._path(bucket, key)
            if not is_file(path):
                return
            os.unlink(path)
            self._forget(bucket, key)
            folder = os.path.dirname(path)
            with contextlib.suppress(OSError):
                while folder != f"{self._root}/{bucket}":
                    os.rmdir(folder)
                    folder = os.path.dirname(folder)

    # --- what was

    def keep(self, bucket: str, key: str, info: ObjectInfo) -> None:
        """Add the present object, under a second name of its file, or a delete marker, to what was."""
        try:
            with self._lock:
                if not info.is_marker:
                    kept = self._kept(bucket, key, info.version or "")
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(kept)
                    os.link(self._path(bucket, key), kept)
                    if self._fsync:
                        sync_folder(self._versions)
                self._write(former_line(bucket, key, info))
                self._remember_former(bucket, key, info)
        except OSError as error:
            raise _cannot_store(error) from error

    def former(self, bucket: str, key: str) -> list[ObjectInfo]:
        """What was kept, the oldest first."""
        return list(self._former.get(bucket, {}).get(key, ()))

    def former_keys(self, bucket: str) -> list[str]:
        """The keys of which anything was kept."""
        return list(self._former.get(bucket, ()))

    def open_former(self, bucket: str, key: str, version: str) -> tuple[ObjectInfo, FileContents] | None:
        """A version that was kept, and its bytes."""
        info = next((one for one in self.former(bucket, key) if one.version == version), None)
        file = open_regular(self._kept(bucket, key, version)) if info is not None else None
        return None if info is None or file is None else (info, FileContents(file, info.size))

    def drop_former(self, bucket: str, key: str, version: str) -> None:
        """Forget a version that was kept, if there is one."""
        with self._lock:
            if all(one.version != version for one in self.former(bucket, key)):
                return
            self._write(["no-former", bucket, key, version])
            self._forget_former(bucket, key, version)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._kept(bucket, key, version))

    def restore(self, bucket: str, key: str, version: str) -> None:
        """Rename a version that was kept back to the object's name."""
        info = next(one for one in self.former(bucket, key) if one.version == version)
        kept = self._kept(bucket, key, version)
        try:
            with self._lock:
                record = Record(info, signature_of(os.lstat(kept)))
                path = self._make_room(bucket, key)
                self._write(object_line(bucket, key, record))
                self._rename(bucket, key, kept, path)
                self._remember(bucket, key, record)
                self._forget_former(bucket, key, version)
                self._note(["no-former", bucket, key, version])
        except OSError as error:
            raise _cannot_store(error) from error

    def _kept(self, bucket: str, key: str, version: str) -> str:
        """Where the bytes of a version stand; ``null`` is the id of many."""
        name = hashlib.sha256(f"{bucket}/{key}\0{version}".encode()).hexdigest()
        return f"{self._versions}/{name}"

    def _remember_former(self, bucket: str, key: str, info: ObjectInfo) -> None:
        self._forget_former(bucket, key, info.version or "")
        self._former.setdefault(bucket, {}).setdefault(key, []).append(info)

    def _forget_former(self, bucket: str, key: str, version: str) -> None:
        keys = self._former.get(bucket, {})
        keys[key] = [one for one in keys.get(key, ()) if one.version != version]
        if not keys[key]:
            del keys[key]

    def _forget_lost_versions(self) -> None:
        """Those that a kill left half kept: present still, or without a file; and files that belong to none."""
        used = set()
        for bucket, keys in self._former.items():
            for key, kept in [*keys.items()]:
                present = self._records.get((bucket, key))
                for info in kept:
                    path = self._kept(bucket, key, info.version or "")
                    is_present = present is not None and (present.info.version or NULL_VERSION) == info.version
                    if is_present or not (info.is_marker or is_file(path)):
                        self._forget_former(bucket, key, info.version or "")
                    else:
                        used.add(path)
        for entry in os.scandir(self._versions):
            if entry.path not in used:
                os.unlink(entry.path)

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
        if known is None or isinstance(known, Record):
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
        base = f"{self._root}/{bucket}"
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

    def _look(self, bucket: str, key: str) -> Record | os.stat_result | None:
        """The record when the file is as it says, the file's status when it is not, None without a file."""
        path = self._path(bucket, key)
        with self._lock:
            record = self._records.get((bucket, key))
            if record is not None and (bucket, key) in self._busy:
                return record
            status = status_of(path)
            if status is None or not stat.S_ISREG(status.st_mode):
                self._forget(bucket, key)
                return None
            return record if record is not None and record.signature == signature_of(status) else status

    def _match(self, bucket: str, key: str, path: str, file: int) -> ObjectInfo | None:
        """What an open file is; None when it is not the object's file any more."""
        with self._lock:
            status = os.fstat(file)
            record = self._records.get((bucket, key))
            if record is not None and record.signature.inode == status.st_ino:
                busy = (bucket, key) in self._busy
                if busy or record.signature == signature_of(status):
                    return record.info
        read = read_anew(file, record)
        with self._lock:
            current = status_of(path)
            changed = self._records.get((bucket, key)) is not record or (bucket, key) in self._busy
            if read is None or current is None or current.st_ino != status.st_ino or changed:
                return None
            self._note(object_line(bucket, key, read))
            self._remember(bucket, key, read)
            return read.info

    def _forget(self, bucket: str, key: str) -> None:
        """The file is gone."""
        with self._lock:
            if self._records.pop((bucket, key), None) is not None:
                self._note(["gone", bucket, key])

    def _files(self, bucket: str, prefix: str) -> Iterator[tuple[str, str]]:
        """Keys and paths of all files that can be below `prefix`, in no order."""
        base = f"{self._root}/{bucket}"
        folder = prefix.rpartition("/")[0]
        try:
            pending = [self._path(bucket, folder) if folder else base]
        except Refusal:
            # A link, or longer than any path: there is nothing to be shown.
            return
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
            status = status_of(path)
            if status is None:
                return None
            record = self._records.get((bucket, key))
            busy = (bucket, key) in self._busy
            if record is not None and (busy or record.signature == signature_of(status)):
                return Summary.of(record.info)
            etag = outside_etag(signature_of(status))
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

    def _note(self, line: list[Any]) -> None:
        """Write what the files tell as well, if more slowly: a full disk must not keep anybody from reading."""
        try:
            self._write(line)
        except OSError as error:
            log.warning("%s: %s", self._state / "journal", error)

    def _remember(self, bucket: str, key: str, record: Record) -> None:
        """Know from now on what the journal was told. Only here it may be compacted: both agree."""
        self._records[bucket, key] = record
        if self._journal.size > self._compact_at:
            self._compact()

    def _compact(self) -> None:
        """Write down what is known now and forget how it came about."""
        with self._lock:
            lines = [bucket_line(info) for info in self._settings.values()]
            lines += [object_line(*name, record) for name, record in self._records.items()]
            for bucket, keys in self._former.items():
                lines += [former_line(bucket, key, info) for key, kept in keys.items() for info in kept]
            # An append under way is known by its first line alone.
            busy = [["begin", *name, self._records[name].info.size, size] for name, size in self._busy.items()]
            self._journal.rewrite([*lines, *busy])
            self._compact_at = max(_COMPACT, 4 * self._journal.size)

    def _replay(self) -> None:
        """Know again what the journal says, and cut the tails that nobody was promised."""
        begun: dict[tuple[str, str], tuple[int, int]] = {}
        before: dict[tuple[str, str], Record] = {}
        for kind, bucket, *rest in self._journal.lines():
            if kind == "bucket":
                self._settings[bucket] = BucketInfo(bucket, *rest)
            elif kind == "no-bucket":
                self._settings.pop(bucket, None)
                self._former.pop(bucket, None)
            elif kind == "former":
                self._remember_former(bucket, rest[0], info_of(rest[1]))
            elif kind == "no-former":
                self._forget_former(bucket, rest[0], rest[1])
            elif kind == "begin":
                begun[bucket, rest[0]] = rest[1], rest[2]
            else:
                begun.pop((bucket, rest[0]), None)
                self._replay_object(kind, (bucket, rest[0]), rest[1:], before)
        for name in list(self._records):
            path = self._known_file(*name)
            if path is None:
                del self._records[name]
                continue
            if name in before:
                self._take_back(name, path, before[name])
            if name in begun:
                self._cut_tail(name, path, *begun[name])

    def _known_file(self, bucket: str, key: str) -> str | None:
        """The path of an object that the journal names, if it still is a file."""
        try:
            path = self._path(bucket, key)
        except Refusal:
            # A link was put on its way since.
            return None
        return path if is_file(path) else None

    def _replay_object(
        self, kind: str, name: tuple[str, str], facts: list[Any], before: dict[tuple[str, str], Record]
    ) -> None:
        known = self._records.pop(name, None)
        before.pop(name, None)
        if kind == "object":
            if known is not None:
                before[name] = known
            self._records[name] = Record(info_of(facts[0]), Signature(*facts[1]))
        elif kind == "append" and known is not None:
            size, crc, etag, modified, acl, signature = facts
            info = replace(known.info, size=size, crc64=crc, etag=etag, modified=modified, acl=acl)
            self._records[name] = Record(info, Signature(*signature))

    def _cut_tail(self, name: tuple[str, str], path: str, size: int, added: int) -> None:
        """Take back an append of `added` bytes that began at `size` and was not acknowledged.

        A file that is longer than the append would have made it was written to by others since.
        """
        record, status = self._records[name], os.lstat(path)
        if status.st_ino == record.signature.inode and size < status.st_size <= size + added:
            os.truncate(path, size)
            self._records[name] = replace(record, signature=signature_of(os.lstat(path)))

    def _take_back(self, name: tuple[str, str], path: str, record: Record) -> None:
        """An object whose replacement was written down but not carried out is the one before."""
        found = signature_of(os.lstat(path))
        if found == record.signature and found != self._records[name].signature:
            self._records[name] = record


def _own(body: Upload) -> FolderUpload:
    assert isinstance(body, FolderUpload), "a body goes to the engine that it was made by"
    return body


def _cannot_store(error: OSError) -> Refusal:
    return Refusal(500, "InternalError", f"The server cannot store this: {os.strerror(error.errno or 0)}.")
