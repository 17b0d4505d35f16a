"""``oss-tailer canary``: appends records, follows them, and says whether each came once, in order and in time."""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from typing import TYPE_CHECKING

from tailer.cli.messages import Messages, warn_in_clear
from tailer.core.units import parse_size, parse_time
from tailer.errors import IntegrityError, TailerError, UsageError

if TYPE_CHECKING:
    from tailer.canary import Canary, CanaryOptions, Observer
    from tailer.metrics.canary import CanaryMetrics
    from tailer.oss.client import ServiceSettings

_NAME = "oss-tailer canary"
_FAILED = 1
_WRONG = 3
_INTERRUPTED = 130
_LATE = 10.0
_BETWEEN_REPORTS = 60.0

_EPILOG = """\
A TIME is a number of seconds, or has a unit: 500ms, 1s, 5m, 2h, 7d. A SIZE is in bytes, or has one: 64K, 256MiB.
Each run has objects of its own: oss://BUCKET/PREFIX/20260102T030405Z-0a1b2c3d-000001.log, and so on.

Ctrl-C and SIGTERM end it as --duration does: it waits for what is under way, and says what came of it.

Exit status: 0 every record came once, in order and unchanged; 1 something could not be written or read; 2 the command
line or the configuration is wrong; 3 a record is missing, or came twice, out of order or changed, or the objects were;
with --late also when one came late; 130 a second Ctrl-C.

  oss-tailer canary oss://logs/canary/ --duration 1m --late 5s --delete
  oss-tailer canary oss://logs/canary/ --metrics 9466
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The command's options."""
    text = "append records, follow them, and prove that each comes once, in order and in time"
    command = commands.add_parser(
        "canary",
        help=text,
        description=text,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.set_defaults(run=run)
    add = command.add_argument
    add("address", metavar="oss://BUCKET/PREFIX/", help="where it may make objects")
    add("--interval", type=_time, metavar="TIME", default=1.0, help="between two records (default 1s)")
    add("--size", type=_size, metavar="SIZE", default=256, help="of a record, with its newline (default 256)")
    add("--duration", type=_time, metavar="TIME", help="how long (default: until it is told to end)")
    add("--late", type=_time, metavar="TIME", help=f"a record may take so long (default {_LATE:g}s, and is no failure)")
    add("--wait", type=_time, metavar="TIME", default=30.0, help="for what is under way (default 30s)")
    add("--poll", type=_time, metavar="TIME", default=1.0, help="the fastest poll of the reader (default 1s)")
    add("--roll", type=_size, metavar="SIZE", default=256 << 20, help="length of an object (default 256MiB)")
    after = command.add_mutually_exclusive_group()
    for name, leave in (("--seal", "sealed"), ("--delete", "deleted")):
        what = f"{name[2:]} each object that is done with"
        after.add_argument(name, dest="leave", action="store_const", const=leave, default="open", help=what)
    add("--metrics", metavar="[HOST:]PORT", help="serve Prometheus metrics there (default: nowhere)")
    add("--endpoint", metavar="URL", help="the service's address (default: from the region)")
    add("--region", metavar="REGION", help="such as cn-hangzhou")
    add("--profile", metavar="NAME", help="the section of the configuration file to use")


def run(options: argparse.Namespace) -> int:
    """Run it and print the verdict; the exit status. Raises UsageError."""
    from tailer.canary import CanaryOptions
    from tailer.config import resolve_service
    from tailer.oss.address import parse_address

    names = ("interval", "size", "duration", "wait", "poll", "roll", "leave")
    chosen = CanaryOptions(
        late=_LATE if options.late is None else options.late, **{name: getattr(options, name) for name in names}
    )
    address = parse_address(options.address)
    settings = resolve_service(endpoint=options.endpoint, region=options.region, profile=options.profile)
    messages = Messages(name=_NAME)
    warn_in_clear(messages, settings, [address])
    return asyncio.run(_fly(options, chosen, settings, messages))


async def _fly(
    options: argparse.Namespace, chosen: CanaryOptions, settings: ServiceSettings, messages: Messages
) -> int:
    from tailer.canary import Canary

    reports = _Reports(messages)
    metrics = None if options.metrics is None else _metrics(options.metrics)
    try:
        canary = Canary(
            options.address,
            chosen,
            service=settings,
            observer=_Observers(reports, metrics),
            on_trouble=lambda error: reports.say(f"{error}; trying again", of=type(error).__name__),
        )
        if metrics is not None:
            metrics.watch(lambda: canary.audit.oldest(time.monotonic()))
        status = await _until_told(canary, messages)
    finally:
        if metrics is not None:
            metrics.close()
    if status == _INTERRUPTED:
        return status
    print(summary(canary), flush=True)
    return max(status, _WRONG if _is_wrong(canary, count_late=options.late is not None) else 0)


async def _until_told(canary: Canary, messages: Messages) -> int:
    """Run it; the first signal stops it, the second ends it at once. 0, or the status that an error has."""
    loop = asyncio.get_running_loop()
    work = asyncio.create_task(canary.run())
    told = False

    def on_signal() -> None:
        nonlocal told
        if told:
            work.cancel()
        told = True
        canary.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    try:
        await asyncio.wait([work])
        if work.cancelled():
            return _INTERRUPTED
        work.result()
    except UsageError:
        raise
    except TailerError as error:
        messages.say(error)
        return _WRONG if isinstance(error, IntegrityError) else _FAILED
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return 0


def summary(canary: Canary) -> str:
    """One line: what was counted, and how long it took."""
    from tailer.canary import COUNTS

    counts, latencies = canary.audit.counts, canary.audit.latencies
    counted = ", ".join(f"{counts[what]:,} {what}" for what in COUNTS)
    if not latencies.count:
        return counted
    half, most = latencies.quantile(0.5), latencies.quantile(0.99)
    return f"{counted}; latency: half in {half:.3f} s, 99 % in {most:.3f} s, all in {latencies.largest:.3f} s"


def _is_wrong(canary: Canary, *, count_late: bool) -> bool:
    from tailer.canary import FAULTS

    return any(canary.audit.counts[what] for what in FAULTS if what != "late" or count_late)


def _metrics(listen: str) -> CanaryMetrics:
    from tailer.metrics import parse_listen
    from tailer.metrics.canary import CanaryMetrics

    host, port = parse_listen(listen)
    metrics = CanaryMetrics()
    metrics.serve(host, port)
    return metrics


class _Reports:
    """Says each kind of trouble once a minute, while it lasts."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        self._told_at: dict[str, float] = {}

    def say(self, text: str, *, of: str) -> None:
        now = time.monotonic()
        if now - self._told_at.get(of, -_BETWEEN_REPORTS) >= _BETWEEN_REPORTS:
            self._told_at[of] = now
            self._messages.say(text)


class _Observers:
    """What the audit counts, for those who scrape and for those who read."""

    def __init__(self, reports: _Reports, metrics: Observer | None) -> None:
        self._reports = reports
        self._metrics = metrics

    def count(self, what: str) -> None:
        if self._metrics is not None:
            self._metrics.count(what)
        if what not in ("appended", "received"):
            self._reports.say(f"a record is {what}", of=what)

    def observe(self, seconds: float) -> None:
        if self._metrics is not None:
            self._metrics.observe(seconds)


def _time(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        seconds = parse_time(text)
    if seconds is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: 0.5, 500ms, 1s, 5m, 2h")
    return seconds


def _size(text: str) -> int:
    size = parse_size(text)
    if size is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: 4096, 64K, 256MiB")
    return size
