"""Faults as data: what goes wrong, for which requests, how often. They can be changed while the server runs.

A request meets every fault that matches it, in the order in which they were added. Chance is seeded, so that
the same requests in the same order meet the same faults.
"""

from __future__ import annotations

import math
import random
import threading
from collections import defaultdict, deque
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from tailer.local.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tailer.local.store import ObjectInfo

KINDS = {
    "status": "answer `status` with `code` and `message`; with `delay_ms` also x-oss-qos-delay-time",
    "html": "answer `status` with a page of HTML, as a proxy does",
    "malformed-xml": "answer `status` with XML that breaks off",
    "lose-answer": "do what was asked, and close the connection without an answer",
    "reset": "reset the connection: before anything is done, or after `at` bytes of the answer's body",
    "cut": "close the connection after `at` bytes of the body",
    "slow": "send the body at `rate` bytes per second",
    "stall": "wait `seconds`: before anything is done, or after `at` bytes of its body",
    "flip-bit": "turn over the lowest bit of byte `at` of the object, where it is sent",
    "flip-crc": "turn over the lowest bit of x-oss-hash-crc64ecma",
    "drop-header": "leave out `header` (by default x-oss-hash-crc64ecma)",
    "gzip": "compress text of 1 KiB or more on the fly for a client that accepts it, as the service does",
    "stale-head": "answer HEAD as of `seconds` ago; with 0 as of before the last change",
    "ignore-range": "answer a ranged GET with 200 and the whole object",
    "shift-range": "say a Content-Range that is `by` bytes off",
    "wrong-length": "say a Content-Length that is `by` bytes off",
    "skew": "set the server's clock `by` seconds off: in Date and in checking signatures",
}
"""Every kind of fault and what it does."""

_NEEDS = {"cut": ("at",), "slow": ("rate",), "flip-bit": ("at",)}
_TYPES = {"str": "text", "int": "a whole number", "float": "a number"}
_HISTORY = 256


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. Offsets and lengths are bytes, times seconds.

    It matches a request by `operation` (a glob over names such as ``GetObject``), `method`, `bucket` and `key`
    (a glob). The first `after` matching requests are spared, at most `count` are hit, each with `probability`.
    """

    kind: str
    operation: str = "*"
    method: str = "*"
    bucket: str = "*"
    key: str = "*"
    after: int = 0
    count: int | None = None
    probability: float = 1.0
    status: int = 503
    code: str = "ServiceUnavailable"
    message: str = "Please reduce your request rate."
    delay_ms: int | None = None
    at: int | None = None
    by: int = 1
    rate: float | None = None
    seconds: float = 0.0
    header: str = "x-oss-hash-crc64ecma"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no such kind of fault: {self.kind!r}; there are {', '.join(KINDS)}")
        for name in _NEEDS.get(self.kind, ()):
            if getattr(self, name) is None:
                raise ValueError(f"a fault of kind {self.kind!r} needs {name!r}")
        for name in ("after", "count", "at", "delay_ms", "seconds"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} must not be negative")
        if not 0 <= self.probability <= 1:
            raise ValueError("probability must be 0 to 1")
        if self.rate is not None and self.rate <= 0:
            raise ValueError("rate must be more than 0 bytes per second")
        if not 400 <= self.status <= 599 and self.kind == "status":
            raise ValueError("status must be 400 to 599")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fault:
        """Raises ValueError for a field that is unknown or of the wrong type."""
        known = {field.name: str(field.type) for field in fields(cls)}
        for name, value in data.items():
            if name not in known:
                raise ValueError(f"no such field: {name!r}; there are {', '.join(known)}")
            wanted, _, optional = known[name].partition(" | ")
            if not (_is_a(value, wanted) or (optional and value is None)):
                raise ValueError(f"{name} must be {_TYPES[wanted]}")
        if "kind" not in data:
            raise ValueError("kind is missing")
        return cls(**data)

    def matches(self, operation: str, method: str, bucket: str, key: str) -> bool:
        """Whether it is about such a request."""
        return (
            fnmatchcase(operation, self.operation)
            and self.method in ("*", method)
            and fnmatchcase(bucket, self.bucket)
            and (self.key == "*" or fnmatchcase(key, self.key))
        )


def _is_a(value: object, wanted: str) -> bool:
    """Whether a value of JSON can be a field of this type."""
    if wanted == "float":
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, str if wanted == "str" else int) and not isinstance(value, bool)


@dataclass(slots=True)
class _Entry:
    fault: Fault
    matched: int = 0
    injected: int = 0


class Faults:
    """The faults in force and how often each was injected. Safe to use from several threads."""

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []
        self._random = random.Random(seed)

    def add(self, *faults: Fault) -> None:
        """Put faults in force, behind those that are."""
        with self._lock:
            self._entries += [_Entry(fault) for fault in faults]

    def replace(self, faults: Iterable[Fault], seed: int | None = None) -> None:
        """These faults, and no others. A seed starts chance anew."""
        entries = [_Entry(fault) for fault in faults]
        with self._lock:
            self._entries = entries
            if seed is not None:
                self._random.seed(seed)

    def clear(self) -> None:
        """Everything goes well again."""
        self.replace(())

    def report(self) -> list[dict[str, Any]]:
        """Every fault as JSON data, with the requests it matched and those that it hit."""
        with self._lock:
            return [
                {**asdict(entry.fault), "matched": entry.matched, "injected": entry.injected} for entry in self._entries
            ]

    def has(self, kind: str) -> bool:
        """Whether a fault of this kind is in force."""
        return any(entry.fault.kind == kind for entry in self._entries)

    @property
    def injected(self) -> int:
        """How many requests were hit, one for each fault that did."""
        with self._lock:
            return sum(entry.injected for entry in self._entries)

    def strike(self, operation: str, method: str, bucket: str, key: str) -> Strikes:
        """What goes wrong with this request."""
        if not self._entries:
            return NOTHING
        with self._lock:
            return Strikes(
                [
                    entry.fault
                    for entry in self._entries
                    if entry.fault.matches(operation, method, bucket, key) and self._hits(entry)
                ]
            )

    def _hits(self, entry: _Entry) -> bool:
        fault = entry.fault
        entry.matched += 1
        if entry.matched <= fault.after or (fault.count is not None and entry.injected >= fault.count):
            return False
        if fault.probability < 1 and self._random.random() >= fault.probability:
            return False
        entry.injected += 1
        return True


class Strikes:
    """The faults that one request meets."""

    __slots__ = ("_faults",)

    def __init__(self, faults: list[Fault]) -> None:
        self._faults = faults

    def __bool__(self) -> bool:
        return bool(self._faults)

    def get(self, *kinds: str) -> Fault | None:
        """The first fault of one of these kinds."""
        return next((fault for fault in self._faults if fault.kind in kinds), None) if self._faults else None

    def refuse(self) -> None:
        """Raises the answer that a `status` fault asks for."""
        fault = self.get("status")
        if fault is not None:
            headers = {} if fault.delay_ms is None else {"x-oss-qos-delay-time": str(fault.delay_ms)}
            raise Refusal(fault.status, fault.code, fault.message, headers=headers)


NOTHING = Strikes([])
"""A request that all goes well with."""


class History:
    """The last states of every object, for answers that are out of date.

    Two of each: the present one and the one before. More, while a fault asks for the state of some time ago.
    """

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._states: defaultdict[tuple[str, str], deque[tuple[float, ObjectInfo | None]]] = defaultdict(deque)

    def note(self, at: float, bucket: str, key: str, info: ObjectInfo | None) -> None:
        """Remember that the object became this, or went."""
        states = self._states[bucket, key]
        states.append((at, info))
        while len(states) > (_HISTORY if self._faults.has("stale-head") else 2):
            states.popleft()

    def as_of(self, now: float, seconds: float, bucket: str, key: str) -> ObjectInfo | None:
        """The object `seconds` ago, or before its last change when that is 0. None: it was not there."""
        states = list(self._states.get((bucket, key), ()))
        if not seconds:
            return states[-2][1] if len(states) > 1 else None
        return next((info for at, info in reversed(states) if at <= now - seconds), None)
