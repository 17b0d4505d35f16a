"""`oss-tailer top`: the status page in a terminal.

The status is asked for once a second by a thread of its own, so that keys and a new size of the window are obeyed at
once, whatever the service does. What comes from it is harmless before it is drawn: it holds names of objects.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import select
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from tailer.cli.messages import quote
from tailer.cli.process import occupy_standard_descriptors
from tailer.cli.progress import cells, human_size, shorten
from tailer.errors import ConnectError, ProtocolError, TailerError, UsageError
from tailer.status import GroupStatus, ObjectStatus, RequestStatus, ServiceStatus, SinkStatus

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable, Iterator, Sequence

DEFAULT_URL = "http://127.0.0.1:9465"

_TICK = 1.0  # seconds between two looks
_TIMEOUT = 5.0  # seconds for an answer
_MOST = 64 << 20  # bytes of an answer
_LARGEST = 1 << 63  # what a number of bytes can be
_WIDE = 10_000  # columns of a table that is cut nowhere
_LEAST_NAME = 24  # columns
_WORDS = ("STATE", "CHAIN")  # columns that begin where they begin; the others are numbers
_BLOCKS = "▁▂▃▄▅▆▇█"
_STEPS = 12  # of 10 s each, in a line of blocks

_ENTER = "\x1b[?1049h\x1b[?25l"  # the alternate screen, without a cursor (xterm, "Control Sequences")
_LEAVE = "\x1b[?25h\x1b[?1049l"
_STYLES = {"": "", "well": "\x1b[1;32m", "warn": "\x1b[1;33m", "bad": "\x1b[1;31m", "head": "\x1b[2m", "old": "\x1b[2m"}
_KEYS = {"t": "trouble", "l": "lag", "r": "rate", "n": "name"}


class Line(NamedTuple):
    """One line of the screen; `style` is one of `_STYLES`."""

    text: str
    style: str = ""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to those of `oss-tailer`."""
    text = "show in a terminal how a running service is"
    command = commands.add_parser("top", help=text, description=text, allow_abbrev=False)
    command.set_defaults(run=run)
    command.add_argument(
        "url", metavar="URL", nargs="?", default=DEFAULT_URL, help="URL, PORT or HOST:PORT (default: %(default)s)"
    )
    command.add_argument("--once", action="store_true", help="print it once, and exit; so it does without a terminal")
    command.add_argument(
        "--sort",
        choices=list(_ORDERS),
        default="trouble",
        help="which objects come first (default: %(default)s); keys: t, l, r, n",
    )


def run(options: argparse.Namespace) -> int:
    """The command; its exit status. Raises UsageError, ConnectError and ProtocolError."""
    occupy_standard_descriptors()
    url = status_url(options.url)
    if options.once or not sys.stdout.isatty():
        lines = report(fetch(url), _WIDE, options.sort, blocks=_can_draw(sys.stdout.encoding))
        sys.stdout.write("".join(f"{line.text}\n" for line in lines))
        return 0
    return _watch(url, options.sort)


def status_url(text: str) -> str:
    """Where the status is, of a service known by a URL, a port or HOST:PORT. Raises UsageError."""
    from urllib.parse import urlsplit

    from tailer.metrics import parse_listen

    try:
        if "://" not in text:
            host, port = parse_listen(text)
            return f"http://{f'[{host}]' if ':' in host else host}:{port}/status.json"
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except (UsageError, ValueError):
        good = False
    if not (good and text.isascii() and text.isprintable() and " " not in text):
        raise UsageError(f"not the address of a service: {quote(text[:60])}", hint=f"such as {DEFAULT_URL}")
    return f"{text.rstrip('/')}/status.json"


# --- asking


def fetch(url: str) -> ServiceStatus:
    """One status. Raises ConnectError when nothing answers, ProtocolError when it is no oss-tailer."""
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import ProxyHandler, build_opener

    try:
        with build_opener(ProxyHandler({})).open(url, timeout=_TIMEOUT) as answer:
            return status_from(answer.read(_MOST))
    except HTTPError as error:
        said = error.read(200).decode("utf-8", "replace") if error.fp else ""
        raise ProtocolError(f"{url} answers {error.code}: {_shown(' '.join(said.split()))}") from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", error)
        said = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        raise ConnectError(f"no answer from {url}: {said}", hint="is `oss-tailer run` running?") from error


def status_from(text: bytes) -> ServiceStatus:
    """The status in an answer, whatever it holds. Raises ProtocolError: it is none."""
    try:
        value = json.loads(text)
        status: ServiceStatus = _taken(
            ServiceStatus,
            value,
            problems=tuple(map(_text, value["problems"])),
            groups=tuple(_taken(GroupStatus, one, objects=_counts(one["objects"])) for one in value["groups"]),
            objects=tuple(
                _taken(ObjectStatus, one, rates=tuple(map(_number, one["rates"]))) for one in value["objects"]
            ),
            sinks=tuple(_taken(SinkStatus, one) for one in value["sinks"]),
            requests=_taken(RequestStatus, value["requests"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ProtocolError("what answers there is no oss-tailer of this version") from error
    return status


def _taken(kind: type, value: dict[str, Any], **made: Any) -> Any:
    """`value` as one of `kind`, its plain fields checked. What is not known is left out."""
    for field in dataclasses.fields(kind):
        if field.name not in made and field.name in value:
            made[field.name] = _FIELDS[str(field.type)](value[field.name])
    return kind(**made)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return _shown(value)


def _shown(text: str) -> str:
    return text if text.isprintable() else quote(text)


def _number(value: Any) -> float:
    """What JSON has no number for came as null."""
    number = math.inf if value is None else float(value)
    return math.inf if math.isnan(number) else number


def _whole(value: Any) -> int:
    if not (isinstance(value, int) and abs(value) <= _LARGEST):
        raise TypeError("no whole number")
    return value


def _counts(value: dict[str, Any]) -> dict[str, int]:
    return {_text(name): _whole(count) for name, count in value.items()}


def _maybe(take: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else take(value)


_FIELDS: dict[str, Callable[[Any], Any]] = {
    "str": _text,
    "int": _whole,
    "float": _number,
    "bool": bool,
    "str | None": _maybe(_text),
    "int | None": _maybe(_whole),
    "float | None": _maybe(float),
}


# --- words


def _duration(seconds: float) -> str:
    if seconds < 9.95:
        return f"{max(0.0, seconds):.1f} s"
    for unit, length, least in (("d", 86400, 86400), ("h", 3600, 3600), ("min", 60, 120)):
        if seconds >= least:
            return f"{seconds / length:.1f} {unit}" if unit != "min" else f"{seconds / length:.0f} min"
    return f"{seconds:.0f} s"


def _ago(now: float, moment: float | None) -> str:
    return "never" if moment is None else f"{_duration(now - moment)} ago"


def _rate(rate: float) -> str:
    return f"{human_size(rate)}/s"


def _recent(rates: Sequence[float]) -> float:
    """Bytes per second: the newest step is not over yet, so that the one before it may tell more."""
    return max(rates[-2:], default=0.0)


def _blocks(rates: Sequence[float]) -> str:
    """The last two minutes, each step as high as its share of the highest."""
    steps = [*rates[-_STEPS:-1], _recent(rates)]
    most = max(steps, default=0.0)
    if not 0 < most < math.inf:
        return _BLOCKS[0] * len(steps)
    return "".join(_BLOCKS[min(7, int(max(0.0, rate) / most * 7.999))] for rate in steps)


# --- the report


def _trouble(one: ObjectStatus) -> int:
    return 3 if one.chain == "broken" else {"failed": 2, "missing": 1}.get(one.state, 0)


_ORDERS: dict[str, Callable[[ObjectStatus], Any]] = {
    "trouble": lambda one: (-_trouble(one), -one.lag),
    "lag": lambda one: -one.lag,
    "rate": lambda one: -_recent(one.rates),
    "name": lambda one: one.object,
}


def report(status: ServiceStatus, columns: int, order: str, *, blocks: bool = True) -> list[Line]:
    """All of it, in lines of at most `columns` cells; objects come last."""
    from textwrap import wrap

    from tailer.web.verdict import judge

    verdict = judge(status)
    lines = [Line(verdict.line, verdict.level), *(Line(f"  {detail}") for detail in verdict.details)]
    lines += [*map(Line, wrap(_summary(status), columns, subsequent_indent="  ")), Line("")]
    lines += [*_groups(status, columns), Line(""), *_sinks(status, columns), Line("")]
    lines += _objects(status, columns, order, blocks)
    return [Line(shorten(line.text, columns), line.style) for line in lines]


def _summary(status: ServiceStatus) -> str:
    groups, requests = status.groups, status.requests
    lag = sum(group.lag for group in groups)
    oldest = max((group.oldest_unread for group in groups), default=0.0)
    behind = f"{human_size(lag)} behind, the oldest for {_duration(oldest)}" if lag else "nothing behind"
    today = f"{requests.today:,} requests today"
    if requests.budget:
        today += f" ({100 * requests.today / requests.budget:.0f} % of {requests.budget:,})"
    facts = [behind, _rate(sum(group.rate for group in groups)), f"{requests.rate:.1f} requests/s", today]
    return "; ".join(
        [*facts, f"{requests.cost:.4f} {requests.currency}", f"up {_duration(status.now - status.started_at)}"]
    )


def _groups(status: ServiceStatus, columns: int) -> Iterator[Line]:
    rows: list[tuple[str, ...]] = [
        ("OBJECTS", "FAILED", "BEHIND", "OLDEST", "RATE", "UNPROVEN", "LISTED", "COMMITTED", "GROUP")
    ]
    rows += [
        (
            f"{sum(one.objects.values()):,}",
            f"{one.objects.get('failed', 0):,}",
            human_size(one.lag),
            _duration(one.oldest_unread),
            _rate(one.rate),
            human_size(one.unproven),
            _ago(status.now, one.listed_at),
            _ago(status.now, one.committed_at),
            f"{one.name} > {one.sink}",
        )
        for one in status.groups
    ]
    spare = ("UNPROVEN", "COMMITTED", "LISTED", "OLDEST", "FAILED")
    return _table(rows, [one.listing_error for one in status.groups], columns, spare)


def _sinks(status: ServiceStatus, columns: int) -> Iterator[Line]:
    rows: list[tuple[str, ...]] = [("DELIVERED", "RECORDS", "WAITING", "ERRORS", "SINK")]
    rows += [
        (
            human_size(one.delivered_bytes),
            f"{one.delivered_records:,}",
            f"{one.waiting:,}",
            f"{one.errors:,}",
            f"{one.name} ({one.type})",
        )
        for one in status.sinks
    ]
    return _table(rows, [one.last_error for one in status.sinks], columns, ("WAITING", "RECORDS"))


def _objects(status: ServiceStatus, columns: int, order: str, blocks: bool) -> Iterator[Line]:
    objects = sorted(status.objects, key=_ORDERS[order])
    rows = [("STATE", "CHAIN", "BEHIND", "SINCE", "RATE", *["LAST 2 MIN"] * blocks, "POSITION", "POLLED", "OBJECT")]
    rows += [
        (
            one.state,
            one.chain,
            human_size(one.lag),
            _duration(one.lag_seconds) if one.lag else "-",
            _rate(_recent(one.rates)),
            *[_blocks(one.rates)] * blocks,
            f"{one.position:,}",
            _ago(status.now, one.polled_at),
            one.object,
        )
        for one in objects
    ]
    spare = ("POLLED", "LAST 2 MIN", "SINCE", "POSITION", "RATE", "CHAIN")
    yield from _table(rows, [one.last_error for one in objects], columns, spare)
    everything = sum(sum(group.objects.values()) for group in status.groups)
    if everything > len(objects):
        yield Line(f"{len(objects):,} of {everything:,}: the most behind, and the last that grew", "head")


def _table(
    rows: list[tuple[str, ...]], errors: Iterable[str | None], columns: int, spare: Iterable[str] = ()
) -> Iterator[Line]:
    """Lines of at most `columns` cells. The first row is the head, the last column the name, which is shortened; before
    that the columns called `spare` are left out, one after the other. An error of a row stands below it."""
    kept = list(range(len(rows[0])))
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    for name in spare:
        if sum(widths[index] + 2 for index in kept[:-1]) + min(widths[-1], _LEAST_NAME) <= columns:
            break
        kept = [index for index in kept if rows[0][index] != name]
    room = columns - sum(widths[index] + 2 for index in kept[:-1])
    for number, (row, error) in enumerate(zip(rows, [None, *errors], strict=True)):
        padded = [_padded(row[index], widths[index], rows[0][index]) for index in kept[:-1]]
        yield Line("  ".join([*padded, shorten(row[-1], room)]), "" if number else "head")
        if error:
            yield Line(f"    {error}", "bad")


def _padded(cell: str, width: int, head: str) -> str:
    space = " " * (width - cells(cell))
    return cell + space if head in _WORDS else space + cell


# --- the screen


def frame(asked: Asked, columns: int, rows: int, order: str, *, blocks: bool = True) -> list[Line]:
    """What fills a screen of that size: at most `rows` lines, the last of which tells the keys."""
    lines = []
    if asked.error is not None:
        lines.append(Line(shorten(f"{asked.error}; trying again", columns), "bad"))
    elif asked.status is None:
        lines.append(Line(shorten("waiting for the first status", columns)))
    if asked.status is not None:
        known = report(asked.status, columns, order, blocks=blocks)
        lines += known if asked.error is None else [Line(line.text, "old") for line in known]
    keys = f"q quit; sort: t trouble, l lag, r rate, n name (now {order})"
    room = max(0, rows - 1)
    return [*lines[:room], *[Line("")] * (room - len(lines)), Line(shorten(keys, columns), "head")]


class Asked(NamedTuple):
    """The last status that came, and what is wrong now."""

    status: ServiceStatus | None = None
    error: TailerError | None = None


class _Asker:
    """Asks once a second, in a thread that nobody waits for; writes a byte to `wake` when there is something new."""

    def __init__(self, url: str, wake: int) -> None:
        self.asked = Asked()
        self._url = url
        self._wake = wake
        self._over = threading.Event()
        threading.Thread(target=self._run, name="status", daemon=True).start()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self.asked = Asked(fetch(self._url))
            except TailerError as error:
                self.asked = Asked(self.asked.status, error)
            with contextlib.suppress(OSError):  # it is full, so that somebody is waked anyway; or all is over
                os.write(self._wake, b"\0")
            self._over.wait(_TICK)

    def stop(self) -> None:
        self._over.set()


def _watch(url: str, order: str) -> int:
    """Until q, or a signal."""
    blocks = _can_draw(sys.stdout.encoding)
    with _waking() as (awake, wake), _terminal():
        asker = _Asker(url, wake)
        try:
            while True:
                # Not by shutil: COLUMNS and LINES of the environment would hide that the window has another size now.
                size = os.get_terminal_size(1)
                _draw(frame(asker.asked, size.columns or 80, size.lines or 24, order, blocks=blocks))
                for key in _keys(awake):
                    if key in ("q", "Q"):
                        return 0
                    order = _KEYS.get(key, order)
        finally:
            asker.stop()


@contextlib.contextmanager
def _waking() -> Iterator[tuple[int, int]]:
    """A pipe that gets a byte for each signal that is caught: a window that changes its size wakes the loop."""
    awake, wake = os.pipe()
    os.set_blocking(awake, False)
    os.set_blocking(wake, False)
    before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        yield awake, wake
    finally:
        signal.set_wakeup_fd(before)
        os.close(awake)
        os.close(wake)


@contextlib.contextmanager
def _terminal() -> Iterator[None]:
    """The alternate screen, with keys that come as they are pressed; all as it was at the end, whatever ends it."""
    import termios
    import tty

    signal.signal(signal.SIGWINCH, lambda *_: None)
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    before = termios.tcgetattr(0) if os.isatty(0) else None
    try:
        if before is not None:
            tty.setcbreak(0)
            changed = termios.tcgetattr(0)
            changed[6][termios.VSUSP] = b"\0"  # a stop would leave the shell on our screen
            termios.tcsetattr(0, termios.TCSANOW, changed)
        _write(_ENTER)
        yield
    finally:
        with contextlib.suppress(OSError):  # after a hang-up there is no terminal to put right
            _write(_LEAVE)
            if before is not None:
                termios.tcsetattr(0, termios.TCSADRAIN, before)


def _keys(awake: int) -> str:
    """The keys that were pressed, waiting until there is one, a status, or a window of another size."""
    readable, _, _ = select.select([awake, *([0] if os.isatty(0) else [])], [], [], _TICK)
    if awake in readable:
        os.read(awake, 4096)
    if 0 not in readable:
        return ""
    pressed = os.read(0, 1024)
    return pressed.decode("utf-8", "replace") if pressed else "q"


def _draw(lines: Sequence[Line]) -> None:
    drawn = [f"{_STYLES[line.style]}{line.text}\x1b[0m\x1b[K" for line in lines]
    _write("\x1b[H" + "\n".join(drawn) + "\x1b[J")


def _write(text: str) -> None:
    left = memoryview(text.encode(sys.stdout.encoding or "utf-8", "replace"))
    while left:
        left = left[os.write(1, left) :]


def _can_draw(encoding: str | None) -> bool:
    try:
        return bool(_BLOCKS.encode(encoding or "ascii"))
    except (UnicodeEncodeError, LookupError):
        return False
