"""Uploads in parts that were begun: known until the server ends."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tailer.local.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailer.local.store import Attributes, Upload


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its bytes, and the MD5 of them as an ETag."""

    body: Upload
    etag: str
    modified: float


@dataclass(slots=True)
class Unfinished:
    """An upload that was begun. `begun` is in seconds since 1970."""

    id: str
    bucket: str
    key: str
    attributes: Attributes
    begun: float
    parts: dict[int, Part] = field(default_factory=dict)


class Uploads:
    """Those that were begun and neither completed nor aborted."""

    def __init__(self) -> None:
        self._by_id: dict[str, Unfinished] = {}
        self._lock = threading.Lock()

    def begin(self, bucket: str, key: str, attrs: Attributes, now: float) -> Unfinished:
        """A new one."""
        upload = Unfinished(os.urandom(16).hex().upper(), bucket, key, attrs, now)
        self._by_id[upload.id] = upload
        return upload

    def find(self, bucket: str, key: str, upload_id: str) -> Unfinished:
        """The one of that id. Raises NoSuchUpload."""
        upload = self._by_id.get(upload_id)
        if upload is None or (upload.bucket, upload.key) != (bucket, key):
            raise _no_such_upload(upload_id)
        return upload

    def of_bucket(self, bucket: str) -> list[Unfinished]:
        """By key, and by time for one key."""
        found = [upload for upload in list(self._by_id.values()) if upload.bucket == bucket]
        return sorted(found, key=lambda upload: (upload.key.encode(), upload.begun, upload.id))

    def add(self, upload: Unfinished, number: int, part: Part) -> None:
        """A part, in place of one of the same number. Raises NoSuchUpload when the upload ended meanwhile."""
        with self._lock:
            before = upload.parts.get(number)
            if upload.id not in self._by_id:
                raise _no_such_upload(upload.id)
            upload.parts[number] = part
        if before is not None:
            before.body.close()

    @contextmanager
    def completing(self, upload: Unfinished) -> Iterator[None]:
        """Nobody else knows it meanwhile, so that no part goes or changes; when that fails it is there again.

        Raises NoSuchUpload when the upload ended before.
        """
        with self._lock:
            if self._by_id.pop(upload.id, None) is None:
                raise _no_such_upload(upload.id)
        try:
            yield
        except BaseException:
            self._by_id[upload.id] = upload
            raise
        self.end(upload)

    def end(self, upload: Unfinished) -> None:
        """Forget it and its parts."""
        with self._lock:
            self._by_id.pop(upload.id, None)
        for part in upload.parts.values():
            part.body.close()

    def close(self) -> None:
        """Forget all."""
        for upload in list(self._by_id.values()):
            self.end(upload)


def _no_such_upload(upload_id: str) -> Refusal:
    message = "The specified upload does not exist: it may have been completed or aborted."
    return Refusal(404, "NoSuchUpload", message, fields={"UploadId": upload_id})
