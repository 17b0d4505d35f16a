"""The command `oss-tail`: complete, validate, run. What is heavy is imported when there is something to read."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from tailer.cli.messages import Messages, warn_in_clear
from tailer.cli.options import help_text, parse
from tailer.cli.process import occupy_standard_descriptors
from tailer.errors import AddressError, ConfigError, OutputClosed, SinkError, TailerError, UsageError
from tailer.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailer.cli.options import Options
    from tailer.cli.progress import Progress
    from tailer.metrics import Metrics
    from tailer.oss.address import Address
    from tailer.sinks.stdout import OutputStream

_FAILED = 1
_USAGE = 2
_CLOSED_PIPE = 141
_INTERRUPTED = 130


def main() -> NoReturn:
    """The entry point. Ends the process, with the exit status or by SIGPIPE when the output lost its reader."""
    occupy_standard_descriptors()
    try:
        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = _INTERRUPTED
    if status == _CLOSED_PIPE:
        _die_by_sigpipe()
    # At once: a thread may still wait for a reader that stands still, and threads of the HTTP client do not
    # always survive the interpreter's own end.
    os._exit(status)


def run(arguments: Sequence[str], *, stdout: int = 1, stderr: int = 2) -> int:
    """Do what `arguments` (without the command's name) ask for, on these descriptors; the exit status.

    A reader of `stdout` that went away is 141, as a shell sees it. Raises KeyboardInterrupt.
    """
    messages = Messages(stderr)
    try:
        options = parse(arguments)
        messages.debugging = options.debug
        if options.show:
            _show(help_text() if options.show == "help" else f"oss-tail {__version__}\n", stdout)
            return 0
        for warning in options.warnings:
            messages.say(warning)
        return _read(options, stdout, stderr, messages)
    except OutputClosed:
        return _CLOSED_PIPE
    except TailerError as error:
        return _explain(error, messages)
    except Exception as error:  # the last resort, for what is a mistake in here: one line all the same
        messages.say(f"internal error: {type(error).__name__}: {error} (--debug shows where)")
        messages.trace(error)
        return _FAILED


def _explain(error: TailerError, messages: Messages) -> int:
    messages.say(error)
    messages.trace(error)
    if isinstance(error, UsageError) and not isinstance(error, AddressError | ConfigError):
        messages.write("Try 'oss-tail --help' for more information.\n")
    return _USAGE if isinstance(error, UsageError) else _FAILED


def _show(text: str, stdout: int) -> None:
    """Raises SinkError."""
    data = text.encode()
    try:
        while data:
            data = data[os.write(stdout, data) :]
    except BrokenPipeError as error:
        raise OutputClosed("the reader of the output has gone") from error
    except OSError as error:
        raise SinkError(f"write error: {error.strerror}") from error


def _read(options: Options, stdout: int, stderr: int, messages: Messages) -> int:
    """Validate what only the address parser knows, then run the session."""
    import asyncio

    from tailer.oss.address import parse_address

    addresses = [parse_address(text, glob=options.glob) for text in options.addresses]
    if options.output is not None:
        _check_output(options.output, addresses)
    if _asks_for_nothing(options):
        return 0
    from tailer.sinks.stdout import OutputStream

    stream = None if options.output is not None or options.exec is not None else OutputStream(stdout)
    progress = _progress(options, messages, stderr) if _shows_progress(options, stdout, stderr) else None
    return asyncio.run(_session(options, addresses, stream, messages, progress))


async def _session(
    options: Options,
    addresses: list[Address],
    stream: OutputStream | None,
    messages: Messages,
    progress: Progress | None,
) -> int:
    from tailer.cli.session import Session
    from tailer.config import resolve_service
    from tailer.oss.client import connect

    settings = resolve_service(
        endpoint=options.endpoint,
        region=options.region,
        profile=options.profile,
        no_sign_request=not options.sign,
        urls_only=all(address.url is not None for address in addresses),
    )
    warn_in_clear(messages, settings, addresses)
    metrics = None if options.metrics is None else _metrics(options.metrics)
    try:
        async with connect(settings, addresses, on_request=metrics.on_request if metrics else None) as client:
            session = Session(options, client, stream, messages, progress=progress, metrics=metrics)
            return await session.run(addresses)
    finally:
        if metrics is not None:
            metrics.close()


def _check_output(output: str, addresses: list[Address]) -> None:
    many = len(addresses) > 1 or any(address.pattern or address.prefix for address in addresses)
    if many and not output.endswith("/"):
        raise UsageError(
            f"more than one object cannot be mirrored into one file: is {output!r} a folder? End it with /"
        )


def _asks_for_nothing(options: Options) -> bool:
    """As with GNU tail, ``-n 0`` without -f does not even look whether the object is there."""
    amount = options.amount
    return amount.count == 0 and not amount.from_start and options.follow == "no" and options.output is None


def _shows_progress(options: Options, stdout: int, stderr: int) -> bool:
    """By default where it does not get in the way: on a terminal that does not show the output itself."""
    if options.progress is not None:
        return options.progress
    return os.isatty(stderr) and (options.output is not None or not os.isatty(stdout))


def _progress(options: Options, messages: Messages, stderr: int) -> Progress:
    from tailer.cli.progress import Progress

    progress = Progress(messages.draw, partial(_columns, stderr), checked=options.integrity != "off")
    messages.before = progress.clear
    return progress


def _columns(terminal: int) -> int:
    """How wide it is now; 80 where nobody knows."""
    try:
        return os.get_terminal_size(terminal).columns or 80
    except OSError:
        return 80


def _metrics(listen: str) -> Metrics:
    from tailer.metrics import Metrics, parse_listen

    host, port = parse_listen(listen)
    metrics = Metrics()
    metrics.serve(host, port)
    return metrics


def _die_by_sigpipe() -> NoReturn:
    """As every filter does whose reader went away; a shell sees 141."""
    import signal

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(_CLOSED_PIPE)  # where SIGPIPE is blocked
