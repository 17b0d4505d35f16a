"""The command `oss-append`: standard input, files, or a file that grows, to the end of an object."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import signal
import stat
import sys
import threading
import time
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from tailer.cli.messages import Messages, quote, warn_in_clear
from tailer.cli.process import occupy_standard_descriptors
from tailer.errors import IntegrityError, OutputClosed, SinkError, TailerError, UsageError
from tailer.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tailer.appender import Appender
    from tailer.core.framing import Framer
    from tailer.oss.client import ServiceSettings
    from tailer.watch import FileFollower, Mark

_Result = TypeVar("_Result")

_FAILED = 1
_USAGE = 2
_UNPROVEN = 3
_CLOSED_PIPE = 128 + signal.SIGPIPE

_CHUNK = 1 << 20
_LONGEST_LINE = 64 << 20
# Seconds that an interrupted run may still take to send what it has read.
_PATIENCE = 5.0
_BETWEEN_REPORTS = 60.0
_BETWEEN_DRAWINGS = 0.5
# Seconds between two looks at a followed file: while it grows, and when it has not for a while.
_LOOK = 0.01
_LOOK_IDLE = 0.1
_IDLE_LOOKS = 100

_EPILOG = """\
What was read when the command is killed is in the object up to some point, and nothing behind it: a true prefix.
Service and credentials are found as by oss-tail: see oss-tail --help.

Exit status: 0 all is in the object, proven by its CRC-64; 1 a file cannot be read, or the service refuses; 2 the
command line or the configuration is wrong; 3 the object is not as expected: it has another writer, or its CRC-64
does not fit; 130 Ctrl-C; 143 terminated.

  make 2>&1 | oss-append --tee oss://logs/build.log
  oss-append --lines --flush-interval 0.2 oss://logs/app.log < fifo
  oss-append --create-only --content-type text/csv --meta source=web1 oss://data/day.csv one.csv two.csv
  ./app | oss-append --lines --pattern 'oss://logs/%Y-%m-%d/app-{n:06}.log'
  oss-append --lines --checkpoint app.mark oss://logs/app.log -f /var/log/app.log
"""


def main() -> NoReturn:
    """The entry point. Ends the process with the exit status."""
    occupy_standard_descriptors()
    status = run(sys.argv[1:])
    # At once: a thread may still wait for input.
    os._exit(status)


def run(arguments: Sequence[str], *, stdin: int = 0, stdout: int = 1, stderr: int = 2) -> int:
    """Do what `arguments` (without the command's name) ask for, on these descriptors; the exit status."""
    messages = Messages(stderr, name="oss-append")
    try:
        options = _parser().parse_intermixed_args(arguments)
        messages.debugging = options.debug
        if options.show is not None:
            _write_all(stdout, (options.show or _parser().format_help()).encode())
            return 0
        _check(options)
        return asyncio.run(_Run(options, messages, stdin, stdout, stderr).run())
    except OutputClosed:
        return _CLOSED_PIPE
    except TailerError as error:
        messages.say(error)
        messages.trace(error)
        if isinstance(error, UsageError):
            return _USAGE
        return _UNPROVEN if isinstance(error, IntegrityError) else _FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:  # the last resort, for what is a mistake in here: one line all the same
        messages.say(f"internal error: {type(error).__name__}: {error} (--debug shows where)")
        messages.trace(error)
        return _FAILED


class _Run:
    """One run: everything that is read goes to the object."""

    def __init__(self, options: argparse.Namespace, messages: Messages, stdin: int, stdout: int, stderr: int) -> None:
        self._options = options
        self._messages = messages
        self._stdin = stdin
        self._stdout = stdout
        self._status = 0
        self._trouble: object = None
        self._told_at = 0.0
        self._copying: asyncio.Task[None] | None = None
        shown = options.progress if options.progress is not None else os.isatty(stderr) and not options.tee
        self._progress = _Progress(messages.draw, options.object) if shown else None
        if self._progress is not None:
            messages.before = self._progress.clear

    async def run(self) -> int:
        """Until all is in the object, or a signal comes. Raises what the Appender raises, and OutputClosed."""
        loop = asyncio.get_running_loop()
        interrupted: asyncio.Future[int] = loop.create_future()
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(RuntimeError, ValueError):  # not in the main thread: whoever calls cares for signals
                loop.add_signal_handler(number, _settle, interrupted, 128 + number)
        work = asyncio.create_task(self._work())
        both: list[asyncio.Future[Any]] = [work, interrupted]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            await self._stop(work)
            self._status = interrupted.result()
        if not work.cancelled():
            work.result()
        return self._status

    async def _stop(self, work: asyncio.Task[None]) -> None:
        """Read no more, and give what was read a moment to get there."""
        if self._copying is not None:
            self._copying.cancel()
        else:
            work.cancel()
        _, late = await asyncio.wait([work], timeout=_PATIENCE)
        if late:
            work.cancel()
            await asyncio.wait([work])
            self._messages.say("what was read last may not be in the object")

    async def _work(self) -> None:
        try:
            async with self._appender() as out:
                work = self._follow if self._options.follow is not None else self._copy
                self._copying = asyncio.create_task(work(out))
                await asyncio.wait([self._copying])
                if not self._copying.cancelled():
                    self._copying.result()
                    await (out.seal() if self._options.seal else out.flush())
        finally:
            if self._progress is not None:
                self._progress.clear()

    def _appender(self) -> Appender:
        from tailer.appender import Appender

        names = ("create_only", "expect_position", "pattern", "flush_interval", "flush_bytes", "content_type",
                 "storage_class", "acl", "encryption")  # fmt: skip
        chosen: dict[str, Any] = {name: getattr(self._options, name) for name in names}
        return Appender(
            self._options.object,
            service=self._service(),
            on_conflict="continue" if self._options.shared else "stop",
            metadata=dict(self._options.meta),
            tags=dict(self._options.tag),
            on_note=self._messages.say,
            on_trouble=self._report,
            **chosen,
        )

    def _service(self) -> ServiceSettings | None:
        """Raises ConfigError, AddressError. None for a URL, which the appender refuses."""
        from tailer.config import resolve_service
        from tailer.oss.address import parse_address

        options = self._options
        address = parse_address(options.object, glob=False)
        if address.url is not None:
            return None
        settings = resolve_service(
            endpoint=options.endpoint,
            region=options.region,
            profile=options.profile,
            no_sign_request=not options.sign,
        )
        warn_in_clear(self._messages, settings, [address])
        return settings

    def _report(self, error: TailerError, delay: float) -> None:
        """Each trouble once a minute, while it is the same (but for the request's id)."""
        trouble, now = (type(error), error.args, getattr(error, "code", None)), time.monotonic()
        if trouble != self._trouble or now - self._told_at > _BETWEEN_REPORTS:
            self._trouble, self._told_at = trouble, now
            self._messages.say(f"{error}; trying again")

    # --- reading

    def _framer(self) -> Framer:
        from tailer.core.framing import Framer

        return Framer(b"\n" if self._options.lines else None, _LONGEST_LINE)

    async def _follow(self, out: Appender) -> None:
        """Everything that the followed file gets, for ever. Raises SourceLost, CheckpointError and what the Appender
        raises."""
        from tailer.watch import FileFollower, load_mark, owning

        source, kept = _source(self._options), self._options.checkpoint
        with owning(kept) if kept is not None else nullcontext():
            mark = load_mark(kept, target=str(out.ref), source=source) if kept is not None else None
            follower = FileFollower(source, on_note=self._messages.say, skip_lost=self._options.skip_lost)
            try:
                await self._resume(follower, mark, out)
                await self._send(follower, out)
            except OSError as error:
                self._messages.say(f"cannot read {quote(self._options.follow)}: {error.strerror}")
                self._status = _FAILED
            finally:
                follower.close()

    async def _resume(self, follower: FileFollower, mark: Mark | None, out: Appender) -> None:
        await _in_thread(follower.resume, mark, out.position)
        if not out.exists:
            await out.append(b"")
        if mark is None and follower.mark is not None:
            await self._keep(follower.mark, out)

    async def _send(self, follower: FileFollower, out: Appender) -> None:
        framer, looks = self._framer(), 0
        while True:
            news = follower.poll()
            if news is None:
                looks += 1
                if out.error is not None:
                    raise out.error
                await asyncio.sleep(_LOOK if looks < _IDLE_LOOKS else _LOOK_IDLE)
                continue
            looks = 0
            if not isinstance(news, bytes):
                await self._write_rest(framer, out)
                await out.flush()
                await self._keep(news, out)
                framer = self._framer()
                continue
            if (frame := framer.feed(news)) is not None:
                await out.write(frame.data)
            if self._options.tee:
                await _in_thread(_write_all, self._stdout, news)
            if self._progress is not None:
                self._progress.add(len(news))
            if len(news) < _CHUNK:  # it is all read: what comes within a moment goes along
                await asyncio.sleep(_LOOK)

    async def _keep(self, mark: Mark, out: Appender) -> None:
        from tailer.watch import save_mark

        if self._options.checkpoint is not None:
            kept, source = self._options.checkpoint, _source(self._options)
            await _in_thread(partial(save_mark, kept, mark, target=str(out.ref), source=source))

    async def _write_rest(self, framer: Framer, out: Appender) -> None:
        """At the end of a file: its last line, which has no newline."""
        if (rest := framer.rest()) is not None:
            await out.write(rest.data)

    async def _copy(self, out: Appender) -> None:
        framer = self._framer()
        for name in self._options.files or ["-"]:
            try:
                await self._copy_file(name, framer, out)
            except OSError as error:
                self._messages.say(f"cannot read {quote(name)}: {error.strerror}")
                self._status = _FAILED
        await self._write_rest(framer, out)
        if not out.exists:
            await out.append(b"")

    async def _copy_file(self, name: str, framer: Any, out: Appender) -> None:
        """Raises OSError, and what `Appender.write` raises."""
        descriptor = self._stdin if name == "-" else os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _prepare(descriptor)
            while chunk := await _in_thread(os.read, descriptor, _CHUNK):
                if (frame := framer.feed(chunk)) is not None:
                    await out.write(frame.data)
                if self._options.tee:
                    await _in_thread(_write_all, self._stdout, chunk)
                if self._progress is not None:
                    self._progress.add(len(chunk))
        finally:
            if name != "-":
                os.close(descriptor)


class _Progress:
    """One line on a terminal, written over and over: how much was read, how fast."""

    def __init__(self, write: Callable[[str], None], name: str) -> None:
        self._write = write
        self._name = name
        self._done = 0
        self._begun = self._drawn_at = time.monotonic()
        self._is_drawn = False

    def add(self, count: int) -> None:
        """So many bytes more."""
        from tailer.cli.progress import human_size, shorten

        self._done += count
        now = time.monotonic()
        if now - self._drawn_at < _BETWEEN_DRAWINGS:
            return
        self._drawn_at, self._is_drawn = now, True
        rate = human_size(self._done / (now - self._begun))
        self._write(f"\r\x1b[K{shorten(self._name, 40)}  {human_size(self._done)} read  {rate}/s")

    def clear(self) -> None:
        """Take the line off the terminal."""
        if self._is_drawn:
            self._is_drawn = False
            self._write("\r\x1b[K")


# --- the command line


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint="try 'oss-append --help'")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="oss-append",
        description="Append standard input, or each FILE, to OBJECT (oss://BUCKET/KEY), which is made if missing.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    add = parser.add_argument
    add("object", metavar="OBJECT", nargs="?")
    add("files", metavar="FILE", nargs="*", help='"-" is standard input')
    add("-f", "--follow", metavar="FILE", help="append what FILE has and gets, through rotation, and never end")
    add("--checkpoint", type=Path, metavar="FILE", help="with -f: a file to note what was sent in, for the next run")
    add("--skip-lost", action="store_true", help="with -f: go on when what comes next was removed or compressed")
    add("--lines", action="store_true", help="send whole lines only, but for the last one")
    add("--flush-interval", type=_seconds, default=1.0, metavar="SECONDS", help="send after so long (default 1.0)")
    add("--flush-bytes", type=_size, default=8 << 20, metavar="BYTES", help="send so much at a time (default 8M)")
    add("--tee", action="store_true", help="write it to standard output, too")
    add("--seal", action="store_true", help="at the end, let no byte come behind: for readers it is end of file")
    add("--create-only", action="store_true", help="fail, exit status 3, when the object exists")
    add("--expect-position", type=_size, metavar="N", help="fail, exit status 3, unless the object has N bytes")
    add("--shared", action="store_true", help="another writer is no error: go on behind what it wrote")
    add("--pattern", action="store_true", help="{n:06} in the key counts objects of 5 GiB, %%Y%%m%%d is the time (UTC)")
    add("--content-type", metavar="TYPE", help="of a new object, like all up to --encryption")
    add("--meta", action="append", type=_pair, default=[], metavar="KEY=VALUE", help="metadata (x-oss-meta-KEY)")
    add("--tag", action="append", type=_pair, default=[], metavar="KEY=VALUE", help="a tag")
    add("--storage-class", metavar="CLASS", help="Standard, IA or Archive")
    add("--acl", metavar="ACL", help="default, private, public-read or public-read-write")
    add("--encryption", metavar="METHOD", help="AES256, KMS or SM4")
    add("--progress", action=argparse.BooleanOptionalAction, help="on standard error (default: if it is a terminal)")
    add("--endpoint", metavar="URL", help="the service's address (default: from the region)")
    add("--region", metavar="REGION", help="such as cn-hangzhou")
    add("--profile", metavar="NAME", help="the section of the configuration file to use")
    add("--no-sign-request", dest="sign", action="store_false", help="use no credentials")
    add("--debug", action="store_true", help="say where an error came from")
    add("--help", dest="show", action="store_const", const="", default=None, help="display this help and exit")
    add("--version", dest="show", action="store_const", const=f"oss-append {__version__}\n", help="output the version")
    return parser


def _check(options: argparse.Namespace) -> None:
    if options.object is None:
        raise UsageError("missing operand: which object? (oss://BUCKET/KEY)")
    if options.files.count("-") > 1:
        raise UsageError("standard input can be read once")
    if options.create_only and options.shared:
        raise UsageError("--create-only and --shared contradict each other")
    if options.flush_bytes < 1:
        raise UsageError("--flush-bytes is at least 1")
    for name in ("meta", "tag"):
        names = [key for key, _ in getattr(options, name)]
        if twice := [key for key in names if names.count(key) > 1]:
            raise UsageError(f"--{name} {twice[0]} is given twice")
    if options.follow == "-":
        raise UsageError("-f follows a file by its name; standard input is read without it")
    if options.follow is None:
        if options.checkpoint is not None or options.skip_lost:
            raise UsageError("--checkpoint and --skip-lost belong to -f")
        return
    for name in ("files", "shared", "pattern", "seal"):
        if getattr(options, name):
            raise UsageError(f"-f and {'--' + name if name != 'files' else 'further files'} contradict each other")


def _source(options: argparse.Namespace) -> Path:
    return Path(options.follow).absolute()


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return name, value


def _size(text: str) -> int:
    """Bytes, with K, M or G for powers of 1024."""
    number, power = (text[:-1], "KMG".index(text[-1]) + 1) if text[-1:] in ("K", "M", "G") else (text, 0)
    if not (number.isascii() and number.isdigit() and len(number) < 20):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of bytes")
    return int(number) << 10 * power


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds up to an hour")
    return value


# --- descriptors


def _prepare(descriptor: int) -> None:
    """A folder is refused before anything of it is read; a pipe is made as large as it may be."""
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, "Is a directory")
    if stat.S_ISFIFO(mode):
        with suppress(OSError, AttributeError):  # not on Linux, or more than the user may have
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _CHUNK)


def _write_all(descriptor: int, data: bytes) -> None:
    """Raises OutputClosed, SinkError."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except BrokenPipeError as error:
        raise OutputClosed("the reader of the output has gone") from error
    except OSError as error:
        raise SinkError(f"write error: {error.strerror}") from error


async def _in_thread(function: Callable[..., _Result], *arguments: object) -> _Result:
    """What `function` gives, from a thread that nobody waits for when it is not wanted any more.

    (The loop's own threads are waited for at its end, and one that reads may never get anything.)
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result] = loop.create_future()

    def work() -> None:
        try:
            tell = partial(_settle, future, function(*arguments))
        except Exception as error:
            tell = partial(_fail, future, error)
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell)

    threading.Thread(target=work, daemon=True).start()
    return await future


def _settle(future: asyncio.Future[_Result], result: _Result) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[_Result], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
