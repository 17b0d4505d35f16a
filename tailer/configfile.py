"""The configuration of `oss-tailer run`: a TOML file, and the frozen values that the service works with.

Every key is described in docs/configuration.md. Times are in seconds, sizes in bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tailer.core.options import Integrity

if TYPE_CHECKING:
    from collections.abc import Mapping

SinkType = Literal["file", "jsonl", "stdout", "exec", "http"]


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a secret is found: the environment variable or the file called `name`. Never the secret itself."""

    kind: Literal["env", "file"]
    name: str


@dataclass(frozen=True, slots=True)
class OssConfig:
    """``[oss]``: where the service is and whose keys are used. None: as the environment or the profile says."""

    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    sign: bool = True
    access_key_id: Reference | None = None
    access_key_secret: Reference | None = None
    session_token: Reference | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """``[limits]``: what the requests of the whole process may come to. None: no limit.

    A day is one of UTC. Without `daily_requests`, `daily_cost` is divided by `price`, what 10,000 requests cost.
    """

    max_requests_per_second: float | None = None
    daily_requests: int | None = None
    daily_cost: float | None = None
    price: float = 0.01
    currency: str = "CNY"


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """``[server]``: the port for metrics, health, hints and the status page. `listen` None: there is none.

    `object_series` is how many objects, those with the most lag, get metrics of their own.
    """

    listen: tuple[str, int] | None = ("127.0.0.1", 9465)
    hints: bool = True
    object_series: int = 0


@dataclass(frozen=True, slots=True)
class SinkConfig:
    """``[sinks.NAME]``. What a type does not know stays at its default.

    file: `path` is a folder with a mirror of each object, in segments of `rotate_size` bytes if that is given.
    jsonl: lines of JSON appended to the file at `path`, to standard output without one. stdout: the bytes.
    exec: `command` is run for each batch. http: a POST to `url` for each, `headers` may be references.
    `concurrency`: how many batches it takes at once (1: one after the other).
    """

    name: str
    type: SinkType
    path: Path | None = None
    rotate_size: int | None = None
    fsync: str = "never"
    command: tuple[str, ...] = ()
    url: str | None = None
    headers: Mapping[str, str | Reference] = field(default_factory=dict)
    body: Literal["bytes", "jsonl"] = "bytes"
    concurrency: int = 4


@dataclass(frozen=True, slots=True)
class GroupConfig:
    """``[groups.NAME]``: a changing set of objects that goes into one sink.

    `objects` are addresses, patterns (``*``, ``?``, ``[…]``, ``**``, and ``%Y %m %d %H`` for partitions by time in UTC)
    and prefixes. `look_back`: how old a partition may be that can still change. `start`: where an object begins that
    was there at the very first listing of the group (one that comes later begins at byte 0). `list_interval`: the
    time between two listings. An object that grows is polled by itself between `poll_min` and `poll_max`.
    `ignore_older`: an object not modified for so long that was never read is left alone. `keep_checkpoints`: how long
    the checkpoint of an object that went is kept. `sequence`: the objects, in the order of their names, are one stream.
    """

    name: str
    objects: tuple[str, ...]
    sink: str
    start: Literal["start", "end"] = "start"
    replaced: Literal["restart", "stop"] = "restart"
    integrity: Integrity = Integrity.CHAIN
    poll_min: float = 1.0
    poll_max: float = 60.0
    list_interval: float = 10.0
    look_back: float = 2 * 86400.0
    ignore_older: float | None = None
    keep_checkpoints: float = 30 * 86400.0
    sequence: bool = False
    delimiter: bytes | None = b"\n"
    max_record: int = 1024 * 1024
    max_objects: int = 1_000_000


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """All of the file.

    `drain`: how long what is in hand may take after SIGTERM. `stuck`: a group with lag that delivers nothing for so
    long, or whose listing fails for so long, is unhealthy. `buffer_bytes` bounds what is held of all objects together.
    """

    groups: Mapping[str, GroupConfig]
    sinks: Mapping[str, SinkConfig]
    checkpoint: Path
    oss: OssConfig = field(default_factory=OssConfig)
    limits: Limits = field(default_factory=Limits)
    server: ServerConfig = field(default_factory=ServerConfig)
    drain: float = 20.0
    stuck: float = 300.0
    buffer_bytes: int = 128 * 1024 * 1024
    log_format: Literal["logfmt", "json"] = "logfmt"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
