"""The command `oss-tailer`: the service, and what belongs to it and to checkpoints."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from typing import TYPE_CHECKING, TextIO

from tailer.cli import canary, check, run, top
from tailer.cli.messages import Messages, quote, warn_in_clear
from tailer.errors import (
    ConfigError,
    ConfigFileError,
    ObjectReplaced,
    ServiceError,
    TailerError,
    TransportError,
    UsageError,
)
from tailer.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tailer.checkpoints import Checkpoint
    from tailer.core.position import ObjectRef, Position
    from tailer.oss.address import Address
    from tailer.verify import Comparison

_NAME = "oss-tailer"
_FAILED = 1
_USAGE = 2
_DIFFERENT = 3
_INTERRUPTED = 130
_ATTEMPTS = 4

_EPILOG = """\
Exit status: 0 done, for run: told to end, all delivered and committed, and for verify: the file is the object; 1 the
object or the checkpoints cannot be read or written, run had no time to deliver what it had in hand, or what check
--online looked at is not good; 2 the command line, the configuration or a file is wrong; 3 the file is not the object;
130 Ctrl-C.

  oss-tailer run config.toml
  oss-tailer check --online config.toml
  oss-tailer checkpoints list state.db
  oss-tailer checkpoints reset state.db --group billing oss://logs/app.log
  oss-tailer checkpoints export state.db > copy.jsonl; oss-tailer checkpoints import new.db < copy.jsonl
  oss-tailer verify app.log oss://logs/app.log
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    messages = Messages(name=_NAME)
    options = _parser().parse_args(arguments)
    try:
        status = options.run(options)
        sys.stdout.flush()
        return int(status)
    except BrokenPipeError:
        # Python would try once more to write what is left, at the very end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except KeyboardInterrupt:
        return _INTERRUPTED
    except ConfigFileError as error:
        messages.write("".join(f"{problem}\n" for problem in error.problems))
        return _USAGE
    except TailerError as error:
        messages.say(error)
        return _USAGE if isinstance(error, UsageError) else _FAILED
    except OSError as error:
        messages.say(error.strerror or error)
        return _FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="oss-tailer",
        description="The service that follows objects into sinks, checkpoints, and the proof that a file is an object.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    run.add_parser(commands)
    check.add_parser(commands)
    checkpoints = commands.add_parser("checkpoints", help="look at the checkpoints in a file, and change them")
    _add_checkpoints(checkpoints.add_subparsers(metavar="COMMAND", required=True))
    _add_verify(commands)
    canary.add_parser(commands)
    top.add_parser(commands)
    return parser


def _add_checkpoints(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, do, text in (
        ("list", _list, "one line for each object: group, offsets, when, address"),
        ("show", _show, "all that is kept of an object"),
        ("reset", _reset, "forget objects, so that they are read as if for the first time"),
        ("export", _export, "print the checkpoints as lines of JSON"),
        ("import", _import, "take the checkpoints that export printed from standard input"),
    ):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(run=do)
        command.add_argument("file", metavar="FILE", help="the file of --checkpoint")
        if name == "reset":
            command.add_argument("--group", metavar="NAME", default="default", help="whose (default: %(default)s)")
        elif name != "import":
            command.add_argument("--group", metavar="NAME", help="only those of this group (default: all)")
        if name in ("show", "reset"):
            alternative = ", or the word all" if name == "reset" else ""
            command.add_argument("objects", metavar="OBJECT", nargs="+", help=f"oss://BUCKET/KEY{alternative}")


def _add_verify(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    text = "prove by CRC-64 that a file is an object, byte for byte"
    command = commands.add_parser("verify", help=text, description=text, allow_abbrev=False)
    command.set_defaults(run=_verify)
    command.add_argument("path", metavar="PATH", help="the file, or what the names of segments begin with")
    command.add_argument("object", metavar="OBJECT", help="oss://BUCKET/KEY, or https://…")
    command.add_argument("--prefix", action="store_true", help="a file that is the object's beginning will do")
    command.add_argument("--part", action="store_true", help="so will segments whose first ones were moved away")
    command.add_argument("--endpoint", metavar="URL", help="the service's address (default: from the region)")
    command.add_argument("--region", metavar="REGION", help="such as cn-hangzhou")
    command.add_argument("--profile", metavar="NAME", help="the section of the configuration file to use")
    command.add_argument("--no-sign-request", action="store_true", help="use no credentials: for public objects")


# --- checkpoints


def _list(options: argparse.Namespace) -> int:
    from tailer.checkpoints import read_all

    rows: list[tuple[str, ...]] = [("GROUP", "DELIVERED", "VERIFIED", "UNPROVEN", "GENERATION", "COMMITTED", "OBJECT")]
    rows += [_row(one) for one in read_all(options.file, options.group)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _row(one: Checkpoint) -> tuple[str, ...]:
    mark = one.mark
    delivered = mark.delivered
    offsets = map(str, (delivered.offset, mark.verified.offset, delivered.unproven, delivered.generation))
    return _printable(one.group), *offsets, _time(one.committed_at), _printable(str(one.ref))


def _show(options: argparse.Namespace) -> int:
    from tailer.checkpoints import read_all

    known = read_all(options.file, options.group)
    for ref in _refs(options.objects):
        found = [one for one in known if one.ref == ref]
        if not found:
            raise ConfigError(f"{options.file!r} knows nothing of {quote(ref)}")
        for one in found:
            _print_one(one)
    return 0


def _print_one(one: Checkpoint) -> None:
    mark = one.mark
    print(_printable(str(one.ref)))
    for name, value in (
        ("group", _printable(one.group)),
        ("delivered", f"{mark.delivered.offset} bytes, CRC-64 {_crc(mark.delivered.crc64)}"),
        ("verified", f"{mark.verified.offset} bytes, CRC-64 {_crc(mark.verified.crc64)}"),
        ("unproven", _unproven(mark.delivered)),
        ("generation", str(mark.delivered.generation)),
        ("inside a record", "yes" if mark.inside else "no"),
        ("committed", _time(one.committed_at)),
    ):
        print(f"  {name:<16} {value}")


def _unproven(place: Position) -> str:
    return f"the first {place.unproven} bytes" if place.unproven else "nothing"


def _reset(options: argparse.Namespace) -> int:
    from tailer.checkpoints import Checkpoints, read_all

    refs = [] if options.objects == ["all"] else _refs(options.objects)
    read_all(options.file)  # a file that is not there is a mistake here, and not made
    with Checkpoints.open(options.file, options.group, owner="oss-tailer checkpoints reset") as checkpoints:
        print(f"{checkpoints.reset(*refs)} forgotten")
    return 0


def _export(options: argparse.Namespace) -> int:
    from tailer.checkpoints import encode, read_all

    for one in read_all(options.file, options.group):
        print(encode(one))
    return 0


def _import(options: argparse.Namespace) -> int:
    """Every line is read before the first is kept."""
    from tailer.checkpoints import Checkpoints

    groups = _by_group(sys.stdin)
    for group, kept in groups.items():
        with Checkpoints.open(options.file, group, owner="oss-tailer checkpoints import") as checkpoints:
            checkpoints.restore(kept)
    print(f"{sum(map(len, groups.values()))} imported")
    return 0


def _by_group(lines: TextIO) -> dict[str, list[Checkpoint]]:
    from tailer.checkpoints import decode

    groups: dict[str, list[Checkpoint]] = {}
    try:
        for line in lines:
            one = decode(line)
            groups.setdefault(one.group, []).append(one)
    except UnicodeDecodeError as error:
        raise ConfigError("standard input is not UTF-8") from error
    return groups


def _refs(texts: list[str]) -> list[ObjectRef]:
    from tailer.oss.address import parse_address

    return [parse_address(text, glob=False).ref for text in texts]


def _time(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError):
        return f"{seconds:.0f}"


def _crc(value: int | None) -> str:
    return "unknown" if value is None else str(value)


def _printable(text: str) -> str:
    return text if text.isprintable() else quote(text)


# --- verify


def _verify(options: argparse.Namespace) -> int:
    from tailer.oss.address import parse_address

    address = parse_address(options.object, glob=False)
    try:
        found = asyncio.run(_compare(options, address))
    except (ServiceError, TransportError) as error:
        Messages(name=_NAME).say(f"{address.ref}: {error}")
        return _FAILED
    line, status = _verdict(options, address.ref, found)
    print(line)
    return status


async def _compare(options: argparse.Namespace, address: Address) -> Comparison:
    """Raises TailerError when that cannot be said, after some tries."""
    from tailer.config import resolve_service
    from tailer.core.schedule import back_off
    from tailer.oss.client import connect
    from tailer.verify import verify_files

    start, paths = _files(options.path)
    settings = resolve_service(
        endpoint=options.endpoint,
        region=options.region,
        profile=options.profile,
        no_sign_request=options.no_sign_request,
        urls_only=address.url is not None,
    )
    warn_in_clear(Messages(name=_NAME), settings, [address])
    async with connect(settings, [address]) as client:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await verify_files(client, address.ref, paths, start=start)
            except TailerError as error:
                again = error.retriable or isinstance(error, ObjectReplaced)
                if not again or attempt == _ATTEMPTS:
                    raise
                await asyncio.sleep(back_off(attempt, random.random(), error.retry_after))
    raise AssertionError("unreachable: the last attempt returns or raises")


def _files(path: str) -> tuple[int, list[str]]:
    """Where in the object the files begin, and their paths: the one named, or the segments of that name."""
    from tailer.sinks.rotated import segment_paths

    segments = {} if os.path.lexists(path) else segment_paths(path)
    return min(segments, default=0), [str(one) for one in segments.values()] or [path]


def _verdict(options: argparse.Namespace, ref: ObjectRef, found: Comparison) -> tuple[str, int]:
    from tailer.verify import Verdict

    file, name = quote(options.path), quote(ref)
    if found.verdict is Verdict.EQUAL:
        return f"{file} is {name}: {found.size:,} bytes, CRC-64 {found.crc64}", 0
    end = found.start + found.size
    part = f"bytes {found.start:,} to {end:,}" if found.start else "the beginning"
    if found.verdict is not Verdict.DIFFERENT:
        missing = f"{found.object_size - found.size:,} of {found.object_size:,} bytes are missing"
        line = f"{file} is {part} of {name}: {found.size:,} bytes, CRC-64 {found.crc64}; {missing}"
        return line, 0 if options.part or (options.prefix and not found.start) else _DIFFERENT
    if end > found.object_size:
        return f"{file} is not {name}: {end:,} bytes, and the object has {found.object_size:,}", _DIFFERENT
    which = part if found.start else f"the first {found.size:,} bytes"
    return f"{file} is not {name}: {which} are not the same", _DIFFERENT
