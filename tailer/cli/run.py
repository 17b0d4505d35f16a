"""`oss-tailer run`: the service, under whatever started it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from typing import TYPE_CHECKING

from tailer.cli.process import allow_many_files, give_memory_back, keep_memory_together

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from tailer.configfile import ServerConfig
    from tailer.service import Service
    from tailer.web.server import Port


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Make the command known."""
    text = "follow what the configuration names, for as long as it is let"
    command = commands.add_parser("run", help=text, description=text, allow_abbrev=False)
    command.set_defaults(run=run)
    command.add_argument("config", metavar="CONFIG", help="the file, config.toml say")


def run(options: argparse.Namespace) -> int:
    """The exit status: 0 told to end and done, 1 cut short or failed, 2 the configuration cannot be used."""
    from tailer import logs

    # Until it is the service's to obey: what is to be read again was not read yet, and by itself it would end us.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    logs.set_up("logfmt", "info")
    allow_many_files()
    keep_memory_together()
    return asyncio.run(_run(options.config))


async def _run(config: str) -> int:
    from tailer.service import Service

    service = Service(config, open_port=_open_port)
    giving_back = asyncio.create_task(give_memory_back())
    with _signals(service):
        try:
            return await service.run()
        finally:
            giving_back.cancel()


async def _open_port(service: Service, server: ServerConfig) -> Port:
    from tailer.web import serve

    assert server.listen is not None  # the service asks for a port only where there is to be one
    host, port = server.listen
    opened = await serve(service, host, port, hints=server.hints)
    url = f"http://{f'[{host}]' if ':' in host else host}:{opened.port}/"
    logging.getLogger("tailer.run").info("serving", extra={"url": url})
    return opened


@contextlib.contextmanager
def _signals(service: Service) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    ends = (signal.SIGTERM, signal.SIGINT)
    for number in ends:
        loop.add_signal_handler(number, service.stop)
    loop.add_signal_handler(signal.SIGHUP, service.reload)
    try:
        yield
    finally:
        for number in (*ends, signal.SIGHUP):
            loop.remove_signal_handler(number)
