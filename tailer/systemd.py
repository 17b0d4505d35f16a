"""What a service manager is told (systemd documentation, sd_notify(3)): one datagram to the socket that it named."""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger(__name__)


class Notifier:
    """Tells the manager that started us; nobody, where none did.

    `watchdog`: how many seconds may pass between two calls of `alive`, None where the manager does not ask for them.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the first byte of a name that is not in the file system; anything else is no address of ours.
        self._address = address.replace("@", "\0", 1) if address.startswith(("/", "@")) else None
        self.watchdog = _interval(environ) if self._address else None

    @property
    def listens(self) -> bool:
        """Is there anybody to be told?"""
        return self._address is not None

    def ready(self) -> None:
        """The service has started, or is done with reloading."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again; `ready` follows."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The service ends."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """All is in motion; nothing where the manager does not ask for it."""
        if self.watchdog is not None:
            self._tell("WATCHDOG=1")

    def status(self, text: str) -> None:
        """A line for people, which ``systemctl status`` shows."""
        self._tell(f"STATUS={' '.join(text.split())}")

    def _tell(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as out:
                out.sendto(message.encode("utf-8", "backslashreplace"), self._address)
        except OSError as error:
            _log.debug("the service manager cannot be told", extra={"error": error.strerror or str(error)})


def _interval(environ: Mapping[str, str]) -> float | None:
    """Of WATCHDOG_USEC, if it is meant for this process (sd_watchdog_enabled(3))."""
    microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not (microseconds.isascii() and microseconds.isdigit() and int(microseconds)):
        return None
    return int(microseconds) / 1e6 if pid in ("", str(os.getpid())) else None
