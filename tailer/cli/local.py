"""``oss-local``: an OSS-compatible server on this machine, alone or around a command."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import shlex
import signal
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from tailer.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from tailer.local.keys import AccessKey
    from tailer.local.server import LocalServer

_EPILOG = """\
Without COMMAND the variables are printed as shell commands and the server runs until Ctrl-C; with it, COMMAND
runs in that environment and oss-local ends as it does. Every word behind -- belongs to COMMAND.

  oss-local --root ./data --port 9000 > oss.env &     and then    . ./oss.env
  oss-local --bucket logs -- pytest -q
  oss-local --access-key me:secret --allow me=append-only,oss:GetObject
  oss-local --keys keys.json -- ./run-tests

A key may do everything unless it is told otherwise: PERMISSION is full, read-only, append-only, or an action of
RAM such as oss:PutObjectTagging or oss:Get*. The variables are those of the first key.

  [{"id": "writer", "secret": "one", "allow": ["append-only", "oss:GetObject"]},
   {"id": "STS.guest", "secret": "two", "token": "three", "expires_in": 60, "allow": ["read-only"]}]

Environment: OSS_LOCAL_KEYS is what --keys would read, when neither --keys nor --access-key is given.

Exit status: 0 done; 2 usage, or the port, the folder or a file cannot be used; 126, 127 COMMAND cannot be run
or is not found; 130, 143 Ctrl-C, SIGTERM; otherwise COMMAND's own.
"""

_FORWARDED = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
_FROM_THE_KEYBOARD = ("SIGINT", "SIGQUIT")


class _Failure(Exception):
    """One line for stderr and the status to exit with."""

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    try:
        words, command = _split(sys.argv[1:] if arguments is None else arguments)
        options = _parse(words)
        _set_up_logging(options.verbose)
        return asyncio.run(_serve(_server(options), f"{options.host}:{options.port}", command))
    except _Failure as failure:
        print(f"oss-local: {failure}", file=sys.stderr)
        return failure.status
    except KeyboardInterrupt:
        return 130


def _split(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Our own words, and those of the command behind ``--``."""
    if "--" not in words:
        return words, []
    split = words.index("--")
    if not words[split + 1 :]:
        raise _Failure("no command behind --")
    return words[:split], words[split + 1 :]


def _parse(words: Sequence[str]) -> argparse.Namespace:
    options, unknown = _parser().parse_known_args(words)
    if unknown:
        # No more than the name: what is behind it may be a secret.
        raise _Failure(f"unknown word: {unknown[0].partition('=')[0]!r}; oss-local --help lists all")
    return options


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise _Failure(message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="oss-local",
        usage="%(prog)s [OPTION]... [-- COMMAND [ARGUMENT]...]",
        description="An OSS-compatible server on this machine.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--root", metavar="DIR", help="keep buckets as folders and objects as files here (default: in memory)")
    add("--fsync", action="store_true", help="with --root: acknowledged writes survive a loss of power, too")
    add("--bucket", metavar="NAME", action="append", help="make this bucket (default: demo); repeatable")
    add("--public", action="store_true", help="let everybody read the buckets made by --bucket")
    add("--port", metavar="N", type=_port, default=0, help="listen here (default: any free port)")
    add("--host", metavar="ADDRESS", default="127.0.0.1", help="listen on this address (default: %(default)s)")
    add("--allow-remote", action="store_true", help="permit an address that other machines can reach")
    add("--access-key", metavar="ID:SECRET", type=_access_key, action="append", help="accept this key; repeatable")
    add("--keys", metavar="FILE", help="accept the keys of this JSON file, which ps does not show")
    add("--allow", metavar="ID=PERMISSION,...", type=_pair, action="append", help="what that key may do; repeatable")
    add("--region", metavar="REGION", help="the region that signatures must name (default: cn-local)")
    add("--cname", metavar="HOST=BUCKET", type=_cname, action="append", help="this Host is that bucket; repeatable")
    add("--domain", metavar="NAME", action="append", help="a name of this server; below it, hosts are buckets")
    add("--faults", metavar="FILE", help="put the faults of this JSON file in force")
    add("--seed", metavar="N", type=int, default=0, help="where the chance of faults starts")
    add("-v", "--verbose", action="store_true", help="log every request to stderr")
    add("--version", action="version", version=f"%(prog)s {__version__}")
    return parser


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"not a port: {text!r}")
    return int(text)


def _access_key(text: str) -> tuple[str, str]:
    key, colon, secret = text.partition(":")
    if not (key and colon and secret):
        raise argparse.ArgumentTypeError("expected ID:SECRET")
    return key, secret


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not (name and value):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE: {text!r}")
    return name, value


def _cname(text: str) -> tuple[str, str]:
    host, bucket = _pair(text)
    return host.lower(), bucket


def _set_up_logging(verbose: bool) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO if verbose else logging.WARNING,
        format="oss-local: %(message)s",
    )


def _server(options: argparse.Namespace) -> LocalServer:
    """The server that the options ask for, not yet listening."""
    try:
        from tailer.local.refusal import Refusal
        from tailer.local.server import DEFAULT_KEY, REGION, LocalServer, is_loopback
    except ImportError as error:
        if error.name != "aiohttp":
            raise
        raise _Failure("aiohttp is not installed: python3 -m pip install 'oss-tail[local]'") from error
    if not (options.allow_remote or is_loopback(options.host)):
        raise _Failure(f"{options.host} can be reached from other machines: add --allow-remote to permit it")
    keys = _keys(options) or [DEFAULT_KEY]
    try:
        server = LocalServer(
            root=options.root,
            host=options.host,
            port=options.port,
            access_keys=_restricted(keys, options.allow or ()),
            region=options.region or REGION,
            cnames=dict(options.cname or ()),
            domains=options.domain or (),
            fsync=options.fsync,
            seed=options.seed,
            allow_remote=options.allow_remote,
        )
    except (OSError, ValueError) as error:
        raise _Failure(_reason(error)) from error
    try:
        for bucket in options.bucket or ["demo"]:
            server.store.create_bucket(bucket, "public-read" if options.public else None)
    except Refusal as refusal:
        raise _Failure(f"not a bucket's name: {bucket!r}") from refusal
    except OSError as error:
        raise _Failure(_reason(error)) from error
    if options.faults:
        _load_faults(server, options.faults)
    return server


def _keys(options: argparse.Namespace) -> list[AccessKey]:
    """Those of the command line, else of the environment; none when there are none."""
    from tailer.local.keys import AccessKey

    keys = [AccessKey(*pair) for pair in options.access_key or ()]
    if options.keys:
        try:
            with open(options.keys, encoding="utf-8") as file:
                keys += _keys_of(file.read(), options.keys)
        except OSError as error:
            raise _Failure(_reason(error)) from error
        except UnicodeDecodeError as error:
            raise _Failure(f"{options.keys}: not UTF-8") from error
    elif not keys and (text := os.environ.get("OSS_LOCAL_KEYS")):
        keys = _keys_of(text, "OSS_LOCAL_KEYS")
    return keys


def _keys_of(text: str, where: str) -> list[AccessKey]:
    from tailer.local.keys import keys_from_json

    try:
        return keys_from_json(text, time.time())
    except ValueError as error:
        raise _Failure(f"{where}: {error}") from error


def _restricted(keys: Iterable[AccessKey], allow: Iterable[tuple[str, str]]) -> list[AccessKey]:
    """The keys with what --allow says of them; of several about one key all count. Raises ValueError."""
    by_id = {key.id: key for key in keys}
    words: dict[str, list[str]] = {}
    for name, permissions in allow:
        if name not in by_id:
            raise ValueError(f"--allow: there is no access key {name!r}")
        words.setdefault(name, []).extend(permissions.split(","))
    return [replace(key, allow=words.get(key.id, key.allow)) for key in keys]


def _load_faults(server: LocalServer, path: str) -> None:
    from tailer.local.faults import Fault

    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        server.faults.add(*(Fault.from_json(item) for item in (data if isinstance(data, list) else [data])))
    except OSError as error:
        raise _Failure(_reason(error)) from error
    except (ValueError, AttributeError) as error:
        raise _Failure(f"{path}: {error}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno:
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{os.strerror(error.errno) if error.strerror is None else error.strerror}"
    return str(error)


async def _serve(server: LocalServer, where: str, command: Sequence[str]) -> int:
    try:
        await server.start()
    except OSError as error:
        server.store.close()
        # asyncio says more of a port that is taken than fits; what is wrong with a name has a number below 0.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise _Failure(f"cannot listen on {where}: {why}") from error
    try:
        if command:
            return await _run(command, server.environment())
        return await _wait_for_the_end(server)
    finally:
        await server.stop()


async def _wait_for_the_end(server: LocalServer) -> int:
    """Say how to get here, and stay until a signal."""
    ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def end(number: int) -> None:
        if not ended.done():
            ended.set_result(number)

    with _handling(("SIGINT", "SIGTERM"), end):
        for name, value in server.environment().items():
            print(f"export {name}={shlex.quote(value)}")
        if "OSS_SESSION_TOKEN" not in server.environment():
            print("unset OSS_SESSION_TOKEN", flush=True)
        print(f"oss-local: listening on {server.endpoint}", file=sys.stderr, flush=True)
        return 128 + await ended


async def _run(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run the command to its end; signals to us are signals to it."""
    environment = {name: value for name, value in os.environ.items() if name != "OSS_SESSION_TOKEN"}
    try:
        process = await asyncio.create_subprocess_exec(*command, env={**environment, **variables})
    except FileNotFoundError as error:
        raise _Failure(f"{command[0]}: command not found", 127) from error
    except OSError as error:
        raise _Failure(_reason(error), 126) from error

    def forward(number: int) -> None:
        from_keyboard = signal.Signals(number).name in _FROM_THE_KEYBOARD and _in_foreground()
        if process.returncode is None and not from_keyboard:
            process.send_signal(number)

    with _handling((*_FORWARDED, *_FROM_THE_KEYBOARD), forward):
        status = await process.wait()
    return status if status >= 0 else 128 - status


@contextlib.contextmanager
def _handling(names: Sequence[str], react: Callable[[int], object]) -> Iterator[None]:
    """Signals go to `react` meanwhile."""
    loop = asyncio.get_running_loop()
    numbers = [getattr(signal, name) for name in names]
    for number in numbers:
        loop.add_signal_handler(number, react, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _in_foreground() -> bool:
    """Whether the terminal gives its signals to us, and so to the command as well."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
