"""What an at-least-once consumer delivered in all its lives, held against the objects' true bytes."""

from __future__ import annotations

import base64
import json
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from mmap import mmap

    from tests.soak.world import Life


class Delivery(NamedTuple):
    """Bytes from `start` on; or, without bytes, the word that what lies behind `start` is void.

    `at`: how long the output was when all of it stood there.
    """

    object: str
    generation: int
    start: int
    data: bytes | None
    verified: bool
    at: int


class Torn(NamedTuple):
    """The output ends in the middle of something, which is as if it had not been written."""

    at: int


class Event(NamedTuple):
    """What may not happen here: no object is replaced, shortened or deleted."""

    object: str
    what: str


Entry = Delivery | Torn | Event


def library_log(content: bytes) -> Iterator[Entry]:
    """What `tests.soak.reader` wrote."""
    at = 0
    while at < len(content):
        end = content.find(b"\n", at) + 1
        header = json.loads(content[at:end]) if end else {}
        data = content[end : end + header.get("size", 0)]
        if not end or len(data) < header["size"]:
            yield Torn(at)
            return
        at = end + len(data)
        if "event" not in header:
            yield Delivery(header["object"], header["generation"], header["start"], data, True, at)
        elif header["event"] == "Rewound":
            yield Delivery(header["object"], 0, header["to"], None, True, at)
        else:
            yield Event(header["object"], header["event"])


def json_lines(content: bytes) -> Iterator[Entry]:
    """What ``oss-tail --json`` wrote."""
    at = 0
    for line in content.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            yield Torn(at)
            return
        at += len(line)
        entry = json.loads(line)
        if entry["type"] == "record":
            text = entry.get("data")
            data = base64.b64decode(entry["data_base64"]) if text is None else text.encode()
            ended = b"\n" if entry["end"] - entry["start"] > len(data) else b""
            yield Delivery(entry["object"], entry["generation"], entry["start"], data + ended, entry["verified"], at)
        elif entry["type"] == "rewound":
            yield Delivery(entry["object"], entry["generation"], entry["to"], None, True, at)
        elif entry["type"] not in ("verified", "failed"):
            yield Event(entry["object"], entry["type"])


class _When(NamedTuple):
    """Bytes up to `end` were delivered `age` seconds before that life was killed; None: it was not."""

    end: int
    age: float | None


@dataclass
class _Object:
    """One object as far as it was delivered."""

    reached: int = 0
    next: int | None = None  # in this life
    delivered: list[_When] = field(default_factory=list)
    wrong: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class Ledger:
    """The sums. `repeats`: bytes that came again after a kill, and how long before it the first of them had come."""

    delivered: int = 0
    voided: int = 0
    void_wrong: int = 0
    torn: int = 0
    repeats: list[tuple[int, float]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def oldest(self) -> float:
        """Seconds, of all repeats."""
        return max((age for _, age in self.repeats), default=0.0)


class Auditor:
    """Reads the lives in order."""

    def __init__(self, truth: dict[str, mmap | bytes], *, is_strict: bool) -> None:
        """`is_strict`: no wrong byte may be delivered; else one that is not verified may, and must come again right."""
        self.ledger = Ledger()
        self._truth = truth
        self._is_strict = is_strict
        self._objects = {name: _Object() for name in truth}

    def audit(self, lives: Sequence[Life], entries_of: Callable[[bytes], Iterator[Entry]]) -> Ledger:
        """All of it."""
        for life in lives:
            for known in self._objects.values():
                known.next = None
            for entry in entries_of(life.out.read_bytes()):
                self._enter(entry, life)
        self._close()
        return self.ledger

    def _enter(self, entry: Entry, life: Life) -> None:
        if isinstance(entry, Torn):
            self.ledger.torn += 1
            if life.killed is None:
                self._complain(life, "torn output though it was not killed")
        elif isinstance(entry, Event):
            self._complain(life, f"{entry.object}: {entry.what}, which did not happen")
        elif entry.generation != 0:
            self._complain(life, f"{entry.object}: generation {entry.generation}")
        elif entry.data is None:
            self._void(entry)
        else:
            self._deliver(entry, entry.data, life)

    def _void(self, entry: Delivery) -> None:
        known = self._objects[entry.object]
        self.ledger.voided += max(0, known.reached - entry.start)
        known.reached = min(known.reached, entry.start)
        known.next = entry.start

    def _deliver(self, entry: Delivery, data: bytes, life: Life) -> None:
        known, end = self._objects[entry.object], entry.start + len(data)
        if known.next is None:
            self._begin(known, entry, life)
        elif entry.start != known.next:
            kind = "lost" if entry.start > known.next else "doubled"
            self._complain(life, f"{entry.object}: {kind} between {known.next} and {entry.start}")
        known.next = end
        known.reached = max(known.reached, end)
        self._note_time(known, entry, end, life)
        self._compare(known, entry, data, life)
        self.ledger.delivered += len(data)

    def _begin(self, known: _Object, entry: Delivery, life: Life) -> None:
        """The first bytes of the object in this life: where the checkpoint said."""
        if entry.start > known.reached:
            self._complain(life, f"{entry.object}: lost [{known.reached}, {entry.start})")
        if entry.start < known.reached:
            oldest = known.delivered[bisect_left(known.delivered, (entry.start + 1,))]
            if oldest.age is None:
                self._complain(life, f"{entry.object}: comes again though nothing was killed")
            else:
                self.ledger.repeats.append((known.reached - entry.start, oldest.age))

    def _note_time(self, known: _Object, entry: Delivery, end: int, life: Life) -> None:
        """When [start, end) was delivered last; of what lies behind it an earlier life may still be the last one."""
        index = bisect_left(life.growth, entry.at, key=lambda seen: seen[1])
        moment = life.growth[min(index, len(life.growth) - 1)][0]
        first = bisect_left(known.delivered, (entry.start + 1,))
        behind = bisect_left(known.delivered, (end + 1,))
        age = None if life.killed is None else max(0.0, life.killed - moment)
        known.delivered[first:behind] = [_When(end, age)]

    def _compare(self, known: _Object, entry: Delivery, data: bytes, life: Life) -> None:
        span = entry.start, entry.start + len(data)
        if data == self._truth[entry.object][span[0] : span[1]]:
            known.wrong = [(start, end) for start, end in known.wrong if end <= span[0] or start >= span[1]]
        elif entry.verified or self._is_strict:
            self._complain(life, f"{entry.object}: wrong bytes in [{span[0]}, {span[1]})")
        else:
            self.ledger.void_wrong += 1
            known.wrong.append(span)

    def _close(self) -> None:
        for name, known in self._objects.items():
            if known.reached != len(self._truth[name]):
                self.ledger.problems.append(f"{name}: ends at {known.reached}, the object at {len(self._truth[name])}")
            if known.wrong:
                self.ledger.problems.append(f"{name}: wrong bytes that never came again: {known.wrong}")

    def _complain(self, life: Life, what: str) -> None:
        self.ledger.problems.append(f"{life.out.name}: {what}")
