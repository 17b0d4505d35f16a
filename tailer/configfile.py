"""The configuration of `oss-tailer run`: a TOML file, and the frozen values that the service works with.

Every key is described in docs/configuration.md. Times are in seconds, sizes in bytes. `load_config` reads the file,
`find_problems` says all that is wrong with it, each with its line; equal files make equal values.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import parse_qsl, urlsplit

from tailer.config import resolve_service
from tailer.core import units
from tailer.core.options import Integrity
from tailer.core.toml import key_lines
from tailer.discovery import Census, Row
from tailer.errors import AddressError, ConfigError, ConfigFileError, UsageError
from tailer.oss.address import Endpoint, checked_region, parse_address
from tailer.oss.credentials import Credentials, RereadCredentials
from tailer.oss.unshown import UnshownEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tailer.core.toml import Path as Way
    from tailer.discovery import Surveyor
    from tailer.oss.client import ServiceSettings

    Convert = Callable[[object], object]
    """A value of the file as the service wants it. Raises ConfigError, which says what is allowed."""

_LARGEST_FILE = 1 << 20
_LARGEST_SECRET = 1 << 16
_LONGEST_TIME = 100 * 365 * 86400.0
_LEAST_BUFFER = 8 << 20  # what one visit of an object may hold
_LONGEST_NAME = 200  # bytes, of a group: as the checkpoint file has it

SinkType = Literal["file", "jsonl", "stdout", "exec", "http"]


@dataclass(frozen=True, slots=True)
class Reference:
    """Where a secret is found: the environment variable or the file called `name`. Never the secret itself."""

    kind: Literal["env", "file"]
    name: str

    def read(self, environ: Mapping[str, str]) -> str:
        """The secret as it is now, without white space around it. Raises ConfigError, without it."""
        if self.kind == "env":
            value = environ.get(self.name, "").strip()
            if not value:
                raise ConfigError(f"the environment variable {self.name} is not set")
            return value
        try:
            with open(self.name, "rb") as file:
                value = file.read(_LARGEST_SECRET + 1).decode().strip()
        except OSError as error:
            raise ConfigError(f"the file {self.name!r} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise ConfigError(f"the file {self.name!r} holds no text: it is not UTF-8") from None
        if not value or len(value) > _LARGEST_SECRET:
            raise ConfigError(f"the file {self.name!r} {'is too large for a secret' if value else 'is empty'}")
        return value


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
    max_objects: int = 300_000


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """All of the file.

    `drain`: how long what is in hand may take after SIGTERM. `stuck`: a group with lag that comes no closer to delivery
    for so long, or whose listing fails for so long, is unhealthy. `buffer_bytes` bounds what is held of all objects
    together.
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


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about the file. `line` counts from 1, 0: none in particular. A `warning` keeps nobody from running.

    ``str()`` is one line: ``config.toml:12: groups.web.poll_min: …``. No secret is in it.
    """

    file: str
    line: int
    key: str
    text: str
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {'warning: ' * self.warning}{self.key}{': ' * bool(self.key)}{self.text}"


def load_config(path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> ServiceConfig:
    """The configuration in the file at `path`; relative paths in it begin at its folder.

    Raises ConfigFileError with all mistakes at once. No secret is read.
    """
    environ = UnshownEnvironment(environ)
    config, problems = read_config(path, environ)
    if config is None:
        raise ConfigFileError(*(str(one) for one in problems if not one.warning))
    return config


def find_problems(path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """All mistakes and warnings, in the order of their lines."""
    return read_config(path, environ)[1]


def read_config(
    path: str | os.PathLike[str], environ: Mapping[str, str] = os.environ
) -> tuple[ServiceConfig | None, list[Problem]]:
    """The configuration, None where it has a mistake, and all problems in the order of their lines.

    Warnings, besides: a secret that cannot be had in `environ` or on this machine.
    """
    name = os.fspath(path)
    try:
        text = _text_of(name)
        data, lines = tomllib.loads(text), key_lines(text)
    except ConfigError as error:
        return None, [Problem(name, 0, "", str(error))]
    except RecursionError:
        return None, [Problem(name, 0, "", "it is nested too deeply")]
    except ValueError as error:
        return None, [_syntax_problem(name, text, str(error))]
    reading = _Reading(name, lines)
    config = reading.service(data)
    if config is not None:
        _warn_of_secrets(reading, config, environ)
    return config, sorted(reading.problems, key=lambda one: one.line)


def service_settings(config: ServiceConfig, environ: Mapping[str, str] = os.environ) -> ServiceSettings:
    """How to reach the service, as ``[oss]`` says, then `environ`, then a profile. Raises ConfigError.

    Secrets that are in files are read again when they are refused as expired, and once a minute.
    """
    environ, oss = UnshownEnvironment(environ), config.oss
    objects = (text for group in config.groups.values() for text in group.objects)
    return resolve_service(
        endpoint=oss.endpoint,
        region=oss.region,
        profile=oss.profile,
        no_sign_request=not oss.sign,
        urls_only=all(parse_address(text).url is not None for text in objects),
        credentials=RereadCredentials(partial(_read_keys, oss, environ)) if oss.access_key_id and oss.sign else None,
        option="oss.{}",
        environ=environ,
    )


def _read_keys(oss: OssConfig, environ: Mapping[str, str]) -> Credentials:
    assert oss.access_key_id is not None  # one half is never given without the other
    assert oss.access_key_secret is not None
    token = oss.session_token.read(environ) if oss.session_token else None
    return Credentials(oss.access_key_id.read(environ), oss.access_key_secret.read(environ), token)


# --- the file


def _text_of(name: str) -> str:
    """Raises ConfigError for what cannot be a configuration."""
    try:
        with open(name, "rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"it cannot be read: {reason}") from error
    if len(data) > _LARGEST_FILE:
        raise ConfigError(f"it has more than {_LARGEST_FILE} bytes: that is no configuration")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"it is not UTF-8, from line {line} on") from None


_SYNTAX = re.compile(r"(.*) \(at (?:line ([0-9]+), column [0-9]+|end of document)\)", re.DOTALL)
_TWICE = re.compile(r"Cannot (?:declare|mutate immutable namespace|redefine namespace|overwrite)\b")


def _syntax_problem(name: str, text: str, message: str) -> Problem:
    """The one thing that `tomllib` says, in its words but for the usual slip."""
    match = _SYNTAX.fullmatch(message)
    what, line = (match[1], int(match[2] or text.count("\n") + 1)) if match else (message, 0)
    if _TWICE.match(what):
        keys = re.findall(r"'((?:[^'\\]|\\.)*)'", what)
        return Problem(name, line, ".".join(keys), "this is there twice")
    hint = """ (a NUL is '\\0' or "\\u0000")""" if "Unescaped" in what else ""
    return Problem(name, line, "", f"this is not TOML: {what[:1].lower()}{what[1:]}{hint}")


def _dotted(way: Way) -> str:
    """``groups.web.objects[0]``; a name that is not bare in quotes."""
    text = ""
    for step in way:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step if re.fullmatch('[A-Za-z0-9_-]+', step) else json.dumps(step)}"
    return text.removeprefix(".")


# --- tables


class _Reading:
    """Reads the tables of one document, and goes on after each mistake."""

    def __init__(self, file: str, lines: Mapping[Way, int]) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._folder = Path(os.path.abspath(file)).parent
        self._lines = lines

    def tell(self, way: Way, text: object, *, warning: bool = False) -> None:
        """A problem of the value at `way`, on the line of the nearest thing that has one."""
        line = next((self._lines[way[:size]] for size in range(len(way), 0, -1) if way[:size] in self._lines), 1)
        self.problems.append(Problem(self._file, line, _dotted(way), str(text), warning))

    def service(self, data: dict[str, object]) -> ServiceConfig | None:
        """The whole document; None where there is a mistake in it."""
        tables = {"oss", "limits", "server", "sinks", "groups"}
        own = {name: value for name, value in data.items() if name not in tables}
        values = self._read((), own, {**_SERVICE, "checkpoint": self._file_path}, more=tables)
        values["oss"] = self._oss(self._table(("oss",), data.get("oss", {})))
        values["limits"] = self._limits(self._table(("limits",), data.get("limits", {})))
        values["server"] = self._part(ServerConfig, ("server",), data.get("server", {}), _SERVER)
        sinks = self._table(("sinks",), data.get("sinks", {}))
        values["sinks"] = {name: sink for name, one in sinks.items() if (sink := self._sink(name, one))}
        groups = self._table(("groups",), data.get("groups", {}))
        values["groups"] = {name: group for name, one in groups.items() if (group := self._group(name, one, sinks))}
        if "checkpoint" not in data:
            self.tell(("checkpoint",), 'is missing: the file that keeps how far objects were read, as "state.db"')
        if not groups and "groups" not in {one.key for one in self.problems}:
            self.tell(("groups",), "there is none: write [groups.NAME] with objects and sink")
        self._check_together(values["sinks"], values["groups"], values.get("checkpoint"))
        if any(not one.warning for one in self.problems):
            return None
        return ServiceConfig(**values)

    def _table(self, way: Way, value: object) -> dict[str, object]:
        if isinstance(value, dict):
            return value
        self.tell(way, f"is a table: write [{_dotted(way)}{'.NAME' if way[-1] in ('sinks', 'groups') else ''}]")
        return {}

    def _read(
        self, way: Way, data: Mapping[str, object], keys: Mapping[str, Convert], more: set[str] | None = None
    ) -> dict[str, Any]:
        """What is right among the values of a table. `more`: other names that it may hold."""
        values = {}
        for name, value in data.items():
            convert = keys.get(name)
            if convert is None:
                self.tell((*way, name), _unknown(name, {*keys, *(more or ())}))
                continue
            try:
                values[name] = convert(value)
            except ConfigError as error:
                self.tell((*way, name), error)
        return values

    def _part(self, kind: type[Any], way: Way, value: object, keys: Mapping[str, Convert]) -> Any:
        return kind(**self._read(way, self._table(way, value), keys))

    def _need(self, way: Way, data: Mapping[str, object], name: str, what: str) -> bool:
        if name not in data:
            self.tell((*way, name), f"is missing: {what}")
        return name in data

    # --- each of them

    def _oss(self, data: dict[str, object]) -> OssConfig:
        secrets = ("access_key_id", "access_key_secret", "session_token")
        values = self._read(("oss",), data, {**_OSS, **dict.fromkeys(secrets, self._reference)})
        for name, other in (secrets[:2], secrets[1::-1], (secrets[2], secrets[0])):
            if name in data and other not in data:
                self.tell(("oss", name), f"is given without {other}")
        if values.get("sign") is False:
            for name in data.keys() & set(secrets):
                self.tell(("oss", name), "is not used, since sign = false", warning=True)
        return OssConfig(**values)

    def _limits(self, data: dict[str, object]) -> Limits:
        limits = Limits(**self._read(("limits",), data, _LIMITS))
        if limits.daily_cost is not None and limits.daily_requests is not None:
            self.tell(("limits", "daily_cost"), "is not used, since daily_requests is given", warning=True)
        elif limits.daily_cost is not None and limits.price == 0:
            self.tell(("limits", "price"), "is 0, so that daily_cost limits nothing")
        return limits

    def _sink(self, name: str, value: object) -> SinkConfig | None:
        way, before = ("sinks", name), len(self.problems)
        self._check_name(way)
        data = self._table(way, value)
        kind = data.get("type")
        if not isinstance(value, dict) or not self._need(way, data, "type", _SINK_TYPES):
            return None
        if not isinstance(kind, str) or kind not in _SINKS:
            self.tell((*way, "type"), f"{_shown(kind)} is no type of sink: {_SINK_TYPES}")
            return None
        keys: dict[str, Convert] = {"type": _any, "concurrency": partial(_whole, least=1, most=1000), **_SINKS[kind]}
        if "path" in keys:
            keys["path"] = self._folder_path if kind == "file" else self._file_path
        if "headers" in keys:
            keys["headers"] = partial(self._headers, (*way, "headers"))
        values = self._read(way, self._without_foreign(way, data, keys), keys)
        for needed, what in _NEEDED.get(kind, {}).items():
            self._need(way, data, needed, what)
        return None if len(self.problems) > before else SinkConfig(name=name, **values)

    def _without_foreign(self, way: Way, data: Mapping[str, object], keys: Mapping[str, Convert]) -> dict[str, object]:
        """The table without keys that belong to sinks of other types, which are told."""
        for name in data.keys() - keys.keys():
            if owners := [kind for kind, own in _SINKS.items() if name in own]:
                self.tell((*way, name), f"is for sinks of type {' or '.join(owners)}, not {data['type']}")
        foreign = {name for own in _SINKS.values() for name in own} - keys.keys()
        return {name: value for name, value in data.items() if name not in foreign}

    def _group(self, name: str, value: object, sinks: Mapping[str, object]) -> GroupConfig | None:
        way = ("groups", name)
        self._check_name(way)
        data = self._table(way, value)
        if not isinstance(value, dict):
            return None
        values = self._read(way, data, {**_GROUP, "objects": partial(self._objects, (*way, "objects"))})
        self._need(way, data, "objects", 'what it follows, as ["oss://bucket/logs/*.log"]')
        self._need(way, data, "sink", "the name of one of [sinks.NAME]")
        if "sink" in values and (sink := values["sink"]) not in sinks:
            self.tell((*way, "sink"), f"there is no [sinks.{_dotted((sink,))}]{_near(sink, sinks)}")
        group = GroupConfig(**{"name": name, "objects": (), "sink": "", **values})
        self._check_partitions(way, group)
        if group.poll_min > group.poll_max and {"poll_min", "poll_max"} & data.keys() <= values.keys():
            self.tell((*way, "poll_min" if "poll_min" in data else "poll_max"), _poll_order(group))
        return group

    def _check_partitions(self, way: Way, group: GroupConfig) -> None:
        """A look-back of more partitions than can be listed is refused by whoever lists them."""
        nobody = cast("Surveyor", None)  # nothing is asked
        try:
            Census(nobody, map(parse_address, group.objects), row=Row, look_back=group.look_back)
        except ConfigError as error:
            self.tell((*way, "look_back"), error)

    def _check_name(self, way: tuple[str, str]) -> None:
        name = way[1]
        if not name.isprintable() or not 0 < len(name.encode()) <= _LONGEST_NAME:
            self.tell(way, f"a name has 1 to {_LONGEST_NAME} bytes, all of them printable")

    def _check_together(
        self, sinks: Mapping[str, SinkConfig], groups: Mapping[str, GroupConfig], checkpoint: Path | None
    ) -> None:
        for name in sinks.keys() - {group.sink for group in groups.values()}:
            self.tell(("sinks", name), "no group uses this sink", warning=True)
        for one, other, why in _in_each_others_way(sinks, checkpoint):
            self.tell(("sinks", other), f"{why} [sinks.{_dotted((one,))}]" if one else why)
        for group in groups.values():
            sink = sinks.get(group.sink)
            if sink is not None and sink.type == "file" and group.start == "end":
                self.tell(("groups", group.name, "start"), "a mirror begins at byte 0: sink is of type file")
        self._check_mirrored_twice(sinks, groups)

    def _check_mirrored_twice(self, sinks: Mapping[str, SinkConfig], groups: Mapping[str, GroupConfig]) -> None:
        """The same object in two groups is good, but one file cannot have two writers."""
        mirrored: dict[tuple[str, str], str] = {}
        for group in groups.values():
            sink = sinks.get(group.sink)
            if sink is None or sink.type != "file":
                continue
            for number, text in enumerate(group.objects):
                first = mirrored.setdefault((sink.name, text), group.name)
                if first != group.name:
                    why = f"group {first} mirrors this into the same folder"
                    self.tell(("groups", group.name, "objects", number), why)

    # --- values that need more than themselves

    def _path(self, value: object) -> Path:
        text = _text(value)
        if "\0" in text:
            raise ConfigError("a path has no NUL in it")
        try:
            return Path(os.path.normpath(self._folder / Path(text).expanduser()))
        except RuntimeError as error:
            raise ConfigError(f"{_shown(text)}: that user has no home") from error

    def _file_path(self, value: object) -> Path:
        path = self._path(value)
        if os.path.isdir(path) or str(value).endswith("/"):
            raise ConfigError(f"{_shown(value)} is a folder, where a file is wanted")
        return path

    def _folder_path(self, value: object) -> Path:
        path = self._path(value)
        if os.path.exists(path) and not os.path.isdir(path):
            raise ConfigError(f"{_shown(value)} is no folder")
        return path

    def _reference(self, value: object) -> Reference:
        """Whatever else stands there may be the secret itself, and is not shown."""
        if not isinstance(value, dict) or len(value) != 1 or not value.keys() <= {"env", "file"}:
            raise ConfigError(_BY_REFERENCE)
        [(kind, name)] = value.items()
        if not isinstance(name, str) or not name or "\0" in name:
            raise ConfigError(_BY_REFERENCE)
        return Reference(kind, str(self._path(name)) if kind == "file" else name)

    def _headers(self, way: Way, value: object) -> dict[str, str | Reference]:
        if not isinstance(value, dict):
            raise ConfigError('is a table: { Name = "value", Authorization = { env = "NAME" } }')
        return self._read(way, value, {name: partial(self._header, name) for name in value})

    def _header(self, name: str, value: object) -> str | Reference:
        _check_target("http://host/", name)
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
            raise ConfigError("this is no name of a header")
        if isinstance(value, dict):
            return self._reference(value)
        if not isinstance(value, str) or _SECRET_NAME.search(name) or _SECRET_VALUE.match(value):
            raise ConfigError(_BY_REFERENCE)
        if not value.isprintable() or not value.isascii():
            raise ConfigError("a header's value is printable ASCII")
        return value

    def _objects(self, way: Way, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not value:
            raise ConfigError('is a list of at least one: ["oss://bucket/logs/*.log"]')
        good = []
        for number, text in enumerate(value):
            try:
                good.append(_object(text))
            except ConfigError as error:
                self.tell((*way, number), error)
        return tuple(good)


# --- values by themselves


def _any(value: object) -> object:
    """It was looked at before."""
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"is a text, not {_shown(value)}")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"is true or false, not {_shown(value)}")
    return value


def _choice(value: object, *choices: str) -> str:
    if not isinstance(value, str) or value not in choices:
        near = _near(value, choices) if isinstance(value, str) else ""
        raise ConfigError(f"is one of {', '.join(choices)}, not {_shown(value)}{near}")
    return value


def _whole(value: object, *, least: int = 1, most: int = (1 << 63) - 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        limits = f"from {least} to {most}" if most < 1 << 62 else f"of at least {least}"
        raise ConfigError(f"is a whole number {limits}, not {_shown(value)}")
    return value


def _number(value: object, *, zero: bool = False) -> float:
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < 0 or (value == 0 and not zero):  # type: ignore[operator]  # it is a number here
        raise ConfigError(f"is a number {'of at least' if zero else 'greater than'} 0, not {_shown(value)}")
    return float(value)  # type: ignore[arg-type]  # it is a number here


def _seconds(value: object, *, least: float = 0.0) -> float:
    seconds = units.parse_time(value) if isinstance(value, str) else value
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not math.isfinite(seconds):
        raise ConfigError(f'is a time in seconds, or as "500ms", "30s", "5m", "2h" or "7d", not {_shown(value)}')
    if not least <= seconds <= _LONGEST_TIME:
        raise ConfigError(f"is a time from {least:g} s to 100 years, not {_shown(value)}")
    return float(seconds)


def _size(value: object, *, least: int = 1) -> int:
    size = units.parse_size(value) if isinstance(value, str) else value
    if not isinstance(size, int) or isinstance(size, bool):
        raise ConfigError(f'is a number of bytes, or a size as "64KiB", "64MiB" or "64MB", not {_shown(value)}')
    if not least <= size < 1 << 62:
        raise ConfigError(f"is a size of at least {least} bytes, not {_shown(value)}")
    return size


def _delimiter(value: object) -> bytes | None:
    r"""``\n`` and ``\0`` may also be spelled with a backslash, since TOML has no ``\0``."""
    if value is False:
        return None
    data = {"\\n": b"\n", "\\0": b"\0"}.get(value) or value.encode() if isinstance(value, str) else b""
    if len(data) != 1:
        raise ConfigError(rf"is one byte, as '\n' or '\0', or false for bytes as they come; not {_shown(value)}")
    return data


def _listen(value: object) -> tuple[str, int] | None:
    from tailer.metrics import parse_listen

    if value is False:
        return None
    try:
        return parse_listen(str(value) if isinstance(value, int) and not isinstance(value, bool) else _text(value))
    except UsageError as error:
        wanted = 'a port, "HOST:PORT" or "[IPv6]:PORT", or false for none'
        raise ConfigError(f"is {wanted}, not {_shown(value)}") from error


def _integrity(value: object) -> Integrity:
    return Integrity(_choice(value, *(one.value for one in Integrity)))


def _fsync(value: object) -> str:
    from tailer.sinks.fsync import parse_fsync

    try:
        parse_fsync(_text(value))
    except UsageError as error:
        wanted = 'never, close, batch, a time ("5s"), a size ("64M") or both ("5s,64M")'
        raise ConfigError(f"is {wanted}, not {_shown(value)}") from error
    return str(value)


def _command(value: object) -> tuple[str, ...]:
    """A text is for the shell. What the words are is not shown: there may be a secret among them."""
    if isinstance(value, str) and value.strip() and "\0" not in value:
        return "/bin/sh", "-c", value
    words = value if isinstance(value, list) else []
    if not words or not all(isinstance(word, str) and "\0" not in word for word in words) or not words[0]:
        raise ConfigError('is a list of words, as ["./load", "--fast"], or a text for the shell')
    return tuple(words)


def _url(value: object) -> str:
    text = _text(value)
    _check_target(text)
    if any(_SECRET_IN_QUERY.search(name) for name, _ in parse_qsl(urlsplit(text).query, keep_blank_values=True)):
        raise ConfigError("has a secret in it: give that as a header, by reference")
    return text


def _check_target(url: str, *headers: str) -> None:
    from tailer.sinks.http import check_target

    try:
        check_target(url, headers)
    except UsageError as error:
        raise ConfigError(str(error)) from error


def _endpoint(value: object) -> str:
    Endpoint.parse(_text(value))
    return str(value)


def _region(value: object) -> str:
    return checked_region(_text(value))


def _object(value: object) -> str:
    text = _text(value)
    try:
        address = parse_address(text)
    except AddressError as error:
        raise ConfigError(str(error)) from error
    if address.presigned:
        raise ConfigError("is a presigned URL: its signature is a secret, and it expires")
    return text


def _shown(value: object) -> str:
    """A value for a message: as TOML has it, on one line, not endless."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, bool | str | int | float | list):
        text = json.dumps(value, ensure_ascii=False, default=str)
        return "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in text[:60]) + "…" * (
            len(text) > 60
        )
    return type(value).__name__


def _unknown(name: str, known: set[str]) -> str:
    near = _near(name, known)
    return f"unknown key{near}" if near else f"unknown key: {', '.join(sorted(known))} are known here"


def _near(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches

    found = get_close_matches(name, list(known), n=1)
    return f": did you mean {found[0]}?" if found else ""


def _poll_order(group: GroupConfig) -> str:
    return f"poll_min ({group.poll_min:g} s) is more than poll_max ({group.poll_max:g} s)"


def _in_each_others_way(sinks: Mapping[str, SinkConfig], checkpoint: Path | None) -> Iterator[tuple[str, str, str]]:
    """Which sink is in the way of which later one, "" for the checkpoint, and why."""
    taken = {os.path.realpath(checkpoint): ""} if checkpoint is not None else {}
    folders: dict[str, str] = {}
    above: dict[str, str] = {}
    writer: str | None = None
    for name, sink in sinks.items():
        if _on_standard_output(sink):
            if writer is not None:
                yield writer, name, "standard output is taken by"
            writer = name
        elif sink.path is not None:
            path = os.path.realpath(sink.path)
            parents = [str(parent) for parent in Path(path).parents] if sink.type == "file" else []
            outer = next((folders[parent] for parent in parents if parent in folders), above.get(path))
            if path in taken:
                yield taken[path], name, "it has the same path as" if taken[path] else "this is where checkpoints are"
            elif outer is not None:
                yield outer, name, "one lies inside the other: it and"
            taken.setdefault(path, name)
            if sink.type == "file":
                folders.setdefault(path, name)
                above |= dict.fromkeys(parents, name)


def _on_standard_output(sink: SinkConfig) -> bool:
    return sink.type == "stdout" or (sink.type == "jsonl" and sink.path is None)


def _warn_of_secrets(reading: _Reading, config: ServiceConfig, environ: Mapping[str, str]) -> None:
    """Here they cannot be had; on the machine that runs the service they may."""
    names = (one.name for one in fields(OssConfig))
    references: dict[Way, object] = {("oss", name): getattr(config.oss, name) for name in names}
    for sink in config.sinks.values():
        references.update({("sinks", sink.name, "headers", name): value for name, value in sink.headers.items()})
    for way, reference in references.items():
        if isinstance(reference, Reference):
            try:
                reference.read(environ)
            except ConfigError as error:
                reading.tell(way, error, warning=True)


_BY_REFERENCE = 'is given by reference alone: { env = "NAME" } or { file = "/path" }'
_SECRET_NAME = re.compile(
    r"authori[sz]ation|cookie|token|secret|passw|credential|signature|(api|access|auth)[-_]?key", re.IGNORECASE
)
_SECRET_IN_QUERY = re.compile(rf"{_SECRET_NAME.pattern}|^(key|sig)$", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"\s*(bearer|basic|digest)\s", re.IGNORECASE)

_SERVICE: dict[str, Convert] = {
    "drain": _seconds,
    "stuck": partial(_seconds, least=1.0),
    "buffer_bytes": partial(_size, least=_LEAST_BUFFER),
    "log_format": lambda value: _choice(value, "logfmt", "json"),
    "log_level": lambda value: _choice(value, "debug", "info", "warning", "error"),
}
_OSS: dict[str, Convert] = {"endpoint": _endpoint, "region": _region, "profile": _text, "sign": _flag}
_LIMITS: dict[str, Convert] = {
    "max_requests_per_second": _number,
    "daily_requests": _whole,
    "daily_cost": _number,
    "price": partial(_number, zero=True),
    "currency": _text,
}
_SERVER: dict[str, Convert] = {
    "listen": _listen,
    "hints": _flag,
    "object_series": partial(_whole, least=0, most=1000),
}
# Of each type of sink; path and headers are read by `_Reading`, which knows where the file is and on which line.
_SINKS: dict[str, dict[str, Convert]] = {
    "file": {"path": _any, "rotate_size": _size, "fsync": _fsync},
    "jsonl": {"path": _any},
    "stdout": {},
    "exec": {"command": _command},
    "http": {"url": _url, "headers": _any, "body": lambda value: _choice(value, "bytes", "jsonl")},
}
_SINK_TYPES = f"one of {', '.join(_SINKS)}"
_NEEDED = {
    "file": {"path": "the folder of the mirrors"},
    "exec": {"command": "the command that takes the batches"},
    "http": {"url": "where batches are sent by POST"},
}
_GROUP: dict[str, Convert] = {
    "sink": _text,
    "start": lambda value: _choice(value, "start", "end"),
    "replaced": lambda value: _choice(value, "restart", "stop"),
    "integrity": _integrity,
    "poll_min": partial(_seconds, least=0.01),
    "poll_max": partial(_seconds, least=0.01),
    "list_interval": partial(_seconds, least=0.1),
    "look_back": _seconds,
    "ignore_older": _seconds,
    "keep_checkpoints": _seconds,
    "sequence": _flag,
    "delimiter": _delimiter,
    "max_record": _size,
    "max_objects": _whole,
}
