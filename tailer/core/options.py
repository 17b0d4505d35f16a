"""How an object is followed: what a user may choose."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from tailer.core.schedule import Pace


class Follow(Enum):
    """What to do at the present end of the object."""

    NO = "no"
    DESCRIPTOR = "descriptor"
    NAME = "name"


class Integrity(Enum):
    """What must be proven before a byte is handed out; see the theory of operation in `core.tail`.

    STRICT is CHAIN for the machine: its driver keeps back what is not yet `Verified`. FULL is CHAIN and, for a start
    in the middle, the bytes below it read afterwards, to prove what was handed out from byte 0.
    """

    STRICT = "strict"
    CHAIN = "chain"
    FULL = "full"
    OFF = "off"


class Poll(Enum):
    """How to look for news: HEAD, or a GET of the last known byte and all behind it: one request, and a HEAD only
    while the object is empty."""

    HEAD = "head"
    GET = "get"


@dataclass(frozen=True, slots=True)
class TailOptions:
    """How to follow. Sizes in bytes, times in seconds.

    `retry` waits for an object that is not there. `attempts` bounds the tries of one request where waiting
    for ever would help nobody (one-shot reading, an object never seen yet, an answer that no OSS gives).
    `exit_idle` ends a follow when nothing new came for so long. `max_spool` bounds the bytes that `Integrity.STRICT`
    keeps until they are proven; of those beyond it only the CRC-64 is kept, and they are read twice.
    """

    follow: Follow = Follow.NO
    retry: bool = False
    integrity: Integrity = Integrity.CHAIN
    poll: Poll = Poll.HEAD
    delimiter: bytes | None = None
    max_record: int = 1024 * 1024
    pace: Pace = field(default_factory=Pace)
    max_window: int = 4 * 1024 * 1024
    max_depth: int = 16
    max_ahead: int = 40 * 1024 * 1024
    attempts: int = 4
    exit_idle: float | None = None
    max_spool: int = 1024 * 1024 * 1024
