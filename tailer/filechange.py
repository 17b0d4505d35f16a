"""Notices that a file became another one: written, replaced, or reached by a link that leads elsewhere now."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SETTLING = 0.2  # seconds for which a file that is being written is left alone

Stamp = tuple[int, ...] | None

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def watching(path: str | os.PathLike[str], changed: Callable[[], None], seen: Stamp) -> Iterator[None]:
    """Meanwhile `changed` is called on the event loop, soon after the file at `path` became another one than `seen`.

    Without the package watchdog, and where the system lets nothing more be watched, it never is: a warning says so.
    """
    watcher = _Watcher(Path(path).absolute(), changed, seen)
    if not watcher.begin():
        yield
        return
    try:
        yield
    finally:
        watcher.end()


class _Watcher:
    def __init__(self, path: Path, changed: Callable[[], None], seen: Stamp) -> None:
        self._path = path
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._seen = seen
        self._timer: asyncio.TimerHandle | None = None
        self._end: Callable[[], None] = lambda: None

    def begin(self) -> bool:
        try:
            from watchdog.observers import Observer
        except ImportError:
            _log.warning("the configuration is not watched, SIGHUP is needed: the package watchdog is missing")
            return False
        from watchdog import events

        class Handler(events.FileSystemEventHandler):
            def on_any_event(_, event: events.FileSystemEvent) -> None:  # noqa: N805 - self is the watcher here
                self._loop.call_soon_threadsafe(self._look_soon)

        # Not of each write: there may be many, to other files in the folder. A file that was written is closed.
        wanted: list[type[events.FileSystemEvent]] = [events.FileMovedEvent, events.FileCreatedEvent]
        wanted.append(events.FileClosedEvent if sys.platform == "linux" else events.FileModifiedEvent)
        observer = Observer()
        try:
            # A mounted ConfigMap is a link to a link beside it: what is changed is that one (Kubernetes documentation).
            for folder in {self._path.parent, self._path.resolve().parent}:
                observer.schedule(Handler(), str(folder), event_filter=wanted)
            observer.start()
        except OSError as error:
            why = {"error": error.strerror or str(error)}
            _log.warning("the configuration is not watched, SIGHUP is needed", extra=why)
            return False

        def end() -> None:
            observer.stop()
            observer.join()

        self._end = end
        self._look_soon()
        return True

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._end()

    def _look_soon(self) -> None:
        """Something in the folder changed: other files do, too, and this one may not be written to its end yet."""
        if self._timer is None:
            self._timer = self._loop.call_later(_SETTLING, self._look)

    def _look(self) -> None:
        self._timer = None
        if (now := stamp(self._path)) != self._seen:
            self._seen = now
            self._changed()


def stamp(path: str | os.PathLike[str]) -> Stamp:
    """What another file at `path`, or another content of it, differs in; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
