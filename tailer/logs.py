"""Structured logs: one line for each thing that happens, on standard error, as logfmt or JSON.

Whoever has something to say does so by the standard library: ``logging.getLogger("tailer.fleet").warning("the listing
failed", extra={"group": "web"})``. Every extra is a field. The usual ones: ``group``, ``object``, ``sink``, ``offset``
and ``generation``, and of an error those of `of_error`.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tailer.errors import TailerError

    Format = Literal["logfmt", "json"]

_OURS = "tailer"
_KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
_BURST = 20  # lines that differ in their fields alone, within _WINDOW seconds of each other
_WINDOW = 60.0
_MOST_KINDS = 1000


def set_up(format: Format, level: str, stream: TextIO | None = None) -> None:
    """Log to `stream` (standard error) from now on; to be called again where the configuration changed.

    `level` is ``debug``, ``info``, ``warning`` or ``error`` and holds for what is ours; of the libraries only warnings
    and worse are logged. A traceback is shown at ``debug`` alone.
    """
    handler = _Handler(stream or sys.stderr)
    handler.setFormatter(_Formatter(format, tracebacks=level == "debug"))
    handler.addFilter(_Sparing(handler))
    root = logging.getLogger()
    for former in [*root.handlers]:
        if isinstance(former, _Handler):
            root.removeHandler(former)
    root.addHandler(handler)
    logging.getLogger(_OURS).setLevel(level.upper())


def of_error(error: TailerError) -> dict[str, object]:
    """The fields that tell of `error`: its kind and words, and what the service said to name it."""
    named = {name: getattr(error, name, None) for name in ("status", "code", "request_id")}
    return {
        "error": str(error),
        "kind": type(error).__name__,
        **{name: value for name, value in named.items() if value is not None},
    }


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Nobody can be told that nobody reads the log; what is wrong with a line of ours is to be known."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


class _Formatter(logging.Formatter):
    def __init__(self, format: Format, *, tracebacks: bool) -> None:
        super().__init__()
        self._json = format == "json"
        self._tracebacks = tracebacks

    def format(self, record: logging.LogRecord) -> str:
        fields = dict(self._fields(record))
        if self._json:
            return json.dumps(fields, default=str, separators=(",", ":"))
        return " ".join(f"{_name(name)}={_value(value)}" for name, value in fields.items())

    def _fields(self, record: logging.LogRecord) -> Iterator[tuple[str, object]]:
        moment = datetime.fromtimestamp(record.created, UTC)
        yield "ts", moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        yield "level", record.levelname.lower()
        if not record.name.startswith(_OURS):
            yield "logger", record.name
        yield "msg", record.getMessage()
        yield from ((name, value) for name, value in vars(record).items() if name not in _KNOWN and value is not None)
        if record.exc_info and (error := record.exc_info[1]) is not None:
            yield "exception", f"{type(error).__name__}: {error}"
            if self._tracebacks:
                yield "traceback", self.formatException(record.exc_info)


class _Sparing(logging.Filter):
    """Lets so many lines of one kind through in a minute: ten thousand objects may fail for one and the same reason."""

    def __init__(self, handler: logging.Handler) -> None:
        super().__init__()
        self._handler = handler
        self._seen: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = (record.name, record.levelno, str(record.msg))
        begun, count = self._seen.get(kind, (record.created, 0))
        if not 0 <= record.created - begun < _WINDOW:
            self._tell(record, count - _BURST)
            begun, count = record.created, 0
        if len(self._seen) >= _MOST_KINDS:
            self._seen.clear()
        self._seen[kind] = begun, count + 1
        return count < _BURST

    def _tell(self, record: logging.LogRecord, left_out: int) -> None:
        if left_out > 0:
            facts = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
            said = {**facts, "msg": record.msg, "args": record.args, "left_out": left_out}
            self._handler.emit(logging.makeLogRecord(said))


def _name(name: str) -> str:
    return name if name.isidentifier() else _quoted(name)


def _value(value: object) -> str:
    """As logfmt has it: bare where that is clear, else in quotes as JSON has them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    plain = text and text.isprintable() and not set(text) & set(' "=\\')
    return text if plain else _quoted(text)


def _quoted(text: str) -> str:
    """What drives a terminal, or turns the direction of its text, is escaped; other letters stay as they are."""
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in json.dumps(text, ensure_ascii=False))
